//! Opens the door that the configuration names, and changes what a reload changes of it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::running::{self, RunningEndpoint};
use super::started::Started;
use super::user_name;
use crate::call::Credential;
use crate::config::rest::Idempotency;
use crate::config::{Auth, Config, Http};
use crate::control::ControlPlane;
use crate::door::guard::{Hosts, Origins};
use crate::door::mcp::conversation::Endpoint;
use crate::door::mcp::http::{self, Callers, Mount, Resource, Room, Sessions};
use crate::door::mcp::stdio;
use crate::door::strangers::Strangers;
use crate::door::{rest, server};
use crate::openapi;
use crate::pipeline::Once;
use crate::policy::Caller;

/// How long requests may take whose clients have gone, after all others have ended.
const LEFT: Duration = Duration::from_secs(5);

/// The door that is open.
pub(super) enum Door {
    Stdio(Sole),
    Http(Everybody),
}

/// The door with the client that started the gateway.
pub(super) struct Sole {
    limits: Arc<stdio::Limits>,
    caller: Arc<Caller>,
}

/// The door with everybody who comes over HTTP.
pub(super) struct Everybody {
    bound: SocketAddr,
    limits: server::Limits,
    room: Room,
    app: server::App,
    /// The callers of late, for each endpoint.
    callers: Mutex<Vec<Came>>,
    /// Those whose credentials are not remembered, at all of them together.
    strangers: Arc<Strangers>,
    /// Requests for routes whose clients have gone.
    left: TaskTracker,
    /// What was done under an `Idempotency-Key`.
    once: Mutex<Option<Arc<Once>>>,
    /// Carries out what people decide over HTTP, once it is there.
    plane: Arc<OnceLock<Weak<dyn ControlPlane>>>,
}

/// The callers of late at the endpoint of this path, known by these headers.
type Came = (Option<String>, Vec<String>, Arc<Callers>);

/// The part of an open door that a reload replaces.
pub(super) enum Front {
    Stdio,
    Http { router: Router, paths: Vec<String>, tls: Option<server::Tls>, hears: Option<server::Hears> },
}

impl Door {
    /// Prepares this door for another configuration, to be put in force later.
    ///
    /// # Errors
    /// A name or origin in the file that cannot be read, with its key.
    pub(super) fn front(&self, config: &Config, running: &[&RunningEndpoint]) -> anyhow::Result<Front> {
        match (self, &config.http) {
            (Self::Http(door), Some(settings)) => {
                let mounts = door.mounts(config, settings, running)?;
                let paths = mounts.iter().map(|mount| mount.path.clone()).collect();
                let api = door.api(config, settings, running)?;
                let hears = api.as_ref().map(rest::records);
                let router = http::router(mounts, api.map(rest::router));
                Ok(Front::Http { router, paths, tls: tls(settings)?, hears })
            }
            (Self::Http(_), None) | (Self::Stdio(_), _) => Ok(Front::Stdio),
        }
    }

    /// Puts it in force: the next request, or the next line, finds it.
    pub(super) fn swap(&self, front: Front, old: &Config, new: &Config, running: &[&RunningEndpoint]) {
        match (self, front) {
            (Self::Http(door), Front::Http { router, paths, tls, hears }) => {
                if let Some(settings) = &new.http {
                    door.app.bound(settings.max_connections, settings.max_connections_per_address);
                    let sessions = running.iter().filter_map(|endpoint| endpoint.sessions.as_ref());
                    sessions
                        .for_each(|sessions| sessions.bound(settings.max_sessions, settings.session_idle));
                }
                door.app.replace(router);
                door.app.secure(tls);
                door.app.told(hears);
                door.app.behind(new.http.as_ref().map_or(&[], |http| &http.hops.proxied));
                door.room.bound(new.gateway.max_message_bytes);
                let before: Vec<&str> = paths_of(old);
                for path in paths.iter().filter(|path| !before.contains(&path.as_str())) {
                    let scheme = new.http.as_ref().map_or("http", scheme);
                    tracing::info!("listening on {scheme}://{}{path}", door.bound);
                }
            }
            (Self::Stdio(door), _) => {
                door.limits.bound(new.gateway.max_message_bytes, new.gateway.max_in_flight);
                if old.auth != new.auth {
                    door.caller.bring(credential(&new.auth));
                }
            }
            (Self::Http(_), Front::Stdio) => {}
        }
    }
}

fn scheme(settings: &Http) -> &'static str {
    if settings.tls.is_some() { "https" } else { "http" }
}

/// The door's certificate, if it speaks TLS.
fn tls(settings: &Http) -> anyhow::Result<Option<server::Tls>> {
    let tls = settings.tls.as_ref().map(server::Tls::new).transpose();
    tls.map_err(|why| anyhow::anyhow!("http.tls: {why}"))
}

