//! This gateway, with everything from almost no policy to all of them and a record on the disk.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use super::{Launch, Place, Route, Way, free_port};
use crate::client::Door;
use crate::token::Signer;

/// The names that tokens must bear.
const ISSUER: &str = "sentinel-gateway";
const AUDIENCE: &str = "sentinel-api";

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    None,
    /// Survives the death of the gateway.
    Process,
    /// Survives the death of the machine.
    Strict,
}

/// One configuration of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) record: Record,
    /// Tokens and a rewriter; without, every request from this machine is the local user's.
    pub(crate) policies: bool,
    /// Further guards that let everything pass: copies of `tests/guests/tag`.
    pub(crate) guards: usize,
    /// Backends besides the one that is called.
    pub(crate) more_backends: usize,
    /// Roles besides the caller's.
    pub(crate) more_roles: usize,
    /// Tools that the caller's role may not call, none of which exists.
    pub(crate) rules: usize,
    /// Rows in the database before it starts.
    pub(crate) rows: u64,
    /// Another build than the one that is measured.
    pub(crate) program: Option<PathBuf>,
    /// With the bounds of its door as they come, because many will try them.
    pub(crate) besieged: bool,
    /// Run by valgrind, which counts instructions.
    pub(crate) counted: Option<Counted>,
}

/// How a gateway is run whose instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// To compile its plugins once, for the processor that valgrind plays.
    Prepared,
    /// By callgrind.
    Callgrind,
}

