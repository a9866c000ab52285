//! The HTTP door: only what the file opens is open.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::super::raw::{
    RawClientAddress, RawClientCertificates, RawHttp, RawHttpTls, RawMode, RawOauth, RawTls,
};
use super::super::{
    ClientCertificates, DoorTls, Gateway, Hops, Http, Main, Mount, Network, Oauth, Problems, file,
};
use super::{Checker, duration};

/// Variables that are set where a platform runs programs: Kubernetes, AWS (Lambda, ECS), Google Cloud Run and App Engine, Azure
/// (App Service, Functions), Heroku, Fly, Railway, Render, Vercel, Cloud Foundry.
const CLOUD: [&str; 14] = [
    "KUBERNETES_SERVICE_HOST",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "ECS_CONTAINER_METADATA_URI_V4",
    "K_SERVICE",
    "GAE_ENV",
    "WEBSITE_INSTANCE_ID",
    "FUNCTIONS_WORKER_RUNTIME",
    "DYNO",
    "FLY_APP_NAME",
    "RAILWAY_ENVIRONMENT",
    "RENDER",
    "VERCEL",
    "VCAP_APPLICATION",
];

/// Whether these are certificates of authorities; if not, why.
fn authorities(pem: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("a certificate cannot be read: {error}"))?;
        roots.add(certificate).map_err(|error| format!("a certificate cannot be used: {error}"))?;
    }
    Ok(())
}

/// A quarter of all; with few connections a little more, so that two clients can come at once.
fn per_address(raw: &RawHttp) -> usize {
    let most = raw.max_connections;
    raw.max_connections_per_address.unwrap_or((most / 4).max((most / 2).min(4))).clamp(1, most.max(1))
}

