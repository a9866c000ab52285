//! Whether a request is made by the user of this machine, where that is enough to be let in (mode "local" with
//! `allow_local`).
//!
//! A loopback address is no proof of that: a reverse proxy, a tunnel or a container's port on this machine passes on
//! everybody's requests from such an address, and the servers behind the gateway run here, too. If it cannot be found
//! out, the request counts as somebody else's.

use std::borrow::Cow;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use tokio::sync::Semaphore;

use super::kin::{self, Kin};
use crate::door::guard;
use crate::door::server::Peer;

/// For how many connections at a time the process at the other end is looked up.
static LOOKS: Semaphore = Semaphore::const_new(4);

/// Headers that only proxies and the like add, in lower case and with `-` for `_`.
const RELAYED: [&str; 26] = [
    "cdn-loop",
    "client-ip",
    "forwarded",
    "forwarded-for",
    "max-forwards",
    "proxy-client-ip",
    "proxy-connection",
    "remote-addr",
    "true-client-ip",
    "via",
    "wl-proxy-client-ip",
    "x-amz-cf-id",
    "x-amzn-trace-id",
    "x-arr-log-id",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-forward-for",
    "x-forwarded",
    "x-original-host",
    "x-original-url",
    "x-proxy-user",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
];

/// Prefixes of the names of such headers.
const FAMILIES: [&str; 11] = [
    "cf-",
    "fastly-",
    "fly-",
    "tailscale-",
    "x-appengine-",
    "x-azure-",
    "x-envoy-",
    "x-forwarded-",
    "x-ngrok-",
    "x-original-forwarded-",
    "x-vercel-",
];

/// Why a request is not taken for one of this machine's user; none if it is.
pub(in crate::door) async fn far(parts: &Parts, peer: &Peer) -> Option<String> {
    if let Some(header) = relayed(&parts.headers) {
        return Some(format!(
            "it is not from the user of this machine, because it carries the header {header}, as what a proxy or a tunnel \
             passes on does: callers that come through one need a credential (set [auth] mode = \"jwt\")"
        ));
    }
    if !guard::by_loopback_name(parts) {
        let text = "it is not from the user of this machine, because its Host is no name of this machine's loopback: \
                    connect to 127.0.0.1, or use credentials (set [auth] mode = \"jwt\")";
        return Some(text.to_owned());
    }
    let found = peer.origin().get_or_init(|| origin(peer)).await;
    found.map(|found| format!("it is not taken for the user of this machine, because {found}"))
}

/// The first header that a proxy or the like must have added.
fn relayed(headers: &HeaderMap) -> Option<String> {
    headers.keys().map(axum::http::HeaderName::as_str).find_map(|name| {
        // With each request, so nothing is made of a name that needs no other spelling.
        let plain = match name.contains('_') {
            true => Cow::Owned(name.replace('_', "-")),
            false => Cow::Borrowed(name),
        };
        let known = RELAYED.binary_search(&&*plain).is_ok()
            || FAMILIES.iter().any(|family| plain.starts_with(family));
        // Names are tokens, so there is nothing in them that could not be shown; only their length is a client's choice.
        known.then(|| plain.chars().take(64).collect())
    })
}

/// Which process is at the other end, once for each connection.
async fn origin(peer: &Peer) -> Option<&'static str> {
    let (address, local) = (peer.address(), peer.local());
    let Some(local) = local.filter(|_| address.ip().to_canonical().is_loopback()) else {
        return Some("it does not come from a loopback address");
    };
    // The semaphore is never closed; if it were, nobody would be let in.
    let Ok(_turn) = LOOKS.acquire().await else {
        return Some("the process that sends it could not be looked for");
    };
    let looked = tokio::task::spawn_blocking(move || kin::look(address, local)).await;
    match looked.unwrap_or(Kin::Unknown("the process that sends it could not be looked for")) {
        Kin::Other => None,
        Kin::Own(pid) => {
            tracing::warn!(
                pid,
                "a process that belongs to this gateway came to its door and was not taken for the local user: a server \
                 must not call the gateway it works for"
            );
            Some("a process that this gateway started sends it")
        }
        Kin::Unknown(why) => {
            tracing::warn!(peer = %address, "a connection was not taken for the local user's: {why}");
            Some(why)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("curl/8"));
        headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("x"));
        headers
    }

    #[test]
    fn what_a_proxy_adds_is_known_in_every_spelling() {
        assert!(RELAYED.is_sorted());
        for name in [
            "X-Forwarded-For",
            "x_forwarded_for",
            "X-Forwarded-Host",
            "X-Forwarded-Client-Cert",
            "Forwarded",
            "Via",
            "X-Real-IP",
            "CF-Connecting-IP",
            "CF-Ray",
            "True-Client-IP",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "X-Envoy-External-Address",
            "Fly-Client-IP",
            "Fastly-Client-IP",
            "X-Original-Forwarded-For",
            "Tailscale-User-Login",
            "CDN-Loop",
            "X-Forwarded",
        ] {
            assert!(relayed(&headers(name)).is_some(), "{name}");
        }
        for name in ["accept", "authorization", "x-api-key", "mcp-session-id", "x-request-id", "traceparent"]
        {
            assert_eq!(relayed(&headers(name)), None, "{name}");
        }
    }
}
