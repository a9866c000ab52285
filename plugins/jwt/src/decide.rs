//! The rules by which a token is believed (RFC 7519, RFC 8725); pure, so that attacks are tested natively.

mod fault;
mod json;
mod keys;
mod roles;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sentinel_plugin_sdk::{Auth, Field, Identity, Principal, Refusal};

pub use fault::Fault;
use fault::Origin;
use json::{Json, Object};
pub use keys::{Algorithm, Jwk, Key};
pub use roles::{Roles, Rule, Test, is_pointer, pointer_to};

/// The longest token in bytes; longer ones are refused unread.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest subject, role, token id, claim name or claim value in bytes.
const MAX_VALUE_BYTES: usize = 256;
/// The longest list of scopes that is handed on, in bytes.
const MAX_SCOPES_BYTES: usize = 4096;
/// The most claims handed on.
const MAX_CLAIMS: usize = 32;

/// The issuers that tokens must come from, and the audiences they must be for.
#[derive(Debug)]
pub struct Expected {
    /// The accepted values of `iss`. Most issuers have one spelling; Google has two.
    pub issuers: Vec<String>,
    /// The audiences: `aud` has to be or contain one of these.
    pub audiences: Vec<String>,
    /// Pointers to the claim that is looked at in the place of `aud`; the first that is there counts.
    pub audience_claims: Vec<String>,
}

/// Judges tokens by a fixed set of keys and one issuer.
#[derive(Debug)]
pub struct Verifier {
    expected: Expected,
    leeway_s: u64,
    keys: Vec<Key>,
    required_scopes: Vec<String>,
    roles: Roles,
    /// Issuers whose tokens are left to other authenticators.
    others: Vec<String>,
    /// Whether tokens that are no JWT are left to them as well.
    leave_opaque: bool,
    origin: Origin,
}

impl Verifier {
    /// A verifier that takes the role from the claim `role`; without keys it refuses every token.
    #[must_use]
    pub fn new(issuer: String, audience: String, leeway_s: u64, keys: Vec<Key>) -> Self {
        let expected = Expected {
            issuers: vec![issuer],
            audiences: vec![audience],
            audience_claims: vec!["/aud".to_owned()],
        };
        let roles = Roles { claims: vec!["/role".to_owned()], ..Roles::default() };
        Self::expecting(expected, leeway_s, keys).giving(roles)
    }

    /// A verifier of these tokens. It gives nobody a role before it is told how ([`Self::giving`]).
    #[must_use]
    pub fn expecting(expected: Expected, leeway_s: u64, keys: Vec<Key>) -> Self {
        let minted = keys.iter().any(|key| key.algorithm() == Algorithm::Hs256);
        let origin = if minted { Origin::Minted } else { Origin::Issued };
        let (required_scopes, others) = (Vec::new(), Vec::new());
        let roles = Roles::default();
        Self { expected, leeway_s, keys, required_scopes, roles, others, leave_opaque: false, origin }
    }

    /// The same, for tokens that have all of these scopes.
    #[must_use]
    pub fn requiring(mut self, scopes: Vec<String>) -> Self {
        self.required_scopes = scopes;
        self
    }

    /// The same, giving roles in this way.
    #[must_use]
    pub fn giving(mut self, roles: Roles) -> Self {
        self.roles = roles;
        self
    }

    /// The same, leaving tokens of these issuers to other authenticators.
    #[must_use]
    pub fn beside(mut self, others: Vec<String>, leave_opaque: bool) -> Self {
        self.others = others;
        self.leave_opaque = leave_opaque;
        self
    }

