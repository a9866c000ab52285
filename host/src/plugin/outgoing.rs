//! Outgoing HTTP of plugins: what an operator granted by host, within bounds, and nothing else.
//!
//! Every request goes through [`Outgoing::admit`] right before it is sent, whatever the guest did before; the address
//! that is checked is the one that is connected to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use reqwest::Url;
use reqwest::header::{HOST, HeaderName};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::config::HttpGrant;
use crate::outbound::{self, explain};

/// The answer to a request, and the work that remains for it: none, because answers are held whole.
type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// The HTTP client of one plugin; all of its instances share it.
#[derive(Debug)]
pub(super) struct Outgoing {
    plugin: Arc<str>,
    grant: HttpGrant,
    client: reqwest::Client,
    requests: Arc<Semaphore>,
    /// Longest body, of a request and of an answer.
    max_body: usize,
}

impl Outgoing {
    /// Prepares a client; nothing is connected before the first request.
    ///
    /// # Errors
    /// The certificates of `ca_file` cannot be used, or no client can be made at all.
    pub(super) fn new(plugin: &Arc<str>, grant: &HttpGrant, max_body: usize) -> Result<Self, String> {
        let ca = match &grant.ca {
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| format!("the certificates of ca_file: {}", explain(error)))?,
            None => Vec::new(),
        };
        let client = outbound::trusting(|| builder(grant), &ca);
        Ok(Self {
            plugin: plugin.clone(),
            client: client.map_err(|error| format!("no HTTP client: {}", explain(error)))?,
            requests: Arc::new(Semaphore::new(grant.max_requests)),
            grant: grant.clone(),
            max_body,
        })
    }

    /// The address of a request, if the grant names it.
    fn admit(&self, uri: &http::Uri) -> Result<Url, Error> {
        let url = Url::parse(&uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(Error::HttpRequestUriInvalid);
        };
        let plugin = &*self.plugin;
        if !url.username().is_empty() || url.password().is_some() {
            tracing::warn!(plugin, host, "request refused: a URL of a plugin must not carry a password");
            return Err(Error::HttpRequestUriInvalid);
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(host)) {
            tracing::warn!(plugin, host, "request refused: only https leaves this machine");
            return Err(Error::HttpRequestDenied);
        }
        let usual = (url.scheme(), port) == ("https", 443) || (url.scheme(), port) == ("http", 80);
        let named = format!("{host}:{port}");
        let granted = |known: &String| *known == named || usual && known == host;
        if !self.grant.hosts.iter().any(granted) {
            let wanted = if usual { host } else { &*named };
            tracing::warn!(
                plugin,
                host = wanted,
                "request refused: its grant does not name this host; to allow it, add it to hosts in http of its [[plugins]] entry"
            );
            return Err(Error::HttpRequestDenied);
        }
        Ok(url)
    }

    async fn send(
        self: Arc<Self>,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<http::Response<WasiBody>, Error> {
        let url = self.admit(request.uri())?;
        let _place = self.requests.try_acquire().map_err(|_| Error::ConnectionLimitReached)?;
        let limit = self.grant.timeout;
        let first_byte = options.and_then(|options| options.first_byte_timeout).unwrap_or(limit).min(limit);
        let exchange = self.exchange(url, request, first_byte);
        tokio::time::timeout(limit, exchange).await.map_err(|_| Error::HttpResponseTimeout)?
    }

    async fn exchange(
        &self,
        url: Url,
        request: http::Request<WasiBody>,
        first_byte: Duration,
    ) -> Result<http::Response<WasiBody>, Error> {
        let (mut parts, body) = request.into_parts();
        // The client says it itself, from the address that was checked.
        parts.headers.remove(HOST);
        let too_long = |_| Error::HttpRequestBodySize(u64::try_from(self.max_body).ok());
        let body = Limited::new(body, self.max_body).collect().await.map_err(too_long)?.to_bytes();
        let mut sending = self.client.request(parts.method, url).headers(parts.headers);
        if !body.is_empty() {
            sending = sending.body(body);
        }
        let sent = tokio::time::timeout(first_byte, sending.send()).await;
        let mut answer = sent.map_err(|_| Error::HttpResponseTimeout)?.map_err(transport)?;
        let mut whole = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if whole.len() + chunk.len() > self.max_body {
                return Err(Error::HttpResponseBodySize(u64::try_from(self.max_body).ok()));
            }
            whole.extend_from_slice(&chunk);
        }
        let mut response =
            http::Response::new(Full::new(Bytes::from(whole)).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = answer.status();
        std::mem::swap(response.headers_mut(), answer.headers_mut());
        Ok(response)
    }
}

