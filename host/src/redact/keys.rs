//! Which names stand before a secret: the keys of JSON objects, the fields of a query string, the variables and headers
//! in a text. One list for the whole gateway.
//!
//! A name is cut into words where its letters change case and at everything that is no letter: `sessionCookie2` is
//! `session`, `cookie`. A secret word anywhere in it counts, unless the words beside it say that something else is meant:
//! `max_tokens` is a number, `password_policy` is no password.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

/// Words that mean a secret wherever they stand in a name, and in longer words that end so: `accesstoken`.
const ENDINGS: [&str; 41] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "authorization",
    "cookie",
    "credential",
    "signature",
    "apikey",
    "privatekey",
    "accesskey",
    "secretkey",
    "signingkey",
    "encryptionkey",
    "decryptionkey",
    "accountkey",
    "sharedkey",
    "masterkey",
    "sshkey",
    "pgpkey",
    "gpgkey",
    "rsakey",
    "hmackey",
    "sessionkey",
    "servicekey",
    "storagekey",
    "subscriptionkey",
    "applicationkey",
    "appkey",
    "consumerkey",
    "clientkey",
    "authkey",
    "deploykey",
    "webhookkey",
    "connectionstring",
    "connstring",
    "seedphrase",
    "recoverycode",
];

/// Words that mean a secret only when they stand alone, because ordinary words end like them.
const WHOLE: [&str; 13] = [
    "bearer",
    "cred",
    "sig",
    "jwt",
    "otp",
    "totp",
    "cvv",
    "cvc",
    "mnemonic",
    "backupcode",
    "recoveryphrase",
    "secretaccesskey",
    "connstr",
];

/// Words that mean a secret only as the last word: `smtp_pass`, `basic_auth`; `auth_mode` is no secret.
const LAST: [&str; 2] = ["pass", "auth"];

/// Words that begin so are about the secret itself, however they end: `passwordhash`.
const BEGINNINGS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "privatekey",
    "accesskey",
    "clientsecret",
    "credential",
    "authorization",
];

/// Ordinary words that look like those above.
const ORDINARY: [&str; 5] = ["passwordless", "secretary", "secretaries", "secretarial", "secretariat"];

/// After a secret word: it is about the secret and does not hold it.
const ABOUT: [&str; 62] = [
    "count",
    "counts",
    "limit",
    "limits",
    "budget",
    "type",
    "types",
    "url",
    "uri",
    "endpoint",
    "ttl",
    "expiry",
    "expires",
    "expire",
    "expiration",
    "expired",
    "policy",
    "policies",
    "length",
    "len",
    "usage",
    "used",
    "size",
    "min",
    "max",
    "required",
    "enabled",
    "disabled",
    "format",
    "alg",
    "algorithm",
    "algorithms",
    "method",
    "methods",
    "env",
    "file",
    "filename",
    "path",
    "dir",
    "name",
    "names",
    "field",
    "arn",
    "provider",
    "store",
    "strategy",
    "mode",
    "scope",
    "scopes",
    "issuer",
    "per",
    "index",
    "version",
    "status",
    "valid",
    "verified",
    "kind",
    "domain",
    "consent",
    "rotation",
    "age",
    "ids",
];

/// Before `token` or `tokens`: places in a list, and symbols of a text.
const PLACES: [&str; 16] = [
    "page",
    "continuation",
    "progress",
    "cursor",
    "next",
    "sync",
    "eos",
    "bos",
    "pad",
    "unk",
    "sep",
    "mask",
    "special",
    "stop",
    "start",
    "position",
];

/// Before `tokens`: how many there are or may be.
const COUNTS: [&str; 26] = [
    "max",
    "maximum",
    "min",
    "num",
    "n",
    "total",
    "prompt",
    "completion",
    "input",
    "output",
    "cached",
    "cache",
    "read",
    "creation",
    "reasoning",
    "thinking",
    "new",
    "budget",
    "used",
    "remaining",
    "avg",
    "average",
    "estimated",
    "per",
    "of",
    "number",
];

/// Before `signature`: what programmers and correspondents call so.
const SIGNATURES: [&str; 5] = ["function", "method", "type", "call", "email"];

/// Every name with a secret word in it holds one of these, in any case.
const GATE: [&str; 17] = [
    "pass", "pwd", "secret", "token", "bearer", "key", "auth", "cookie", "cred", "sig", "jwt", "otp",
    "string", "phrase", "code", "cv", "mnemonic",
];
/// The same for what is only an abbreviation.
const MORE: [&str; 1] = ["connstr"];

/// The most words a secret word can be written in: `secret_access_key`.
const MAX_RUN: usize = 3;
/// A longer name is judged by its beginning and its end, in bytes.
const LONGEST: usize = 256;

