//! The rules by which a token is believed (RFC 7519, RFC 8725); pure, so that attacks are tested natively.

mod json;
mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sentinel_plugin_sdk::{Auth, Field, Identity, Principal, Refusal};
use thiserror::Error;

use json::{Json, Object};
pub use keys::{Algorithm, Jwk, Key};

/// The longest token in bytes; longer ones are refused unread.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest subject, role, token id, claim name or claim value in bytes.
const MAX_VALUE_BYTES: usize = 256;
/// The longest list of scopes that is handed on, in bytes.
const MAX_SCOPES_BYTES: usize = 4096;
/// The most claims handed on.
const MAX_CLAIMS: usize = 32;

/// Why a token was not believed. The text is for the person who holds it and never repeats it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// A bearer without a token.
    #[error(
        "The bearer token is empty. Mint one with `sentinel-gateway token mint` and send it as `Authorization: Bearer TOKEN`."
    )]
    MissingToken,
    /// Not a token by the book; the word says what is wrong.
    #[error(
        "The token is malformed: {0}. Check that it was copied whole, or mint a new one with `sentinel-gateway token mint`."
    )]
    Malformed(&'static str),
    /// No configured key fits the token's algorithm and key id.
    #[error(
        "No key of this gateway fits the token's algorithm and key id. Ask the operator to configure the issuer's key, or mint a token with `sentinel-gateway token mint`."
    )]
    UnknownKey,
    /// Not signed, or not by a key of ours.
    #[error(
        "The token's signature was not made with a key of this gateway. Mint a new one with `sentinel-gateway token mint`."
    )]
    BadSignature,
    /// From an issuer this gateway does not trust.
    #[error(
        "The token comes from another issuer; this gateway accepts only tokens issued by `{0}`. Get one from there."
    )]
    WrongIssuer(String),
    /// For another service.
    #[error("The token is meant for another service; its `aud` must name `{0}`. Mint one for this gateway.")]
    WrongAudience(String),
    /// Past its time, by this many seconds.
    #[error("The token expired {0} s ago. Mint a new one with `sentinel-gateway token mint`.")]
    Expired(u64),
    /// Before its time, by this many seconds.
    #[error(
        "The token is not valid yet. Try again in {0} s, or check the clock of the machine that minted it."
    )]
    NotYetValid(u64),
    /// A claim that every token needs.
    #[error(
        "The token has no `{0}`. Mint a new one with `sentinel-gateway token mint --sub NAME --role ROLE`."
    )]
    MissingClaim(&'static str),
    /// A good token whose holder was not granted these scopes (RFC 6750, section 3.1).
    #[error("The token does not have the scope this gateway asks for. Get one with the scope `{0}`.")]
    InsufficientScope(String),
}

impl Fault {
    /// The stable word of the refusal.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::Malformed(_) => "malformed_token",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::WrongIssuer(_) => "wrong_issuer",
            Self::WrongAudience(_) => "wrong_audience",
            Self::Expired(_) => "token_expired",
            Self::NotYetValid(_) => "token_not_yet_valid",
            Self::MissingClaim(_) => "missing_claim",
            Self::InsufficientScope(_) => "insufficient_scope",
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let mut refusal = Self::new(fault.reason(), fault.to_string());
        match fault {
            Fault::NotYetValid(seconds) => refusal.retry_after_ms = Some(seconds.saturating_mul(1000)),
            Fault::InsufficientScope(value) => {
                refusal.details.push(Field { name: "scope".to_owned(), value });
            }
            _ => {}
        }
        refusal
    }
}

/// Judges tokens by a fixed set of keys, one issuer and one audience.
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    audience: String,
    leeway_s: u64,
    keys: Vec<Key>,
    required_scopes: Vec<String>,
}

impl Verifier {
    /// A verifier; without keys it refuses every token.
    #[must_use]
    pub fn new(issuer: String, audience: String, leeway_s: u64, keys: Vec<Key>) -> Self {
        Self { issuer, audience, leeway_s, keys, required_scopes: Vec::new() }
    }

    /// The same, for tokens that have all of these scopes.
    #[must_use]
    pub fn requiring(mut self, scopes: Vec<String>) -> Self {
        self.required_scopes = scopes;
        self
    }

    /// Judges the bearer token of a request at this time (seconds since 1970); abstains without one.
    ///
    /// # Errors
    /// The first rule that the token breaks.
    pub fn judge(&self, bearer: Option<&str>, now_s: u64) -> Result<Auth, Refusal> {
        let Some(token) = bearer else { return Ok(Auth::Abstain) };
        Ok(Auth::Accepted(self.accept(token, now_s)?))
    }

