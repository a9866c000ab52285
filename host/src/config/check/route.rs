//! How http backends are reached: through which proxy, trusting whom, and as whom.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::super::raw::RawTls;
use super::super::secret::Secret;
use super::super::{Backend, Route, TransportSettings, file};
use super::Checker;
use super::address::{host_of, is_loopback};

/// The variables that name a proxy, as curl and most others read them; `HTTP_PROXY` only in capitals may come from a request
/// where the program runs as a CGI script, which the gateway never does.
const OF_HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const OF_HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];
const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// What a key `proxy` says.
#[derive(Debug, Clone)]
pub(super) enum Proxy {
    None,
    Environment,
    Through(Secret),
}

impl Checker<'_> {
    /// Reads one key `proxy`; one that cannot be read is a problem, and then nothing is started.
    pub(super) fn proxy(&mut self, at: &str, typed: &str) -> Proxy {
        match typed {
            "none" => Proxy::None,
            "environment" => Proxy::Environment,
            _ => {
                let Some(url) = self.interpolate(at, "", typed) else { return Proxy::None };
                match proxy_url(url.expose()) {
                    Some(parsed) => Proxy::Through(self.without_password(at, typed, url, &parsed)),
                    None => {
                        let hint =
                            "\"none\", \"environment\", or a URL such as \"http://proxy.example.org:3128\"";
                        self.problem(at, format!("{typed:?} is not the URL of a proxy"), hint);
                        Proxy::None
                    }
                }
            }
        }
    }

    /// The URL of a proxy; the password in it is kept out of everything that is shown.
    fn without_password(&mut self, at: &str, typed: &str, url: Secret, parsed: &Url) -> Secret {
        let Some(password) = parsed.password().filter(|password| !password.is_empty()) else { return url };
        if typed.contains(password) {
            let hint = "name an environment variable or a file instead: \"http://ann:${PROXY_PASSWORD}@…\"";
            self.warn(at, "this looks like a password written into the file", hint);
        }
        let hidden = url.hidden().iter().cloned().chain([password.to_owned()]).collect();
        Secret::with_hidden(url.expose().to_owned(), hidden)
    }

    /// The way to one server.
    pub(super) fn way(
        &mut self,
        at: &str,
        (own, tls): (Option<&str>, Option<&RawTls>),
        url: &str,
        proxy: &Proxy,
    ) -> Route {
        let own = own.map(|typed| self.proxy(&format!("{at}/proxy"), typed));
        let proxy = match own.as_ref().unwrap_or(proxy) {
            _ if is_local(url) => None,
            Proxy::None => None,
            Proxy::Environment => self.proxy_of_environment(&format!("{at}/url"), url),
            Proxy::Through(proxy) => Some(proxy.clone()),
        };
        let (ca, identity) = match tls {
            Some(tls) => self.tls(&format!("{at}/tls"), tls, url),
            None => (None, None),
        };
        Route { proxy, ca, identity }
    }

    /// What the environment says about this URL.
    fn proxy_of_environment(&mut self, at: &str, url: &str) -> Option<Secret> {
        let uri: http::Uri = url.parse().ok()?;
        let https = uri.scheme_str() == Some("https");
        let Some((name, value)) = self.proxy_variable(https) else {
            let names = if https { "HTTPS_PROXY nor ALL_PROXY" } else { "HTTP_PROXY nor ALL_PROXY" };
            let message = format!("neither {names} is set, so no proxy is used for this url");
            self.warn(at, message, "set one of them where the gateway is started, or proxy = \"none\"");
            return None;
        };
        let exceptions = EXCEPTIONS.iter().find_map(|name| self.var(name)).unwrap_or_default();
        let exceptions = exceptions_for(&exceptions, uri.port_u16().unwrap_or(if https { 443 } else { 80 }));
        // The crate knows how exceptions are written.
        Matcher::builder().all("http://any.invalid").no(exceptions).build().intercept(&uri)?;
        // curl takes a bare host for that of an http proxy.
        let text = if value.contains("://") { value } else { format!("http://{value}") };
        // Some desktops write it so.
        let text = text.strip_prefix("socks://").map(|rest| format!("socks5://{rest}")).unwrap_or(text);
        let Some(parsed) = proxy_url(&text) else {
            let hint = "it looks like http://proxy.example.org:3128";
            self.problem(at, format!("{name} does not hold the URL of a proxy"), hint);
            return None;
        };
        let hidden = parsed.password().map(str::to_owned).into_iter().collect();
        Some(Secret::with_hidden(text, hidden))
    }

    fn proxy_variable(&self, https: bool) -> Option<(&'static str, String)> {
        let names = if https { OF_HTTPS } else { OF_HTTP };
        names.into_iter().find_map(|name| Some((name, self.var(name)?)))
    }

    /// Warns once that the environment names a proxy that is not used, unless the file says `proxy`.
    pub(super) fn unused_proxy(&mut self, backends: &[Backend]) {
        if self.typed("/gateway/proxy") {
            return;
        }
        let decided = |index: &usize| self.typed(&format!("/backends/{index}/proxy"));
        let remote = backends.iter().enumerate().filter(|(index, _)| !decided(index));
        let found = remote.filter_map(|(index, backend)| match &backend.transport {
            TransportSettings::Http { url, .. } if !is_local(url.expose()) => {
                let (name, _) = self.proxy_variable(url.expose().starts_with("https"))?;
                Some((index, name))
            }
            TransportSettings::Http { .. } | TransportSettings::Stdio { .. } => None,
        });
        if let Some((index, name)) = { found }.next() {
            let message = format!("{name} is set, and the gateway does not use it unless it is told to");
            let hint =
                "in [gateway]: proxy = \"environment\" uses it, proxy = \"none\" says that it is not needed";
            self.warn(&format!("/backends/{index}/url"), message, hint);
        }
    }

    pub(super) fn tls(&mut self, at: &str, raw: &RawTls, url: &str) -> (Option<String>, Option<Secret>) {
        if !url.to_ascii_lowercase().starts_with("https:") {
            self.warn(at, "it has no effect on a url that does not begin with https", "remove it");
        }
        let ca = raw.ca_file.as_ref().and_then(|typed| self.certificates(&format!("{at}/ca_file"), typed));
        let cert_at = format!("{at}/cert_file");
        let Some(typed) = &raw.cert_file else {
            if raw.key_file.is_some() {
                let hint = "cert_file names the certificate that belongs to the key";
                self.problem(&format!("{at}/key_file"), "a key without its certificate shows nothing", hint);
            }
            return (ca, None);
        };
        let Some(certificate) = self.certificates(&cert_at, typed) else { return (ca, None) };
        let key = match &raw.key_file {
            Some(typed) => self.secret_file(&format!("{at}/key_file"), typed),
            None => self.secret_file(&cert_at, typed),
        };
        let Some(key) = key else { return (ca, None) };
        if let Err((key_is_wrong, why)) = belong_together(&certificate, &key) {
            let at = if key_is_wrong && raw.key_file.is_some() { format!("{at}/key_file") } else { cert_at };
            let hint = "cert_file and key_file are PEM, and the key is that of the first certificate";
            self.problem(&at, why, hint);
            return (ca, None);
        }
        let whole = format!("{certificate}\n{key}");
        (ca, Some(Secret::with_hidden(whole, vec![key])))
    }

    /// A file of certificates.
    pub(super) fn certificates(&mut self, at: &str, typed: &str) -> Option<String> {
        let path = self.path(typed);
        match file::read(&path, &self.trust) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Some(text),
            Ok(_) => {
                let hint = "it begins with -----BEGIN CERTIFICATE-----";
                self.problem(at, format!("{typed} holds no certificate in PEM"), hint);
                None
            }
            Err(unread) => {
                self.unread(at, unread);
                None
            }
        }
    }
}