/// What a name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is known about it.
    Plain,
    /// It is a secret.
    Secret,
    /// It is a secret unless it is a number: `tokens`.
    SecretOrCount,
}

/// The built-in names, with those an operator added and took out.
pub(super) struct Keys {
    gate: AhoCorasick,
    /// The operator's names: letters and digits only, in lower case.
    redact: Vec<String>,
    keep: Vec<String>,
}

/// The words that a search in a text begins with.
pub(super) fn anchors(redact: &[String]) -> Vec<String> {
    let built_in = GATE.iter().chain(&MORE).map(|&word| word.to_owned());
    // A name without letters is searched for as it is.
    let last_words = redact.iter().map(|key| words(key).pop().unwrap_or(key).to_lowercase());
    built_in.chain(last_words.filter(|word| !word.is_empty())).collect()
}

impl Keys {
    pub(super) fn new(redact: &[String], keep: &[String]) -> Self {
        let plain = |list: &[String]| -> Vec<String> {
            list.iter().map(|key| letters(key)).filter(|key| !key.is_empty()).collect()
        };
        let gate = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostFirst)
            .build(anchors(redact));
        // It fails for more states than 32 bits can number; these are a few words.
        let gate = gate.unwrap_or_else(|error| panic!("too many keys to redact: {error}"));
        Self { gate, redact: plain(redact), keep: plain(keep) }
    }

    /// What a name says about its value. The operator's words count first; of two that contradict each other the one
    /// that hides.
    pub(super) fn judge(&self, key: &str) -> Verdict {
        if !self.gate.is_match(key) && key.is_ascii() {
            return Verdict::Plain;
        }
        let short;
        let key = if key.len() > LONGEST {
            let (head, tail) =
                (key.floor_char_boundary(LONGEST / 2), key.ceil_char_boundary(key.len() - LONGEST / 2));
            short = format!("{}_{}", &key[..head], &key[tail..]);
            &short
        } else {
            key
        };
        if !self.redact.is_empty() || !self.keep.is_empty() {
            let plain = letters(key);
            let ends_so = |word: &String| {
                plain.ends_with(word.as_str()) || plain.strip_suffix('s').is_some_and(|plain| plain == word)
            };
            if self.redact.iter().any(ends_so) {
                return Verdict::Secret;
            }
            if self.keep.contains(&plain) {
                return Verdict::Plain;
            }
        }
        built_in(&words(key).iter().map(|word| word.to_lowercase()).collect::<Vec<_>>())
    }
}

/// Whether a name usually stands before a secret, by the built-in words alone.
#[must_use]
pub fn names_a_secret(key: &str) -> bool {
    static BUILT_IN: LazyLock<Keys> = LazyLock::new(|| Keys::new(&[], &[]));
    BUILT_IN.judge(key) != Verdict::Plain
}

fn built_in(words: &[String]) -> Verdict {
    let mut verdict = Verdict::Plain;
    for start in 0..words.len() {
        for end in (start + 1..=words.len().min(start + MAX_RUN)).rev() {
            match judge_run(words, start, end) {
                Verdict::Plain => {}
                Verdict::Secret => return Verdict::Secret,
                Verdict::SecretOrCount => verdict = Verdict::SecretOrCount,
            }
        }
    }
    verdict
}

/// Judges `words[start..end]` written together, by what stands beside them.
fn judge_run(words: &[String], start: usize, end: usize) -> Verdict {
    let run = words[start..end].concat();
    if ORDINARY.contains(&run.as_str()) {
        return Verdict::Plain;
    }
    let (single, plural) = match run.strip_suffix('s') {
        Some(single) if !run.ends_with("ss") => (single, true),
        _ => (run.as_str(), false),
    };
    let last = end == words.len();
    // Of several words the first is part of it: `pass_word` is a password, `max_token` is only the token beside it.
    let rest: usize = words[start + 1..end].iter().map(String::len).sum();
    let rest = rest.saturating_sub(usize::from(plural));
    let ends_so = ENDINGS.iter().any(|word| single.ends_with(word) && word.len() > rest);
    // A word that is joined from several begins with the first of them: `x_secretary` is none.
    let begins_so = end == start + 1 && BEGINNINGS.iter().any(|word| run.starts_with(word));
    let whole = WHOLE.contains(&single) || (last && end == start + 1 && LAST.contains(&run.as_str()));
    if !ends_so && !begins_so && !whole {
        return Verdict::Plain;
    }
    if words.get(end).is_some_and(|next| ABOUT.contains(&next.as_str())) {
        return Verdict::Plain;
    }
    let before = start.checked_sub(1).and_then(|at| words.get(at)).map_or("", String::as_str);
    match single {
        "token" if PLACES.contains(&before) || (plural && COUNTS.contains(&before)) => Verdict::Plain,
        "signature" if SIGNATURES.contains(&before) => Verdict::Plain,
        _ if plural && single.ends_with("token") => Verdict::SecretOrCount,
        _ => Verdict::Secret,
    }
}