impl Variant {
    fn new(name: &str, what: &str, policies: bool, record: Record) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            record,
            policies,
            guards: 0,
            more_backends: 0,
            more_roles: 0,
            rules: 0,
            rows: 0,
            program: None,
            besieged: false,
            counted: None,
        }
    }

    /// The same for counting its instructions.
    pub(crate) fn counted(self, how: Counted) -> Self {
        Self { counted: Some(how), ..self }
    }

    /// The same of another build.
    pub(crate) fn built(self, program: &Path) -> Self {
        Self { name: format!("{} (before)", self.name), program: Some(program.to_owned()), ..self }
    }

    /// As few policies as there can be. The shipped guards cannot be taken out, they can only be told to
    /// allow everything.
    pub(crate) fn least() -> Self {
        let what =
            "local caller, limits and roles that allow everything, breaker off, no rewriter, no record";
        Self::new("ours, fewest policies", what, false, Record::None)
    }

    pub(crate) fn unrecorded() -> Self {
        let what =
            "ES256 token on every request, kill switch, rate limit, roles, breaker, rewriter; no record";
        Self::new("ours, five plugins, no record", what, true, Record::None)
    }

    pub(crate) fn five() -> Self {
        let what = "ES256 token on every request, kill switch, rate limit, roles, breaker, rewriter; audit (process)";
        Self::new("ours, five plugins + audit", what, true, Record::Process)
    }

    /// Everything, and the bounds of the door as they come.
    pub(crate) fn besieged() -> Self {
        Self { besieged: true, ..Self::five() }
    }

    /// Everything, with so many servers and so many roles besides the caller's.
    pub(crate) fn reloaded(backends: usize, roles: usize) -> Self {
        Self { more_backends: backends.saturating_sub(1), more_roles: roles, ..Self::five() }
    }

    pub(crate) fn strict() -> Self {
        let what = "the same with audit (strict): a record is synced to the disk before the call goes on";
        Self::new("ours, five plugins + strict audit", what, true, Record::Strict)
    }

    pub(crate) fn launch(&self, place: &Place, way: &Way<'_>) -> anyhow::Result<Launch> {
        let signer = Signer::new()?;
        std::fs::write(way.folder.join("jwks.json"), signer.jwks().to_string())?;
        let token = signer.token("bench", ISSUER, AUDIENCE, "caller")?;
        let other = signer.token("eve", ISSUER, AUDIENCE, "caller")?;
        let port = free_port()?;
        let config = way.folder.join("sentinel.toml");
        write_private(&config, &self.config(place, way, port)?)?;
        let program = self.program.as_ref().unwrap_or(&place.gateway);
        let mut command = match self.counted {
            None => Command::new(program),
            Some(how) => {
                let mut command = Command::new("valgrind");
                match how {
                    // The process that compiles them, too: it must see the same processor. It may write no files.
                    Counted::Prepared => command.args(["--tool=none", "--trace-children=yes", "--vgdb=no"]),
                    Counted::Callgrind => {
                        command.args(["--tool=callgrind", "--callgrind-out-file=callgrind.out"])
                    }
                };
                command.arg(program);
                command
            }
        };
        command.arg("--config").arg(&config).env_clear().current_dir(way.folder);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", way.folder).env("XDG_STATE_HOME", way.folder);
        command.env("BENCH_SECRET", &token);
        let http = way.route.http_door();
        if self.policies && !http {
            command.env("SENTINEL_TOKEN", &token);
        }
        let door = http.then(|| Door {
            address: format!("127.0.0.1:{port}"),
            path: "/mcp".to_owned(),
            token: self.policies.then_some(token),
            other: self.policies.then_some(other),
        });
        if self.rows > 0 {
            crate::record::fill(&place.gateway, way.folder, &config, self.rows)
                .context("cannot fill the database")?;
        }
        Ok(Launch { command: Some(command), prepare: None, helper: None, door, tool: "echo".to_owned() })
    }

    /// The configuration file.
    fn config(&self, place: &Place, way: &Way<'_>, port: u16) -> anyhow::Result<String> {
        let recorded = self.record != Record::None;
        let mut text = format!(
            "[gateway]\nlisten = \"127.0.0.1:{port}\"\nhealth_listen = \"off\"\nlog_level = \"warn\"\n\
             audit_enabled = {recorded}\nmax_in_flight = 4096\n"
        );
        if self.counted.is_some() {
            // Valgrind has not as many addresses as guards reserve.
            text += "plugin_bounds = \"checked\"\nplugin_compile_secs = 900\nplugin_compile_memory_bytes = 17179869184\n";
        }
        if way.route.http_door() {
            let local = !self.policies;
            let _ = write!(text, "[http]\nallow_local = {local}\n");
            if !self.besieged {
                text += "max_sessions = 50000\nmax_connections = 4096\n";
            }
        }
        text += if self.policies {
            // The secret is used by no caller here, but a gateway that knows public keys alone does not start:
            // auth-jwt then gets no grant for the secrets that it could read.
            "[auth]\nmode = \"jwt\"\njwks_file = \"jwks.json\"\njwt_secret_env = \"BENCH_SECRET\"\n"
        } else {
            "[auth]\nmode = \"local\"\nrole = \"caller\"\n"
        };
        if self.record == Record::Strict {
            text += "[audit]\nmode = \"strict\"\n";
        }
        text += if self.besieged {
            "[rate_limits]\nper_tool = { echo = 1000000000 }\n"
        } else {
            "[rate_limits]\ndefault_rpm = 1000000000\n"
        };
        let denied: Vec<String> = (0..self.rules).map(|index| format!("forbidden_{index}_*")).collect();
        let _ = write!(text, "[rbac.roles.caller]\npermissions = [\"*\"]\ndenied_tools = {denied:?}\n");
        for index in 0..self.more_roles {
            let _ = write!(
                text,
                "[rbac.roles.other_{index}]\npermissions = [\"tools.read\"]\ndenied_tools = [\"write_*\"]\n"
            );
        }
        for index in 0..=self.more_backends {
            text += &self.backend(way, index)?;
        }
        for index in 0..self.guards {
            let wasm = place.guests.join("tag.wasm");
            let _ = write!(
                text,
                "[[plugins]]\nname = \"tag-{index}\"\nstage = \"guard\"\nwasm = {wasm:?}\n\
                 config = {{ deny_tools = [\"none\"] }}\n"
            );
        }
        Ok(text)
    }

    fn backend(&self, way: &Way<'_>, index: usize) -> anyhow::Result<String> {
        let mut text = format!("[[backends]]\nname = \"b{index}\"\nmax_in_flight = 4096\n");
        match way.url {
            Some(url) if way.route == Route::HttpHttp => {
                let _ = write!(text, "type = \"http\"\nurl = {url:?}\n");
            }
            _ => {
                let prefix = if index == 0 { String::new() } else { format!("b{index}_") };
                let argv = way.server.argv("stdio", &prefix)?;
                let (program, args) = (&argv[0], &argv[1..]);
                let _ = write!(text, "type = \"stdio\"\ncommand = {program:?}\nargs = {args:?}\n");
            }
        }
        if self.policies && index == 0 {
            text += "[[backends.rewrite.arguments]]\ndefault = \"/limit\"\nvalue = 10\n";
        } else if !self.policies {
            text += "circuit_breaker_threshold = 0\ncircuit_breaker_failure_rate = 0.0\n";
        }
        Ok(text)
    }
}

/// The gateway refuses a file that others may write.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
