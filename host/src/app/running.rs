//! One endpoint: what of it outlives every generation of the configuration, and how the next one is made and put in force.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::endpoint::EndpointView;
use super::files;
use super::plugins::{self, Loaded, Made};
use super::resident::{Activity, Resident};
use super::rules;
use crate::backend::mcp::registry::Reshape;
use crate::backend::target;
use crate::backend::{
    Backend, Common, Fixed, Fleet, Lineup, ListChanged, Memory, Registry, Server, Spool, exec,
};
use crate::config::{self, Auth, Config, KillSwitch as Off, Mount, Problems, Rule};
use crate::door::mcp::conversation::Endpoint;
use crate::door::mcp::http::Sessions;
use crate::door::mcp::subscribers::Subscribers;
use crate::door::mcp::suspend::SuspendedCalls;
use crate::mcp::catalog::List;
use crate::pipeline::{Generation, Pipeline};
use crate::policy::{Chain, KillSwitch, Policy};
use crate::rewrite::Rewriters;
use crate::route::Table;

/// Policies that are loaded, and nothing started yet.
pub(super) struct Prepared {
    policy: Arc<Policy>,
    rewriters: Arc<Rewriters>,
    made: Vec<Made>,
}

/// Everything behind one endpoint that outlives its generations.
pub(super) struct RunningEndpoint {
    /// The path of the mount; none for the main endpoint.
    pub(super) mount: Option<String>,
    pub(super) endpoint: Endpoint,
    /// The backends that are no MCP servers.
    fleet: Arc<Fleet>,
    /// Those of the handshake era, over HTTP.
    pub(super) sessions: Option<Arc<Sessions>>,
    news: mpsc::Sender<ListChanged>,
    /// Ends what belongs to this endpoint alone.
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// The plugins in force, to be taken over by the next generation.
    made: Mutex<Vec<Made>>,
    /// Looks for rules that mean nothing.
    watch: Mutex<JoinHandle<()>>,
}

/// The next generation of an endpoint, checked and started, and not in force yet.
pub(super) struct Next {
    generation: Generation,
    kill_switch: Off,
    max_in_flight: usize,
    rules: Arc<[Rule]>,
    made: Vec<Made>,
}

/// The configuration of an endpoint: the main one's, or that of a mount.
pub(super) fn of<'c>(config: &'c Config, mount: Option<&str>) -> Option<&'c Config> {
    let Some(path) = mount else { return Some(config) };
    config.mounts().find(|mount| mount.path == path).map(|Mount { config, .. }| config)
}

impl Prepared {
    /// Loads what decides; `mount` is the path of the endpoint, unless it is the main one.
    ///
    /// # Errors
    /// Every plugin that cannot be used.
    pub(super) fn load(resident: &Resident, config: &Config, mount: Option<&str>) -> Result<Self, Problems> {
        let loaded = load(resident, config, mount, &[])?;
        let kill = KillSwitch::under(&config.kill_switch, resident.orders.clone());
        let policy = Arc::new(Policy::new(loaded.chain, kill, resident.clock.clone()));
        Ok(Self { policy, rewriters: Arc::new(loaded.rewriters), made: loaded.made })
    }

    /// Who decides.
    pub(super) fn chain(&self) -> Arc<Chain> {
        self.policy.chain().clone()
    }

    /// Starts the servers.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn start(
        self,
        resident: &Resident,
        main: &Config,
        own: &Config,
        mount: Option<&str>,
    ) -> anyhow::Result<RunningEndpoint> {
        RunningEndpoint::begin(resident, (own, takes_local(main, own)), mount, 1, self)
    }
}

/// The plugins of an endpoint; of those that were made `before` the ones that would come out the same.
///
/// # Errors
/// Every plugin that cannot be used.
pub(super) fn load(
    resident: &Resident,
    config: &Config,
    mount: Option<&str>,
    before: &[Made],
) -> Result<Loaded, Problems> {
    let store = mount.map_or_else(|| resident.store.clone(), |path| resident.store.within(path));
    plugins::load_with(&resident.engine, config, (&store, &resident.clock), before)
}

/// Starts all backends of a configuration, their lists going through the rewriters.
pub(super) fn start_backends(
    config: &Config,
    rewriters: &Arc<Rewriters>,
) -> (Arc<Registry>, mpsc::Receiver<ListChanged>) {
    Registry::start_beside(&config.backends, common(config), reshape(rewriters), fixed(config))
}

/// What is offered beside the servers: the commands of the executors.
fn fixed(config: &Config) -> Vec<Fixed> {
    let offers = |executor: &config::Executor| {
        let client = exec::Client::new(executor.clone(), config.redaction.clone());
        Fixed { backend: executor.name.as_str().into(), offers: client.offers() }
    };
    config.executors.iter().map(offers).collect()
}

