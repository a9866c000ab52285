//! One line that says how the start went: the version, the file, the doors, and which of the servers are up.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::{Auth, Config};
use crate::pipeline::{BackendState, Pipeline};

/// How long the line waits for servers that are starting.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many servers that are not up are named, at most.
const MAX_NAMED: usize = 10;

/// How callers prove who they are.
pub(super) fn mode(config: &Config) -> &'static str {
    match config.auth {
        Auth::Jwt { .. } => "jwt",
        Auth::Local => "local",
        Auth::Plugins { .. } => "plugins",
    }
}

/// The part of the line before the servers.
pub(super) struct Started {
    began: Instant,
    path: PathBuf,
    mode: &'static str,
    pipelines: Vec<Arc<Pipeline>>,
    stop: CancellationToken,
    /// Where the door is open, once it is, for whoever asks later.
    door: Arc<OnceLock<String>>,
}

impl Started {
    pub(super) fn new(
        config: &Config,
        began: Instant,
        pipelines: Vec<Arc<Pipeline>>,
        stop: CancellationToken,
        door: Arc<OnceLock<String>>,
    ) -> Self {
        let mode = mode(config);
        Self { began, path: config.path.clone(), mode, pipelines, stop, door }
    }

    /// The door is open at these addresses, or for the one client on stdio: once every server is up or has failed, and after
    /// half a minute in any case, the log says so.
    pub(super) fn at(self, addresses: &[String]) {
        let door = if addresses.is_empty() { "stdio".to_owned() } else { addresses.join(", ") };
        // It opens once.
        let _ = self.door.set(door.clone());
        tokio::spawn(async move {
            let tried = async {
                for pipeline in &self.pipelines {
                    pipeline.tried().await;
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(PATIENCE, tried) => {
                    let (version, file, mode) = (env!("CARGO_PKG_VERSION"), self.path.display(), self.mode);
                    tracing::info!("started: sentinel-gateway {version}, {file}, mode {mode}, {door}; {}", self.servers());
                }
                () = self.stop.cancelled() => {}
            }
        });
    }

    fn servers(&self) -> String {
        let backends: Vec<BackendState> =
            self.pipelines.iter().flat_map(|pipeline| pipeline.readiness().backends).collect();
        let tools: usize = self.pipelines.iter().map(|pipeline| pipeline.tools()).sum();
        counted(&backends, tools, self.began.elapsed())
    }
}

/// `17 of 18 servers up, 193 tools, 6.8 s; down: x (why)`
fn counted(backends: &[BackendState], tools: usize, took: Duration) -> String {
    let down: Vec<String> = backends
        .iter()
        .filter_map(|backend| Some(format!("{} ({})", backend.name, backend.down.as_ref()?)))
        .collect();
    let (all, up) = (backends.len(), backends.len() - down.len());
    let (servers, tools_word) =
        (if all == 1 { "server" } else { "servers" }, if tools == 1 { "tool" } else { "tools" });
    let mut line = format!("{up} of {all} {servers} up, {tools} {tools_word}, {:.1} s", took.as_secs_f64());
    if !down.is_empty() {
        line.push_str("; down: ");
        line.push_str(&down[..down.len().min(MAX_NAMED)].join(", "));
    }
    match down.len().saturating_sub(MAX_NAMED) {
        0 => line,
        more => format!("{line} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_servers_and_names_those_that_are_down() {
        let backend = |name: String, down: Option<&str>| BackendState {
            name: name.into(),
            down: down.map(str::to_owned),
        };
        let mut all: Vec<BackendState> = (0..17).map(|number| backend(format!("s{number}"), None)).collect();
        let took = Duration::from_millis(6_812);
        assert_eq!(counted(&all, 193, took), "17 of 17 servers up, 193 tools, 6.8 s");
        all.push(backend("x".to_owned(), Some("starting")));
        assert_eq!(counted(&all, 193, took), "17 of 18 servers up, 193 tools, 6.8 s; down: x (starting)");
        all.extend((0..20).map(|number| backend(format!("d{number}"), Some("why"))));
        let line = counted(&all, 1, took);
        assert!(
            line.starts_with("17 of 38 servers up, 1 tool, 6.8 s; down: x (starting), d0 (why)"),
            "{line}"
        );
        assert!(line.ends_with("d8 (why) and 11 more"), "{line}");
    }
}
