//! Where plugins may send HTTP requests: hosts that the operator typed, one by one.

use super::super::HttpGrant;
use super::super::raw::{RawHttpGrant, RawIssuer};
use super::{Checker, duration};

/// A URL taken apart as far as a grant needs it.
struct Address<'a> {
    https: bool,
    /// Host and port as a grant spells them.
    host: &'a str,
}

impl Checker<'_> {
    /// A `http` table of `[[plugins]]`, laid over what the plugin's own section granted.
    pub(super) fn http_grant(&mut self, at: &str, raw: &RawHttpGrant, under: Option<HttpGrant>) -> HttpGrant {
        let mut grant = under.unwrap_or_default();
        if raw.hosts.is_empty() && grant.hosts.is_empty() {
            let hint = "hosts = [\"auth.example.com\"]";
            self.problem(&format!("{at}/hosts"), "it is not said where requests may go", hint);
        }
        for (index, host) in raw.hosts.iter().enumerate() {
            let at = format!("{at}/hosts/{index}");
            if !is_host(host) {
                let hint = "a host and, if it is not the usual one, its port: \"auth.example.com\" or \"127.0.0.1:8443\"";
                self.problem(&at, format!("{host:?} is not a host: no scheme, path, name or wildcard"), hint);
            } else if !grant.hosts.contains(&host.to_ascii_lowercase()) {
                grant.hosts.push(host.to_ascii_lowercase());
            }
        }
        if let Some(typed) = &raw.ca_file {
            grant.ca = self.certificates(&format!("{at}/ca_file"), typed);
        }
        grant.connect_timeout = raw.connect_timeout_secs.map_or(grant.connect_timeout, duration);
        grant.timeout = raw.timeout_secs.map_or(grant.timeout, duration);
        grant.max_requests = raw.max_requests.unwrap_or(grant.max_requests);
        grant
    }

    /// The grant that `jwks_url` stands for: the host that the operator typed.
    pub(super) fn jwks_grant(&mut self, section: &str, raw: &RawIssuer, url: &str) -> Option<HttpGrant> {
        let at = &format!("{section}/jwks_url");
        let hint = "such as https://login.example.org/.well-known/jwks.json";
        let Some(address) = address(url) else {
            self.problem(at, format!("{url:?} is not the address of a key set"), hint);
            return None;
        };
        if !address.https && !is_loopback(address.host) {
            let text =
                "without encryption anybody on the way could put their own keys in place of the issuer's";
            self.problem(at, text, "https; http is for this machine only");
            return None;
        }
        let at = format!("{section}/jwks_ca_file");
        let ca = raw.jwks_ca_file.as_ref().map(|typed| self.certificates(&at, typed));
        Some(HttpGrant {
            hosts: vec![address.host.to_ascii_lowercase()],
            ca: ca.flatten(),
            ..HttpGrant::default()
        })
    }
}

fn address(url: &str) -> Option<Address<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let https = scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = &rest[..end];
    let plain = !url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#' || c == '\\');
    let known = https || scheme.eq_ignore_ascii_case("http");
    // The usual port is not spelled in a grant, and a URL may spell it.
    let host = host.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(host);
    (known && plain && is_host(host)).then_some(Address { https, host })
}

/// Host and port of a grant; the brackets of an IPv6 address belong to its host.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(end);
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// A name or an address, with or without a port, and nothing else.
fn is_host(text: &str) -> bool {
    let Some((host, port)) = split(text) else { return false };
    let known = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
                && !host.starts_with(['.', '-'])
                && !host.ends_with('.')
        }
    };
    known && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_loopback(text: &str) -> bool {
    let host = split(text).map_or("", |(host, _)| host).trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for good in
            ["auth.example.com", "AUTH.example.com:8443", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:9"]
        {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "*",
            "*.example.com",
            "https://a",
            "a/b",
            "a:b",
            "a:0",
            "a:99999",
            "a b",
            "a@b",
            ":80",
            "::1",
            "[::1",
            "[::1]x",
            "[x]",
            "a?b",
            "a#b",
            ".a",
            "a.",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn the_host_of_a_url_is_what_is_granted() {
        let host = |url| address(url).map(|address| (address.https, address.host));
        assert_eq!(host("https://auth.example.com/jwks?x=1"), Some((true, "auth.example.com")));
        assert_eq!(host("HTTPS://auth.example.com:443"), Some((true, "auth.example.com")));
        assert_eq!(host("http://[::1]:9000/"), Some((false, "[::1]:9000")));
        for bad in
            ["ftp://a/", "a", "https://", "https:///x", "https://u:p@a/", "https://a b/", "https://a\\@b/"]
        {
            assert_eq!(host(bad), None, "{bad}");
        }
        assert!(is_loopback("127.0.0.1:80") && is_loopback("[::1]:80") && is_loopback("localhost"));
        assert!(!is_loopback("localhost.example.com") && !is_loopback("10.0.0.1"));
    }
}
