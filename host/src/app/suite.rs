//! One endpoint's worth of gateway: policies, backends and the pipeline between them, from one configuration.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::control::{Endpoint, Watched};
use super::{plugins, reload, rules};
use crate::audit::Audit;
use crate::backend::registry::{EVENT_QUEUE, Registry};
use crate::backend::{Common, Event, Memory, Spool};
use crate::config::{Config, Problems};
use crate::door::conversation::House;
use crate::door::hub::Hub;
use crate::door::park::Parking;
use crate::pipeline::{News, Pipeline};
use crate::plugin::Engine;
use crate::policy::{Chain, KillSwitch, Orders, Policy};
use crate::rewrite::Rewriters;
use crate::state::{Clock, Store};

/// Policies that are loaded, and nothing started yet.
pub(super) struct Prepared {
    engine: Engine,
    store: Store,
    clock: Clock,
    policy: Arc<Policy>,
    rewriters: Arc<Rewriters>,
}

/// Everything behind one endpoint.
pub(super) struct Suite {
    pub(super) house: House,
    registry: Arc<Registry>,
    prepared: Prepared,
    news: mpsc::Sender<News>,
    rules: rules::InForce,
    tasks: [JoinHandle<()>; 3],
}

impl Prepared {
    /// Loads what decides, under the orders of operators.
    ///
    /// # Errors
    /// Every plugin that cannot be used.
    pub(super) fn load(config: &Config, orders: &Arc<Orders>) -> Result<Self, Problems> {
        let (clock, store) = (Clock::real(), Store::new());
        let loaded = plugins::load(config, &store, &clock)?;
        let kill = KillSwitch::under(&config.kill_switch, orders.clone());
        let policy = Arc::new(Policy::new(loaded.chain, kill, clock.clone()));
        let rewriters = Arc::new(loaded.rewriters);
        Ok(Self { engine: loaded.engine, store, clock, policy, rewriters })
    }

    /// Who decides.
    pub(super) fn chain(&self) -> Arc<Chain> {
        self.policy.chain()
    }

    /// Starts the backends.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn start(
        self,
        config: &Config,
        over_http: bool,
        audit: &Audit,
        watched: &Watched,
        stop: &CancellationToken,
    ) -> anyhow::Result<Suite> {
        let parking = Parking::new()?;
        let (registry, events) = start_backends(config, &self.rewriters);
        let pipeline =
            Pipeline::new(self.policy.clone(), self.rewriters.clone(), registry.clone(), audit.clone())
                .bearing(config.gateway.max_in_flight)
                .watched(watched.flights.clone(), watched.refusals.clone());
        let (news_in, news) = mpsc::channel(EVENT_QUEUE);
        let hub = Hub::new(news_in.clone());
        let met = registry.clone();
        let (rules, in_force) = watch::channel(config.rules.clone().into());
        let tasks = [
            tokio::spawn(relay(events, news_in.clone())),
            tokio::spawn(hub.clone().relay(news, async move { met.met().await })),
            tokio::spawn(rules::watch(registry.clone(), in_force)),
        ];
        let house = House {
            pipeline: Arc::new(pipeline),
            hub,
            parking,
            door: if over_http { "http" } else { "stdio" },
            sole: !over_http,
            stopping: stop.clone(),
        };
        Ok(Suite { house, registry, prepared: self, news: news_in, rules, tasks })
    }
}

/// Starts all backends of a configuration, their lists going through the rewriters.
pub(super) fn start_backends(
    config: &Config,
    rewriters: &Arc<Rewriters>,
) -> (Arc<Registry>, mpsc::Receiver<Event>) {
    let common = Common {
        max_message: config.gateway.max_message_bytes,
        spool: spool(config),
        redaction: config.redaction.clone(),
        safe_names: config.gateway.safe_names,
        memory: Memory::new(config.gateway.memory_dir.clone(), config.gateway.trust.clone()),
        first_lists: config.gateway.first_list_wait,
    };
    let reshape = rewriters.clone();
    Registry::start(
        &config.backends,
        common,
        Arc::new(move |backend, list, offers| reshape.catalog(backend, list, offers)),
    )
}

/// Where answers go that are too long for memory, if the configuration wants such.
fn spool(config: &Config) -> Option<Arc<Spool>> {
    spool_folder(config).map(|(folder, _)| Spool::new(folder, config.gateway.max_result_bytes))
}

/// The folder for them, and whether it is the gateway's own, which nobody named.
pub(super) fn spool_folder(config: &Config) -> Option<(PathBuf, bool)> {
    if config.gateway.max_result_bytes <= config.gateway.max_message_bytes as u64 {
        return None;
    }
    Some(match &config.gateway.spool_dir {
        Some(folder) => (folder.clone(), false),
        None => (config.audit.dir.join("spool"), true),
    })
}

impl Suite {
    /// What a reload changes; `config` is this endpoint's own, and `mount` its path, if it is not the main one.
    pub(super) fn reloads(&self, config: &Config, mount: Option<&str>) -> reload::Parts {
        reload::Parts {
            mount: mount.map(str::to_owned),
            engine: self.prepared.engine.clone(),
            store: self.prepared.store.clone(),
            clock: self.prepared.clock.clone(),
            policy: self.prepared.policy.clone(),
            registry: self.registry.clone(),
            news: self.news.clone(),
            rules: self.rules.clone(),
            in_force: Mutex::new(config.typed.clone()),
        }
    }

    /// What operators see and do of this endpoint; `mount` is its path, if it is not the main one.
    pub(super) fn operated(&self, mount: Option<&str>) -> Endpoint {
        Endpoint {
            mount: mount.map(str::to_owned),
            pipeline: self.house.pipeline.clone(),
            registry: self.registry.clone(),
            hub: self.house.hub.clone(),
            news: self.news.clone(),
        }
    }

    /// Stops the backends and waits for them.
    pub(super) async fn end(self) {
        self.registry.stop().await;
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn relay(mut events: mpsc::Receiver<Event>, news: mpsc::Sender<News>) {
    while let Some(event) = events.recv().await {
        if news.send(News::from(event)).await.is_err() {
            return;
        }
    }
}
