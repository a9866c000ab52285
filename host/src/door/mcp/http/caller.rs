//! Callers by their credentials, so that a token is verified once and not with every request.
//!
//! Only callers whom an authenticator accepted are remembered, by the digest of their credential and without it. So a
//! caller without a valid credential leaves nothing behind, and cannot push out one who has a valid one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use parking_lot::RwLock;

use crate::call::shares::Crowd;
use crate::call::{Credential, Denial, DenialKind, Principal, Share};
use crate::door::server::Certificate;
use crate::door::strangers::Strangers;
use crate::pipeline::{Caller, Generation};
use crate::queue::Budget;

/// How many callers are remembered, and how many bytes about them. Beyond either, the caller with most entries loses the
/// oldest of them.
const MAX_CALLERS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;
/// Longest credential that is looked at, in bytes. No token that a plugin accepts is longer.
pub(in crate::door) const MAX_CREDENTIAL: usize = 16 << 10;
/// A caller who stays known for longer than this needs no copy of the credential with the request: no body takes so long
/// to arrive. In milliseconds.
const MARGIN: u64 = 300_000;

/// All callers of late. What a token says is kept in the [`Caller`] until the authenticator's own limit.
#[derive(Debug)]
pub struct Callers {
    /// Headers that authenticators may read, besides `Authorization`.
    headers: Vec<String>,
    host_user: String,
    known: RwLock<Known>,
    /// Shared by all endpoints: a flood takes no more where there are more of them.
    strangers: Arc<Strangers>,
}

#[derive(Debug, Default)]
struct Known {
    by_digest: HashMap<Digest, Remembered>,
    by_caller: Crowd<Share, Digest>,
    /// What may wait for each of them to read it, whichever token they come with.
    unread: HashMap<Share, Budget>,
    bytes: usize,
    /// Counts those that were remembered.
    came: u64,
}

#[derive(Debug)]
struct Remembered {
    caller: Arc<Caller>,
    share: Share,
    number: u64,
    bytes: usize,
}

type Digest = [u8; 32];

/// The credentials of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::door) struct Brought<'a> {
    pub(in crate::door) bearer: Option<&'a str>,
    pub(in crate::door) headers: &'a HeaderMap,
    pub(in crate::door) peer: IpAddr,
    /// False if it came through a proxy or the like, so that the address is not the caller's.
    pub(in crate::door) near: bool,
    /// What was shown in the handshake of its connection.
    pub(in crate::door) certificate: Option<&'a Certificate>,
}

impl Callers {
    #[must_use]
    pub(crate) fn new(headers: Vec<String>, host_user: String, strangers: Arc<Strangers>) -> Self {
        Self { headers, host_user, known: RwLock::default(), strangers }
    }

    /// The headers that authenticators may read.
    pub(in crate::door) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Whether a request brings any credential besides a bearer token.
    pub(in crate::door) fn brought(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().any(|name| headers.contains_key(name))
    }

    /// The name of the header that is longer than any credential.
    pub(in crate::door) fn too_long(&self, brought: &Brought<'_>) -> Option<&str> {
        let long = |name: &&String| brought.headers.get_all(*name).iter().any(|v| v.len() > MAX_CREDENTIAL);
        let bearer = brought.bearer.filter(|bearer| bearer.len() > MAX_CREDENTIAL).map(|_| "Authorization");
        bearer.or_else(|| self.headers.iter().find(long).map(String::as_str))
    }

    /// Who sends a request: as remembered, or as the authenticators of this generation say. While many are refused, those
    /// who are not remembered wait for their turn.
    ///
    /// # Errors
    /// Their refusal; or there is no place to wait ([`is_crowded`]).
    pub(in crate::door) async fn identify(
        &self,
        brought: &Brought<'_>,
        generation: &Arc<Generation>,
    ) -> Result<(Arc<Caller>, Arc<Principal>), Denial> {
        let (digest, policy) = (self.digest(brought), generation.policy());
        let remembered = self.known.read().by_digest.get(&digest).map(|known| known.caller.clone());
        if let Some(caller) = &remembered {
            if let Some(who) = policy.knows(caller, MARGIN) {
                return Ok((caller.clone(), who));
            }
            // What is known ends soon: the credential goes along, so that the authenticators can be asked again.
            if let Some(who) = policy.knows(caller, 0) {
                return Ok((Arc::new(caller.again(self.credential(brought))), who));
            }
        }
        let caller = Caller::new(self.credential(brought));
        let (caller, who) = if self.strangers.are_many(Instant::now()) {
            Box::pin(self.in_turn(caller, brought.peer, generation.clone())).await?
        } else {
            let who = policy.identify(&caller);
            (caller, who)
        };
        if remembered.is_some() {
            self.known.write().forget(&digest);
        }
        let who = who.inspect_err(|_| self.strangers.refused(Instant::now()))?;
        if policy.knows(&caller, 0).is_none() {
            return Ok((Arc::new(caller), who));
        }
        let caller = self.known.write().remember(digest, caller, &who);
        Ok((Arc::new(caller), who))
    }

    /// Asks the authenticators when the turn of this one has come, on a thread on which no calls are served.
    async fn in_turn(
        &self,
        caller: Caller,
        from: IpAddr,
        generation: Arc<Generation>,
    ) -> Result<(Caller, Result<Arc<Principal>, Denial>), Denial> {
        let verify = move || {
            let who = generation.policy().identify(&caller);
            (caller, who)
        };
        self.strangers.in_turn(from, verify).await.map_err(|full| {
            Denial::overloaded(if full.own {
                "too many credentials of your network wait to be verified: try again in a second or two"
            } else {
                "the gateway verifies as many unknown credentials as it may: try again in a second or two"
            })
        })
    }