/// The words of a name, in their own case. Letters beyond ASCII belong to words.
fn words(key: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = None;
    let mut chars = key.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, char)) = chars.next() {
        let letter = char.is_alphabetic();
        let next_is_small = chars.peek().is_some_and(|(_, next)| next.is_lowercase());
        let turns =
            char.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && next_is_small));
        if let Some(from) = start.filter(|_| !letter || turns) {
            found.push(&key[from..at]);
            start = None;
        }
        if letter && start.is_none() {
            start = Some(at);
        }
        before = char;
    }
    found.extend(start.map(|from| &key[from..]));
    found
}

/// Letters and digits in lower case.
fn letters(key: &str) -> String {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_word_anywhere_counts() {
        for key in [
            "pwd",
            "PWD",
            "passwd",
            "Password",
            "PassWord",
            "PASSWORD1",
            "pass_word",
            "passphrase",
            "db_pass",
            "smtpPass",
            "secret",
            "client_secret",
            "clientSecret",
            "secretKeyBase",
            "token",
            "access_token",
            "accesstoken",
            "refreshToken",
            "id-token",
            "bearer",
            "bearerToken",
            "apikey",
            "api_key",
            "API_KEY",
            "x-api-key",
            "apiKeyId",
            "api_key_id",
            "private_key",
            "private_key_pem",
            "privateKeyPem",
            "authorization",
            "Authorization2",
            "proxy-authorization",
            "cookie",
            "set_cookie",
            "session_cookie_value",
            "cookies",
            "credential",
            "credentials",
            "aws_creds",
            "signature",
            "X-Amz-Signature",
            "sig",
            "connection_string",
            "connectionString",
            "access_key",
            "aws_secret_access_key",
            "AccountKey",
            "auth",
            "basicAuth",
            "jwt",
            "otp",
            "cvv",
            "password_hash",
            "passwordhash",
            "csrf_token",
            "_authToken",
            "npm_config_//registry/:_authToken",
            "PGPASSWORD",
            "MYSQL_PWD",
            "token_value",
            "password_reset_token",
            "secretValue",
            "signing-key",
            "ssh_key",
            "Ocp-Apim-Subscription-Key",
            "my password is",
            "userCredentials",
            "new_token",
            "next_password",
        ] {
            assert!(names_a_secret(key), "{key}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_left_alone() {
        for key in [
            "max_tokens",
            "maxTokens",
            "token_count",
            "total_tokens",
            "prompt_tokens",
            "cache_read_tokens",
            "tokens_per_minute",
            "nextPageToken",
            "page_token",
            "progressToken",
            "continuation_token",
            "cursor",
            "tokenizer",
            "tokenize",
            "secretary",
            "secretary_name",
            "password_policy",
            "password_min_length",
            "passwordless",
            "token_type",
            "token_url",
            "tokenEndpoint",
            "secret_name",
            "secretArn",
            "cookie_domain",
            "private_key_path",
            "api_key_env",
            "signature_algorithm",
            "function_signature",
            "auth_mode",
            "auth_type",
            "author",
            "authority",
            "compass",
            "bypass",
            "pass_count",
            "passenger",
            "key",
            "keys",
            "primary_key",
            "public_key",
            "keyboard",
            "monkey",
            "string",
            "substring",
            "code",
            "zip_code",
            "design",
            "signal",
            "assign",
            "sign",
            "path",
            "credit",
            "accredited",
            "cv",
            "oauth",
            "eos_token",
            "stop_tokens",
            "phrase",
            "",
            "_",
            "é",
        ] {
            assert!(!names_a_secret(key), "{key}");
        }
        assert_eq!(Keys::new(&[], &[]).judge("tokens"), Verdict::SecretOrCount);
    }

    #[test]
    fn the_operator_has_the_last_word_and_hiding_wins() {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let keys =
            Keys::new(&own(&["pin-code", "max_tokens", "Straße"]), &own(&["Token", "max_tokens", "pwd"]));
        for key in ["PIN_CODE", "pinCode", "user_pin_code", "pincodes", "max_tokens", "STRASSE_straße"] {
            assert_eq!(keys.judge(key), Verdict::Secret, "{key}");
        }
        for key in ["token", "TOKEN", "pwd", "code"] {
            assert_eq!(keys.judge(key), Verdict::Plain, "{key}");
        }
        assert_eq!(keys.judge("access_token"), Verdict::Secret);
    }

    #[test]
    fn a_name_of_any_length_is_judged() {
        let long = format!("password_{}", "x".repeat(100_000));
        assert!(names_a_secret(&long));
        assert!(names_a_secret(&format!("{}_password", "é".repeat(100_000))));
    }
}
