//! The parts of which a process has one, whichever generation of the configuration is in force.

use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::config::{Config, Problems};
use crate::plugin::Engine;
use crate::redact::Redaction;
use crate::state::{Clock, Store};

/// The parts that outlive every generation.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    /// One engine for the plugins of all endpoints, with one ticker.
    pub(super) engine: Engine,
    /// What guards remember; each endpoint has its own part.
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) audit: Audit,
    /// What takes secrets out of everything that is shown or recorded.
    pub(super) redaction: Redaction,
    /// Ends the gateway.
    pub(super) stop: CancellationToken,
    /// Whether it serves everybody who comes over HTTP, or the one client that started it.
    pub(super) over_http: bool,
}

/// The engine of the plugins, as the file wants it.
///
/// # Errors
/// The machine lacks what it needs.
pub(super) fn engine(config: &Config) -> Result<Engine, Problems> {
    let engine = Engine::bounded(config.gateway.plugin_bounds).map_err(|error| {
        let text = format!("the WebAssembly engine cannot start: {error:#}");
        let hint = "where a process may not have so many addresses (ulimit -v), write \"checked\"";
        let problem = super::problem("gateway.plugin_bounds", text, Some(hint.to_owned()));
        Problems::new(&config.path, vec![problem])
    })?;
    Ok(engine.compiling(config.gateway.plugin_compile))
}