fn paths_of(config: &Config) -> Vec<&str> {
    let main = config.http.iter().map(|http| http.path.as_str());
    main.chain(config.mounts().map(|mount| mount.path.as_str())).collect()
}

impl Sole {
    pub(super) fn new(config: &Config) -> Self {
        let limits = stdio::Limits::new(config.gateway.max_message_bytes, config.gateway.max_in_flight);
        Self { limits, caller: Arc::new(Caller::new(credential(&config.auth))) }
    }

    /// Serves the client that started the gateway, until it leaves or `stop`.
    pub(super) fn serve(
        &self,
        endpoint: Endpoint,
        grace: impl FnOnce() -> Duration,
        stop: &CancellationToken,
    ) -> impl Future<Output = std::io::Result<()>> {
        let stop = stop.clone().cancelled_owned();
        stdio::serve(endpoint, self.limits.clone(), self.caller.clone(), stop, grace)
    }
}

/// The credential of the stdio caller: its token, and who it is for the operating system.
pub(super) fn credential(auth: &Auth) -> Credential {
    let bearer = match auth {
        Auth::Jwt { token } | Auth::Plugins { token } => {
            token.as_ref().map(|token| token.expose().to_owned())
        }
        Auth::Local => None,
    };
    let uid = rustix::process::getuid().as_raw();
    let attrs = vec![("peer.uid".into(), uid.to_string()), ("peer.user".into(), user_name(uid))];
    Credential { door: "stdio", bearer, attrs }
}

impl Everybody {
    /// Listens where the configuration says, without serving requests yet.
    ///
    /// # Errors
    /// The address cannot be used.
    pub(super) async fn bind(config: &Config, settings: &Http) -> anyhow::Result<(Self, TcpListener)> {
        let address = config.gateway.listen;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; set gateway.listen to another port"))?;
        let limits = server::Limits {
            max_body: config.gateway.max_message_bytes,
            max_connections: settings.max_connections,
            max_per_address: settings.max_connections_per_address,
            ..server::Limits::default()
        };
        let door = Self {
            bound: listener.local_addr().unwrap_or(address),
            limits,
            room: Room::new(limits.max_body),
            app: Router::new().into(),
            callers: Mutex::default(),
            strangers: Arc::default(),
            left: TaskTracker::new(),
            once: Mutex::default(),
            plane: Arc::default(),
        };
        Ok((door, listener))
    }

    /// Opens it with the endpoints there are.
    ///
    /// # Errors
    /// A name or origin in the file cannot be read.
    pub(super) fn open(
        &self,
        config: &Config,
        settings: &Http,
        running: &[&RunningEndpoint],
        started: Started,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mounts = self.mounts(config, settings, running)?;
        let scheme = scheme(settings);
        let urls: Vec<String> =
            mounts.iter().map(|mount| format!("{scheme}://{}{}", self.bound, mount.path)).collect();
        urls.iter().for_each(|url| tracing::info!("listening on {url}"));
        started.at(&urls);
        super::stray::listen(format!("{scheme}://{}{}", self.bound, settings.path), stop.clone());
        let api = self.api(config, settings, running)?;
        if !config.routes.is_empty() {
            tracing::info!(
                routes = config.routes.len(),
                "the HTTP API is served at {scheme}://{}",
                self.bound
            );
        }
        self.app.secure(tls(settings)?);
        self.app.told(api.as_ref().map(rest::records));
        self.app.behind(&settings.hops.proxied);
        self.app.replace(http::router(mounts, api.map(rest::router)));
        Ok(())
    }

    /// From now on people who decide over HTTP are heard.
    pub(super) fn operated(&self, plane: &Arc<dyn ControlPlane>) {
        // It is given once, at the start.
        let _ = self.plane.set(Arc::downgrade(plane));
    }

    /// Serves everybody who comes over HTTP, until `stop`.
    pub(super) fn serve(
        &self,
        listener: TcpListener,
        grace: impl FnOnce() -> Duration,
        stop: &CancellationToken,
    ) -> impl Future<Output = ()> {
        let served =
            server::serve(listener, self.app.clone(), self.limits, stop.clone().cancelled_owned(), grace);
        let left = self.left.clone();
        async move {
            served.await;
            // Requests whose clients have gone end in order, with their records.
            left.close();
            if tokio::time::timeout(LEFT, left.wait()).await.is_err() {
                tracing::warn!("requests of clients that had gone were not done within {LEFT:?}");
            }
        }
    }

    /// The endpoints of the configuration.
    fn mounts(
        &self,
        config: &Config,
        settings: &Http,
        running: &[&RunningEndpoint],
    ) -> anyhow::Result<Vec<Arc<Mount>>> {
        let mounts = running.iter().filter_map(|endpoint| {
            let own = running::of(config, endpoint.mount.as_deref())?;
            let path = endpoint.mount.as_deref().unwrap_or(&settings.path);
            let sessions = endpoint.sessions.clone()?;
            Some(self.mount(config, settings, (path, own), endpoint, sessions).map(Arc::new))
        });
        mounts.collect()
    }

