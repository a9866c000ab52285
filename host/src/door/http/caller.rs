//! Callers by what they bring, so that a token is verified once and not with every request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use parking_lot::Mutex;

use crate::call::Credential;
use crate::pipeline::Caller;

/// Callers that are remembered; over it those are forgotten that nobody uses.
const MAX_CALLERS: usize = 10_000;

/// Everybody who came lately. What a token says is kept by the [`Caller`] until the authenticator's own limit.
#[derive(Debug)]
pub struct Callers {
    /// Headers that authenticators may read, besides `Authorization`.
    headers: Vec<String>,
    host_user: String,
    known: Mutex<HashMap<[u8; 32], Arc<Caller>>>,
}

impl Callers {
    #[must_use]
    pub fn new(headers: Vec<String>, host_user: String) -> Self {
        Self { headers, host_user, known: Mutex::default() }
    }

    /// The headers that authenticators may read.
    pub(super) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Whether a request brings any credential besides a bearer token.
    pub(super) fn brought(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().any(|name| headers.contains_key(name))
    }

    /// The caller with this credential. Only its digest is kept as a key.
    pub(super) fn find(&self, bearer: Option<&str>, headers: &HeaderMap, peer: IpAddr) -> Arc<Caller> {
        // With each request, so by a digest that needs no instruction of its own to be quick.
        let mut digest = blake3::Hasher::new();
        let mut add = |part: Option<&[u8]>| {
            // Nothing and an empty text are not the same.
            digest.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            digest.update(part.unwrap_or_default());
        };
        add(bearer.map(str::as_bytes));
        match peer {
            IpAddr::V4(address) => add(Some(&address.octets())),
            IpAddr::V6(address) => add(Some(&address.octets())),
        }
        for name in &self.headers {
            add(value(headers, name).map(str::as_bytes));
        }
        let key = *digest.finalize().as_bytes();
        let mut known = self.known.lock();
        if let Some(caller) = known.get(&key) {
            return caller.clone();
        }
        if known.len() >= MAX_CALLERS {
            // Whoever holds a session or a call still has theirs.
            known.retain(|_, caller| Arc::strong_count(caller) > 1);
            if known.len() >= MAX_CALLERS {
                known.clear();
            }
        }
        let mut attrs =
            vec![("peer.ip".into(), peer.to_string()), ("host.user".into(), self.host_user.clone())];
        for name in &self.headers {
            attrs.extend(
                value(headers, name).map(|value| (format!("header.{name}").into(), value.to_owned())),
            );
        }
        let credential = Credential { door: "http", bearer: bearer.map(str::to_owned), attrs };
        let caller = Arc::new(Caller::new(credential));
        known.insert(key, caller.clone());
        caller
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
