//! Seals data that a client must bring back unchanged: encrypted, authenticated, and bound to the caller and the
//! request.
//!
//! Rule: MCP 2026-07-28, "Multi Round-Trip Requests": `requestState` is in the hands of the client.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// What every state of ours begins with, so that a backend's own is told apart.
pub(super) const PREFIX: &str = "sgw1.";

/// A key of this process; nothing that it sealed can be opened after the process has ended.
#[derive(Debug)]
pub(super) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

/// The system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

impl Sealer {
    pub(super) fn new() -> Result<Self, NoRandom> {
        let random = SystemRandom::new();
        let mut bytes = [0; 32];
        random.fill(&mut bytes).map_err(|_| NoRandom)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| NoRandom)?;
        Ok(Self { key: LessSafeKey::new(key), random })
    }

    /// Seals a text; it opens only with the same `bound`.
    pub(super) fn seal(&self, text: &str, bound: &[u8]) -> Result<String, NoRandom> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| NoRandom)?;
        let mut sealed = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed)
            .map_err(|_| NoRandom)?;
        let mut whole = nonce.to_vec();
        whole.extend_from_slice(&sealed);
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(whole)))
    }

    /// The text, if it is ours, unchanged, and was sealed for `bound`.
    pub(super) fn open(&self, sealed: &str, bound: &[u8]) -> Option<String> {
        let whole = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(PREFIX)?).ok()?;
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>()?;
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self.key.open_in_place(nonce, Aad::from(bound), &mut text).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// An id that cannot be guessed: 128 bits, in characters any header can carry.
    pub(super) fn id(&self) -> Result<String, NoRandom> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| NoRandom)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn it_opens_for_whom_it_was_sealed_and_only_unchanged() {
        let sealer = Sealer::new().unwrap();
        let sealed = sealer.seal("state", b"ada tools/call").unwrap();
        assert_eq!(sealer.open(&sealed, b"ada tools/call").as_deref(), Some("state"));
        assert_eq!(sealer.open(&sealed, b"eve tools/call"), None);
        assert_eq!(Sealer::new().unwrap().open(&sealed, b"ada tools/call"), None);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last character holds bits that base64 ignores or refuses; either way the text is the same or none.
            let opened = sealer.open(&forged, b"ada tools/call");
            assert!(opened.is_none() || forged == sealed, "{at}");
        }
    }
}