/// The backends that are no MCP servers: those that run with the same settings, and new ones for the rest.
fn others(config: &Config, fleet: &Fleet) -> Vec<Backend> {
    let adopt = |executor: &config::Executor| {
        fleet.adopt(&executor.name, executor.digest, || {
            let client = exec::Client::new(executor.clone(), config.redaction.clone());
            client.watch();
            Backend::Exec(Arc::new(client))
        })
    };
    let mut others = target::adopt(fleet, config);
    others.extend(config.executors.iter().map(adopt));
    others
}

fn reshape(rewriters: &Arc<Rewriters>) -> Reshape {
    let rewriters = rewriters.clone();
    Arc::new(move |backend, list, offers| rewriters.catalog(backend, list, offers))
}

/// The settings that all servers of an endpoint have in common.
fn common(config: &Config) -> Common {
    Common {
        max_message: config.gateway.max_message_bytes,
        spool: spool(config),
        redaction: config.redaction.clone(),
        safe_names: config.gateway.safe_names,
        memory: Memory::new(config.gateway.memory_dir.clone(), config.gateway.trust.clone()),
        first_lists: config.gateway.first_list_wait,
    }
}

/// Where answers go that are too long for memory, if the configuration wants such.
fn spool(config: &Config) -> Option<Arc<Spool>> {
    files::spool_folder(config).map(|(folder, _)| Spool::new(folder, config.gateway.max_result_bytes))
}

/// Whether a request over HTTP from this machine may be its user's, without a credential.
fn takes_local(main: &Config, own: &Config) -> bool {
    main.http.as_ref().is_some_and(|http| http.allow_local) && matches!(own.auth, Auth::Local)
}

impl RunningEndpoint {
    fn begin(
        resident: &Resident,
        (config, takes_local): (&Config, bool),
        mount: Option<&str>,
        id: u64,
        Prepared { policy, rewriters, made }: Prepared,
    ) -> anyhow::Result<Self> {
        let suspended = SuspendedCalls::new()?;
        let (registry, changes) = start_backends(config, &rewriters);
        let news = registry.fleet().changes();
        let watch = tokio::spawn(rules::watch(registry.clone(), config.rules.clone().into()));
        let stop = resident.stop.child_token();
        let fleet: Arc<Fleet> = Arc::default();
        let first = Generation::new(id, policy, rewriters, registry.clone())
            .with_backends(others(config, &fleet))
            .with_routes(Arc::new(Table::new(&config.routes)))
            .taking_local(takes_local);
        let Activity { flights, refusals } = resident.activity.clone();
        let pipeline = Pipeline::with(first, resident.audit.clone())
            .bearing(config.gateway.max_in_flight)
            .watched(flights, refusals)
            .approving(resident.approvals.clone(), mount.unwrap_or_default());
        let subscribers = Subscribers::new(news.clone());
        let relay = subscribers.clone().relay(changes, async move { registry.met().await });
        let tasks = vec![tokio::spawn(relay)];
        let over_http = resident.over_http;
        let endpoint = Endpoint {
            pipeline: Arc::new(pipeline),
            subscribers,
            suspended,
            door: if over_http { "http" } else { "stdio" },
            sole: !over_http,
            stopping: stop.clone(),
        };
        let endpoint = Self {
            mount: mount.map(str::to_owned),
            endpoint,
            fleet,
            sessions: None,
            news,
            stop,
            tasks,
            made: Mutex::new(made),
            watch: Mutex::new(watch),
        };
        if over_http {
            // Clients come and go; what each can do is said on connections of their own.
            endpoint.endpoint.pipeline.client_declares("{}");
        }
        Ok(endpoint)
    }

