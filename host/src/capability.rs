//! Capabilities: short tokens that let the executor run one prepared call, once.
//!
//! The gateway signs with Ed25519 (RFC 8032), and the executor checks with the public key, so the executor can make none.
//! The algorithm is fixed; nothing in a token chooses it. A token holds for one executor, one environment, one command and
//! one digest of what will run, for 120 seconds at most. That it is used once is the executor's business: it writes down the
//! token's number before it runs anything.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// The longest that a token holds, in seconds.
pub const LONGEST: u64 = 120;
/// How far the clock of the process that made a token may be ahead, in seconds: both are on one machine.
const AHEAD: u64 = 2;
/// What is signed begins with this, so that no signature made for something else counts.
const DOMAIN: &[u8] = b"sentinel-gateway capability v1\0";
/// How a token as text begins.
const TEXT: &str = "sgc1_";
/// The longest token, in bytes.
const MOST: usize = 2_048;
const SIGNATURE: usize = 64;
/// `SubjectPublicKeyInfo` of an Ed25519 key, up to the key (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// A number that no other token has.
    pub id: [u8; 16],
    /// The executor it is for.
    pub audience: String,
    /// The environment it is for.
    pub environment: String,
    /// The command.
    pub command: String,
    /// Who asked for it.
    pub subject: String,
    /// The gateway's id of the call, or of its approval; for the record.
    pub call: String,
    /// The SHA-256 of what will run, as the executor told it.
    pub digest: [u8; 32],
    /// From when on it holds, in seconds since 1970.
    pub from: u64,
    /// Until when.
    pub until: u64,
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// The executor.
    pub audience: &'a str,
    /// The environment.
    pub environment: &'a str,
    /// The command.
    pub command: &'a str,
    /// Who asked.
    pub subject: &'a str,
    /// The gateway's id of the call.
    pub call: &'a str,
    /// The SHA-256 of what will run.
    pub digest: [u8; 32],
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the capability token cannot be read, or was not signed by a key that this executor knows")]
    Invalid,
    #[error("the capability token is for another executor")]
    Audience,
    #[error("the capability token is for another environment")]
    Environment,
    #[error("the capability token is for another command")]
    Command,
    #[error("the capability token has expired, or does not hold yet")]
    Expired,
}

impl TokenError {
    /// The machine word.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid | Self::Audience | Self::Command => "token_refused",
            Self::Environment => "wrong_environment",
            Self::Expired => "expired",
        }
    }
}

/// Why a key is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("it is no Ed25519 key in PEM; `sentinel-gateway executor keys` makes a pair")]
    Unreadable,
    #[error("the system gave no random numbers")]
    Random,
}

/// The key that tokens are signed with.
pub struct Key(Ed25519KeyPair);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&PublicKey(self.public())).finish()
    }
}

impl Key {
    /// A new key: the secret one (PKCS #8) and the public one, both in PEM.
    ///
    /// # Errors
    /// The system gave no random numbers.
    pub fn generate() -> Result<(String, String), KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| KeyError::Unreadable)?;
        let public = [&SPKI[..], pair.public_key().as_ref()].concat();
        Ok((pem("PRIVATE KEY", pkcs8.as_ref()), pem("PUBLIC KEY", &public)))
    }

    /// Reads a secret key: PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes it, too.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = unpem("PRIVATE KEY", text).ok_or(KeyError::Unreadable)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(Self).map_err(|_| KeyError::Unreadable)
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        key
    }

    /// The same, to check tokens of this key with.
    #[must_use]
    pub(crate) fn verifier(&self) -> PublicKey {
        PublicKey(self.public())
    }

    /// Makes a token that holds from `now` on, for `seconds`, of which [`LONGEST`] count.
    ///
    /// # Errors
    /// The system gave no random numbers.
    pub fn mint(&self, purpose: &Purpose<'_>, now: u64, seconds: u64) -> Result<Token, KeyError> {
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| KeyError::Random)?;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&id);
        let Purpose { audience, environment, command, subject, call, digest } = *purpose;
        for text in [audience, environment, command, subject, call] {
            let (length, text) = beginning(text);
            bytes.push(length);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(&now.to_be_bytes());
        bytes.extend_from_slice(&now.saturating_add(seconds.min(LONGEST)).to_be_bytes());
        let signature = self.0.sign(&[DOMAIN, &bytes].concat());
        bytes.extend_from_slice(signature.as_ref());
        Ok(Token(bytes))
    }
}

