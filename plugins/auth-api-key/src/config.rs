//! Reads the configuration, and reports all mistakes at once. The value in the place of a key, its digest or a
//! secret's name is never repeated: it may be a key that was put in the wrong place.

use std::collections::HashMap;

use sentinel_plugin_sdk::ConfigError;
use sentinel_plugin_sdk::fields::Fields;
use serde_json::Value;

use crate::decide::{Key, KeyDigest, Keyring, MAX_KEY_BYTES};
use crate::rfc3339::unix_seconds;

/// The shortest key in bytes that is taken from a secret. 20 random bytes, even as digits, cannot be guessed.
const MIN_KEY_BYTES: usize = 20;
/// The most keys; all of them are compared in every call, within one call's fuel.
const MAX_KEYS: usize = 256;
/// The longest id, role or subject in bytes.
const MAX_NAME_BYTES: usize = 256;
/// The longest header name in bytes.
const MAX_HEADER_BYTES: usize = 64;
/// The longest prefix in bytes.
const MAX_PREFIX_BYTES: usize = 32;
/// The doors there are, as `request.door` names them.
const DOORS: [&str; 2] = ["stdio", "http"];
/// The last second of the year 9999, after which RFC 3339 has no dates.
const LAST_SECOND: u64 = 253_402_300_799;
/// How every JWT begins: `{"` in base64url.
const JWT_START: &str = "eyJ";

/// Reads `{"keys": [{"id": "ci", "role": "deployer", "sha256": "..."}], "header": "x-api-key", "prefix": "sk-"}`.
/// `secret` reads a secret by its name.
///
/// # Errors
/// Every mistake; none of them repeats a key, a digest or a secret.
pub fn read(config: Value, secret: impl Fn(&str) -> Option<String>) -> Result<Keyring, Vec<ConfigError>> {
    let mut reader = Reader { secret, ids: HashMap::new(), digests: HashMap::new(), errors: Vec::new() };
    let keyring = reader.keyring(config);
    match keyring {
        Some(keyring) if reader.errors.is_empty() => Ok(keyring),
        _ => Err(reader.errors),
    }
}

/// What has been read so far.
struct Reader<S> {
    secret: S,
    /// Where each id was first used.
    ids: HashMap<String, String>,
    /// Where each digest was first used.
    digests: HashMap<[u8; 32], String>,
    errors: Vec<ConfigError>,
}

impl<S: Fn(&str) -> Option<String>> Reader<S> {
    fn keyring(&mut self, config: Value) -> Option<Keyring> {
        let mut fields = Fields::of(config, String::new(), &mut self.errors)?;
        let keys = self.keys(&mut fields);
        let header = self.header(&mut fields);
        let prefix = self.prefix(&mut fields);
        fields.finish(&mut self.errors);
        Some(Keyring::new(&header, prefix, keys))
    }

    fn keys(&mut self, fields: &mut Fields) -> Vec<Key> {
        let mistakes = self.errors.len();
        let list: Vec<Value> = fields.take("keys", "a list of keys", &mut self.errors).unwrap_or_default();
        let at = fields.at("keys");
        if list.is_empty() && self.errors.len() == mistakes {
            self.note(
                at.clone(),
                "no key: no caller could ever be accepted",
                r#"[{"id":"ci","role":"deployer","sha256":"64 hex digits"}]"#,
            );
        }
        if list.len() > MAX_KEYS {
            // Each of them could have its own mistake, so no more are looked at.
            let message = format!("{} keys are too many", list.len());
            self.note(at, message, format!("at most {MAX_KEYS}"));
            return Vec::new();
        }
        let read = list.into_iter().enumerate();
        read.filter_map(|(index, value)| self.key(value, &format!("{at}/{index}"))).collect()
    }

    fn key(&mut self, value: Value, path: &str) -> Option<Key> {
        let mut fields = Fields::of(value, path.to_owned(), &mut self.errors)?;
        let id = self.required(&mut fields, "id", "a name that no other key has, such as ci");
        if let Some(id) = &id
            && let Some(first) = self.ids.get(id)
        {
            let message = format!("is the id of {first} already");
            self.note(fields.at("id"), message, "give every key its own id");
        } else if let Some(id) = &id {
            self.ids.insert(id.clone(), path.to_owned());
        }
        let role = self.required(&mut fields, "role", "the name of a role of rbac, such as admin");
        let subject = self.name(&mut fields, "subject");
        let digest = self.digest(&mut fields, path);
        let expires_s = self.expires(&mut fields);
        let doors = self.doors(&mut fields);
        fields.finish(&mut self.errors);
        let id = id?;
        let subject = subject.unwrap_or_else(|| id.clone());
        Some(Key { subject, id, role: role?, digest: digest?, expires_s, doors })
    }

    /// A short text without control characters, fit for a log line; none if it is missing or noted as a mistake.
    fn name(&mut self, fields: &mut Fields, key: &'static str) -> Option<String> {
        let text: String = fields.take(key, "a text", &mut self.errors)?;
        let message = if text.trim().is_empty() {
            "must not be empty"
        } else if text.len() > MAX_NAME_BYTES {
            "is longer than 256 bytes"
        } else if text.chars().any(char::is_control) {
            "must not hold control characters"
        } else {
            return Some(text);
        };
        self.errors.push(ConfigError::new(fields.at(key), message));
        None
    }

    fn required(&mut self, fields: &mut Fields, key: &'static str, hint: &str) -> Option<String> {
        let mistakes = self.errors.len();
        let name = self.name(fields, key);
        if name.is_none() && self.errors.len() == mistakes {
            self.note(fields.at(key), "is missing", hint);
        }
        name
    }