    /// An endpoint that comes with a reload. Its servers are started as those of the others are, so it begins without any.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn empty(resident: &Resident, config: &Config, mount: &str) -> anyhow::Result<Self> {
        let chain = Chain { redaction: resident.redaction.clone(), ..Chain::default() };
        let kill = KillSwitch::under(&config.kill_switch, resident.orders.clone());
        let policy = Arc::new(Policy::new(chain, kill, resident.clock.clone()));
        let nothing =
            Config { backends: Vec::new(), executors: Vec::new(), rules: Vec::new(), ..config.clone() };
        let prepared = Prepared { policy, rewriters: Arc::default(), made: Vec::new() };
        Self::begin(resident, (&nothing, false), Some(mount), 0, prepared)
    }

    /// Sessions of the handshake era, for as long as the endpoint is there.
    pub(super) fn keep_sessions(&mut self, max: usize, idle: Duration) {
        let (pipeline, subscribers) = (self.endpoint.pipeline.clone(), self.endpoint.subscribers.clone());
        let sessions = Sessions::new(pipeline, subscribers, max, idle);
        self.tasks.push(tokio::spawn(sessions.clone().look_after(self.stop.clone())));
        self.sessions = Some(sessions);
    }

    /// What operators see of it.
    pub(super) fn view(&self) -> EndpointView {
        EndpointView {
            mount: self.mount.clone(),
            pipeline: self.endpoint.pipeline.clone(),
            subscribers: self.endpoint.subscribers.clone(),
            news: self.news.clone(),
        }
    }

    pub(super) fn pipeline(&self) -> &Arc<Pipeline> {
        &self.endpoint.pipeline
    }

    /// The plugins in force, for the next generation.
    pub(super) fn made(&self) -> Vec<Made> {
        self.made.lock().clone()
    }

    /// The servers that the next generation wants: those that stay, and those that are started for it now.
    pub(super) fn lineup(&self, config: &Config) -> Lineup {
        self.pipeline().current().registry().lineup(&config.backends, common(config)).beside(fixed(config))
    }

    /// Makes the next generation of what was loaded and started for it.
    pub(super) async fn next(
        &self,
        id: u64,
        main: &Config,
        own: &Config,
        loaded: Loaded,
        lineup: Lineup,
    ) -> Next {
        let current = self.pipeline().current();
        let policy = Arc::new(current.policy().following(loaded.chain));
        let rewriters = Arc::new(loaded.rewriters);
        let before = current.rewriters().clone();
        let after = rewriters.clone();
        let alike = move |backend: &str| after.list_as(&before, backend);
        let registry = current.registry().following(lineup, reshape(&rewriters), alike).await;
        // Reading the schemas of many routes takes a while.
        let all = own.routes.clone();
        let routes = tokio::task::spawn_blocking(move || Arc::new(Table::new(&all))).await;
        let routes = routes.unwrap_or_else(|_| current.routes().clone());
        Next {
            generation: Generation::new(id, policy, rewriters, registry)
                .with_backends(others(own, &self.fleet))
                .with_routes(routes)
                .taking_local(takes_local(main, own)),
            kill_switch: own.kill_switch.clone(),
            max_in_flight: own.gateway.max_in_flight,
            rules: own.rules.clone().into(),
            made: loaded.made,
        }
    }

    /// Puts the next generation in force, at once and without waiting for anything. Says which servers are not needed any
    /// more.
    pub(super) fn swap(&self, next: Next) -> Vec<String> {
        let old = self.pipeline().current();
        let stays = |backend: &Arc<Server>| {
            next.generation.registry().find(backend.name()).is_some_and(|next| Arc::ptr_eq(next, backend))
        };
        let gone = old.registry().backends().iter().filter(|backend| !stays(backend));
        let ended = gone.map(|backend| backend.name().to_string()).collect();
        // What is off is off for the old generation, too.
        old.policy().kill().set(&next.kill_switch);
        *self.made.lock() = next.made;
        let watch = tokio::spawn(rules::watch(next.generation.registry().clone(), next.rules));
        std::mem::replace(&mut *self.watch.lock(), watch).abort();
        self.pipeline().bears(next.max_in_flight);
        let same_callers = next.generation.policy().knows_those_of(old.policy());
        self.pipeline().swap(next.generation);
        self.pipeline().current().registry().takes_effect();
        if !same_callers {
            self.endpoint.subscribers.judge_anew();
        }
        let (id, gone, registry) = (old.id(), old.gone(), Arc::downgrade(old.registry()));
        let (servers, fleet) = (old.registry().fleet().clone(), self.fleet.clone());
        let (mount, stop) = (self.mount.clone(), self.stop.clone());
        drop(old);
        tokio::spawn(async move {
            gone.await;
            // What waits for the first lists after a start holds it for as long as that may take.
            while registry.strong_count() > 0 && !stop.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let mut ended = servers.retire().await;
            ended.extend(fleet.retire().await);
            let servers = ended.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            // Of a new endpoint the first one never served anybody.
            if id > 0 {
                tracing::info!(
                    generation = id,
                    mount,
                    servers_ended = servers,
                    "the last call of this generation has ended"
                );
            }
        });
        ended
    }

    /// Has everything judged anew that stands for clients without a request.
    pub(super) async fn judge_standing(&self) {
        self.view().judge_standing().await;
    }

    /// Tells the clients whose lists have changed.
    pub(super) fn tell(&self) {
        for list in List::ALL {
            // If the queue is full, another round is due in any case.
            let _ = self.news.try_send(ListChanged(list));
        }
    }

    /// Has every server that is down tried at once: a person has changed something, perhaps what kept it down.
    pub(super) fn try_again(&self) {
        self.pipeline().current().registry().try_again();
    }

    /// Waits for the calls under way, then stops the servers; no new request reaches this endpoint any more. Calls end
    /// by themselves, each within its server's time-out. A gateway that stops does not wait for them.
    pub(super) async fn leave(self) {
        /// How often it is looked whether any call is left.
        const LOOK: Duration = Duration::from_millis(50);
        let stopping = self.stop.clone();
        while self.pipeline().under_way() > 0 && !stopping.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stopping.cancelled() => {}
            }
        }
        // Ends streams that have no end of their own, such as that of a client that listens.
        self.stop.cancel();
        if let Some(sessions) = &self.sessions {
            sessions.drain(Duration::ZERO).await;
        }
        let mount = self.mount.clone();
        self.end().await;
        tracing::info!(mount, "the servers of a mount that was taken out have ended");
    }

    /// Stops the servers and waits for them.
    pub(super) async fn end(self) {
        self.pipeline().current().registry().stop().await;
        self.fleet.stop().await;
        self.watch.lock().abort();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