    fn digest(&self, brought: &Brought<'_>) -> Digest {
        // Done with each request, so by a hash that is quick on every processor.
        let mut digest = blake3::Hasher::new();
        let mut add = |part: Option<&[u8]>| {
            // Nothing and an empty text are not the same.
            digest.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            digest.update(part.unwrap_or_default());
        };
        add(brought.bearer.map(str::as_bytes));
        match brought.peer {
            IpAddr::V4(address) => add(Some(&address.octets())),
            IpAddr::V6(address) => add(Some(&address.octets())),
        }
        add(Some(&[u8::from(brought.near)]));
        add(brought.certificate.map(|certificate| certificate.sha256.as_bytes()));
        for name in &self.headers {
            add(value(brought.headers, name).map(str::as_bytes));
        }
        *digest.finalize().as_bytes()
    }

    fn credential(&self, brought: &Brought<'_>) -> Credential {
        let mut attrs = Vec::with_capacity(2 + self.headers.len());
        // An address that is not the caller's must not be taken for it.
        if brought.near {
            attrs.push(("peer.ip".into(), brought.peer.to_string()));
        }
        attrs.push(("host.user".into(), self.host_user.clone()));
        for (key, fact) in brought.certificate.iter().flat_map(|certificate| certificate.facts()) {
            attrs.push((key.into(), fact.to_owned()));
        }
        for name in &self.headers {
            let value = value(brought.headers, name);
            attrs.extend(value.map(|value| (format!("header.{name}").into(), value.to_owned())));
        }
        Credential { door: "http", bearer: brought.bearer.map(str::to_owned), attrs }
    }
}

impl Known {
    /// Remembers a caller whom an authenticator has accepted; the same caller, for the request at hand.
    fn remember(&mut self, digest: Digest, caller: Caller, who: &Principal) -> Caller {
        self.forget(&digest);
        let (share, bytes) = (who.share(), size(who));
        let unread = self.unread.entry(share).or_insert_with(|| caller.unread().clone());
        let caller = caller.counted_in(unread);
        let Some(remembered) = caller.remembered() else { return caller };
        self.came += 1;
        let number = self.by_caller.insert(share, self.came, digest);
        self.by_digest.insert(digest, Remembered { caller: Arc::new(remembered), share, number, bytes });
        self.bytes += bytes;
        while self.by_digest.len() > MAX_CALLERS || self.bytes > MAX_BYTES {
            let oldest = self.by_caller.largest().next().and_then(|(_, most)| self.by_caller.first(most));
            let Some(oldest) = oldest.map(|(_, digest)| *digest) else { break };
            self.forget(&oldest);
        }
        caller
    }

    fn forget(&mut self, digest: &Digest) {
        if let Some(gone) = self.by_digest.remove(digest) {
            self.by_caller.remove(gone.number);
            self.bytes -= gone.bytes;
            if self.by_caller.held(gone.share) == 0 {
                self.unread.remove(&gone.share);
            }
        }
    }
}

/// Whether this says that a credential was not looked at, because too many are.
pub(in crate::door) fn is_crowded(denial: &Denial) -> bool {
    denial.kind == DenialKind::RateLimited && denial.reason == "overloaded"
}

/// About how much memory it takes to remember a caller.
fn size(who: &Principal) -> usize {
    const EACH: usize = 48;
    let optional = [&who.issuer, &who.audience, &who.token_id];
    let optional = optional.into_iter().flatten().map(|text| text.len() + EACH);
    let claims = who.claims.iter().map(|(name, value)| name.len() + value.len() + EACH);
    who.subject.len() + who.role.len() + 8 * EACH + optional.sum::<usize>() + claims.sum::<usize>()
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(subject: &str, claim: usize) -> Principal {
        Principal {
            claims: vec![("c".to_owned(), "x".repeat(claim))],
            ..crate::call::sample::principal(subject, "r")
        }
    }

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&(number as u64).to_le_bytes());
        digest
    }

    fn remember(known: &mut Known, number: usize, who: &Principal) {
        let credential = Credential { door: "http", bearer: None, attrs: Vec::new() };
        drop(known.remember(digest(number), Caller::accepted(credential, who.clone()), who));
    }

    #[test]
    fn many_tokens_of_one_caller_push_out_only_their_own() {
        let mut known = Known::default();
        remember(&mut known, 1, &principal("ann", 10));
        for number in 2..MAX_CALLERS + 100 {
            remember(&mut known, number, &principal("eve", 10));
        }
        assert_eq!(known.by_digest.len(), MAX_CALLERS);
        assert!(known.by_digest.contains_key(&digest(1)));
        assert!(!known.by_digest.contains_key(&digest(2)), "the oldest of hers");
    }

    #[test]
    fn what_is_known_is_bounded_in_bytes() {
        let mut known = Known::default();
        for number in 0..3_000 {
            remember(&mut known, number, &principal(&format!("s{number}"), 12_000));
        }
        assert!(known.bytes <= MAX_BYTES && known.by_digest.len() > 1_000);
        for number in 0..3_000 {
            known.forget(&digest(number));
        }
        assert_eq!((known.bytes, known.by_caller.len(), known.unread.len()), (0, 0, 0));
    }
}
