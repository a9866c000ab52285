//! Why a token is not believed, and what its holder is told to do about it.

use sentinel_plugin_sdk::{Field, Refusal};
use thiserror::Error;

/// Why a token was not believed. The text is for the person who holds it and never repeats it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// A bearer without a token.
    #[error("The bearer token is empty.")]
    MissingToken,
    /// Not a token by the book; the word says what is wrong.
    #[error("The token is malformed: {0}.")]
    Malformed(String),
    /// No configured key fits the token's algorithm and key id.
    #[error("No key of this gateway fits the token's algorithm and key id.")]
    UnknownKey,
    /// Not signed, or not by a key of ours.
    #[error("The token's signature was not made with a key of this gateway.")]
    BadSignature,
    /// From an issuer this gateway does not trust.
    #[error("The token comes from another issuer; this gateway accepts only tokens issued by {0}.")]
    WrongIssuer(String),
    /// For another service.
    #[error("The token is meant for another service; its {0}.")]
    WrongAudience(String),
    /// Past its time, by this many seconds.
    #[error("The token expired {0} s ago.")]
    Expired(u64),
    /// Before its time, by this many seconds.
    #[error(
        "The token is not valid yet. Try again in {0} s, or check the clock of the machine that minted it."
    )]
    NotYetValid(u64),
    /// A claim that every token needs.
    #[error("The token has no `{0}`.")]
    MissingClaim(&'static str),
    /// A good token that gives its holder no role; the words say where was looked for one.
    #[error("The token gives its holder no role of this gateway: {0}.")]
    NoRole(String),
    /// A good token whose holder was not granted these scopes (RFC 6750, section 3.1).
    #[error("The token does not have the scope this gateway asks for. Get one with the scope `{0}`.")]
    InsufficientScope(String),
}

/// Where tokens come from, which decides what a caller without a good one should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The gateway's operator mints them with a shared secret.
    Minted,
    /// An identity provider issues them.
    Issued,
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
            Self::NoRole(_) => "no_role",
            Self::InsufficientScope(_) => "insufficient_scope",
        }
    }

    /// What the caller should do next; `None` where the fault says it.
    fn advice(&self, origin: Origin) -> Option<&'static str> {
        let minted = origin == Origin::Minted;
        Some(match self {
            Self::MissingToken if minted => {
                "Mint one with `sentinel-gateway token mint` and send it as `Authorization: Bearer TOKEN`."
            }
            Self::MissingToken => {
                "Get one from the identity provider and send it as `Authorization: Bearer TOKEN`."
            }
            Self::Malformed(_) if minted => {
                "Check that it was copied whole, or mint a new one with `sentinel-gateway token mint`."
            }
            Self::Malformed(_) => {
                "Check that it was copied whole and is a signed JWT: some identity providers give out opaque tokens unless an audience is asked for."
            }
            Self::UnknownKey if minted => {
                "Ask the operator to configure the issuer's key, or mint a token with `sentinel-gateway token mint`."
            }
            Self::UnknownKey => "Ask the operator to configure the issuer's key.",
            Self::BadSignature if minted => "Mint a new one with `sentinel-gateway token mint`.",
            Self::BadSignature => "Get a new one from the identity provider.",
            Self::WrongIssuer(_) => "Get one from there.",
            Self::WrongAudience(_) if minted => "Mint one for this gateway.",
            Self::WrongAudience(_) => "Ask the identity provider for one that is meant for this gateway.",
            Self::Expired(_) if minted => "Mint a new one with `sentinel-gateway token mint`.",
            Self::Expired(_) => "Get a new one from the identity provider.",
            Self::MissingClaim(_) if minted => {
                "Mint a new one with `sentinel-gateway token mint --sub NAME --role ROLE`."
            }
            Self::MissingClaim(_) => "Ask the identity provider's administrator to put it into tokens.",
            Self::NoRole(_) if minted => {
                "Mint a new one with `sentinel-gateway token mint --sub NAME --role ROLE`, or ask the operator to set auth.role_claims, auth.role_map or auth.default_role."
            }
            Self::NoRole(_) => {
                "Ask the identity provider's administrator for a role, or the gateway's operator to say where roles stand (role_claims) or whom to give which (role_map, default_role)."
            }
            Self::NotYetValid(_) | Self::InsufficientScope(_) => return None,
        })
    }

    /// As the holder of the token is told.
    pub(super) fn refusal(self, origin: Origin) -> Refusal {
        let message = match self.advice(origin) {
            Some(advice) => format!("{self} {advice}"),
            None => self.to_string(),
        };
        let mut refusal = Refusal::new(self.reason(), message);
        match self {
            Self::NotYetValid(seconds) => refusal.retry_after_ms = Some(seconds.saturating_mul(1000)),
            Self::InsufficientScope(value) => {
                refusal.details.push(Field { name: "scope".to_owned(), value });
            }
            _ => {}
        }
        refusal
    }
}
