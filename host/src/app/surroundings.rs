//! Looks for the programs, folders and addresses that a configuration relies on and this machine may lack. A gateway
//! can start without some of them, so none is a mistake of the file.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::config::{Backend, Config, Problem, TransportSettings};

/// What was found.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Things that are missing, so that something will not work.
    pub missing: Vec<Problem>,
    /// Things that may be intended.
    pub notes: Vec<Problem>,
}

/// Looks at everything that a start would need, and leaves all of it as it is.
#[must_use]
pub fn look(config: &Config) -> Surroundings {
    let mut found = Surroundings::default();
    for config in std::iter::once(config).chain(config.mounts().map(|mount| &mount.config)) {
        for backend in config.backends.iter().filter(|backend| backend.absent.is_none()) {
            if let Some(problem) = program(backend) {
                found.missing.push(problem);
            }
        }
    }
    if config.http.is_some() {
        address(&mut found, "gateway.listen", config.gateway.listen, true);
    }
    if let Some(health) = config.gateway.health_listen {
        address(&mut found, "gateway.health_listen", health, false);
    }
    found
}

/// The reason why the program of a backend cannot be started.
fn program(backend: &Backend) -> Option<Problem> {
    let TransportSettings::Stdio { command, env, cwd, .. } = &backend.transport else { return None };
    let problem = |key: &str, message: String, hint: String| {
        Some(super::problem(&format!("backends.{}.{key}", backend.name), message, Some(hint)))
    };
    if let Some(cwd) = cwd
        && !cwd.is_dir()
    {
        let message = format!("{} is not a folder", cwd.display());
        return problem("cwd", message, format!("mkdir -p {}, or name another", cwd.display()));
    }
    if command.contains('/') {
        // As the system does it: from the folder that the program is to run in.
        let path = cwd.as_deref().unwrap_or(Path::new("")).join(command);
        let why = if !path.exists() {
            "there is no such file"
        } else if path.is_dir() {
            "it is a folder"
        } else if !runs(&path) {
            "it may not be run"
        } else {
            return None;
        };
        let hint = if path.is_file() {
            format!("chmod +x {}", path.display())
        } else {
            "an absolute path is the surest".to_owned()
        };
        return problem("command", format!("{}: {why}", path.display()), hint);
    }
    let own = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.expose().into());
    let folders = own.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    if std::env::split_paths(&folders).map(|folder| folder.join(command)).any(|path| runs(&path)) {
        return None;
    }
    let hint = match command.split_once(char::is_whitespace) {
        Some((program, rest)) => {
            let args: Vec<&str> = rest.split_whitespace().collect();
            format!("no shell reads it: command = {program:?}, args = {args:?}")
        }
        None => installing(command).to_owned(),
    };
    problem("command", format!("there is no program {command:?} in the folders of PATH"), hint)
}

/// Where programs come from that servers are usually started with.
fn installing(command: &str) -> &'static str {
    match command {
        "npx" | "node" | "npm" => "install Node.js",
        "uvx" | "uv" => "install uv",
        "docker" => "install Docker",
        "python" => "install Python, or write \"python3\"",
        _ => "install it, or write its whole path",
    }
}

fn runs(path: &PathBuf) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

fn address(found: &mut Surroundings, key: &str, address: SocketAddr, needed: bool) {
    use std::io::ErrorKind::AddrInUse;
    let Err(error) = TcpListener::bind(address) else { return };
    let taken = error.kind() == AddrInUse;
    let text = if taken {
        format!("somebody listens on {address} already: this gateway, if it is running")
    } else {
        format!("nobody could listen on {address}: {error}")
    };
    let hint = if needed { "another port or address" } else { "another port, or \"off\"" };
    let problem = super::problem(key, text, Some(hint.to_owned()));
    // Without its health server a gateway serves all the same.
    if taken || !needed { found.notes.push(problem) } else { found.missing.push(problem) }
}
