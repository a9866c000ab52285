//! The rules by which an API key is known: by its digest, at its doors, until its time; pure, and so tested
//! natively.

use std::fmt;

use sentinel_plugin_sdk::{Auth, Identity, Principal, Refusal};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use thiserror::Error;

/// The longest key in bytes; longer ones are refused unread.
pub const MAX_KEY_BYTES: usize = 512;
/// The longest time an answer is reused, in milliseconds: how long a key that was taken out works on.
const MAX_CACHE_MS: u64 = 5 * 60 * 1000;
/// The issuer of everybody who is known by a key.
const ISSUER: &str = "api-key";

/// Why a key was refused. The text is for the person who holds it, never repeats it, and says no more than
/// the reason does: somebody who guesses keys must not learn how far off the guess is.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// Unknown, not for this door, too long, empty, or one of two different keys.
    #[error(
        "The API key is not valid here. Check that it was copied whole, or ask the operator for a new one."
    )]
    Invalid,
    /// Known, and past its time.
    #[error("The API key has expired. Ask the operator for a new one.")]
    Expired,
}

impl Fault {
    /// The stable word of the refusal.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_api_key",
            Self::Expired => "expired_api_key",
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::new(fault.reason(), fault.to_string())
    }
}

/// The SHA-256 digest of a key.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of this key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyDigest {
    // By hand: in a log, the digest of a weak key would be an invitation to guess it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyDigest(..)")
    }
}

/// One known key, and its holder.
#[derive(Debug)]
pub struct Key {
    /// Its name in the configuration.
    pub id: String,
    /// Who holds it.
    pub subject: String,
    /// What they may do.
    pub role: String,
    /// What it is known by.
    pub digest: KeyDigest,
    /// The first second since 1970 at which it no longer works; none = it works for ever.
    pub expires_s: Option<u64>,
    /// The doors it opens; none = all.
    pub doors: Option<Vec<String>>,
}

impl Key {
    fn opens(&self, door: &str) -> bool {
        self.doors.as_ref().is_none_or(|doors| doors.iter().any(|own| own == door))
    }

    fn admit(&self, door: &str, now_ms: u64) -> Result<Identity, Fault> {
        // The door is checked first: at a wrong one nobody learns whether the key is good elsewhere.
        if !self.opens(door) {
            return Err(Fault::Invalid);
        }
        let end_ms = self.expires_s.map_or(u64::MAX, |seconds| seconds.saturating_mul(1000));
        if end_ms <= now_ms {
            return Err(Fault::Expired);
        }
        let principal = Principal {
            subject: self.subject.clone(),
            role: self.role.clone(),
            issuer: Some(ISSUER.to_owned()),
            audience: None,
            token_id: Some(self.id.clone()),
            expires_at: self.expires_s,
            claims: Vec::new(),
        };
        Ok(Identity { principal, cache_until: Some(now_ms.saturating_add(MAX_CACHE_MS).min(end_ms)) })
    }
}

/// All known keys, and where a caller shows theirs.
#[derive(Debug)]
pub struct Keyring {
    header_attr: String,
    prefix: String,
    keys: Vec<Key>,
}

impl Keyring {
    /// A keyring. `header` is the header's name in lower case; `prefix` is how a bearer token that is a key
    /// begins. Without keys it refuses every key.
    #[must_use]
    pub fn new(header: &str, prefix: String, keys: Vec<Key>) -> Self {
        Self { header_attr: format!("header.{header}"), prefix, keys }
    }

    /// The attribute of the request under which the gateway hands over the header: `header.x-api-key`.
    #[must_use]
    pub fn header_attr(&self) -> &str {
        &self.header_attr
    }

    /// Judges what a caller shows at this door and time (milliseconds since 1970); abstains if it is no key.
    ///
    /// # Errors
    /// A [`Fault`], if a key is shown that does not open this door now.
    pub fn judge(
        &self,
        door: &str,
        header: Option<&str>,
        bearer: Option<&str>,
        now_ms: u64,
    ) -> Result<Auth, Refusal> {
        let bearer = bearer.filter(|token| token.starts_with(&self.prefix));
        let shown = match (header, bearer) {
            (None, None) => return Ok(Auth::Abstain),
            (Some(key), None) | (None, Some(key)) => key,
            (Some(key), Some(other)) if key == other => key,
            // Two keys leave open who is calling.
            (Some(_), Some(_)) => return Err(Fault::Invalid.into()),
        };
        let key = self.find(shown).ok_or(Fault::Invalid)?;
        Ok(Auth::Accepted(key.admit(door, now_ms)?))
    }

    /// The key that was shown. Every known digest is compared whole, whichever fits, so that the time it
    /// takes tells neither how much of a digest was right nor whose.
    fn find(&self, shown: &str) -> Option<&Key> {
        if shown.len() > MAX_KEY_BYTES {
            return None;
        }
        let digest = KeyDigest::of(shown.as_bytes());
        // The place of the key, counted from 1.
        let mut found = 0_u32;
        for (place, key) in (1_u32..).zip(&self.keys) {
            let fits = key.digest.bytes().as_slice().ct_eq(digest.bytes().as_slice());
            found.conditional_assign(&place, fits);
        }
        let index = usize::try_from(found.checked_sub(1)?).ok()?;
        self.keys.get(index)
    }
}

#[cfg(test)]
mod tests;
