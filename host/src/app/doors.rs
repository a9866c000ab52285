//! Opens the door that the configuration names, and changes what a reload changes of it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::started::Started;
use super::suite::{self, Suite};
use super::user_name;
use crate::call::Credential;
use crate::config::{Auth, Config, Http};
use crate::door::conversation::House;
use crate::door::guard::{Hosts, Origins};
use crate::door::http::{self, Callers, Mount, Resource, Room, Sessions};
use crate::door::{server, stdio};
use crate::policy::Caller;

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
}

/// The callers of late at the endpoint of this path, known by these headers.
type Came = (Option<String>, Vec<String>, Arc<Callers>);

/// The part of an open door that a reload replaces.
pub(super) enum Front {
    Stdio,
    Http { router: Router, paths: Vec<String> },
}

impl Door {
    /// Prepares this door for another configuration, to be put in force later.
    ///
    /// # Errors
    /// A name or origin in the file that cannot be read, with its key.
    pub(super) fn front(&self, config: &Config, suites: &[&Suite]) -> anyhow::Result<Front> {
        match (self, &config.http) {
            (Self::Http(door), Some(settings)) => {
                let mounts = door.mounts(config, settings, suites)?;
                let paths = mounts.iter().map(|mount| mount.path.clone()).collect();
                Ok(Front::Http { router: http::router(mounts), paths })
            }
            (Self::Http(_), None) | (Self::Stdio(_), _) => Ok(Front::Stdio),
        }
    }

    /// Puts it in force: the next request, or the next line, finds it.
    pub(super) fn swap(&self, front: Front, old: &Config, new: &Config, suites: &[&Suite]) {
        match (self, front) {
            (Self::Http(door), Front::Http { router, paths }) => {
                if let Some(settings) = &new.http {
                    let sessions = suites.iter().filter_map(|suite| suite.sessions.as_ref());
                    sessions
                        .for_each(|sessions| sessions.bound(settings.max_sessions, settings.session_idle));
                }
                door.app.replace(router);
                let before: Vec<&str> = paths_of(old);
                for path in paths.iter().filter(|path| !before.contains(&path.as_str())) {
                    tracing::info!("listening on http://{}{path}", door.bound);
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
        house: House,
        grace: Duration,
        stop: &CancellationToken,
    ) -> impl Future<Output = std::io::Result<()>> + use<> {
        let stop = stop.clone().cancelled_owned();
        stdio::serve(house, self.limits.clone(), self.caller.clone(), stop, grace)
    }
}

/// The credential of the stdio caller: its token, and who it is for the operating system.
pub(super) fn credential(auth: &Auth) -> Credential {
    let bearer = match auth {
        Auth::Jwt { token } => token.as_ref().map(|token| token.expose().to_owned()),
        Auth::Local => None,
    };
    let uid = rustix::process::getuid().as_raw();
    let attrs = vec![("peer.uid".into(), uid.to_string()), ("peer.user".into(), user_name(uid))];
    Credential { door: "stdio", bearer, attrs }
}

impl Everybody {
    /// Listens where the configuration says; nobody is served yet.
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
        suites: &[&Suite],
        started: Started,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mounts = self.mounts(config, settings, suites)?;
        let urls: Vec<String> =
            mounts.iter().map(|mount| format!("http://{}{}", self.bound, mount.path)).collect();
        urls.iter().for_each(|url| tracing::info!("listening on {url}"));
        started.at(&urls);
        super::stray::listen(format!("http://{}{}", self.bound, settings.path), stop.clone());
        self.app.replace(http::router(mounts));
        Ok(())
    }

    /// Serves everybody who comes over HTTP, until `stop`.
    pub(super) fn serve(
        &self,
        listener: TcpListener,
        grace: Duration,
        stop: &CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        server::serve(listener, self.app.clone(), self.limits, stop.clone().cancelled_owned(), grace)
    }

    /// The endpoints of the configuration.
    fn mounts(&self, config: &Config, settings: &Http, suites: &[&Suite]) -> anyhow::Result<Vec<Arc<Mount>>> {
        let mounts = suites.iter().filter_map(|suite| {
            let own = suite::of(config, suite.mount.as_deref())?;
            let path = suite.mount.as_deref().unwrap_or(&settings.path);
            let sessions = suite.sessions.clone()?;
            Some(self.mount(config, settings, (path, own), suite, sessions).map(Arc::new))
        });
        mounts.collect()
    }

    /// One endpoint.
    fn mount(
        &self,
        config: &Config,
        settings: &Http,
        (path, own): (&str, &Config),
        suite: &Suite,
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
            house: suite.house.clone(),
            hosts: Hosts::new(ip, &settings.allowed_hosts).context("http.allowed_hosts")?,
            origins: Origins::new(ip, &settings.allowed_origins).context("http.allowed_origins")?,
            limits: server::Limits { max_body: config.gateway.max_message_bytes, ..self.limits },
            callers: self.callers(suite.mount.as_deref(), &settings.credential_headers),
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
        let callers = Arc::new(Callers::new(headers.to_vec(), user_name(rustix::process::getuid().as_raw())));
        all.retain(|(of, _, _)| of.as_deref() != mount);
        all.push((mount.map(str::to_owned), headers.to_vec(), callers.clone()));
        callers
    }
}
