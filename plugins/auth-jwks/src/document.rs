//! Reads the key set of a server with suspicion (RFC 7517): keys that cannot be used are left out.

use sentinel_jwt::config::MAX_KEYS;
use sentinel_jwt::decide::{Jwk, Key};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The longest document in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// Why a document is no key set; the last good one stays in use.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DocumentError {
    /// Longer than anybody's keys.
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// Not what RFC 7517 describes.
    #[error("it is not a JSON Web Key Set ({{\"keys\": [...]}}): {0}")]
    Shape(String),
    /// More keys than could be tried in one call.
    #[error("it holds {0} keys; at most {MAX_KEYS} are taken")]
    TooMany(usize),
    /// No key of a known kind; nobody could come in with it.
    #[error("it holds no key for RS256, ES256 or EdDSA{0}")]
    Nothing(String),
}

/// The keys of a document, and why others of it are not used.
#[derive(Debug)]
pub struct Document {
    /// At least one.
    pub keys: Vec<Key>,
    /// One line for each that is left out although it is meant for signatures.
    pub left_out: Vec<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// Reads a document.
///
/// # Errors
/// Nothing of it can be used.
pub fn read(bytes: &[u8]) -> Result<Document, DocumentError> {
    if bytes.len() > MAX_BYTES {
        return Err(DocumentError::TooLong);
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|error| DocumentError::Shape(error.to_string()))?;
    if set.keys.len() > MAX_KEYS {
        return Err(DocumentError::TooMany(set.keys.len()));
    }
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for (index, value) in set.keys.into_iter().enumerate() {
        let path = format!("keys/{index}");
        // A secret or a private half in public is known to everybody: `check` refuses such a key.
        let checked = serde_json::from_value::<Jwk>(value).map_err(|error| format!("{path}: {error}"));
        match checked.map(|jwk| jwk.check(&path)) {
            Ok(Ok(Some(key))) => keys.push(key),
            // For encryption, not for signatures.
            Ok(Ok(None)) => {}
            Ok(Err(error)) => left_out.push(format!("{}: {}", error.path, error.message)),
            Err(why) => left_out.push(why),
        }
    }
    if keys.is_empty() {
        let why = if left_out.is_empty() { String::new() } else { format!(" ({})", left_out.join("; ")) };
        return Err(DocumentError::Nothing(why));
    }
    Ok(Document { keys, left_out })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "tests; json!(…) in place")]
mod tests {
    use serde_json::json;

    use super::*;

    /// The public key of RFC 8037, appendix A.2.
    const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ed25519(more: Value) -> Value {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X, "kid": "a"});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    fn set(keys: Value) -> Result<Document, DocumentError> {
        read(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn keys_for_signatures_are_taken() {
        let document = set(json!([
            ed25519(json!({"use": "sig", "alg": "EdDSA", "key_ops": ["verify"]})),
            ed25519(json!({"kid": "b"}))
        ]));
        let document = document.unwrap();
        assert_eq!((document.keys.len(), document.left_out.len()), (2, 0));
        assert!(document.keys[0].answers_to(Some("a")) && !document.keys[0].answers_to(Some("b")));
    }

    #[test]
    fn keys_for_other_purposes_are_passed_over_in_silence() {
        let document = set(json!([
            ed25519(json!({"use": "enc"})),
            ed25519(json!({"key_ops": ["sign"]})),
            ed25519(json!({}))
        ]));
        let document = document.unwrap();
        assert_eq!((document.keys.len(), document.left_out.len()), (1, 0));
    }

    #[test]
    fn a_key_that_everybody_knows_or_that_lies_is_left_out_by_name() {
        for (bad, word) in [
            (json!({"kty": "oct", "k": "c2VjcmV0"}), "shared secret"),
            (ed25519(json!({"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"})), "private"),
            (ed25519(json!({"alg": "none"})), "alg"),
            (ed25519(json!({"alg": "HS256"})), "alg"),
            (json!({"kty": "EC", "crv": "P-521", "x": "", "y": ""}), "P-256"),
            (ed25519(json!({"kid": 7})), "keys/0"),
            (json!("a string"), "keys/0"),
        ] {
            let document = set(json!([bad, ed25519(json!({}))])).unwrap();
            assert_eq!(document.keys.len(), 1, "{bad}");
            assert!(
                document.left_out.len() == 1 && document.left_out[0].contains(word),
                "{:?}",
                document.left_out
            );
            assert!(matches!(set(json!([bad])), Err(DocumentError::Nothing(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused_whole() {
        for bad in ["", "<html>", "[]", "{}", r#"{"keys": 1}"#, r#"{"keys": {}}"#] {
            assert!(matches!(read(bad.as_bytes()), Err(DocumentError::Shape(_))), "{bad}");
        }
        assert!(matches!(set(json!([])), Err(DocumentError::Nothing(_))));
        let many: Vec<Value> = (0..=MAX_KEYS).map(|_| ed25519(json!({}))).collect();
        assert_eq!(set(json!(many)).unwrap_err(), DocumentError::TooMany(MAX_KEYS + 1));
        assert_eq!(read(&vec![b' '; MAX_BYTES + 1]).unwrap_err(), DocumentError::TooLong);
    }
}
