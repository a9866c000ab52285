//! Servers over HTTP that a test writes in a few lines, and others that somebody else wrote.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::real_servers::{fixtures, free_port, installed};
use crate::support::eventually;

/// A server that is `web.py` with code of the test's own. Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Web {
    child: Child,
    port: u16,
    told: Arc<Mutex<Vec<Value>>>,
    _dir: tempfile::TempDir,
}

impl Web {
    pub(crate) fn start(code: &str) -> Self {
        Self::with(code, &[], "")
    }

    /// With arguments, and with what `serve` is called with.
    pub(super) fn with(code: &str, args: &[&str], tls: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.py");
        std::fs::write(&file, format!("{}\n{code}\nserve({tls})\n", include_str!("web.py"))).unwrap();
        Self::run(Command::new("python3").arg(&file).args(args), dir)
    }

    /// A program of Node; it says where it listens in the same way.
    pub(super) fn node(code: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.mjs");
        std::fs::write(&file, code).unwrap();
        Self::run(Command::new("node").arg(&file).args(args), dir)
    }

    fn run(command: &mut Command, dir: tempfile::TempDir) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap_or_else(|| panic!("it ended at once")).unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        let port = u16::try_from(first["port"].as_u64().unwrap()).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = told.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                telling.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Self { child, port, told, _dir: dir }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        self.at("/mcp")
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Every request so far.
    pub(super) fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }

    /// How many requests of this method have come.
    pub(super) fn count(&self, method: &str) -> usize {
        self.told().iter().filter(|line| line["message"]["method"] == method).count()
    }

    /// The first request that fits, once it is there.
    pub(crate) fn await_request(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.told().into_iter().find(&fits))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that somebody else wrote, at a port of its own. Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Foreign {
    child: Child,
    port: u16,
}

impl Foreign {
    /// The reference server of the TypeScript SDK, at this transport: `sse` or `streamableHttp`.
    pub(super) fn everything(transport: &str, port: u16) -> Self {
        let server = "node/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
        let server = installed(&fixtures().join(server));
        Self::start(Command::new("node").args([&server, transport]).env("PORT", port.to_string()), port)
    }

    /// A server of the Python SDK: this program, which finds its port in `PORT`.
    pub(super) fn python(file: &PathBuf, port: u16) -> Self {
        let python = installed(&fixtures().join("python/.venv/bin/python"));
        Self::start(Command::new(python).arg(file).env("PORT", port.to_string()), port)
    }

    fn start(command: &mut Command, port: u16) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        eventually("a server that listens", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(drop)
        });
        Self { child, port }
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Ends as a crash would; another at the same port knows nothing of its sessions.
    pub(super) fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails if it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(super) fn port() -> u16 {
    free_port()
}