impl Checker<'_> {
    pub(super) fn http_door(
        &mut self,
        raw: Option<&RawHttp>,
        mode: RawMode,
        gateway: Option<&Gateway>,
        mounted: bool,
    ) -> Option<Http> {
        let raw = raw?;
        if mounted {
            // Its door is checked in the main file; only whether its callers can come in is its own.
            if mode == RawMode::Local && !raw.allow_local {
                let hint = "set [auth] mode = \"jwt\"; or allow_local = true in [http] of the main file";
                self.problem("/auth/mode", "mode \"local\" knows nobody who comes over HTTP", hint);
            }
            return None;
        }
        let loopback = gateway.is_none_or(|gateway| gateway.listen.ip().is_loopback());
        if mode == RawMode::Local && !raw.allow_local {
            let hint = "set [auth] mode = \"jwt\"; or, for one person on one machine, allow_local = true";
            let text =
                "mode \"local\" knows the client that started the gateway, and nobody who comes over HTTP";
            self.problem("/http/allow_local", text, hint);
        }
        if raw.allow_local && !loopback {
            let hint = "listen on 127.0.0.1, or set [auth] mode = \"jwt\"";
            self.problem("/http/allow_local", "the address can be reached from other machines", hint);
        }
        if raw.dev_mode {
            self.dev_mode(loopback);
        }
        if !loopback && raw.allowed_hosts.is_empty() {
            let hint = "allowed_hosts = [\"mcp.example.org\"]";
            self.problem("/http/allowed_hosts", "it is not said by which names clients may come", hint);
        }
        for (index, name) in raw.credential_headers.iter().enumerate() {
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            {
                let at = format!("/http/credential_headers/{index}");
                self.problem(&at, format!("{name:?} is not a header in lower case"), "such as \"x-api-key\"");
            }
        }
        Some(Http {
            path: raw.path.clone(),
            allowed_hosts: raw.allowed_hosts.clone(),
            allowed_origins: raw.allowed_origins.clone(),
            max_sessions: raw.max_sessions,
            session_idle: duration(raw.session_idle_secs),
            keep_alive: duration(raw.keep_alive_secs),
            max_connections: raw.max_connections,
            max_connections_per_address: per_address(raw),
            credential_headers: raw.credential_headers.clone(),
            allow_local: raw.allow_local,
            tls: raw.tls.as_ref().and_then(|tls| self.door_tls(tls)),
            hops: self.hops(raw),
            compression: raw.compression,
            dev_mode: raw.dev_mode,
            oauth: raw.oauth.as_ref().map(|raw| self.oauth(raw)),
            mounts: self.mounts(raw),
        })
    }

    /// The door's own certificate.
    fn door_tls(&mut self, raw: &RawHttpTls) -> Option<DoorTls> {
        let RawHttpTls { cert_file, key_file, http2, client_ca_file, client_certificates } = raw;
        if cert_file.is_none() {
            self.problem("/http/tls/cert_file", "TLS needs a certificate", "cert_file = \"door.pem\"");
            return None;
        }
        let tls = RawTls { ca_file: None, cert_file: cert_file.clone(), key_file: key_file.clone() };
        let authorities = client_ca_file.as_ref().and_then(|typed| {
            let at = "/http/tls/client_ca_file";
            let pem = self.certificates(at, typed)?;
            if let Err(why) = authorities(&pem) {
                self.problem(at, why, "the certificates of the authorities, in PEM");
                return None;
            }
            Some(pem)
        });
        if client_ca_file.is_none() && client_certificates.is_some() {
            let hint = "client_ca_file = \"clients-ca.pem\", with the authorities that give them out";
            self.problem(
                "/http/tls/client_certificates",
                "it is not said whose certificates are meant",
                hint,
            );
        }
        let required = *client_certificates != Some(RawClientCertificates::Optional);
        let clients = authorities.map(|authorities| ClientCertificates { authorities, required });
        let identity = self.tls("/http/tls", &tls, "https:").1?;
        Some(DoorTls { identity, http2: *http2, clients })
    }

    /// The proxies whose word counts.
    fn hops(&mut self, raw: &RawHttp) -> Hops {
        let mut trusted = Vec::new();
        for (index, typed) in raw.trusted_proxies.iter().enumerate() {
            match Network::parse(typed) {
                Some(network) => trusted.push(network),
                None => {
                    let at = format!("/http/trusted_proxies/{index}");
                    let hint = "such as 10.0.0.1 or 10.0.0.0/8, without bits beyond its length";
                    self.problem(&at, format!("{typed:?} is neither an address nor a network"), hint);
                }
            }
        }
        if raw.client_address != RawClientAddress::ProxyProtocol {
            let forwarded = raw.client_address == RawClientAddress::Forwarded;
            return Hops { trusted, forwarded, proxied: Vec::new() };
        }
        if raw.trusted_proxies.is_empty() {
            let hint = "trusted_proxies = [\"10.0.0.0/8\"], with those that send it";
            self.problem("/http/client_address", "no proxy is listed, so nobody is asked", hint);
        }
        if raw.allow_local {
            let text = "the user of this machine is known by the connection, which is a proxy's here";
            self.problem("/http/client_address", text, "take one of the two out");
        }
        Hops { trusted: Vec::new(), forwarded: false, proxied: trusted }
    }

    /// What developers see is for nobody else.
    fn dev_mode(&mut self, loopback: bool) {
        if !loopback {
            let hint = "listen on 127.0.0.1, or take it out";
            self.problem("/http/dev_mode", "the address can be reached from other machines", hint);
        }
        // What platforms set where they run a program of somebody's.
        if let Some(name) = CLOUD.into_iter().find(|name| self.var(name).is_some()) {
            let text = format!("{name} is set, so this is no machine of a developer");
            self.problem("/http/dev_mode", text, "take it out");
        }
    }

    /// Every mount with its own file; what is wrong there is said here, with the file's name.
    fn mounts(&mut self, raw: &RawHttp) -> Vec<Mount> {
        let mut mounts: Vec<Mount> = Vec::new();
        for (index, mount) in raw.mounts.iter().enumerate() {
            let at = format!("/http/mounts/{index}");
            if mount.path == raw.path || mounts.iter().any(|other| other.path == mount.path) {
                let message = format!("{} is served already", mount.path);
                self.problem(&format!("{at}/path"), message, "each endpoint has its own path");
            }
            if mount.config.is_empty() {
                self.problem(&format!("{at}/config"), "a mount needs its file", "config = \"dev.toml\"");
                continue;
            }
            let path = self.path(&mount.config);
            let read = file::read_config(&path, &self.trust)
                .map_err(|problem| Problems::new(&path, vec![problem]))
                .and_then(|file::Configuration { text, problems }| {
                    let main = Main { door: raw, trust: &self.trust };
                    super::super::read(&text, &path, self.env, Some(main), problems)
                });
            match read {
                Ok(config) => {
                    self.warnings.extend(config.warnings.iter().cloned());
                    mounts.push(Mount { path: mount.path.clone(), config });
                }
                Err(problems) => {
                    for problem in problems.list {
                        let key =
                            if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
                        let message = format!("{}: {key}{}", mount.config, problem.message);
                        let hint = problem.hint.unwrap_or_else(|| "see that file".to_owned());
                        self.problem(&format!("{at}/config"), message, hint);
                    }
                }
            }
        }
        mounts
    }

    fn oauth(&mut self, raw: &RawOauth) -> Oauth {
        let is_uri = |text: &str| {
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            rest.is_some_and(|rest| {
                !rest.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"')
            })
        };
        if !is_uri(&raw.resource) {
            let hint = "the URL clients call, such as https://mcp.example.org/mcp";
            self.problem("/http/oauth/resource", format!("{:?} is not a URI", raw.resource), hint);
        }
        if raw.authorization_servers.is_empty() {
            let hint = "authorization_servers = [\"https://login.example.org\"]";
            self.problem("/http/oauth/authorization_servers", "nobody gives out tokens", hint);
        }
        for (index, server) in raw.authorization_servers.iter().enumerate().filter(|(_, uri)| !is_uri(uri)) {
            let at = format!("/http/oauth/authorization_servers/{index}");
            self.problem(
                &at,
                format!("{server:?} is not a URI"),
                "an issuer, such as https://login.example.org",
            );
        }
        for (index, scope) in raw.scopes.iter().enumerate() {
            // RFC 6749, 3.3.
            if scope.is_empty() || !scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
                let at = format!("/http/oauth/scopes/{index}");
                self.problem(&at, format!("{scope:?} is not a scope"), "a word, such as tools:call");
            }
        }
        Oauth {
            resource: raw.resource.clone(),
            authorization_servers: raw.authorization_servers.clone(),
            scopes: raw.scopes.clone(),
        }
    }
}
