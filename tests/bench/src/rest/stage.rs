//! Everybody who takes part, started on free ports and ended with the stage.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::proc::Tree;

/// The secret of tokens.
const SECRET: &str = "0123456789abcdef0123456789abcdef-bench-only";
/// How long a program may take to answer for the first time.
const START: Duration = Duration::from_secs(60);
/// Bytes of the stream.
const STREAM: u64 = 1 << 30;
/// Routes of the gateway that has many.
const ROUTES: usize = 10_000;

/// Somebody who is asked.
pub(super) struct Party {
    pub(super) name: &'static str,
    pub(super) url: String,
    pub(super) token: String,
    pub(super) pid: u32,
}

/// All of them.
pub(super) struct Stage {
    pub(super) parties: Vec<Party>,
    engine: PathBuf,
    _programs: Vec<Program>,
    /// Gone when everybody has ended.
    _folder: tempfile::TempDir,
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// nginx in the foreground, as one process of work.
fn nginx(folder: &Path, name: &str, servers: &str, upstreams: &str) -> anyhow::Result<Child> {
    let file = folder.join(format!("{name}.conf"));
    let temporary = folder.join(name);
    fs::create_dir_all(&temporary)?;
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", temporary.display()));
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log crit;\nevents {{ worker_connections 4096; }}\nhttp {{ access_log off; keepalive_requests 1000000000; {1}\n{upstreams}\n{servers} }}\n",
        temporary.display(),
        paths.join(" ")
    );
    fs::write(&file, text)?;
    let program =
        ["/usr/sbin/nginx", "nginx"].into_iter().find(|path| Command::new(path).arg("-v").output().is_ok());
    let program = program.context("nginx is missing: apt-get install nginx-light")?;
    Command::new(program)
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("nginx cannot be started")
}

impl Stage {
    /// Starts everybody.
    ///
    /// # Errors
    /// nginx is missing, or somebody does not answer.
    pub(super) fn open(gateway: &Path, engine: &Path) -> anyhow::Result<Self> {
        let made = tempfile::tempdir()?;
        let (gateway, engine) = (gateway.canonicalize()?, engine.canonicalize()?);
        let folder = made.path();
        let mut programs = Vec::new();
        let mut parties = Vec::new();
        let mut join = |name: &'static str, address: &str, token: String, child: Child| {
            let pid = child.id();
            programs.push(Program(child));
            parties.push(Party { name, url: format!("http://{address}"), token, pid });
            answers(address)
        };
        let server = free()?;
        let big = folder.join("big");
        fs::File::create(&big)?.set_len(STREAM)?;
        let text = format!(
            "server {{ listen {server}; location /plain {{ default_type application/json; return 200 '{{\"id\":7,\"name\":\"Rex\",\"tags\":[\"a\",\"b\"]}}'; }} location /big {{ alias {}; }} location / {{ return 200 'ok'; }} }}",
            big.display()
        );
        join("direct", &server, String::new(), nginx(folder, "server", &text, "")?)?;

        let address = free()?;
        let text = format!(
            "server {{ listen {address}; location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
        );
        let upstream = format!("upstream up {{ server {server}; keepalive 64; }}");
        join("nginx, plain proxy", &address, String::new(), nginx(folder, "proxy", &text, &upstream)?)?;

