//! The servers of `tests/fixtures/SERVERS.md`, each with something to work on, and a gateway's setup for them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::START;
use crate::support::Setup;

/// Everything that is there before the gateway starts.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) setup: Setup,
    _servers: [Server; 2],
}

/// Where the programs of other people are installed.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").canonicalize().unwrap()
}

/// A program of the Python servers' environment.
pub(crate) fn python(program: &str) -> String {
    installed(&fixtures().join("python/.venv/bin").join(program))
}

fn node(server: &str) -> String {
    package(&format!("@modelcontextprotocol/{server}/dist/index.js"))
}

/// A file of the Node servers' packages.
fn package(path: &str) -> String {
    installed(&fixtures().join("node/node_modules").join(path))
}

/// The path of a program that must be there.
pub(crate) fn installed(path: &Path) -> String {
    assert!(path.exists(), "{} is missing: run `cargo xtask fixtures`", path.display());
    path.to_str().unwrap().to_owned()
}

impl Scene {
    pub(super) fn set() -> Self {
        let mut setup = Setup::new();
        for folder in ["shelf", "sheets", "repo"] {
            fs::create_dir(setup.path(folder)).unwrap();
        }
        fs::write(setup.path("shelf/note.txt"), "two boxes of tea from Assam\n").unwrap();
        commit(&setup.path("repo"));

        let port = free_port();
        let mut web = Command::new("node");
        web.args([&node("server-everything"), "streamableHttp"]).env("PORT", port.to_string());
        let web = Server::start(web.env("MARK", "web"), port);
        let port = free_port();
        let mut excel = Command::new(python("excel-mcp-server"));
        excel.args(["streamable-http", "--host", "127.0.0.1", "--port", &port.to_string()]);
        let excel = Server::start(excel.arg("--allow-dir").arg(setup.path("sheets")), port);

        let everything = node("server-everything");
        let memory = format!("MEMORY_FILE_PATH = {:?}", setup.text("memory.jsonl"));
        let (shelf, repo) = (setup.text("shelf"), setup.text("repo"));
        for (name, command, args, env) in [
            ("everything", "node", vec![everything.as_str(), "stdio"], "MARK = \"everything\""),
            ("files", "node", vec![&node("server-filesystem"), &shelf], ""),
            ("memory", "node", vec![&node("server-memory")], &memory),
            ("time", &python("mcp-server-time"), vec!["--local-timezone", "UTC"], ""),
            ("git", &python("mcp-server-git"), vec!["--repository", &repo], ""),
        ] {
            setup = setup.more(&format!(
                "[[backends]]\nname = {name:?}\ncommand = {command:?}\nargs = {args:?}\nenv = {{ {env} }}"
            ));
        }
        setup = setup.http("web", &web.url(), "").http("excel", &excel.url(), "");
        Self { setup, _servers: [web, excel] }
    }

    /// The same and five more: two that shake hands by the newest revision before the stateless one, two stateless ones, and
    /// one with the longest list of all.
    pub(super) fn of_twelve() -> Self {
        let Self { setup, _servers } = Self::set();
        // So many interpreters on a busy machine take longer than clients would wait, which is what the default is for.
        let mut setup = setup.gateway("first_list_wait_secs = 80");
        let thinking = node("server-sequential-thinking");
        let (docs, browser) =
            (package("@upstash/context7-mcp/dist/index.js"), package("@playwright/mcp/cli.js"));
        let runner = package("mcp-server-code-runner/dist/cli.js");
        for (name, command, args) in [
            ("thinking", "node", vec![&*thinking]),
            ("docs", "node", vec![&*docs]),
            ("browser", "node", vec![&*browser, "--headless"]),
            ("runner", "node", vec![&*runner]),
            ("fetch", &python("mcp-server-fetch"), vec![]),
        ] {
            setup =
                setup.more(&format!("[[backends]]\nname = {name:?}\ncommand = {command:?}\nargs = {args:?}"));
        }
        Self { setup, _servers }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// The gateway and whatever it has started.
    pub(super) fn processes(&self) -> Vec<i32> {
        processes_of(&self.setup)
    }
}

/// A gateway with this setup and whatever it has started: all that live in this gateway's home.
pub(crate) fn processes_of(setup: &Setup) -> Vec<i32> {
    let home = format!("HOME={}", setup.text(""));
    let ours = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(ours).collect()
}

/// A repository with one commit, by nobody in particular.
fn commit(repo: &Path) {
    let settings = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"];
    for args in [vec!["init", "--quiet"], vec!["commit", "--quiet", "--allow-empty", "-m", "the first leaf"]]
    {
        let words = settings.iter().chain(&args);
        let status = Command::new("git").args(words).current_dir(repo).status().unwrap();
        assert!(status.success(), "git {args:?}: {status}");
    }
}

/// A port nobody listens on right now, for servers that cannot take 0 and say what they got. It is below those that
/// the system gives out, so that no connection of another test takes it before the server does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let candidates = std::iter::repeat_with(|| {
        let number = std::process::id().wrapping_mul(64) + NEXT.fetch_add(1, Ordering::Relaxed);
        u16::try_from(20_000 + number % 12_000).unwrap()
    });
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    candidates.take(1_000).find(free).expect("no port is free")
}

/// A server over HTTP that the gateway does not start. Runs until it is dropped.
#[derive(Debug)]
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts it and waits until it listens.
    fn start(command: &mut Command, port: u16) -> Self {
        let program = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut server = Self { child, port };
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{program} ended: {ended:?}");
            assert!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails if it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
