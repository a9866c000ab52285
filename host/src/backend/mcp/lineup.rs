//! The servers of the next generation: those that stay, and those that are started for it.

use std::sync::Arc;
use std::time::Duration;

use super::fixed::Fixed;
use super::fleet::ServerFleet;
use super::open::{Common, Opener};
use super::progress::Stage;
use super::{Server, Status, supervisor};
use crate::config;
use crate::redact::Words;

/// A server with the settings that it has in a generation.
pub(super) type WithSettings = (Arc<Server>, Arc<config::Backend>);

/// The servers of a generation that is being prepared: those that stay, and those that were started for it. The latter are
/// stopped if nothing comes of it.
#[derive(Debug)]
pub struct Lineup {
    pub(super) fleet: Arc<ServerFleet>,
    pub(super) backends: Vec<WithSettings>,
    pub(super) common: Common,
    pub(super) opener: Arc<Opener>,
    started: Vec<Arc<Server>>,
    /// What is offered beside the servers.
    pub(super) fixed: Vec<Fixed>,
}

impl Lineup {
    /// Of these servers some were started for it. They are launched by this.
    pub(super) fn new(
        fleet: Arc<ServerFleet>,
        opener: Arc<Opener>,
        common: Common,
        (backends, started): (Vec<WithSettings>, Vec<Arc<Server>>),
    ) -> Self {
        started.iter().for_each(|server| supervisor::launch(&fleet, server));
        Self { fleet, backends, common, opener, started, fixed: Vec::new() }
    }

    /// The same beside backends that are no MCP servers.
    #[must_use]
    pub fn beside(mut self, fixed: Vec<Fixed>) -> Self {
        self.fixed = fixed;
        self
    }

    /// The names of those that were started for it.
    #[must_use]
    pub fn started(&self) -> Vec<Arc<str>> {
        self.started.iter().map(|backend| backend.name.clone()).collect()
    }

    /// How many serve on as they were.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.backends.len() - self.started.len()
    }

    /// Waits until those that were started are up and have said what they offer. Says of every one that is not why not. One
    /// that waits for the client to introduce itself is not waited for, and neither is one that the file lets stay away.
    pub async fn up(&self, patience: Duration) -> Vec<(Arc<str>, Words)> {
        /// A server that is silent is given up by its supervisor first, which knows what was waited for.
        const SLACK: Duration = Duration::from_secs(2);
        let waits = self.started.iter().filter(|backend| backend.settings.load().absent.is_none()).map(
            |backend| async {
                let patience = patience.min(backend.settings.load().start_timeout + SLACK);
                let tried = tokio::time::timeout(patience, backend.came_up()).await;
                match tried {
                    Ok(Ok(())) => None,
                    Ok(Err(reason)) => Some((backend.name.clone(), reason)),
                    Err(_) => {
                        let text =
                            format!("it is still {} after {} s", backend.starting(), patience.as_secs());
                        Some((backend.name.clone(), backend.words(&text)))
                    }
                }
            },
        );
        futures_util::future::join_all(waits).await.into_iter().flatten().collect()
    }

    /// Stops what was started for it, in order.
    pub(crate) async fn abandon(mut self) {
        let started = std::mem::take(&mut self.started);
        self.fleet.end(&started).await;
    }

    /// It became a generation.
    pub(super) fn settled(mut self) -> Vec<WithSettings> {
        self.started.clear();
        std::mem::take(&mut self.backends)
    }
}

impl Drop for Lineup {
    fn drop(&mut self) {
        // If this was abandoned half way, the servers still end, but nothing waits for their end.
        self.started.iter().for_each(|backend| backend.stop.cancel());
    }
}

impl Server {
    /// Waits until it is up, or there is a reason why not.
    async fn came_up(&self) -> Result<(), Words> {
        /// How often it is looked whether it waits for a client.
        const LOOK: Duration = Duration::from_millis(50);
        let mut status = self.status.subscribe();
        loop {
            match &*status.borrow_and_update() {
                Status::Ready => return Ok(()),
                Status::Down { reason, .. } => return Err(reason.clone()),
                Status::Stopped => return Err("it was stopped".into()),
                Status::Starting if self.progress.stage() == Stage::Client => return Ok(()),
                Status::Starting => {}
            }
            let _ = tokio::time::timeout(LOOK, status.changed()).await;
        }
    }
}