    /// Whether a token says that it is another authenticator's. That is not proven, and need not be: nobody is let in by
    /// it, and the other authenticator checks the signature with the keys of its own issuer.
    #[must_use]
    pub fn leaves(&self, token: &str) -> bool {
        // RFC 7515, section 3.1: three parts.
        if self.leave_opaque && token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return true;
        }
        if self.others.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return false;
        }
        let claims = token.split('.').nth(1).and_then(|claims| object(claims, "").ok());
        let issuer = claims.as_ref().and_then(|claims| claims.get("iss"));
        matches!(issuer, Some(Json::String(issuer)) if self.others.contains(issuer))
    }

    /// The refusal that tells the holder of a token about its fault.
    #[must_use]
    pub fn refusal(&self, fault: Fault) -> Refusal {
        fault.refusal(self.origin)
    }

    /// Judges the bearer token of a request at this time (seconds since 1970); abstains without one.
    ///
    /// # Errors
    /// The first rule that the token breaks.
    pub fn judge(&self, bearer: Option<&str>, now_s: u64) -> Result<Auth, Refusal> {
        let Some(token) = bearer.filter(|token| !self.leaves(token)) else { return Ok(Auth::Abstain) };
        self.accept(token, now_s).map(Auth::Accepted).map_err(|fault| self.refusal(fault))
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
            return Err(malformed("it is longer than 16 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed("it has not three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(malformed("it has not three parts"))?;
        if claims.contains('.') {
            return Err(malformed("it has not three parts"));
        }
        let header = object(header, "its header is not a JSON object with each key once, in base64url")?;
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed("its signature is not base64url"))?;
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
            return Err(malformed("its header names no algorithm"));
        };
        if alg.eq_ignore_ascii_case("none") {
            return Err(Fault::BadSignature);
        }
        // RFC 7515, section 4.1.11: an extension that is not understood makes the token invalid. We know none.
        if header.contains_key("crit") {
            return Err(malformed("its header demands an extension (`crit`)"));
        }
        // RFC 8725, section 3.11: a token made for another purpose says so here.
        match header.get("typ") {
            None => {}
            Some(Json::String(typ)) if is_access_token(typ) => {}
            Some(_) => return Err(malformed("its type (`typ`) is neither JWT nor at+jwt")),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Json::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(malformed("its key id (`kid`) is not a string")),
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
            Some(value) => time(value).ok_or(malformed("its `exp` is not a time"))?.floor,
        };
        let nbf = optional_time(claims, "nbf", "its `nbf` is not a time")?;
        optional_time(claims, "iat", "its `iat` is not a time")?;
        let issuer = required(claims, "iss", "its `iss` is not a plain string")?;
        if !self.expected.issuers.iter().any(|ours| ours == issuer) {
            let all: Vec<_> = self.expected.issuers.iter().chain(&self.others).collect();
            return Err(Fault::WrongIssuer(list(&all)));
        }
        let audience = self.check_audience(claims)?.to_owned();
        let subject = required(claims, "sub", "its `sub` is not a plain string")?.to_owned();
        let token_id = match claims.get("jti") {
            None => None,
            Some(value) => Some(plain(value).ok_or(malformed("its `jti` is not a plain string"))?.to_owned()),
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
        let role = self.roles.of(claims)?;
        let principal = Principal {
            subject,
            role,
            issuer: self.expected.issuers.first().cloned(),
            audience: Some(audience),
            token_id,
            expires_at: Some(exp),
            claims: handed_on(claims, &scopes),
        };
        Ok(Identity { principal, cache_until: Some(end.saturating_mul(1000)) })
    }

    /// RFC 7519, section 4.1.3: a string, or an array of strings, that names us; as which of our names.
    fn check_audience(&self, claims: &Object) -> Result<&str, Fault> {
        let Expected { audiences, audience_claims, .. } = &self.expected;
        let found = audience_claims.iter().find_map(|at| Some((at, roles::at_pointer(claims, at)?)));
        let Some((at, value)) = found else {
            // Cognito's access tokens have none, and say for whom they are in `client_id`.
            return Err(Fault::MissingClaim("aud"));
        };
        let name = at.trim_start_matches('/');
        let meant = |ours: &&String| match value {
            Json::String(audience) => audience == *ours,
            Json::Array(list) => list.iter().any(|item| matches!(item, Json::String(text) if text == *ours)),
            _ => false,
        };
        let strings = match value {
            Json::String(_) => true,
            Json::Array(list) => list.iter().all(|item| matches!(item, Json::String(_))),
            _ => false,
        };
        if !strings {
            return Err(malformed(&format!("its `{name}` is neither a string nor an array of strings")));
        }
        let ours = audiences.iter().find(meant);
        let wrong = || {
            let all: Vec<_> = audiences.iter().collect();
            Fault::WrongAudience(format!("`{name}` must name {}", list(&all)))
        };
        ours.map(String::as_str).ok_or_else(wrong)
    }
}

fn malformed(what: &str) -> Fault {
    Fault::Malformed(what.to_owned())
}

/// `a`, `b` or `c`.
fn list(names: &[&String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nobody".to_owned(),
    }
}

fn object(part: &str, fault: &'static str) -> Result<Object, Fault> {
    // Strict base64url: no padding, no stray bits, so that a token has one spelling only.
    let text = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed(fault))?;
    json::read_object(&text).ok_or(malformed(fault))
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
    claims.get(name).map(|value| time(value).ok_or(malformed(fault))).transpose()
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
        Some(value) => match plain(value).ok_or(malformed(fault))? {
            "" => Err(Fault::MissingClaim(name)),
            text => Ok(text),
        },
    }
}

/// The granted scopes: `scope` (RFC 8693, section 4.2) and `scp` (older issuers), each a string of words or an array of
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
