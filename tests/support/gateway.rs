//! A running gateway, and our end of the conversation with it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::clock::{PATIENCE, eventually};
use super::setup::Setup;

/// A message with its own spelling.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) raw: String,
    pub(crate) value: Value,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) setup: Setup,
    child: Child,
    /// None once we hung up.
    stdin: Option<ChildStdin>,
    messages: Receiver<Message>,
    /// What came while something else was waited for.
    kept: VecDeque<Message>,
    stderr: Arc<Mutex<String>>,
    last_id: u64,
    /// While this lock is held, stdout is not read.
    ears: Arc<Mutex<()>>,
}

impl Gateway {
    /// Starts the binary and shakes hands.
    pub(crate) fn start(setup: Setup) -> Self {
        let mut gateway = Self::spawn(setup);
        gateway.initialize();
        gateway
    }

    /// Starts the binary and says nothing.
    pub(crate) fn spawn(setup: Setup) -> Self {
        let mut command = setup.command(&[]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let (sender, messages) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let ears = Arc::new(Mutex::new(()));
        let hearing = ears.clone();
        std::thread::spawn(move || {
            for raw in stdout.lines().map_while(Result::ok) {
                drop(hearing.lock());
                let value = serde_json::from_str(&raw).unwrap_or_else(|_| Value::String(raw.clone()));
                if sender.send(Message { raw, value }).is_err() {
                    return;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let (mut pipe, log) = (child.stderr.take().unwrap(), stderr.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                log.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { setup, child, stdin, messages, kept: VecDeque::new(), stderr, last_id: 0, ears }
    }

    /// Does something while we read nothing of what the gateway writes.
    pub(crate) fn deafen(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        let ears = self.ears.clone();
        let _held = ears.lock().unwrap();
        meanwhile(self);
    }

    /// Ends it the hard way and starts another with the same files.
    pub(crate) fn crash_and_restart(mut self) -> Self {
        self.signal(Signal::KILL);
        self.wait_exit();
        Self::start(self.into_setup())
    }

    /// Its files and its environment, for another one.
    pub(crate) fn into_setup(mut self) -> Setup {
        std::mem::replace(&mut self.setup, Setup::new())
    }

    pub(crate) fn initialize(&mut self) -> Value {
        self.hello("2025-11-25", &json!({}))
    }

    /// Shakes hands as a client of this revision with these capabilities, and waits for the backends that come
    /// up by themselves: the gateway would not, for longer than a moment.
    pub(crate) fn hello(&mut self, revision: &str, capabilities: &Value) -> Value {
        let info = json!({"name": "it", "version": "1"});
        let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": info});
        let result = self.request("initialize", &params)["result"].clone();
        assert!(result["protocolVersion"].is_string(), "initialize was refused: {}", self.log());
        self.notify("notifications/initialized", &json!({}));
        for backend in self.setup.prompt() {
            self.await_log(&format!("backend is ready backend={backend} "), 1);
        }
        result
    }

    /// Calls a tool, and returns the whole response.
    #[allow(clippy::needless_pass_by_value, reason = "it is called with json!(…) in place")]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// Calls a tool, and returns its structured result.
    pub(crate) fn ask(&mut self, tool: &str) -> Value {
        self.call(tool, json!({}))["result"]["structuredContent"].clone()
    }

    /// How often the backend received a call of this tool; `prefix` is that of its tools.
    pub(crate) fn counted(&mut self, prefix: &str, tool: &str) -> u64 {
        self.ask(&format!("{prefix}calls"))[tool].as_u64().unwrap_or(0)
    }

    /// Calls a tool, and does not wait; [`Gateway::answer`] does.
    #[allow(clippy::needless_pass_by_value, reason = "it is called with json!(…) in place")]
    pub(crate) fn begin(&mut self, tool: &str, arguments: Value) -> u64 {
        self.send("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    pub(crate) fn request(&mut self, method: &str, params: &Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Sends a request and returns its id.
    pub(crate) fn send(&mut self, method: &str, params: &Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send_raw(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    pub(crate) fn notify(&mut self, method: &str, params: &Value) {
        self.send_raw(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    /// One line as it is.
    pub(crate) fn send_raw(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).and_then(|()| stdin.flush())
    }

    /// The response to this request; everything else is kept.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        self.until(&format!("the answer to request {id}"), |message| {
            message["id"] == id && message.get("method").is_none()
        })
        .value
    }

    /// Whether this request has been answered by now.
    pub(crate) fn has_answer(&mut self, id: u64) -> bool {
        self.kept.extend(self.messages.try_iter());
        self.kept.iter().any(|message| message.value["id"] == id && message.value.get("method").is_none())
    }

    /// The most memory it has ever had, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The first notification or request of this method.
    pub(crate) fn heard(&mut self, method: &str) -> Value {
        self.until(method, |message| message["method"] == method).value
    }

    /// A message of this method that has come by now, and is not kept any more.
    pub(crate) fn next_kept(&mut self, method: &str) -> Option<Value> {
        self.kept.extend(self.messages.try_iter());
        let at = self.kept.iter().position(|message| message.value["method"] == method)?;
        self.kept.remove(at).map(|message| message.value)
    }

    /// The next message, whatever it is.
    pub(crate) fn next(&mut self) -> Message {
        self.until("any message", |_| true)
    }

    /// The next message that is not a notification.
    pub(crate) fn reply(&mut self) -> Message {
        self.until("any reply", |message| message.get("method").is_none())
    }

    /// The first message that fits, kept ones included.
    pub(crate) fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Message {
        if let Some(at) = self.kept.iter().position(|message| fits(&message.value)) {
            return self.kept.remove(at).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(message) if fits(&message.value) => return message,
                Ok(message) => self.kept.push_back(message),
                Err(error) => panic!("no {what}: {error}"),
            }
        }
    }

    /// Everything that came and is still to come before it ends; what was kept first.
    pub(crate) fn rest(&mut self) -> Vec<Message> {
        let mut rest: Vec<Message> = self.kept.drain(..).collect();
        while let Ok(message) = self.messages.recv_timeout(Duration::from_secs(5)) {
            rest.push(message);
        }
        rest
    }

    /// The names of the tools, in their order.
    pub(crate) fn tools(&mut self) -> Vec<String> {
        let list = self.request("tools/list", &json!({}));
        let tools = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a tool is listed.
    pub(crate) fn await_tool(&mut self, name: &str) {
        eventually(&format!("the tool {name}"), || {
            self.tools().iter().any(|tool| tool == name).then_some(())
        });
    }

    /// Changes the file, and lets the gateway read it again.
    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        self.setup.write();
        self.signal(Signal::HUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Closes its input.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        eventually("the end of the gateway", || self.child.try_wait().unwrap())
    }

    /// Ends it in order, so that its record is complete.
    pub(crate) fn end(&mut self) {
        self.hang_up();
        let status = self.wait_exit();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has logged so many lines with this text.
    pub(crate) fn await_log(&self, text: &str, times: usize) {
        eventually(&format!("{text:?} in the log"), || {
            (self.log().matches(text).count() >= times).then_some(())
        });
    }

    /// The whole record, as `audit list` shows it. Only of a gateway that has ended: the rows of one that lives reach
    /// the database behind its answers, see [`Self::await_audit`].
    pub(crate) fn audit(&mut self) -> Vec<Value> {
        assert!(self.child.try_wait().unwrap().is_some(), "the record of a living gateway is never complete");
        self.audit_so_far()
    }

    /// What `audit list` shows, as soon as there is in it what is looked for.
    pub(crate) fn await_audit<T>(&self, what: &str, mut find: impl FnMut(&[Value]) -> Option<T>) -> T {
        eventually(&format!("{what} on record"), || find(&self.audit_so_far()))
    }

    fn audit_so_far(&self) -> Vec<Value> {
        let output = self.setup.run(&["audit", "list", "--json", "--limit", "100000"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Gateway {
    #[allow(clippy::print_stderr, reason = "only a test that failed says more")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the gateway's log:\n{}---", self.log());
        }
        // A test that failed half way leaves no gateway behind. Both fail if it has ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