    /// The HTTP API, if there are routes.
    fn api(
        &self,
        config: &Config,
        settings: &Http,
        running: &[&RunningEndpoint],
    ) -> anyhow::Result<Option<Arc<rest::Front>>> {
        let main = running.iter().find(|endpoint| endpoint.mount.is_none());
        let wanted = !config.routes.is_empty() || config.approvals.http;
        let Some(main) = main.filter(|_| wanted) else { return Ok(None) };
        let ip = config.gateway.listen.ip();
        let (nobody, session) = rest::Front::nobody();
        let document = openapi::served(config);
        let programs = config.engines.iter().map(|engine| (engine.name.clone(), engine.command.clone()));
        Ok(Some(Arc::new(rest::Front {
            pipeline: main.endpoint.pipeline.clone(),
            hosts: Hosts::new(ip, &settings.allowed_hosts).context("http.allowed_hosts")?,
            origins: Origins::new(ip, &settings.allowed_origins).context("http.allowed_origins")?,
            limits: server::Limits { max_body: config.gateway.max_message_bytes, ..self.limits },
            callers: self.callers(None, &settings.credential_headers),
            room: self.room.clone(),
            hops: settings.hops.clone(),
            dev: settings.dev_mode,
            compression: settings.compression,
            document: Some((document.bytes, document.etag)),
            once: self.once(config)?,
            plane: config.approvals.http.then(|| self.plane.clone()),
            programs: programs.collect(),
            left: self.left.clone(),
            nobody,
            session,
        })))
    }

    /// Where answers are kept for those who repeat a request, if any route wants that.
    fn once(&self, config: &Config) -> anyhow::Result<Option<Arc<Once>>> {
        if config.routes.iter().all(|route| route.idempotency == Idempotency::Off) {
            return Ok(None);
        }
        // The check of the file has seen to it that there is one.
        let Some(dir) = &config.state.dir else { return Ok(None) };
        let mut known = self.once.lock();
        if known.is_none() {
            let folder = dir.join("idempotency");
            let opened = Once::open(&folder);
            let opened = opened
                .with_context(|| format!("the keys of requests cannot be kept in {}", folder.display()))?;
            *known = Some(Arc::new(opened));
        }
        Ok(known.clone())
    }

    /// One endpoint.
    fn mount(
        &self,
        config: &Config,
        settings: &Http,
        (path, own): (&str, &Config),
        endpoint: &RunningEndpoint,
        sessions: Arc<Sessions>,
    ) -> anyhow::Result<Mount> {
        let (ip, scopes) = (config.gateway.listen.ip(), &own.scopes);
        let resource = settings.oauth.as_ref().map(|oauth| Resource {
            uri: oauth.resource.clone(),
            authorization_servers: oauth.authorization_servers.clone(),
            scopes: if scopes.required.is_empty() { oauth.scopes.clone() } else { scopes.required.clone() },
            supported: {
                let mut all = oauth.scopes.clone();
                all.extend(scopes.required.iter().chain(&scopes.of_tools).cloned());
                let mut seen = HashSet::new();
                all.retain(|scope| seen.insert(scope.clone()));
                all
            },
        });
        Ok(Mount {
            path: path.to_owned(),
            endpoint: endpoint.endpoint.clone(),
            hosts: Hosts::new(ip, &settings.allowed_hosts).context("http.allowed_hosts")?,
            origins: Origins::new(ip, &settings.allowed_origins).context("http.allowed_origins")?,
            limits: server::Limits { max_body: config.gateway.max_message_bytes, ..self.limits },
            callers: self.callers(endpoint.mount.as_deref(), &settings.credential_headers),
            sessions,
            max_in_flight: config.gateway.max_in_flight,
            room: self.room.clone(),
            keep_alive: settings.keep_alive,
            lines: http::Lines::default(),
            resource,
        })
    }

    /// The callers of late at an endpoint.
    fn callers(&self, mount: Option<&str>, headers: &[String]) -> Arc<Callers> {
        let mut all = self.callers.lock();
        let found = all.iter().find(|(of, by, _)| of.as_deref() == mount && by == headers);
        if let Some((_, _, callers)) = found {
            return callers.clone();
        }
        let user = user_name(rustix::process::getuid().as_raw());
        let callers = Arc::new(Callers::new(headers.to_vec(), user, self.strangers.clone()));
        all.retain(|(of, _, _)| of.as_deref() != mount);
        all.push((mount.map(str::to_owned), headers.to_vec(), callers.clone()));
        callers
    }
}