/// As much of a text as a token has place for.
fn beginning(text: &str) -> (u8, &str) {
    let mut end = u8::try_from(text.len()).unwrap_or(u8::MAX);
    while !text.is_char_boundary(usize::from(end)) {
        end -= 1;
    }
    (end, &text[..usize::from(end)])
}

/// A key that tokens are checked with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl PublicKey {
    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = unpem("PUBLIC KEY", text).ok_or(KeyError::Unreadable)?;
        let key = der.strip_prefix(&SPKI).ok_or(KeyError::Unreadable)?;
        key.try_into().map(Self).map_err(|_| KeyError::Unreadable)
    }
}

/// A token as it is handed over. What it lets somebody do is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// One that was received as bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// One that was received as text; none if it is no text of a token.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(TEXT).filter(|rest| rest.len() <= 2 * MOST)?;
        URL_SAFE_NO_PAD.decode(rest).ok().map(Self)
    }

    /// As it is sent over a socket.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it stands in a header.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{TEXT}{}", URL_SAFE_NO_PAD.encode(&self.0))
    }

    /// The SHA-256 of the token, for records.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &self.0).as_ref());
        digest
    }

    /// What it says, if one of these keys signed it, and it holds `now` for this executor and this environment.
    ///
    /// # Errors
    /// It does not. Nothing that it says is looked at before its signature is good.
    pub fn verify(
        &self,
        keys: &[PublicKey],
        audience: &str,
        environment: &str,
        now: u64,
    ) -> Result<Claims, TokenError> {
        if self.0.len() > MOST {
            return Err(TokenError::Invalid);
        }
        let at = self.0.len().checked_sub(SIGNATURE).ok_or(TokenError::Invalid)?;
        let (said, signature) = self.0.split_at(at);
        let signed = [DOMAIN, said].concat();
        let good =
            |key: &&PublicKey| UnparsedPublicKey::new(&ED25519, key.0).verify(&signed, signature).is_ok();
        keys.iter().find(good).ok_or(TokenError::Invalid)?;
        let claims = claims(said).ok_or(TokenError::Invalid)?;
        if claims.audience != audience {
            return Err(TokenError::Audience);
        }
        if claims.environment != environment {
            return Err(TokenError::Environment);
        }
        let short = claims.until.checked_sub(claims.from).is_some_and(|held| held <= LONGEST);
        if !short || now.saturating_add(AHEAD) < claims.from || now >= claims.until {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

fn claims(said: &[u8]) -> Option<Claims> {
    let (id, mut rest) = said.split_at_checked(16)?;
    let mut text = || {
        let (length, more) = rest.split_first()?;
        let (text, more) = more.split_at_checked(usize::from(*length))?;
        rest = more;
        String::from_utf8(text.to_vec()).ok()
    };
    let (audience, environment, command, subject, call) = (text()?, text()?, text()?, text()?, text()?);
    let (digest, rest) = rest.split_at_checked(32)?;
    let (from, until) = rest.split_at_checked(8)?;
    Some(Claims {
        id: id.try_into().ok()?,
        audience,
        environment,
        command,
        subject,
        call,
        digest: digest.try_into().ok()?,
        from: u64::from_be_bytes(from.try_into().ok()?),
        until: u64::from_be_bytes(until.try_into().ok()?),
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn unpem(label: &str, text: &str) -> Option<Vec<u8>> {
    let text = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let text = text.strip_suffix(&format!("-----END {label}-----"))?;
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PURPOSE: Purpose<'static> = Purpose {
        audience: "exec",
        environment: "dev",
        command: "restart",
        subject: "ann",
        call: "0190-call",
        digest: [7; 32],
    };

    fn pair() -> (Key, PublicKey) {
        let (secret, public) = Key::generate().unwrap();
        (Key::from_pem(&secret).unwrap(), PublicKey::from_pem(&public).unwrap())
    }

    #[test]
    fn a_token_says_what_was_signed_and_holds_as_long_as_it_says() {
        let (key, public) = pair();
        let token = key.mint(&PURPOSE, 1_000, 60).unwrap();
        let claims = token.verify(&[public], "exec", "dev", 1_059).unwrap();
        assert_eq!(
            (claims.command.as_str(), claims.digest, claims.subject.as_str()),
            ("restart", [7; 32], "ann")
        );
        assert_eq!(Token::from_text(&token.to_text()), Some(token.clone()));
        assert_eq!(
            token.verify(&[public], "exec", "dev", 998),
            Ok(claims.clone()),
            "a clock may be 2 s behind"
        );
        for now in [0, 997, 1_060, 1_061, u64::MAX] {
            assert_eq!(token.verify(&[public], "exec", "dev", now), Err(TokenError::Expired), "{now}");
        }
        assert_eq!(token.verify(&[public], "other", "dev", 1_000), Err(TokenError::Audience));
        assert_eq!(token.verify(&[public], "exec", "prd", 1_000), Err(TokenError::Environment));
        // However long somebody wants it, it holds for two minutes.
        let long = key.mint(&PURPOSE, 1_000, u64::MAX).unwrap();
        assert_eq!(long.verify(&[public], "exec", "dev", 1_120), Err(TokenError::Expired));
        assert!(long.verify(&[public], "exec", "dev", 1_119).is_ok());
        assert!(!format!("{token:?} {key:?}").contains(&token.to_text()[5..20]));
    }

    #[test]
    fn a_token_that_says_to_hold_longer_is_not_taken() {
        let (key, public) = pair();
        let mut said = key.mint(&PURPOSE, 1_000, 60).unwrap().0;
        said.truncate(said.len() - SIGNATURE - 8);
        said.extend_from_slice(&2_000_u64.to_be_bytes());
        let signature = key.0.sign(&[DOMAIN, &said].concat());
        let token = Token([&said, signature.as_ref()].concat());
        assert_eq!(token.verify(&[public], "exec", "dev", 1_000), Err(TokenError::Expired));
    }

    #[test]
    fn a_signature_for_something_else_does_not_count() {
        let (key, public) = pair();
        let token = key.mint(&PURPOSE, 1_000, 60).unwrap();
        let said = &token.0[..token.0.len() - SIGNATURE];
        for domain in [&b""[..], &DOMAIN[..DOMAIN.len() - 1], b"sentinel-gateway capability v2\0"] {
            let signature = key.0.sign(&[domain, said].concat());
            let other = Token([said, signature.as_ref()].concat());
            assert_eq!(other.verify(&[public], "exec", "dev", 1_000), Err(TokenError::Invalid));
        }
        assert_eq!(token.verify(&[pair().1], "exec", "dev", 1_000), Err(TokenError::Invalid));
        assert_eq!(token.verify(&[], "exec", "dev", 1_000), Err(TokenError::Invalid));
    }

    #[test]
    fn keys_of_openssl_are_read() {
        // openssl genpkey -algorithm ed25519; it writes no public key into the file.
        let secret = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let (key, public) = (Key::from_pem(secret).unwrap(), PublicKey::from_pem(public).unwrap());
        assert_eq!(key.public(), public.0, "the pair of RFC 8410, section 10");
        for text in ["", "no key", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", &secret[..40]] {
            assert!(Key::from_pem(text).is_err() && PublicKey::from_pem(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bit_of_a_token_can_be_changed(bit in 0_usize..8 * 200, cut in 0_usize..200) {
            let (key, public) = pair();
            let token = key.mint(&PURPOSE, 1_000, 60).unwrap();
            let mut bytes = token.0.clone();
            let at = bit % (8 * bytes.len());
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(Token(bytes).verify(&[public], "exec", "dev", 1_000), Err(TokenError::Invalid));
            let bytes = token.0[..cut.min(token.0.len() - 1)].to_vec();
            prop_assert_eq!(Token(bytes).verify(&[public], "exec", "dev", 1_000), Err(TokenError::Invalid));
        }
    }
}