/// Whether a key is that of a certificate; if not, whether the mistake is the key's.
fn belong_together(certificate: &str, key: &str) -> Result<(), (bool, String)> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| (false, format!("a certificate cannot be read: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| (true, no_key(key)))?;
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider)
        .map(drop)
        .map_err(|error| (true, format!("the certificate cannot be used with this key: {error}")))
}

fn no_key(pem: &str) -> String {
    let encrypted = pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED");
    if encrypted {
        "the private key in it is encrypted; `openssl pkey` writes it without its passphrase".to_owned()
    } else {
        "there is no private key in PEM in it".to_owned()
    }
}

/// The exceptions that hold for a port, as the crate reads them: `*.example.org` is `.example.org`, and a port is none of a
/// name. Blanks part them as commas do.
fn exceptions_for(typed: &str, port: u16) -> String {
    let one = |entry: &str| -> Option<String> {
        let entry = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
        match entry.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
            Some((host, own)) if own.parse() == Ok(port) => Some(host.trim_matches(['[', ']']).to_owned()),
            Some((_, own)) if own.parse::<u16>().is_ok() => None,
            _ => Some(entry.to_owned()),
        }
    };
    let entries = typed.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    entries.filter_map(one).collect::<Vec<_>>().join(",")
}

fn proxy_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (SCHEMES.contains(&url.scheme()) && url.has_host()).then_some(url)
}

/// Whether a server is on this machine.
fn is_local(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    is_loopback(host_of(rest.split(['/', '?', '#']).next().unwrap_or_default()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_read_as_people_write_them() {
        for (typed, url, direct) in [
            ("*.internal.example", "https://mcp.internal.example/mcp", true),
            (".internal.example", "https://mcp.internal.example/mcp", true),
            ("internal.example", "https://mcp.internal.example/mcp", true),
            ("internal.example", "https://mcp.external.example/mcp", false),
            ("a.example internal.example", "https://mcp.internal.example/mcp", true),
            ("mcp.internal.example:443", "https://mcp.internal.example/mcp", true),
            ("mcp.internal.example:8443", "https://mcp.internal.example/mcp", false),
            ("10.0.0.0/8", "http://10.1.2.3:8080/mcp", true),
            ("10.0.0.0/8", "http://11.1.2.3:8080/mcp", false),
            ("fd00::/8", "http://[fd00::1]:8080/mcp", true),
            ("[fd00::1]:8080", "http://[fd00::1]:8080/mcp", true),
            ("*", "https://mcp.example/mcp", true),
            ("", "https://mcp.example/mcp", false),
        ] {
            let uri: http::Uri = url.parse().unwrap();
            let port = uri.port_u16().unwrap_or(443);
            let matcher =
                Matcher::builder().all("http://any.invalid").no(exceptions_for(typed, port)).build();
            assert_eq!(matcher.intercept(&uri).is_none(), direct, "{typed} {url}");
        }
    }
}
