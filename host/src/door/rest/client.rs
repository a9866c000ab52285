//! Which address a request came from, if it came through proxies that the operator trusts.
//!
//! A proxy appends the address that it was called from, so only what a trusted one has appended is true: the header is read
//! from its end, and the first address that is no trusted proxy's is the client's. What stands before it anybody can have
//! written. Whoever connects without being trusted is the client, whatever the request says.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use crate::config::Hops;

/// The address of the client.
pub(super) fn address(peer: IpAddr, headers: &HeaderMap, hops: &Hops) -> IpAddr {
    let peer = peer.to_canonical();
    let trusted = |address: &IpAddr| hops.trusted.iter().any(|network| network.holds(*address));
    if !trusted(&peer) {
        return peer;
    }
    let mut last = peer;
    let name =
        if hops.forwarded { header::FORWARDED } else { header::HeaderName::from_static("x-forwarded-for") };
    let lines: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let node = if hops.forwarded { node_of(hop) } else { Some(hop.trim()) };
        // What cannot be read is nobody's word for what stands before it.
        let Some(address) = node.and_then(parsed) else { return last };
        last = address;
        if !trusted(&address) {
            return address;
        }
    }
    last
}

/// The `for` of an element of `Forwarded` (RFC 7239, section 4).
fn node_of(element: &str) -> Option<&str> {
    let mut found = element.split(';').filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let node = found.next()?;
    let quoted = node.strip_prefix('"').map(|node| node.strip_suffix('"'));
    if found.next().is_some() { None } else { quoted.unwrap_or(Some(node)) }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`; a zone is dropped.
fn parsed(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            Some(address).filter(|_| port)?
        }
        None if text.matches(':').count() == 1 => {
            let (address, port) = text.split_once(':')?;
            Some(address).filter(|_| is_port(port))?
        }
        None => text,
    };
    let bare = bare.split('%').next()?;
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::Network;

    fn holds(network: &Network, address: &str) -> bool {
        network.holds(address.parse().unwrap())
    }

    fn of(peer: &str, forwarded: bool, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1"];
        let trusted = trusted.iter().map(|text| Network::parse(text).unwrap()).collect();
        let mut headers = HeaderMap::new();
        let name = if forwarded { "forwarded" } else { "x-forwarded-for" };
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        address(peer.parse().unwrap(), &headers, &Hops { trusted, forwarded, proxied: Vec::new() })
            .to_string()
    }

    #[test]
    fn the_client_is_the_last_whom_no_trusted_proxy_is() {
        let xff = |peer: &str, lines: &[&str]| of(peer, false, lines);
        // Who is not trusted is the client, whatever the header says.
        assert_eq!(xff("192.0.2.7", &["198.51.100.1"]), "192.0.2.7");
        assert_eq!(xff("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(xff("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        // What a client wrote itself stands before it.
        assert_eq!(xff("10.0.0.1", &["1.1.1.1, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(xff("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(xff("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "all trusted: the first of them");
        // A hop that cannot be read stops at the last good one.
        for bad in [
            "unknown",
            "_hidden",
            "",
            "198.51.100.1:port",
            "1.2.3",
            "[::1",
            "198.51.100.1 198.51.100.2",
            "::1]",
        ] {
            assert_eq!(xff("10.0.0.1", &[&format!("1.1.1.1, {bad}")]), "10.0.0.1", "{bad:?}");
            assert_eq!(xff("10.0.0.1", &[&format!("{bad}, 10.0.0.2")]), "10.0.0.2", "{bad:?}");
        }
        for (spelled, meant) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("[2001:db8:2::1]:80", "2001:db8:2::1"),
            ("[2001:db8:2::1]", "2001:db8:2::1"),
            ("2001:db8:2::1", "2001:db8:2::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("fe80::1%eth0", "fe80::1"),
        ] {
            assert_eq!(xff("127.0.0.1", &[spelled]), meant, "{spelled}");
        }
        assert_eq!(xff("::ffff:10.0.0.1", &["2001:db8:1::5, 2001:db8:1::6"]), "2001:db8:1::5");
        let rfc = |lines: &[&str]| of("10.0.0.1", true, lines);
        assert_eq!(rfc(&["for=198.51.100.1;proto=http, for=10.0.0.2"]), "198.51.100.1");
        assert_eq!(rfc(&["For=\"[2001:db8:2::1]:4711\""]), "2001:db8:2::1");
        assert_eq!(rfc(&["for=1.1.1.1;for=2.2.2.2"]), "10.0.0.1");
        assert_eq!(rfc(&["by=10.0.0.1"]), "10.0.0.1");
        assert_eq!(rfc(&["for=_secret, for=10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn networks_are_read_and_compared_by_their_bits() {
        let network = |text: &str| Network::parse(text);
        assert!(
            holds(&network("192.0.2.0/24").unwrap(), "192.0.2.255")
                && !holds(&network("192.0.2.0/24").unwrap(), "192.0.3.0")
        );
        assert!(
            holds(&network("0.0.0.0/0").unwrap(), "8.8.8.8") && !holds(&network("0.0.0.0/0").unwrap(), "::1")
        );
        assert!(holds(&network("::1").unwrap(), "::1") && !holds(&network("::1").unwrap(), "::2"));
        for bad in ["", "192.0.2.0/33", "::/129", "x", "192.0.2.1/24", "192.0.2.0/", "192.0.2.0/-1"] {
            assert!(network(bad).is_none(), "{bad}");
        }
    }
}
