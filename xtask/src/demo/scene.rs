//! The world of the demo: a folder of its own with a configuration, a token, four servers and a log, gone when
//! the demo is over.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, ensure};

use crate::workspace::{Host, Workspace};

use super::client::{Deadline, wait};

/// Variables of the person at the keyboard that must not change what the demo shows.
pub(crate) const FOREIGN: [&str; 8] = [
    "BACKEND_SHARED_SECRET",
    "DATABASE_URL",
    "HEALTH_TOKEN",
    "JWT_SECRET_KEY",
    "LOG_LEVEL",
    "RUST_LOG",
    "SENTINEL_CONFIG",
    "SENTINEL_TOKEN",
];

/// Everything the demo needs but the client.
#[derive(Debug)]
pub(crate) struct Scene {
    dir: tempfile::TempDir,
    gateway: PathBuf,
    backend: PathBuf,
    secret: String,
    token: String,
    /// Where the HTTP server listens.
    address: String,
    http: Child,
}

impl Scene {
    /// Makes the folder, mints the token, starts the HTTP server and writes the configuration.
    pub(crate) fn set(workspace: &Workspace) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sentinel-demo-").tempdir()?;
        let backend = workspace.binary(Host::Debug, "fixture-backend");
        let (http, address) = start_http(&backend)?;
        let gateway = workspace.gateway(Host::Debug);
        let (secret, token) = (random_secret()?, String::new());
        let mut scene = Self { dir, gateway, backend, secret, token, address, http };
        let mint = ["token", "mint", "--sub", "demo", "--role", "demo", "--days", "1"];
        scene.token = scene.output(scene.command().args(mint), Deadline::new())?.trim().to_owned();
        ensure!(scene.token.split('.').count() == 3, "`token mint` wrote no token");
        scene.write_config(&[])?;
        Ok(scene)
    }

    /// The gateway, ready to be started; its log goes to a file.
    pub(crate) fn gateway(&self) -> Command {
        let mut command = self.command();
        command.arg("--config").arg(self.config());
        match File::create(self.dir.path().join("gateway.log")) {
            Ok(file) => command.stderr(file),
            Err(_) => command.stderr(Stdio::inherit()),
        };
        command
    }

    /// Runs a command of the gateway with the demo's configuration, and returns its output.
    pub(crate) fn ask(&self, args: &[&str], by: Deadline) -> anyhow::Result<String> {
        self.output(self.command().args(args).arg("--config").arg(self.config()), by)
    }

    /// What the gateway has written to its log so far.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("gateway.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// From now on the weather service's `flaky` fails.
    pub(crate) fn fall_ill(&self) -> anyhow::Result<()> {
        fs::write(self.flag(), "").context("cannot write the flag file")
    }

    /// From now on it works again.
    pub(crate) fn heal(&self) -> anyhow::Result<()> {
        fs::remove_file(self.flag()).context("cannot remove the flag file")
    }

    /// Writes the configuration anew, with this tool switched off.
    pub(crate) fn disable(&self, tool: &str) -> anyhow::Result<()> {
        self.write_config(&[tool])
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("sentinel.toml")
    }

    fn flag(&self) -> PathBuf {
        self.dir.path().join("weather-is-ill")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.gateway);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("JWT_SECRET_KEY", &self.secret).env("SENTINEL_TOKEN", &self.token);
        command.current_dir(self.dir.path());
        command
    }

    /// Runs a command to its end, at the latest when the time is up.
    fn output(&self, command: &mut Command, by: Deadline) -> anyhow::Result<String> {
        // Files, because nobody reads a pipe while we wait.
        let (out, err) = (self.dir.path().join("output"), self.dir.path().join("errors"));
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
        let name = command.get_args().take(2).map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut child = command.spawn().with_context(|| format!("cannot start `sentinel-gateway {name}`"))?;
        let status = wait(&mut child, by).with_context(|| format!("`sentinel-gateway {name}`"))?;
        let errors = String::from_utf8_lossy(&fs::read(err)?).trim().to_owned();
        ensure!(status.success(), "`sentinel-gateway {name}` failed: {errors}");
        fs::read_to_string(out).context("the output is no UTF-8")
    }

    fn write_config(&self, disabled: &[&str]) -> anyhow::Result<()> {
        let backend = quoted(&self.backend.to_string_lossy());
        let text = format!(
            r#"[gateway]
listen = "127.0.0.1:0"
health_listen = "off"

[audit]
dir = {audit}

[auth]
mode = "jwt"

[rbac.roles.demo]
permissions = ["*"]
denied_tools = ["add_note"]

[rate_limits]
per_tool = {{ order = 3 }}

[kill_switch]
disabled_tools = {disabled:?}

[[backends]]
name = "shop"
type = "stdio"
command = {backend}
args = ["stdio", "--profile", "shop"]

[[backends]]
name = "weather"
type = "stdio"
command = {backend}
args = ["stdio", "--profile", "weather", "--flag-file", {flag}]
circuit_breaker_threshold = 3
circuit_breaker_count_errors = true
circuit_breaker_recovery_secs = 1

[[backends]]
name = "notes"
type = "stdio"
command = {backend}
args = ["stdio", "--profile", "notes"]

[[backends]]
name = "echo"
type = "http"
url = "http://{address}/mcp"
"#,
            audit = quoted(&self.dir.path().join("audit").to_string_lossy()),
            flag = quoted(&self.flag().to_string_lossy()),
            address = self.address,
        );
        // Renamed into place: the gateway never reads half of it. It refuses a file that others may write.
        let draft = self.dir.path().join("sentinel.toml.new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        fs::rename(&draft, self.config()).context("cannot write the configuration")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It serves until it is told to stop; if it has ended already, both fail and nothing is lost.
        let _ = self.http.kill();
        let _ = self.http.wait();
    }
}

/// Starts the HTTP server on a free port, which it names in its first line.
fn start_http(backend: &PathBuf) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(backend)
        .args(["http", "--port", "0", "--profile", "echo"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", backend.display()))?;
    let stdout = child.stdout.take().context("the HTTP server has no output")?;
    let (sender, first) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        let _ = reader.by_ref().take(1_024).read_line(&mut line);
        let _ = sender.send(line);
        // Read on, or the server would block once the pipe is full.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let line = first.recv_timeout(Deadline::new().left()).unwrap_or_default();
    match line.trim().strip_prefix("listening ") {
        Some(address) => Ok((child, address.to_owned())),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            anyhow::bail!("the HTTP server did not say where it listens")
        }
    }
}

/// 64 characters of hexadecimal from the kernel's source of randomness.
pub(crate) fn random_secret() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes).context("no randomness")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A TOML string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_enough_and_never_the_same() {
        let (one, two) = (random_secret().unwrap(), random_secret().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
    }

    #[test]
    fn quoting_survives_whatever_a_path_may_contain() {
        let awkward = "a \"b\" \\ c\n'd'";
        let table: toml::Table = format!("x = {}", quoted(awkward)).parse().unwrap();
        assert_eq!(table["x"].as_str(), Some(awkward));
    }
}
