//! The header `Idempotency-Key` of a request (draft-ietf-httpapi-idempotency-key-header).

use axum::http::StatusCode;

use super::Exchange;
use super::body::Taken;
use super::refusal::Refusal;
use crate::config::rest::Idempotency;
use crate::mcp::Params;
use crate::pipeline::{Body, Repeat};
use crate::route::problem::Problem;
use crate::route::{Entry, Misfit, Place};

const HEADER: &str = "idempotency-key";
/// The longest key, in bytes.
const MAX_KEY: usize = 255;

impl Exchange<'_> {
    /// The key of a request for a route that wants one, with the fingerprint of what it says.
    pub(super) fn repeat(
        &self,
        entry: &Entry,
        params: &Params,
        taken: &Taken,
    ) -> Result<Option<Repeat>, Box<Refusal>> {
        if entry.route.idempotency == Idempotency::Off {
            return Ok(None);
        }
        let mut values = self.parts.headers.get_all(HEADER).iter();
        let value = match (values.next(), values.next()) {
            (None, _) if entry.route.idempotency == Idempotency::Optional => return Ok(None),
            (None, _) => {
                let text = "this route is done once for each Idempotency-Key: send one, such as a new UUID in quotes";
                let problem =
                    Problem::new(StatusCode::PRECONDITION_REQUIRED, "idempotency_key_required", text);
                return Err(Refusal::new(problem));
            }
            (Some(value), None) => value.to_str().ok().and_then(key),
            (Some(_), Some(_)) => None,
        };
        let Some(key) = value else {
            let detail = format!("send it once, as a text in quotes of 1 to {MAX_KEY} printable characters");
            let misfit = Misfit { place: Place::Header(HEADER.to_owned()), detail };
            return Err(Refusal::misfits(vec![misfit]));
        };
        let Some(once) = self.front.once.clone() else {
            let text = "the gateway has no folder for keys";
            return Err(Refusal::new(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "idempotency_unavailable",
                text,
            )));
        };
        let mut hash = blake3::Hasher::new();
        let kind = taken.content_type(&self.parts.headers);
        let body = match &taken.body {
            Some(Body::Whole(bytes)) => &bytes[..],
            Some(Body::Streamed(_)) | None => &[],
        };
        let kind = kind.as_ref().map_or(&[][..], |kind| kind.as_bytes());
        for part in [entry.id.as_bytes(), params.get().as_bytes(), kind, body] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(Some(Repeat { once, key, fingerprint: *hash.finalize().as_bytes() }))
    }
}

/// The key in a header: a text in quotes (RFC 9651, section 3.3.3), or a bare word, as many clients send it.
fn key(text: &str) -> Option<String> {
    let text = text.trim();
    let key = match text.strip_prefix('"') {
        None if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:~+/=".contains(&byte)) => {
            text.to_owned()
        }
        None => return None,
        Some(rest) => {
            let (mut key, mut rest) = (String::new(), rest.chars());
            loop {
                match rest.next()? {
                    '"' if rest.as_str().is_empty() => break key,
                    '"' => return None,
                    '\\' => match rest.next()? {
                        escaped @ ('"' | '\\') => key.push(escaped),
                        _ => return None,
                    },
                    letter @ ' '..='~' => key.push(letter),
                    _ => return None,
                }
            }
        }
    };
    (1..=MAX_KEY).contains(&key.len()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_key_is_a_text_in_quotes_or_a_word() {
        for (text, expected) in [
            ("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", Some("8e03978e-40d5-43e8-bc93-6894a57f9324")),
            ("8e03978e", Some("8e03978e")),
            ("\"a \\\"b\\\\\"", Some("a \"b\\")),
            ("", None),
            ("\"\"", None),
            ("\"a", None),
            ("\"a\";x=1", None),
            ("a b", None),
            ("\"a\\b\"", None),
            ("\"\u{e4}\"", None),
        ] {
            assert_eq!(key(text).as_deref(), expected, "{text}");
        }
        assert_eq!(key(&"a".repeat(256)), None);
    }
}