        if Command::new("caddy").arg("version").output().is_ok() {
            let address = free()?;
            let file = folder.join("Caddyfile");
            fs::write(
                &file,
                format!(
                    "{{\n admin off\n auto_https off\n}}\nhttp://{address} {{\n reverse_proxy {server}\n}}\n"
                ),
            )?;
            let mut caddy = Command::new("caddy");
            caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).env("HOME", folder);
            let child = caddy
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("caddy cannot be started")?;
            join("Caddy, plain proxy", &address, String::new(), child)?;
        } else {
            eprintln!("caddy is missing (apt-get install caddy), so it takes no part");
        }

        for (name, own, routes) in [("ours", "ours", 0), ("ours, 10,000 routes", "many", ROUTES)] {
            let address = free()?;
            let home = folder.join(own);
            fs::create_dir_all(&home)?;
            let file = home.join("sentinel.toml");
            fs::write(&file, settings(&address, &server, &engine, &home, routes))?;
            let mut mint = Command::new(&gateway);
            mint.args(["token", "mint", "--sub", "bench", "--role", "caller", "--config"])
                .arg(&file)
                .env("JWT_SECRET_KEY", SECRET);
            let token = mint.output().context("the gateway cannot be started")?;
            let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
            let mut ours = Command::new(&gateway);
            ours.arg("--config")
                .arg(&file)
                .env("JWT_SECRET_KEY", SECRET)
                .current_dir(&home)
                .stdin(Stdio::null());
            ours.stdout(Stdio::null()).stderr(fs::File::create(home.join("log"))?);
            let started = join(name, &address, token, ours.spawn().context("the gateway cannot be started")?);
            started.with_context(|| fs::read_to_string(home.join("log")).unwrap_or_default())?;
        }
        Ok(Self { parties, engine, _programs: programs, _folder: made })
    }

    pub(super) fn party(&self, name: &str) -> anyhow::Result<&Party> {
        self.parties.iter().find(|party| party.name == name).context("nobody of this name takes part")
    }

    /// How long the engine's program takes by itself for one call.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn bare(&self) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..9 {
            let began = Instant::now();
            let mut command = Command::new("python3");
            command
                .args(["engine.py", "call", "primitives"])
                .current_dir(&self.engine)
                .stdout(Stdio::null())
                .stdin(Stdio::piped());
            let mut child = command.spawn().context("python3 cannot be started")?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(b"{\"operation\":\"primitives\",\"path\":{},\"query\":{},\"body\":null,\"subject\":\"bench\"}")?;
            }
            child.wait()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }

    /// A gigabyte through a route that streams, and the memory that it takes.
    ///
    /// # Errors
    /// It does not come whole.
    pub(super) fn stream(&self) -> anyhow::Result<()> {
        let party = self.party("ours")?;
        let address = party.url.trim_start_matches("http://");
        let before = Tree::of(party.pid).memory().rss;
        let began = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET /big HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            party.token
        )?;
        let (mut buffer, mut read, mut most) = (vec![0; 256 << 10], 0_u64, before);
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            // Now and then; looking costs something, too.
            if read >> 26 != (read + count as u64) >> 26 {
                most = most.max(Tree::of(party.pid).memory().rss);
            }
            read += count as u64;
        }
        if read < STREAM {
            bail!("only {read} bytes of the stream came");
        }
        let more = most.saturating_sub(before) as f64 / f64::from(1 << 20);
        println!(
            "1 GB through `stream = true`: {:.1} s, {more:.1} MB more memory than before (target: at most 64)",
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

/// Waits for the first answer.
fn answers(address: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < START {
        let answer = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            write!(stream, "GET /plain HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)
        });
        if answer.is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("nobody answers at {address}")
}

/// The gateway's file: a token on each request, roles, a limit, a record, and routes beside the one that is asked for.
fn settings(address: &str, server: &str, engine: &Path, home: &Path, routes: usize) -> String {
    let (engine, home) = (engine.display().to_string(), home.display().to_string());
    let mut text = format!(
        r#"[gateway]
listen = "{address}"
health_listen = "off"
max_in_flight = 4096
[http]
max_connections = 10000
max_connections_per_address = 10000
[auth]
mode = "jwt"
[rbac.roles.caller]
permissions = ["routes.call"]
[rate_limits]
default_rpm = 1000000000
[audit]
dir = "{home}/audit"
[[upstreams]]
name = "server"
url = "http://{server}"
max_in_flight = 4096
[[engines]]
name = "warm"
command = "python3"
args = ["engine.py", "serve"]
cwd = "{engine}"
mode = "pool"
pool_size = 2
env = {{ ENGINE_DATA = "{home}" }}
[[engines]]
name = "once"
command = "python3"
args = ["engine.py", "call", "primitives"]
cwd = "{engine}"
env = {{ ENGINE_DATA = "{home}" }}
[[routes]]
id = "plain"
method = "GET"
path = "/plain"
target = {{ upstream = "server" }}
[[routes]]
id = "big"
method = "GET"
path = "/big"
target = {{ upstream = "server" }}
stream = true
timeout_secs = 300
[[routes]]
id = "warm"
method = "GET"
path = "/warm"
target = {{ engine = "warm", operation = "primitives" }}
[[routes]]
id = "once"
method = "GET"
path = "/once"
target = {{ engine = "once", operation = "primitives" }}
"#
    );
    for number in 0..routes {
        let _ = write!(
            text,
            "[[routes]]\nid = \"r{number}\"\nmethod = \"GET\"\npath = \"/r{}/{{x}}/s{number}\"\ntarget = {{ upstream = \"server\" }}\n",
            number % 100
        );
    }
    text
}
