//! Stopping, starting and restarting a backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Plane;
use super::kills::one_of;
use crate::backend::Server;
use crate::control::{ControlError, Deed};

/// How long is waited for a server to come up, or to be gone, before the answer says that it has not yet.
const PATIENCE: Duration = Duration::from_secs(30);

impl Plane {
    /// Does it to every backend of that name, of whichever endpoint, and says what came of it.
    pub(super) async fn of_backend(&self, name: &str, deed: Deed) -> Result<String, ControlError> {
        let endpoints = self.endpoints();
        let named: Vec<(Option<&str>, Arc<Server>)> = endpoints
            .iter()
            .filter_map(|endpoint| {
                let generation = endpoint.pipeline.current();
                Some((endpoint.mount.as_deref(), generation.registry().find(name)?.clone()))
            })
            .collect();
        if named.is_empty() {
            let message = format!("there is no backend {name:?}{}", one_of(name, &self.backends()));
            return Err(ControlError::Unknown(message));
        }
        let all = named.iter().map(|(mount, backend)| one(*mount, backend, deed));
        let said = futures_util::future::join_all(all).await;
        let failed = said.iter().any(Result::is_err);
        let text: Vec<String> = said.into_iter().map(|said| said.unwrap_or_else(|said| said)).collect();
        if failed { Err(ControlError::Failed(text.join("\n"))) } else { Ok(text.join("\n")) }
    }
}

async fn one(mount: Option<&str>, backend: &Arc<Server>, deed: Deed) -> Result<String, String> {
    let which = match mount {
        None => format!("backend {:?}", &**backend.name()),
        Some(mount) => format!("backend {:?} of {mount}", &**backend.name()),
    };
    let began = Instant::now();
    if deed == Deed::Stop {
        if backend.is_stopped() {
            return Ok(format!("{which} was stopped already"));
        }
        let turn = backend.stop();
        return match timeout(PATIENCE, backend.obeyed(turn)).await {
            Ok(()) => Ok(format!("{which} is stopped, until it is started by command")),
            Err(_) => Err(format!("{which} takes no calls any more, and has not ended yet")),
        };
    }
    let up = backend.is_up();
    if deed == Deed::Start && up {
        return Ok(format!("{which} is up already"));
    }
    let turn = backend.restart();
    match timeout(PATIENCE, backend.up_after(turn)).await {
        Ok(Ok(history)) => {
            let pid = history.pid.map(|pid| format!(" with the process {pid}")).unwrap_or_default();
            Ok(format!("{which} is up{pid} after {} ms", began.elapsed().as_millis()))
        }
        Ok(Err(reason)) => {
            Err(format!("{which} was started and did not come up: {reason}; it is tried again"))
        }
        Err(_) => Err(format!("{which} was started and is not up yet: it is {}", backend.starting())),
    }
}
