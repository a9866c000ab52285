//! One endpoint's worth of gateway: policies, backends and the pipeline between them, from one configuration.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{plugins, reload};
use crate::audit::Audit;
use crate::backend::registry::{EVENT_QUEUE, Registry};
use crate::backend::{Common, Event, Spool};
use crate::config::{Config, Problems};
use crate::door::conversation::House;
use crate::door::hub::Hub;
use crate::door::park::Parking;
use crate::pipeline::{News, Pipeline};
use crate::plugin::Engine;
use crate::policy::{KillSwitch, Policy};
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
    tasks: [JoinHandle<()>; 2],
}

impl Prepared {
    /// Loads what decides.
    ///
    /// # Errors
    /// Every plugin that cannot be used.
    pub(super) fn load(config: &Config) -> Result<Self, Problems> {
        let (clock, store) = (Clock::real(), Store::new());
        let loaded = plugins::load(config, &store, &clock)?;
        let kill = KillSwitch::new(&config.kill_switch);
        let policy = Arc::new(Policy::new(loaded.chain, kill, clock.clone()));
        let rewriters = Arc::new(loaded.rewriters);
        Ok(Self { engine: loaded.engine, store, clock, policy, rewriters })
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
        stop: &CancellationToken,
    ) -> anyhow::Result<Suite> {
        let parking = Parking::new()?;
        let (registry, events) = start_backends(config, &self.rewriters);
        let pipeline =
            Pipeline::new(self.policy.clone(), self.rewriters.clone(), registry.clone(), audit.clone());
        let (news_in, news) = mpsc::channel(EVENT_QUEUE);
        let hub = Hub::new();
        let tasks = [tokio::spawn(relay(events, news_in.clone())), tokio::spawn(hub.clone().relay(news))];
        let house = House {
            pipeline: Arc::new(pipeline),
            hub,
            parking,
            door: if over_http { "http" } else { "stdio" },
            sole: !over_http,
            stopping: stop.clone(),
        };
        Ok(Suite { house, registry, prepared: self, news: news_in, tasks })
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
    let (longest, limit) = (config.gateway.max_message_bytes, config.gateway.max_result_bytes);
    let folder = config.gateway.spool_dir.clone().unwrap_or_else(|| config.audit.dir.join("spool"));
    (limit > longest as u64).then(|| Spool::new(folder, limit))
}

impl Suite {
    /// What a reload changes; `mount` is its path, if it is not the main endpoint.
    pub(super) fn reloads(&self, mount: Option<&str>) -> reload::Parts {
        reload::Parts {
            mount: mount.map(str::to_owned),
            engine: self.prepared.engine.clone(),
            store: self.prepared.store.clone(),
            clock: self.prepared.clock.clone(),
            policy: self.prepared.policy.clone(),
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