/// What wasmtime asks about the HTTP of an instance. Without a way out every request is refused.
#[derive(Clone, Debug)]
pub(super) struct Hooks(pub(super) Option<Arc<Outgoing>>);

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let outgoing = self.0.clone();
        Box::new(async move {
            let outgoing = outgoing.ok_or(Error::HttpRequestDenied)?;
            let response = outgoing.send(request, options).await?;
            let rest: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, rest))
        })
    }
}

fn builder(grant: &HttpGrant) -> reqwest::ClientBuilder {
    // A redirect, which it does not follow, could lead to hosts that were not granted.
    outbound::builder()
        // A guest gets the body that was sent, under the headers that were sent.
        .no_gzip()
        .no_deflate()
        .no_brotli()
        .http1_only()
        .connect_timeout(grant.connect_timeout)
        .timeout(grant.timeout)
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(1)
}

/// Whether plain HTTP to this host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The error as a value of `wasi:http`; one that has no value there becomes a text, for the plugin's own messages.
fn transport(error: reqwest::Error) -> Error {
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => Error::ConnectionTimeout,
        (true, false) => Error::HttpResponseTimeout,
        (false, _) => Error::InternalError(Some(explain(error))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn outgoing(hosts: &[&str]) -> Outgoing {
        let grant = HttpGrant {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..HttpGrant::default()
        };
        Outgoing::new(&"test".into(), &grant, 1024).unwrap()
    }

    fn admitted(out: &Outgoing, uri: &str) -> bool {
        out.admit(&uri.parse().unwrap()).is_ok()
    }

    #[test]
    fn only_what_the_grant_names_is_reached() {
        let out = outgoing(&["auth.example.com", "login.example.org:8443", "127.0.0.1:9000", "[::1]:9000"]);
        for good in [
            "https://auth.example.com/jwks",
            "https://AUTH.example.com:443/",
            "https://login.example.org:8443/x?y",
            "http://127.0.0.1:9000/",
            "https://127.0.0.1:9000/",
            "http://[::1]:9000/",
        ] {
            assert!(admitted(&out, good), "{good}");
        }
        for bad in [
            "https://auth.example.com:8443/",
            "https://example.com/",
            "https://x.auth.example.com/",
            "https://auth.example.com.evil.org/",
            "https://auth.example.com./",
            "https://login.example.org/",
            "http://auth.example.com/",
            "http://auth.example.com:443/",
            "http://127.0.0.1/",
            "http://127.0.0.2:9000/",
            "https://auth.example.com@evil.org/",
            "https://user:word@auth.example.com/",
            "ftp://auth.example.com/",
        ] {
            assert!(!admitted(&out, bad), "{bad}");
        }
    }

    #[test]
    fn a_host_without_a_port_means_the_schemes_own() {
        let out = outgoing(&["localhost"]);
        assert!(admitted(&out, "https://localhost/") && admitted(&out, "http://localhost/"));
        assert!(!admitted(&out, "http://localhost:443/") && !admitted(&out, "https://localhost:80/"));
    }

    #[test]
    fn certificates_that_are_none_are_told() {
        let ca = Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned());
        let grant = HttpGrant { ca, ..HttpGrant::default() };
        // Either here or when the client is made; never silently.
        assert!(Outgoing::new(&"test".into(), &grant, 1024).is_err());
    }
}
