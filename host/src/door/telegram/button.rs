//! What a button carries: the decision, the approval, the beginning of its digest, and a proof that the gateway made it. Telegram
//! takes 64 bytes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::approval::Vote;
use crate::config::Secret;

/// So much of the digest is in it, in hexadecimal digits.
const DIGITS: usize = 12;
/// So much of the proof, in bytes.
const PROOF: usize = 9;
/// An id without `appr_`, in hexadecimal digits.
const ID: usize = 32;

/// A button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Button {
    pub(super) vote: Vote,
    pub(super) approval: String,
    /// The first digits of the digest of what the message shows.
    pub(super) digest: String,
}

impl Button {
    pub(super) fn new(vote: Vote, approval: &str, digest: &str) -> Option<Self> {
        let digest = digest.strip_prefix("sha256:").unwrap_or(digest).get(..DIGITS)?;
        Some(Self { vote, approval: approval.to_owned(), digest: digest.to_owned() })
    }

    /// As Telegram carries it: 58 bytes.
    pub(super) fn data(&self, token: &Secret) -> String {
        let vote = match self.vote {
            Vote::Approve => 'a',
            Vote::Reject => 'r',
        };
        let said = format!("{vote}{}{}", self.approval.trim_start_matches("appr_"), self.digest);
        let proof = proof(&said, token);
        format!("{said}.{proof}")
    }

    /// A button that the gateway made.
    pub(super) fn read(data: &str, token: &Secret) -> Option<Self> {
        let (said, given) = data.split_once('.')?;
        let given = URL_SAFE_NO_PAD.decode(given).ok()?;
        let made = URL_SAFE_NO_PAD.decode(proof(said, token)).ok()?;
        if given.len() != made.len()
            || given.iter().zip(&made).fold(0, |differs, (a, b)| differs | (a ^ b)) != 0
        {
            return None;
        }
        let vote = match said.get(..1)? {
            "a" => Vote::Approve,
            "r" => Vote::Reject,
            _ => return None,
        };
        let (id, digest) = (said.get(1..=ID)?, said.get(ID + 1..)?);
        Self::new(vote, &format!("appr_{id}"), digest)
    }
}

/// What only who knows the bot's token can make.
fn proof(said: &str, token: &Secret) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.expose().as_bytes());
    let tag = hmac::sign(&key, format!("sentinel-gateway approval button {said}").as_bytes());
    URL_SAFE_NO_PAD.encode(&tag.as_ref()[..PROOF])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_button_comes_back_as_it_was_and_no_other_counts() {
        let token = Secret::new("123456789:AAaaaaaaaaaaaaaaaaaaaaaaaaaa");
        let id = "appr_0123456789abcdef0123456789abcdef";
        let digest = format!("sha256:{}", "5f".repeat(32));
        let button = Button::new(Vote::Reject, id, &digest).unwrap();
        let data = button.data(&token);
        assert!(data.len() <= 64, "{}", data.len());
        assert_eq!(Button::read(&data, &token).unwrap(), button);
        assert_eq!(button.digest, "5f5f5f5f5f5f");
        assert_eq!(Button::read(&data, &Secret::new("other:token-of-a-bot")), None);
        for index in 0..data.len() {
            let mut other = data.clone().into_bytes();
            other[index] = if other[index] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(Button::read(&other, &token), None, "{other}");
        }
        for none in ["", ".", "a.", "a", "aa.b", &data[1..]] {
            assert_eq!(Button::read(none, &token), None, "{none}");
        }
    }
}
