//! A webhook that hears what happens to approvals: where it is, and the key that its messages are signed with ("Standard
//! Webhooks", HMAC-SHA256).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::Secret;

/// How a key as text begins.
const PREFIX: &str = "whsec_";
/// The shortest and the longest key, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A receiver of notifications.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// What the log calls it.
    pub name: String,
    pub url: Secret,
    /// The key as text, which must not be shown.
    pub secret: Secret,
    pub key: WebhookKey,
}

impl PartialEq for Webhook {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.url, &self.secret) == (&other.name, &other.url, &other.secret)
    }
}

impl Eq for Webhook {}

/// What messages are signed with; the receiver has the same.
#[derive(Clone)]
pub struct WebhookKey(hmac::Key);

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey(…)")
    }
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no key of a webhook: {PREFIX} and the base64 of 24 to 64 bytes")]
pub struct WebhookKeyError;

impl WebhookKey {
    /// Reads a key.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, WebhookKeyError> {
        let bytes = STANDARD
            .decode(text.trim().strip_prefix(PREFIX).ok_or(WebhookKeyError)?)
            .map_err(|_| WebhookKeyError)?;
        if !LENGTHS.contains(&bytes.len()) {
            return Err(WebhookKeyError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The header `webhook-signature` of a message.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let key = WebhookKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "whsec_",
            "whsec_AAAA",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_!!!",
            "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert_eq!(WebhookKey::parse(text).unwrap_err(), WebhookKeyError, "{text}");
        }
    }
}
