//! Opens the door that the configuration names.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::started::Started;
use super::user_name;
use crate::call::Credential;
use crate::config::{Auth, Config, Http};
use crate::door::conversation::House;
use crate::door::guard::{Hosts, Origins};
use crate::door::http::{self, Callers, Mount, Resource, Room, Sessions};
use crate::door::{server, stdio};
use crate::policy::Caller;

/// Serves the client that started the gateway, until it leaves or `stop`.
pub(super) async fn stdio(
    config: &Config,
    house: House,
    stop: &CancellationToken,
    started: Started,
) -> anyhow::Result<()> {
    started.at(&[]);
    let limits = stdio::Limits {
        max_message: config.gateway.max_message_bytes,
        max_in_flight: config.gateway.max_in_flight,
    };
    let caller = Arc::new(Caller::new(credential(&config.auth)));
    let grace = config.gateway.shutdown_grace;
    Ok(stdio::serve(house, limits, caller, stop.clone().cancelled_owned(), grace).await?)
}

/// What the stdio caller brings: its token, and who the operating system says it is.
pub(super) fn credential(auth: &Auth) -> Credential {
    let bearer = match auth {
        Auth::Jwt { token } => token.as_ref().map(|token| token.expose().to_owned()),
        Auth::Local => None,
    };
    let uid = rustix::process::getuid().as_raw();
    let attrs = vec![("peer.uid".into(), uid.to_string()), ("peer.user".into(), user_name(uid))];
    Credential { door: "stdio", bearer, attrs }
}

/// Serves everybody who comes over HTTP, until `stop`. The first house is the main endpoint's, the others those of
/// the mounts in their order.
pub(super) async fn http(
    config: &Config,
    settings: &Http,
    houses: Vec<House>,
    stop: &CancellationToken,
    started: Started,
) -> anyhow::Result<()> {
    let address = config.gateway.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; set gateway.listen to another port"))?;
    let grace = config.gateway.shutdown_grace;
    let limits = server::Limits {
        max_body: config.gateway.max_message_bytes,
        max_connections: settings.max_connections,
        max_per_address: settings.max_connections_per_address,
        ..server::Limits::default()
    };
    let bound = listener.local_addr().unwrap_or(address);
    let further = settings.mounts.iter().map(|mount| (&mount.path, &mount.config));
    let endpoints = std::iter::once((&settings.path, config)).chain(further);
    let room = Room::new(limits.max_body);
    let mut mounts = Vec::new();
    for ((path, own), house) in endpoints.zip(houses) {
        // Clients come and go; what each can do is said on connections of their own.
        house.pipeline.client_declares("{}");
        mounts.push(Arc::new(mount(config, settings, (path, own), house, (limits, room.clone()))?));
        tracing::info!("listening on http://{bound}{path}");
    }
    let urls: Vec<String> = mounts.iter().map(|mount| format!("http://{bound}{}", mount.path)).collect();
    started.at(&urls);
    super::stray::listen(format!("http://{bound}{}", settings.path), stop.clone());
    let keepers: Vec<_> =
        mounts.iter().map(|mount| tokio::spawn(mount.sessions.clone().look_after(stop.clone()))).collect();
    let router = http::router(mounts.clone());
    let served = server::serve(listener, router, limits, stop.clone().cancelled_owned(), grace);
    // No new requests from the first moment of the stop; those under way get their time.
    let draining = async {
        stop.cancelled().await;
        futures_util::future::join_all(mounts.iter().map(|mount| mount.sessions.drain(grace))).await;
    };
    tokio::join!(served, draining);
    keepers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// One endpoint.
fn mount(
    config: &Config,
    settings: &Http,
    (path, own): (&str, &Config),
    house: House,
    (limits, room): (server::Limits, Room),
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
    let user = user_name(rustix::process::getuid().as_raw());
    let (pipeline, hub) = (house.pipeline.clone(), house.hub.clone());
    Ok(Mount {
        path: path.to_owned(),
        house,
        hosts: Hosts::new(ip, &settings.allowed_hosts).context("http.allowed_hosts")?,
        origins: Origins::new(ip, &settings.allowed_origins).context("http.allowed_origins")?,
        limits,
        callers: Callers::new(settings.credential_headers.clone(), user),
        sessions: Sessions::new(pipeline, hub, settings.max_sessions, settings.session_idle),
        max_in_flight: config.gateway.max_in_flight,
        room,
        local: settings.allow_local && matches!(own.auth, Auth::Local),
        keep_alive: settings.keep_alive,
        lines: http::Lines::default(),
        resource,
    })
}
