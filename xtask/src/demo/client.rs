//! The agent of the demo: an MCP client over the gateway's standard input and output, in as few lines as the
//! protocol allows. Every wait has an end.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// How long one step of the demo may take.
const STEP: Duration = Duration::from_secs(30);
/// The longest message that is taken, in bytes.
const LINE: u64 = 8 << 20;

/// When a step must be over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn new() -> Self {
        Self(Instant::now() + STEP)
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The answer to a request: its `result` or its `error`.
#[derive(Debug)]
pub(crate) struct Answer(Value);

impl Answer {
    /// The result, where one is expected.
    pub(crate) fn result(mut self) -> anyhow::Result<Value> {
        match self.0.get_mut("result").map(Value::take) {
            Some(result) => Ok(result),
            None => bail!("refused, but should not be: {self}"),
        }
    }

    /// The refusal for a person, where one with this code is expected.
    pub(crate) fn refusal(self, code: i64) -> anyhow::Result<String> {
        let error = self.0.get("error");
        let found = error.and_then(|error| error.get("code")).and_then(Value::as_i64);
        ensure!(found == Some(code), "{code} was expected, not {self}");
        let message = error.and_then(|error| error.get("message")).and_then(Value::as_str);
        Ok(format!("{code} {}", message.context("an error without a message")?))
    }

    /// The result or the error, whichever it is.
    pub(crate) fn value(&self) -> &Value {
        self.0.get("result").or_else(|| self.0.get("error")).unwrap_or(&self.0)
    }

    /// A fact that an error carries.
    pub(crate) fn data(&self, key: &str) -> Option<&Value> {
        self.0.get("error")?.get("data")?.get(key)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get("error").or_else(|| self.0.get("result")).unwrap_or(&self.0);
        write!(f, "{shown}")
    }
}

/// A running gateway and our end of the conversation with it.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    /// None once we hung up.
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    last_id: u64,
}

impl Client {
    /// Starts the gateway.
    pub(crate) fn start(mut gateway: Command) -> anyhow::Result<Self> {
        let mut child = gateway
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", gateway.get_program().display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the gateway has no output")?;
        let (sender, messages) = sync_channel(256);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while matches!(reader.by_ref().take(LINE).read_until(b'\n', &mut line), Ok(1..)) {
                // What is not JSON reaches the demo as text, and fails the step that meets it.
                let message = serde_json::from_slice(&line)
                    .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&line).into_owned()));
                if sender.send(message).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Ok(Self { child, stdin, messages, last_id: 0 })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn request(&mut self, method: &str, params: &Value, by: Deadline) -> anyhow::Result<Answer> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let message = match self.messages.recv_timeout(by.left()) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("no answer to {method} in {} s", STEP.as_secs()),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the gateway ended instead of answering {method}")
                }
            };
            ensure!(message.is_object(), "the gateway wrote something that is no message: {message}");
            // Notifications may come at any time.
            if message.get("method").is_none() && message.get("id").and_then(Value::as_u64) == Some(id) {
                return Ok(Answer(message));
            }
        }
    }

    /// Calls a tool.
    #[allow(clippy::needless_pass_by_value, reason = "it is called with json!(…) in place")]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value, by: Deadline) -> anyhow::Result<Answer> {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments}), by)
    }

    pub(crate) fn notify(&mut self, method: &str) -> anyhow::Result<()> {
        self.send(&json!({"jsonrpc": "2.0", "method": method}))
    }

    /// Tells the gateway to read its configuration again, by SIGHUP.
    pub(crate) fn hang_signal(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("the gateway has no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).context("cannot send SIGHUP")
    }

    /// Closes the gateway's input, after which it must end by itself, with exit code 0.
    pub(crate) fn hang_up(&mut self, by: Deadline) -> anyhow::Result<()> {
        self.stdin = None;
        let status = wait(&mut self.child, by).context("the gateway did not end")?;
        ensure!(status.success(), "the gateway ended with {status}");
        Ok(())
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("hung up already")?;
        writeln!(stdin, "{message}")
            .and_then(|()| stdin.flush())
            .context("the gateway does not listen any more")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A demo that failed half way leaves no gateway behind. Both fail if it has ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a program to end, and kills it when the time is up.
pub(crate) fn wait(child: &mut Child, by: Deadline) -> anyhow::Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if by.left().is_zero() {
            child.kill()?;
            child.wait()?;
            bail!("it took longer than {} s", STEP.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