    /// Establishes who holds the token. Nothing in the claims is looked at before the signature fits.
    ///
    /// # Errors
    /// The first rule that the token breaks.
    pub fn accept(&self, token: &str, now_s: u64) -> Result<Identity, Fault> {
        self.accept_with(&[], token, now_s)
    }

    /// The same with these keys besides its own.
    ///
    /// # Errors
    /// The first rule that the token breaks.
    pub fn accept_with(&self, more: &[Key], token: &str, now_s: u64) -> Result<Identity, Fault> {
        if token.is_empty() {
            return Err(Fault::MissingToken);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Fault::Malformed("it is longer than 16 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed("it has not three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed("it has not three parts"))?;
        if claims.contains('.') {
            return Err(Fault::Malformed("it has not three parts"));
        }
        let header = object(header, "its header is not a JSON object with each key once, in base64url")?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| Fault::Malformed("its signature is not base64url"))?;
        self.check_signature(more, &header, signed.as_bytes(), &signature)?;
        let claims = object(claims, "its claims are not a JSON object with each key once, in base64url")?;
        self.check_claims(&claims, now_s)
    }

    fn check_signature(
        &self,
        more: &[Key],
        header: &Object,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), Fault> {
        let Some(Json::String(alg)) = header.get("alg") else {
            return Err(Fault::Malformed("its header names no algorithm"));
        };
        if alg.eq_ignore_ascii_case("none") {
            return Err(Fault::BadSignature);
        }
        // RFC 7515, section 4.1.11: an extension that is not understood makes the token invalid. We know none.
        if header.contains_key("crit") {
            return Err(Fault::Malformed("its header demands an extension (`crit`)"));
        }
        // RFC 8725, section 3.11: a token made for another purpose says so here.
        match header.get("typ") {
            None => {}
            Some(Json::String(typ)) if is_access_token(typ) => {}
            Some(_) => return Err(Fault::Malformed("its type (`typ`) is neither JWT nor at+jwt")),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Json::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(Fault::Malformed("its key id (`kid`) is not a string")),
        };
        // `jwk`, `jku`, `x5u` and `x5c` would let a token bring its own key: they are never read.
        let fits = |key: &&Key| key.algorithm().name() == alg && key.answers_to(kid);
        let mut fitting = self.keys.iter().chain(more).filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(Fault::UnknownKey);
        }
        if fitting.any(|key| key.verifies(signed, signature)) { Ok(()) } else { Err(Fault::BadSignature) }
    }

    fn check_claims(&self, claims: &Object, now_s: u64) -> Result<Identity, Fault> {
        let exp = match claims.get("exp") {
            None => return Err(Fault::MissingClaim("exp")),
            Some(value) => time(value).ok_or(Fault::Malformed("its `exp` is not a time"))?.floor,
        };
        let nbf = optional_time(claims, "nbf", "its `nbf` is not a time")?;
        optional_time(claims, "iat", "its `iat` is not a time")?;
        if required(claims, "iss", "its `iss` is not a plain string")? != self.issuer {
            return Err(Fault::WrongIssuer(self.issuer.clone()));
        }
        self.check_audience(claims)?;
        let subject = required(claims, "sub", "its `sub` is not a plain string")?.to_owned();
        let role = required(claims, "role", "its `role` is not a plain string")?.to_owned();
        let token_id = match claims.get("jti") {
            None => None,
            Some(value) => {
                Some(plain(value).ok_or(Fault::Malformed("its `jti` is not a plain string"))?.to_owned())
            }
        };
        let end = exp.saturating_add(self.leeway_s);
        if end <= now_s {
            return Err(Fault::Expired(now_s.saturating_sub(exp)));
        }
        let start = nbf.map_or(0, |nbf| nbf.ceil).saturating_sub(self.leeway_s);
        if start > now_s {
            return Err(Fault::NotYetValid(start.saturating_sub(now_s)));
        }
        // Last: only a token that is good otherwise is worth getting again with more scopes.
        let scopes = scopes(claims);
        if !self.required_scopes.iter().all(|wanted| scopes.contains(&wanted.as_str())) {
            return Err(Fault::InsufficientScope(self.required_scopes.join(" ")));
        }
        let principal = Principal {
            subject,
            role,
            issuer: Some(self.issuer.clone()),
            audience: Some(self.audience.clone()),
            token_id,
            expires_at: Some(exp),
            claims: handed_on(claims, &scopes),
        };
        Ok(Identity { principal, cache_until: Some(end.saturating_mul(1000)) })
    }

    /// RFC 7519, section 4.1.3: a string, or an array of strings that contains ours.
    fn check_audience(&self, claims: &Object) -> Result<(), Fault> {
        let ours = Json::String(self.audience.clone());
        let meant = match claims.get("aud") {
            None => return Err(Fault::MissingClaim("aud")),
            Some(Json::String(audience)) => *audience == self.audience,
            Some(Json::Array(list)) if list.iter().all(|item| matches!(item, Json::String(_))) => {
                list.contains(&ours)
            }
            Some(_) => return Err(Fault::Malformed("its `aud` is neither a string nor an array of strings")),
        };
        if meant { Ok(()) } else { Err(Fault::WrongAudience(self.audience.clone())) }
    }
}