    /// The digest of the key; `None` if it is missing or wrong, which is noted as a mistake.
    fn digest(&mut self, fields: &mut Fields, path: &str) -> Option<KeyDigest> {
        let (typed, name) = (fields.raw("sha256"), fields.raw("secret"));
        let (key, read) = match (typed, name) {
            (Some(typed), None) => ("sha256", from_hex(&typed)),
            (None, Some(name)) => ("secret", self.of_secret(&name)),
            (None, None) => {
                self.note(path, "says nothing to know the key by", "add sha256, or secret");
                return None;
            }
            (Some(_), Some(_)) => {
                self.note(path, "has both sha256 and secret", "keep one of them");
                return None;
            }
        };
        let digest = match read {
            Ok(digest) => digest,
            Err((message, hint)) => {
                self.note(fields.at(key), message, hint);
                return None;
            }
        };
        if let Some(first) = self.digests.get(digest.bytes()) {
            let message = format!("is the same key as {first}");
            self.note(fields.at(key), message, "give every caller their own key");
        } else {
            self.digests.insert(*digest.bytes(), path.to_owned());
        }
        Some(digest)
    }

    fn of_secret(&self, name: &Value) -> Result<KeyDigest, Mistake> {
        let Some(name) = name.as_str() else {
            return Err(("must be the name of a secret, as a text", r#""secret": "CI_API_KEY""#));
        };
        let Some(key) = (self.secret)(name) else {
            let hint = "it takes the secret's name, not the key; set it, and grant it to auth-api-key";
            return Err(("names a secret that is not set, or not granted", hint));
        };
        if key.len() < MIN_KEY_BYTES {
            return Err(("names a secret of less than 20 bytes, which could be guessed", MAKE_ONE));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(("names a secret of more than 512 bytes", MAKE_ONE));
        }
        // Mostly the newline at the end of a file; a header could not carry it.
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let hint = "remove spaces and line ends; a key is visible ASCII";
            return Err(("names a secret that no header can carry", hint));
        }
        Ok(KeyDigest::of(key.as_bytes()))
    }

    fn expires(&mut self, fields: &mut Fields) -> Option<u64> {
        let value = fields.raw("expires")?;
        let seconds = match &value {
            Value::String(text) => unix_seconds(text),
            Value::Number(number) => number.as_u64().filter(|seconds| *seconds <= LAST_SECOND),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        if seconds.is_none() {
            self.note(
                fields.at("expires"),
                "must be a time with its offset, a date, or whole seconds since 1970",
                "2027-01-01T00:00:00Z, or 2027-01-01",
            );
        }
        seconds
    }

    fn doors(&mut self, fields: &mut Fields) -> Option<Vec<String>> {
        let doors: Vec<String> = fields.take("doors", "a list of doors", &mut self.errors)?;
        let at = fields.at("doors");
        let known = DOORS.join(", ");
        if doors.is_empty() {
            let hint = format!("leave it out for every door; the doors are: {known}");
            self.note(at.clone(), "no door: the key could never be used", hint);
        }
        for (index, door) in doors.iter().enumerate() {
            if !DOORS.contains(&door.as_str()) {
                self.note(
                    format!("{at}/{index}"),
                    "there is no such door",
                    format!("the doors are: {known}"),
                );
            }
        }
        Some(doors)
    }

    fn header(&mut self, fields: &mut Fields) -> String {
        let header: Option<String> = fields.take("header", "the name of a header", &mut self.errors);
        let Some(header) = header else { return "x-api-key".to_owned() };
        let header = header.to_ascii_lowercase();
        let at = fields.at("header");
        if header.is_empty() || header.len() > MAX_HEADER_BYTES || !header.bytes().all(is_token) {
            self.note(at, "is not the name of a header", "x-api-key");
        } else if ["authorization", "proxy-authorization", "cookie"].contains(&header.as_str()) {
            let hint = "x-api-key; a bearer token that begins with the prefix is read as well";
            self.note(at, "holds more than a key", hint);
        }
        header
    }

    fn prefix(&mut self, fields: &mut Fields) -> String {
        let prefix: Option<String> = fields.take("prefix", "a text", &mut self.errors);
        let Some(prefix) = prefix else { return "sk-".to_owned() };
        let message = if prefix.is_empty() {
            "must not be empty: every bearer token would be taken for a key"
        } else if prefix.len() > MAX_PREFIX_BYTES {
            "is longer than 32 bytes"
        } else if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            "must be visible ASCII, as a token is"
        } else if JWT_START.starts_with(&prefix) || prefix.starts_with(JWT_START) {
            "would take signed tokens (JWT) for keys"
        } else {
            return prefix;
        };
        self.note(fields.at("prefix"), message, "sk-");
        prefix
    }

    fn note(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(ConfigError::new(path, message).hint(hint));
    }
}

/// What is wrong, and what to do instead.
type Mistake = (&'static str, &'static str);

const MAKE_ONE: &str = r#"printf 'sk-%s' "$(openssl rand -hex 24)""#;

fn from_hex(value: &Value) -> Result<KeyDigest, Mistake> {
    let hint = r#"printf %s "$KEY" | sha256sum"#;
    let wrong = ("must be the key's SHA-256 digest as 64 hex digits", hint);
    let text = value.as_str().filter(|text| text.len() == 64).ok_or(wrong)?;
    let mut bytes = [0_u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0).zip(digit(1)).map(|(high, low)| high << 4 | low).ok_or(wrong)?;
    }
    let digest = KeyDigest::from_bytes(bytes);
    // The output of `sha256sum` when the variable was not set.
    if digest.bytes() == KeyDigest::of(b"").bytes() {
        return Err(("is the digest of nothing", hint));
    }
    Ok(digest)
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
