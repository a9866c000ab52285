//! The programs of a run: the fixture backend, the gateway in front of it, and how neither outlives the run.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::report::tail;

/// How long a server may take until it serves.
const START: Duration = Duration::from_secs(20);
/// How long a program may take to leave after it was asked to.
const LEAVE: Duration = Duration::from_secs(15);
/// How often a program that starts or leaves is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// A program that is asked to end, and then killed, when it is no longer needed.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn();
        Ok(Self(child.with_context(|| format!("cannot start {}", command.get_program().display()))?))
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.0.try_wait().context("cannot wait for a program that was started")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.0.try_wait() {
            return;
        }
        // The gateway has children of its own, and takes them with it if it may leave in order.
        drop(self.0.stdin.take());
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let by = Instant::now() + LEAVE;
        while Instant::now() < by {
            match self.0.try_wait() {
                Ok(None) => std::thread::sleep(PAUSE),
                _ => return,
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which revisions the fixture backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    Both,
    /// With a handshake: up to 2025-11-25.
    Legacy,
    /// Without: 2026-07-28.
    Modern,
}

impl Era {
    fn word(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// A server and where it listens.
#[derive(Debug)]
pub(super) struct Server {
    /// Held for its end.
    _program: Running,
    pub(super) url: String,
}

/// Starts the fixture backend on a free port, which it names in its first line.
///
/// # Errors
/// If it cannot be started or does not say where it listens.
pub(super) fn backend(binary: &Path, era: Era, folder: &Path) -> anyhow::Result<Server> {
    let mut command = Command::new(binary);
    command.args(["--http", "127.0.0.1:0", "--era", era.word()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(folder.join("backend.log"))?);
    let mut program = Running::start(&mut command)?;
    let stdout = program.0.stdout.take().context("the backend has no output")?;
    let (sender, first) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        let _ = reader.by_ref().take(1_024).read_line(&mut line);
        let _ = sender.send(line);
        // Read on, or the server would block once the pipe is full.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let line = first.recv_timeout(START).unwrap_or_default();
    let url =
        line.trim().strip_prefix("listening on ").context("the backend does not say where it listens")?;
    Ok(Server { _program: program, url: url.to_owned() })
}

/// How the gateway reaches a backend.
#[derive(Debug)]
pub(super) enum Reach {
    Http { url: String },
    Stdio { command: String, args: Vec<String> },
}

/// A backend in the gateway's configuration.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) reach: Reach,
    /// Whether its tools carry its name, so that they collide with nobody's.
    pub(super) prefix: bool,
}

/// The fixture backend as a child of the gateway.
pub(super) fn child(binary: &Path, era: Era) -> Reach {
    let args = ["--stdio", "--era", era.word()].map(str::to_owned).to_vec();
    Reach::Stdio { command: binary.to_string_lossy().into_owned(), args }
}

/// The gateway's configuration: open to everybody on this machine, and everything else as it comes, for a
/// policy that gets in the way of an honest client is a finding.
fn config(port: u16, audit: &Path, backends: &[Backend]) -> String {
    let mut text = format!(
        r#"[gateway]
listen = "127.0.0.1:{port}"
health_listen = "off"

[http]
allow_local = true

[auth]
mode = "local"
role = "admin"

[audit]
dir = {audit}

[rbac.roles.admin]
permissions = ["*"]

[rate_limits]
default_rpm = 1_000_000
"#,
        audit = quoted(&audit.to_string_lossy()),
    );
    for Backend { name, reach, prefix } in backends {
        let _ = write!(text, "\n[[backends]]\nname = {}\nprefix = {prefix}\n", quoted(name));
        let _ = match reach {
            Reach::Http { url } => writeln!(text, "type = \"http\"\nurl = {}", quoted(url)),
            Reach::Stdio { command, args } => {
                let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
                let (command, args) = (quoted(command), args.join(", "));
                writeln!(text, "type = \"stdio\"\ncommand = {command}\nargs = [{args}]")
            }
        };
    }
    text
}

/// Starts the gateway in front of these backends, and waits until it serves.
///
/// # Errors
/// If it cannot be started, ends, or does not serve in time; the end of its log is part of the error.
pub(super) fn gateway(binary: &Path, backends: &[Backend], folder: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    let path = folder.join("sentinel.toml");
    // It refuses a file that others may write.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(config(address.port(), &folder.join("audit"), backends).as_bytes())?;
    let log = folder.join("gateway.log");

    let mut command = Command::new(binary);
    command.arg("--config").arg(&path).current_dir(folder);
    // Variables of the person at the keyboard must not change what is measured.
    command.env_clear().env("HOME", folder);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    // Its input stays open: the end of it may mean that the one client left.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let mut program = Running::start(&mut command)?;

    let by = Instant::now() + START;
    let problem = loop {
        if let Some(status) = program.ended()? {
            break format!("the gateway ended with {status}");
        }
        match healthy(address) {
            Ok(()) => return Ok(Server { _program: program, url: format!("http://{address}/mcp") }),
            Err(error) if Instant::now() >= by => {
                break format!("the gateway did not serve in {} s: {error:#}", START.as_secs());
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    let log = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    bail!("{problem}; the end of its log:\n{}", tail(&log, 10))
}

/// A port that was free a moment ago: the gateway takes a number, not a socket.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?)
}

/// Whether `GET /mcp/health` answers 200.
fn healthy(address: SocketAddr) -> anyhow::Result<()> {
    let second = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, second)?;
    stream.set_read_timeout(Some(second))?;
    stream.set_write_timeout(Some(second))?;
    write!(stream, "GET /mcp/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream.take(1_024)).read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status == "200", "/mcp/health answers {:?}", line.trim());
    Ok(())
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_whatever_a_path_may_contain() {
        let backends = [
            Backend {
                name: "a".to_owned(),
                reach: Reach::Http { url: "http://127.0.0.1:1/mcp".to_owned() },
                prefix: false,
            },
            Backend {
                name: "b".to_owned(),
                reach: child(Path::new("/a \"b\"\\c"), Era::Legacy),
                prefix: true,
            },
        ];
        let text = config(7, Path::new("/x 'y'"), &backends);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["gateway"]["listen"].as_str(), Some("127.0.0.1:7"));
        assert_eq!(table["audit"]["dir"].as_str(), Some("/x 'y'"));
        let backends = table["backends"].as_array().unwrap();
        assert_eq!(backends[0]["url"].as_str(), Some("http://127.0.0.1:1/mcp"));
        assert_eq!(backends[1]["command"].as_str(), Some("/a \"b\"\\c"));
        assert_eq!(backends[1]["args"].as_array().unwrap().len(), 3);
        assert_eq!(backends[1]["prefix"].as_bool(), Some(true));
    }

    #[test]
    fn a_program_does_not_outlive_its_holder() {
        let mut command = Command::new("sleep");
        let program = Running::start(command.arg("1000")).unwrap();
        let pid = Pid::from_raw(i32::try_from(program.0.id()).unwrap()).unwrap();
        drop(program);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn only_a_200_is_healthy() {
        let answer = |status: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // To its end: closing before that would reset the connection.
                let lines = BufReader::new(&stream).lines().map(Result::unwrap);
                let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
                request[0].clone()
            });
            let healthy = healthy(address).is_ok();
            assert_eq!(server.join().unwrap(), "GET /mcp/health HTTP/1.1");
            healthy
        };
        assert!(answer("200 OK"));
        assert!(!answer("503 Service Unavailable"));
        assert!(healthy(free_address().unwrap()).is_err());
    }

    #[test]
    fn a_gateway_that_ends_at_once_is_an_error_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("gateway");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&script).unwrap();
        file.write_all(b"#!/bin/sh\necho 'no such key' >&2\nexit 2\n").unwrap();
        drop(file);
        let error = gateway(&script, &[], dir.path()).unwrap_err();
        assert!(error.to_string().contains("no such key"), "{error}");
    }
}