fn object(part: &str, fault: &'static str) -> Result<Object, Fault> {
    // Strict base64url: no padding, no stray bits, so that a token has one spelling only.
    let text = URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Malformed(fault))?;
    json::read_object(&text).ok_or(Fault::Malformed(fault))
}

fn is_access_token(typ: &str) -> bool {
    ["JWT", "at+jwt", "application/jwt", "application/at+jwt"]
        .iter()
        .any(|known| typ.eq_ignore_ascii_case(known))
}

/// A `NumericDate` (RFC 7519, section 2) in whole seconds, rounded either way; callers take the stricter one.
struct Time {
    floor: u64,
    ceil: u64,
}

fn time(value: &Json) -> Option<Time> {
    match *value {
        Json::Unsigned(seconds) => Some(Time { floor: seconds, ceil: seconds }),
        // u64::MAX as f64 is 2^64, the first number that does not fit. NaN fails the comparison.
        Json::Float(seconds) if (0.0..u64::MAX as f64).contains(&seconds) => {
            Some(Time { floor: seconds.floor() as u64, ceil: seconds.ceil() as u64 })
        }
        Json::Null
        | Json::Bool(_)
        | Json::Negative(_)
        | Json::Float(_)
        | Json::String(_)
        | Json::Array(_)
        | Json::Object(_) => None,
    }
}

fn optional_time(claims: &Object, name: &str, fault: &'static str) -> Result<Option<Time>, Fault> {
    claims.get(name).map(|value| time(value).ok_or(Fault::Malformed(fault))).transpose()
}

/// A string fit for a log line and a key: short, and without control characters.
fn plain(value: &Json) -> Option<&str> {
    match value {
        Json::String(text) if text.len() <= MAX_VALUE_BYTES && !text.chars().any(char::is_control) => {
            Some(text)
        }
        _ => None,
    }
}

fn required<'claims>(
    claims: &'claims Object,
    name: &'static str,
    fault: &'static str,
) -> Result<&'claims str, Fault> {
    match claims.get(name) {
        None => Err(Fault::MissingClaim(name)),
        Some(value) => match plain(value).ok_or(Fault::Malformed(fault))? {
            "" => Err(Fault::MissingClaim(name)),
            text => Ok(text),
        },
    }
}

/// What was granted: `scope` (RFC 8693, section 4.2) and `scp` (older issuers), each a string of words or an array of
/// strings. Anything else grants nothing.
fn scopes(claims: &Object) -> Vec<&str> {
    let all = ["scope", "scp"].into_iter().filter_map(|name| claims.get(name)).flat_map(words);
    all.filter(|word| !word.is_empty() && !word.contains(' ') && !word.chars().any(char::is_control))
        .collect()
}

fn words(value: &Json) -> Vec<&str> {
    match value {
        Json::String(text) => text.split(' ').collect(),
        Json::Array(list) => list
            .iter()
            .filter_map(|item| match item {
                Json::String(text) => Some(text.as_str()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The scopes as one claim `scope`, then the scalar claims as text, in the order of their names. One that is too long
/// is left out, not cut: a policy must not compare against half a value.
fn handed_on(claims: &Object, scopes: &[&str]) -> Vec<Field> {
    let field = |name: &str, value: String| Field { name: name.to_owned(), value };
    let scope = (!scopes.is_empty()).then(|| field("scope", scopes.join(" ")));
    let others = claims
        .iter()
        .filter(|(name, _)| name.len() <= MAX_VALUE_BYTES && *name != "scope")
        .filter_map(|(name, value)| Some(field(name, value.scalar()?)))
        .filter(|field| field.value.len() <= MAX_VALUE_BYTES);
    let scope = scope.filter(|field| field.value.len() <= MAX_SCOPES_BYTES);
    scope.into_iter().chain(others).take(MAX_CLAIMS).collect()
}

#[cfg(test)]
mod tests;
