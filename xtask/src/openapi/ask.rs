//! A gateway that runs, asked by schemathesis: what its own document says is what it must do.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::SECRET;
use crate::shell;

/// How long the gateway may take to answer for the first time.
const START: Duration = Duration::from_secs(120);
/// Cases are the same in each run.
const SEED: &str = "20261126";

/// What is asked.
pub(super) struct Asked<'a> {
    pub(super) gateway: &'a Path,
    /// The file of the gateway; it is copied and changed as the run needs it.
    pub(super) config: PathBuf,
    /// A folder for this run alone.
    pub(super) scratch: PathBuf,
    /// The Python environment with schemathesis.
    pub(super) venv: &'a Path,
    /// Cases for each route.
    pub(super) cases: u32,
}

/// Starts the gateway and has it asked.
///
/// # Errors
/// It does not start, or an answer is not what its document says.
pub(super) fn run(asked: &Asked<'_>) -> anyhow::Result<()> {
    fs::create_dir_all(&asked.scratch)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let file = asked.scratch.join("sentinel.toml");
    let mut settings = prepared(asked, &address)?;
    fs::write(&file, settings.to_string())?;
    let calls_others = settings.contains_key("upstreams");
    let _upstream = calls_others.then(|| upstream(asked, &file, &mut settings)).transpose()?;
    let log = asked.scratch.join("gateway.log");
    let mut gateway = Command::new(asked.gateway);
    gateway.arg("--config").arg(&file).env("JWT_SECRET_KEY", SECRET).current_dir(&asked.scratch);
    gateway.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let mut running = Running(gateway.spawn().context("the gateway cannot be started")?);
    running.answers(&address, &log)?;
    let mut mint = Command::new(asked.gateway);
    mint.args([
        "token",
        "mint",
        "--sub",
        "schemathesis",
        "--role",
        role(&file)?.as_str(),
        "--claim",
        "tier=enterprise",
    ]);
    let token = shell::output(mint.arg("--config").arg(&file).env("JWT_SECRET_KEY", SECRET))?;

    let mut st = Command::new(asked.venv.join("bin/st"));
    let rules =
        asked.venv.parent().context("the Python environment stands in no folder")?.join("schemathesis.toml");
    st.arg("--config-file").arg(rules).arg("run").arg(format!("http://{address}/openapi.json"));
    st.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
    st.args(["--phases", "examples,coverage,fuzzing,stateful", "--seed", SEED]);
    st.args(["--max-examples", &asked.cases.to_string(), "--workers", "1", "--request-timeout", "60"]);
    st.args(["--continue-on-failure", "--no-color"]);
    st.current_dir(&asked.scratch);
    let done = shell::run_bounded(&mut st, 20, 400);
    ensure!(
        running.0.try_wait()?.is_none(),
        "the gateway has ended: {}",
        fs::read_to_string(&log).unwrap_or_default()
    );
    done
}

/// The file with an address, an engine's folder and limits of its own.
fn prepared(asked: &Asked<'_>, address: &str) -> anyhow::Result<toml::Table> {
    let text = fs::read_to_string(&asked.config)
        .with_context(|| format!("cannot read {}", asked.config.display()))?;
    let mut file: toml::Table = text.parse()?;
    let beside = asked.config.parent().context("the file stands in no folder")?;
    let gateway = table(&mut file, "gateway");
    gateway.insert("listen".to_owned(), address.into());
    gateway.insert("health_listen".to_owned(), "off".into());
    // Limits are a part of what is asked, but not after so few calls.
    table(&mut file, "rate_limits").insert("default_rpm".to_owned(), 1_000_000.into());
    for engine in tables(&mut file, "engines") {
        if let Some(folder) = engine.get("cwd").and_then(toml::Value::as_str) {
            let folder = beside.join(folder).canonicalize().context("the engine's folder is missing")?;
            engine.insert("cwd".to_owned(), folder.display().to_string().into());
        }
        let data = asked.scratch.join("data").display().to_string();
        // An object store that nobody asks: a URL for it is made without it.
        let env = [
            ("ENGINE_DATA", data.as_str()),
            ("S3_BUCKET", "bucket"),
            ("S3_ACCESS_KEY_ID", "id"),
            ("S3_SECRET_ACCESS_KEY", "key"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.into()));
        engine.insert("env".to_owned(), toml::Table::from_iter(env).into());
    }
    for plugin in tables(&mut file, "plugins") {
        let tiers = plugin.get_mut("config").and_then(|config| config.get_mut("tiers"));
        for (_, tier) in tiers.and_then(toml::Value::as_table_mut).into_iter().flatten() {
            *tier = toml::Table::from_iter([("per_day".to_owned(), 10_000_000.into())]).into();
        }
    }
    Ok(file)
}

/// Starts an API that answers as the gateway's document says, behind all upstreams of the file.
fn upstream(asked: &Asked<'_>, file: &Path, settings: &mut toml::Table) -> anyhow::Result<Running> {
    let mut routes = Command::new(asked.gateway);
    routes.args(["routes", "--openapi", "--config"]).arg(file).env("JWT_SECRET_KEY", SECRET);
    let document = asked.scratch.join("openapi.json");
    fs::write(&document, shell::output(&mut routes)?)?;
    let mut mock = Command::new(asked.venv.join("bin/python"));
    let script = asked.venv.parent().context("the Python environment stands in no folder")?.join("mock.py");
    mock.arg(script).arg(&document).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(mock.spawn().context("the mock cannot be started")?);
    let mut line = String::new();
    let stdout = running.0.stdout.take().context("the mock has no output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.starts_with("http://"), "the mock does not say where it listens");
    for upstream in tables(settings, "upstreams") {
        upstream.insert("url".to_owned(), line.trim().into());
    }
    fs::write(file, settings.to_string())?;
    Ok(running)
}

fn table<'a>(file: &'a mut toml::Table, name: &str) -> &'a mut toml::Table {
    let entry = file.entry(name.to_owned()).or_insert_with(|| toml::Table::new().into());
    if !entry.is_table() {
        *entry = toml::Table::new().into();
    }
    match entry {
        toml::Value::Table(table) => table,
        _ => unreachable!("made a table above"),
    }
}

fn tables<'a>(file: &'a mut toml::Table, name: &str) -> impl Iterator<Item = &'a mut toml::Table> {
    let list = file.get_mut(name).and_then(toml::Value::as_array_mut);
    list.into_iter().flatten().filter_map(toml::Value::as_table_mut)
}

/// The first role of a file.
fn role(file: &Path) -> anyhow::Result<String> {
    let file: toml::Table = fs::read_to_string(file)?.parse()?;
    let roles = file.get("rbac").and_then(|rbac| rbac.get("roles")).and_then(toml::Value::as_table);
    roles.and_then(|roles| roles.keys().next().cloned()).context("the file has no role")
}

/// A program that ends with this.
struct Running(Child);

impl Running {
    /// Waits for the first answer.
    fn answers(&mut self, address: &str, log: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < START {
            if self.0.try_wait()?.is_some() {
                bail!("the gateway does not start: {}", fs::read_to_string(log).unwrap_or_default());
            }
            if status(address).is_some_and(|status| status == "200") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the gateway does not answer: {}", fs::read_to_string(log).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status of its own document.
fn status(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET /openapi.json HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    Some(String::from_utf8_lossy(&head[9..]).into_owned())
}
