//! `[http]` as it is typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Seconds;

/// How proxies say where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(in crate::config) enum RawClientAddress {
    XForwardedFor,
    Forwarded,
    ProxyProtocol,
}

/// The HTTP door, at `gateway.listen`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawHttp {
    /// The path MCP is served at; its health is at `<path>/health`.
    #[schemars(regex(pattern = r"^(/[A-Za-z0-9._~-]+)+$"))]
    pub(in crate::config) path: String,
    /// Names by which clients may reach the gateway (the `Host` header), such as "mcp.example.org". If it listens on
    /// a loopback address only, the names of that are allowed anyway.
    pub(in crate::config) allowed_hosts: Vec<String>,
    /// Origins of web pages that may call it, such as "https://example.org". Clients that are no web pages send none.
    pub(in crate::config) allowed_origins: Vec<String>,
    /// Sessions open at once. One caller alone may have half of them; the more are taken, the fewer one caller may have.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) max_sessions: usize,
    /// How long a session stays open without a request.
    pub(in crate::config) session_idle_secs: Seconds,
    /// How long a client that waits for an answer hears nothing. After that its answer becomes an event stream, and a
    /// comment goes over it each time nothing else did for so long; so do standing streams. Many load balancers close a
    /// connection on which nothing moves for 30 or 60 seconds.
    pub(in crate::config) keep_alive_secs: Seconds,
    /// Connections at once. When they are all taken, those that rest make room: first those over which no credential was
    /// accepted, then those of callers who have more than an equal part. One caller alone may have half of them.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) max_connections: usize,
    /// Connections from one address (an IPv4 address, an IPv6 network of 64 bits) over which no credential was accepted;
    /// by default a quarter of max_connections.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) max_connections_per_address: Option<usize>,
    /// Mode "local": take requests from this machine for the local user's. Loopback only, and no requests that come
    /// through a proxy or from a server that the gateway started.
    pub(in crate::config) allow_local: bool,
    /// Headers besides `Authorization` that authenticators may read.
    pub(in crate::config) credential_headers: Vec<String>,
    /// Where clients get their tokens (RFC 9728).
    pub(in crate::config) oauth: Option<RawOauth>,
    /// TLS at this door. Without it the door is for this machine, or for a proxy that ends TLS.
    pub(in crate::config) tls: Option<RawHttpTls>,
    /// Proxies in front of the gateway, by address or network ("10.0.0.0/8"), that say where a request for the HTTP API came
    /// from. Their header is read from its end, up to the first address that is none of them; whoever else connects is the
    /// client, whatever the request says.
    pub(in crate::config) trusted_proxies: Vec<String>,
    /// How they say it: in the header "x-forwarded-for", or in "forwarded" (RFC 7239); the other one is never read. Or with
    /// "proxy-protocol" at the beginning of each connection (versions 1 and 2), which then holds for MCP as well: who is listed
    /// must say it, and no header is read.
    pub(in crate::config) client_address: RawClientAddress,
    /// Refusals and failures of the HTTP API say more, for whoever develops one. Only on a loopback address, and not where a
    /// cloud environment is detected.
    pub(in crate::config) dev_mode: bool,
    /// Whether answers of the HTTP API are compressed (gzip) for clients that accept it: texts of 1 KiB to 8 MiB that do not
    /// stream. Leave it off where answers hold secrets beside what strangers can choose: over TLS the length of a compressed
    /// answer tells about its content.
    pub(in crate::config) compression: bool,
    /// How many [[routes]] there must be; by default any number. With another number the file is refused.
    pub(in crate::config) expected_routes: Option<usize>,
    /// Further endpoints at the same address, each with a file of its own: backends, roles, limits, plugins.
    pub(in crate::config) mounts: Vec<RawMount>,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawClientCertificates {
    Optional,
    Required,
}

/// TLS at the door.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawHttpTls {
    /// A file with the certificate (PEM), and those between it and the authority; relative to this file. It is read again
    /// with this file, so a new certificate needs a reload and no restart.
    pub(in crate::config) cert_file: Option<String>,
    /// A file with its private key (PEM), not encrypted; by default in cert_file.
    pub(in crate::config) key_file: Option<String>,
    /// Whether clients may use HTTP/2, as most browsers and many programs do where they can.
    pub(in crate::config) http2: bool,
    /// A file with the authorities (PEM) whose certificates clients may show; none is asked for without it. What a certificate
    /// says becomes facts for authenticators: `peer.cert.sha256`, `peer.cert.subject`, `peer.cert.names`. It is no credential
    /// by itself.
    pub(in crate::config) client_ca_file: Option<String>,
    /// "required": a client without such a certificate is turned away in the handshake, which is the default with
    /// client_ca_file. "optional": it may come without.
    pub(in crate::config) client_certificates: Option<RawClientCertificates>,
}

impl Default for RawHttpTls {
    fn default() -> Self {
        Self { cert_file: None, key_file: None, http2: true, client_ca_file: None, client_certificates: None }
    }
}

/// A further endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawMount {
    /// Its path, such as "/mcp/dev".
    #[schemars(regex(pattern = r"^(/[A-Za-z0-9._~-]+)+$"))]
    pub(in crate::config) path: String,
    /// Its file, relative to this one. Addresses and the record of calls are those of this file.
    pub(in crate::config) config: String,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            path: "/mcp".to_owned(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_sessions: 10_000,
            session_idle_secs: Seconds(1_800.0),
            keep_alive_secs: Seconds(10.0),
            max_connections: 1_024,
            max_connections_per_address: None,
            allow_local: false,
            credential_headers: vec!["x-api-key".to_owned()],
            oauth: None,
            tls: None,
            trusted_proxies: Vec::new(),
            client_address: RawClientAddress::XForwardedFor,
            dev_mode: false,
            compression: false,
            expected_routes: None,
            mounts: Vec::new(),
        }
    }
}

/// Where clients get their tokens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawOauth {
    /// The gateway's own URI, as tokens name it in `aud`.
    pub(in crate::config) resource: String,
    /// Issuers of tokens for it.
    pub(in crate::config) authorization_servers: Vec<String>,
    /// Scopes a client may ask for.
    pub(in crate::config) scopes: Vec<String>,
}
