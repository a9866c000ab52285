//! What the whole gateway adds: the real binary between a client and the echo server over stdio, in turns with
//! the server alone (A B A B), so that a noisy machine is noisy for both.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops when it cannot set itself up, and prints"
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
const CALLS: usize = 500;

struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, next: 0 }
    }

    fn request(&mut self, method: &str, params: &str) -> String {
        self.next += 1;
        let id = self.next;
        writeln!(self.input, r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
            .unwrap();
        let wanted = format!("\"id\":{id},");
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server left");
            // A notification may come in between.
            if line.contains(&wanted) {
                return line;
            }
        }
    }

    fn greet(&mut self) {
        let hello = r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}"#;
        self.request("initialize", hello);
        writeln!(self.input, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#).unwrap();
    }

    fn calls(&mut self, count: usize, into: &mut Vec<Duration>) {
        for _ in 0..count {
            let since = Instant::now();
            let reply = self.request(
                "tools/call",
                r#"{"name":"echo","arguments":{"text":"0123456789012345678901234567890123456789"}}"#,
            );
            into.push(since.elapsed());
            assert!(
                reply.contains("0123456789") && !reply.contains("\"error\""),
                "a wrong answer voids the run: {reply}"
            );
        }
    }

    fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binaries() -> (PathBuf, PathBuf) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let fixture = [target.join("release/fixture-backend"), target.join("debug/fixture-backend")];
    let fixture =
        fixture.into_iter().find(|path| path.exists()).expect("cargo build --release -p fixture-backend");
    (target.join("release/sentinel-gateway"), fixture)
}

fn config(folder: &Path, fixture: &Path, backends: usize, audit: bool) -> PathBuf {
    let mut text = format!(
        "[gateway]\nhealth_listen = \"off\"\naudit_enabled = {audit}\n[auth]\nmode = \"local\"\nrole = \"admin\"\n\
         [rbac.roles.admin]\npermissions = [\"*\"]\n[rate_limits]\ndefault_rpm = 1000000000\n[audit]\ndir = \"{}\"\n",
        folder.display()
    );
    for index in 0..backends {
        let rewrite = if index == 0 {
            "[[backends.rewrite.arguments]]\ndefault = \"/limit\"\nvalue = 10\n"
        } else {
            ""
        };
        let _ = write!(
            text,
            "[[backends]]\nname = \"b{index}\"\ntype = \"stdio\"\ncommand = \"{}\"\nargs = [\"stdio\", \"--profile\", \"{}\"]\n{rewrite}",
            fixture.display(),
            if index == 0 { "echo" } else { "shop" },
        );
    }
    let path = folder.join(format!("bench-{backends}-{audit}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() - 1) as f64 * share) as usize;
    sorted[index].as_secs_f64() * 1e6
}

fn main() {
    let (gateway, fixture) = binaries();
    let folder = tempfile::tempdir().unwrap();
    let with_audit = config(folder.path(), &fixture, 1, true);
    let seven = config(folder.path(), &fixture, 7, true);

    // Warm the cache of compiled plugins, then time starts: spawn → initialize → first tools/list answer.
    let start = |path: &Path| {
        let since = Instant::now();
        let mut server = Server::start(Command::new(&gateway).arg("--config").arg(path));
        server.greet();
        let list = server.request("tools/list", "{}");
        assert!(list.contains("\"echo\""), "{list}");
        (server, since.elapsed())
    };
    drop(start(&with_audit));
    let mut starts: Vec<Duration> = (0..10).map(|_| start(&with_audit).1).collect();
    starts.sort();
    println!("start to first tools/list, one backend    p50 {:>8.1} ms", percentile(&starts, 0.5) / 1e3);

    let (server, _) = start(&seven);
    println!(
        "resident memory, seven backends configured    {:>8.1} MB",
        server.resident_kb() as f64 / 1024.0
    );
    drop(server);

    let mut direct = Server::start(Command::new(&fixture).args(["stdio", "--profile", "echo"]));
    direct.greet();
    let (mut through, _) = start(&with_audit);
    let (mut alone, mut added) = (Vec::new(), Vec::new());
    direct.calls(CALLS, &mut Vec::new());
    through.calls(CALLS, &mut Vec::new());
    for _ in 0..ROUNDS {
        direct.calls(CALLS, &mut alone);
        through.calls(CALLS, &mut added);
    }
    alone.sort();
    added.sort();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (direct, through) = (percentile(&alone, share), percentile(&added, share));
        println!(
            "stdio → gateway → stdio, five plugins, audit  {name}: direct {direct:>7.1} µs, through {through:>7.1} µs, added {:>7.1} µs",
            through - direct
        );
    }
}
