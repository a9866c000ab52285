//! A fixture server over HTTP, for backends that the gateway does not start itself.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::setup::fixture;

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct HttpServer {
    child: Child,
    address: String,
}

impl HttpServer {
    /// Starts the fixture with these flags on a free port, or on the one that `--port` names.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(fixture())
            .arg("http")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // It says where it listens in its first line, or ends.
        reader.read_line(&mut line).unwrap();
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let address = line.trim().strip_prefix("listening ").unwrap().to_owned();
        Self { child, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub(crate) fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.kill();
    }
}
