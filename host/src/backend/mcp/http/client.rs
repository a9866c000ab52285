//! The HTTP clients: one for all servers that are reached in the same way, so that they share connections.

use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Client, ClientBuilder, Identity, Proxy, Url};

use super::super::transport::TransportError;
use super::{REQUESTS, trust};
use crate::config::{Route, Secret};
use crate::outbound::{self, explain};

/// The clients that have been made, by route.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<Vec<(Route, Client)>>);

impl Clients {
    /// The client for this way; the first one who asks makes it.
    ///
    /// # Errors
    /// [`TransportError::Unreachable`] if none can be made.
    pub(crate) fn of(&self, route: &Route) -> Result<Client, TransportError> {
        let mut made = self.0.lock();
        if let Some((_, client)) = made.iter().find(|(other, _)| other == route) {
            return Ok(client.clone());
        }
        let client = client(route)?;
        made.push((route.clone(), client.clone()));
        Ok(client)
    }
}

/// A client: no redirects (they would carry credentials to other hosts; the transport follows those that stay), no proxy but the
/// one that was named, no delay for small writes, five seconds to connect, HTTP/2 where a server with TLS offers it.
///
/// Without a certificate store on the system (a bare container) plain HTTP works, and of the HTTPS servers only those whose
/// authority is named.
///
/// # Errors
/// [`TransportError::Unreachable`] if no client can be made at all.
pub(super) fn client(route: &Route) -> Result<Client, TransportError> {
    let failed = |what: &str, error| TransportError::Unreachable(format!("{what}: {}", explain(error)));
    let identity = route.identity.as_ref().map(Secret::expose);
    let tls = route.ca.as_ref().map(|ca| trust::config(ca, identity)).transpose();
    let tls = tls.map_err(|why| {
        TransportError::Unreachable(format!("the certificates in tls cannot be used: {why}"))
    })?;
    let identity = identity.map(|pem| Identity::from_pem(pem.as_bytes())).transpose();
    let identity = identity.map_err(|error| failed("the certificate of tls.cert_file", error))?;
    let proxy = route.proxy.as_ref().map(|url| Proxy::all(url.expose()));
    let proxy = proxy.transpose().map_err(|error| failed("the proxy", error))?;
    let builder = || {
        let builder = match &proxy {
            Some(proxy) => bare().proxy(proxy.clone()),
            None => bare(),
        };
        match (&tls, &identity) {
            (Some(tls), _) => builder.tls_backend_preconfigured(tls.clone()),
            (None, Some(identity)) => builder.identity(identity.clone()),
            (None, None) => builder,
        }
    };
    let client = builder().build().or_else(|error| {
        tracing::warn!(
            error = explain(error),
            "no usable system certificates: HTTPS servers will be refused"
        );
        builder().tls_certs_only([]).build()
    });
    client.map_err(|error| failed("no HTTP client", error))
}

fn bare() -> ClientBuilder {
    outbound::builder()
        .tcp_nodelay(true)
        // The standing stream may be silent for hours; only these notice that its server has vanished.
        .tcp_keepalive(Duration::from_secs(30))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(5))
        // Node and uvicorn close idle connections after 5 s. Being earlier than the server avoids sending a message
        // into a connection that is just being closed.
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(REQUESTS)
}

/// A proxy as a message may name it: without user and password.
pub(super) fn shown(route: &Route) -> Option<String> {
    let url = Url::parse(route.proxy.as_ref()?.expose()).ok()?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default()))
}
