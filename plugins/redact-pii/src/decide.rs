//! What becomes of each find: by the backend it comes from, and by its kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sentinel_plugin_sdk::Refusal;
use sentinel_plugin_sdk::names;
use sha2::{Digest as _, Sha256};

use super::find::{self, Kind};
use super::json;

/// Hex digits of a hash: enough to tell a few million people apart.
const HASH_DIGITS: usize = 12;

/// What is done with a find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It is left as it is.
    Keep,
    /// Its kind stands in its place: `[email]`.
    Mask,
    /// Its kind and a keyed hash stand in its place, so that equal ones are seen to be equal: `[email 3f9a…]`.
    Hash,
    /// Nothing of the message reaches the caller.
    Refuse,
}

/// The deeds for the servers whose name fits a pattern.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) backend: String,
    pub(crate) deeds: BTreeMap<Kind, Deed>,
    /// Addresses that may be seen: `support@example.com`, `@example.com`.
    pub(crate) except: Vec<String>,
}

/// All rules, and the key of hashes.
#[derive(Clone, Debug)]
pub(crate) struct Redactor {
    pub(crate) rules: Vec<Rules>,
    pub(crate) key: String,
}

impl Redactor {
    /// The rules for a backend: the first whose pattern its name fits.
    pub(crate) fn of(&self, backend: &str) -> Option<&Rules> {
        let rules = self.rules.iter().find(|rules| names::fits(&rules.backend, backend))?;
        rules.deeds.values().any(|deed| *deed != Deed::Keep).then_some(rules)
    }

    /// A JSON text from a backend without personal data; none if there is none in it.
    ///
    /// # Errors
    /// It holds something that refuses the whole.
    pub(crate) fn json(&self, backend: &str, text: &str) -> Result<Option<String>, Refusal> {
        match self.of(backend) {
            Some(rules) => json::changed(text, &mut |text| self.text(rules, text)),
            None => Ok(None),
        }
    }

    fn text(&self, rules: &Rules, text: &str) -> Result<Option<String>, Refusal> {
        let (mut out, mut copied) = (String::new(), 0);
        for find in find::all(text) {
            let found = &text[find.start..find.end];
            let deed = rules.deeds.get(&find.kind).copied().unwrap_or(Deed::Keep);
            let kept = find.kind == Kind::Email && rules.except.iter().any(|except| is_of(found, except));
            if deed == Deed::Keep || kept {
                continue;
            }
            if deed == Deed::Refuse {
                let kind = find.kind.as_str();
                let message = format!(
                    "What the server said holds personal data ({kind}), which this gateway does not pass on."
                );
                return Err(Refusal::new("personal_data", message));
            }
            out.push_str(&text[copied..find.start]);
            // Writing to a string cannot fail.
            let _ = match deed {
                Deed::Hash => write!(out, "[{} {}]", find.kind.as_str(), self.hash(found)),
                Deed::Keep | Deed::Mask | Deed::Refuse => write!(out, "[{}]", find.kind.as_str()),
            };
            copied = find.end;
        }
        if copied == 0 {
            return Ok(None);
        }
        out.push_str(&text[copied..]);
        Ok(Some(out))
    }

    /// The same for one spelling of a value as for another: case and separators do not count.
    fn hash(&self, found: &str) -> String {
        let plain: String = found
            .chars()
            .filter(|c| !" -()./".contains(*c) || found.contains('@'))
            .flat_map(char::to_lowercase)
            .collect();
        let mut digest = Sha256::new();
        digest.update((self.key.len() as u64).to_le_bytes());
        digest.update(self.key.as_bytes());
        digest.update(plain.as_bytes());
        let mut hex = String::new();
        for byte in digest.finalize().iter().take(HASH_DIGITS / 2) {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

/// Whether an address is one that may be seen, or of a domain whose addresses may.
fn is_of(found: &str, except: &str) -> bool {
    let (found, except) = (found.to_lowercase(), except.to_lowercase());
    if except.starts_with('@') { found.ends_with(&except) } else { found == except }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn redactor(deeds: &[(Kind, Deed)], except: &[&str]) -> Redactor {
        let rules = Rules {
            backend: "crm*".to_owned(),
            deeds: deeds.iter().copied().collect(),
            except: except.iter().map(|it| (*it).to_owned()).collect(),
        };
        Redactor { rules: vec![rules], key: "pepper".to_owned() }
    }

    fn done(redactor: &Redactor, text: &str) -> String {
        redactor.json("crm-1", text).unwrap().unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn each_kind_has_a_deed_of_its_own() {
        let redactor = redactor(&[(Kind::Email, Deed::Mask), (Kind::Card, Deed::Hash)], &["@example.com"]);
        let text = r#"{"to":"ann@b.org and bob@example.com","n":4111111111111111,"p":"+4930901820"}"#;
        let done = done(&redactor, text);
        assert!(done.starts_with(r#"{"to":"[email] and bob@example.com","n":"[card "#), "{done}");
        assert!(done.ends_with(r#","p":"+4930901820"}"#), "{done}");
    }

    #[test]
    fn equal_values_have_equal_hashes_and_other_keys_other_ones() {
        let mut one = redactor(&[(Kind::Card, Deed::Hash)], &[]);
        let spaced = done(&one, r#"["4111 1111 1111 1111"]"#);
        assert_eq!(spaced, done(&one, r#"["4111111111111111"]"#));
        one.key = "salt".to_owned();
        assert_ne!(spaced, done(&one, r#"["4111111111111111"]"#));
    }

    #[test]
    fn a_spelling_with_escapes_hides_nothing() {
        let redactor = redactor(&[(Kind::Email, Deed::Mask)], &[]);
        assert_eq!(done(&redactor, r#"{"ann\u0040b.org":"ann\u0040b.org"}"#), r#"{"[email]":"[email]"}"#);
    }

    #[test]
    fn what_is_refused_reaches_nobody_and_another_server_is_not_meant() {
        let redactor = redactor(&[(Kind::Email, Deed::Refuse)], &[]);
        assert_eq!(redactor.json("crm-1", r#"["ann@b.org"]"#).unwrap_err().reason, "personal_data");
        assert_eq!(redactor.json("wiki", r#"["ann@b.org"]"#), Ok(None));
    }
}
