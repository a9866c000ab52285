//! Takes secrets out of everything that is shown or kept: the record, the log, what servers and plugins say, answers in
//! the gateway's own words. There is one redactor for a gateway, so what one place hides no other prints.
//!
//! Three rules. A value known from the configuration goes, wherever it stands and however it is spelled (`values`). The
//! value under a key that names a secret goes (`keys`). What has the shape of a secret in a text goes (`shapes`). JSON is
//! rewritten without building a tree (`json`). All of it takes a time that grows with the length of the text and no faster.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;

mod json;
mod keys;
mod shapes;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use json::is_json;
pub use keys::names_a_secret;

use self::keys::{Keys, Verdict};
use self::shapes::Shapes;
use self::values::Values;
use crate::text;

/// The text in place of a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// How far a text is searched.
#[derive(Clone, Copy, Debug)]
struct Depth {
    /// Levels of JSON inside a JSON string that are looked into.
    nesting: u8,
    /// Only values that are known.
    known_only: bool,
}

impl Depth {
    const FULL: Self = Self { nesting: 4, known_only: false };
    const KNOWN: Self = Self { nesting: 4, known_only: true };

    /// Nothing in strings is looked into.
    const fn flat(self) -> Self {
        Self { nesting: 0, ..self }
    }

    /// One level further in.
    const fn deeper(self) -> Self {
        Self { nesting: self.nesting.saturating_sub(1), ..self }
    }
}

/// So much of a long text is looked at for each byte of it that is shown, and at least [`MIN_WINDOW`].
const WINDOW: usize = 4;
const MIN_WINDOW: usize = 4 << 10;
/// A token is not longer than this, in bytes.
const MAX_TOKEN: usize = 2 << 10;

/// The values and rules that a redactor is made from.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Values that must not be shown; those under 4 bytes are not searched for.
    pub values: Vec<String>,
    /// Names whose values are secret, besides the built-in ones.
    pub redact_keys: Vec<String>,
    /// Names whose values are not, against the built-in ones.
    pub keep_keys: Vec<String>,
}

impl fmt::Debug for Secrets {
    /// Without the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Secrets");
        debug
            .field("redact_keys", &self.redact_keys)
            .field("keep_keys", &self.keep_keys)
            .finish_non_exhaustive()
    }
}

/// The one redactor of a gateway. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Redaction(Arc<Shared>);

struct Shared {
    /// What it was made of.
    first: Secrets,
    current: ArcSwap<Redactor>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("first", &self.first).finish_non_exhaustive()
    }
}

impl Redaction {
    /// Prepares all searches, once.
    #[must_use]
    pub fn new(secrets: &Secrets) -> Self {
        let current = ArcSwap::from_pointee(Redactor::new(secrets));
        Self(Arc::new(Shared { first: secrets.clone(), current }))
    }

    /// Hides these as well, for everybody who holds a handle. What it was made of stays hidden, because that is in use for as
    /// long as the gateway runs; what was added before and is not among these is not.
    pub fn also(&self, more: &Secrets) {
        let Secrets { mut values, mut redact_keys, keep_keys } = self.0.first.clone();
        values.extend_from_slice(&more.values);
        redact_keys.extend_from_slice(&more.redact_keys);
        self.0.current.store(Arc::new(Redactor::new(&Secrets { values, redact_keys, keep_keys })));
    }

    /// Hides these from now on, and nothing else, for everybody who holds a handle.
    pub fn replace(&self, secrets: &Secrets) {
        self.0.current.store(Arc::new(Redactor::new(secrets)));
    }

    /// The rules as they are now, for code that applies them many times at once.
    #[must_use]
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Redactor>> {
        self.0.current.load()
    }

    /// See [`Redactor::text`].
    #[must_use]
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.current().text(text)
    }

    /// See [`Redactor::without_known`].
    #[must_use]
    pub(crate) fn without_known(&self, raw: &str) -> Option<String> {
        self.current().without_known(raw)
    }

    /// See [`Redactor::unsure`].
    #[must_use]
    pub(crate) fn unsure(&self, cut: &str) -> String {
        self.current().unsure(cut)
    }

    /// See [`Redactor::excerpt`].
    #[must_use]
    pub(crate) fn excerpt(&self, said: &str, limit: usize) -> String {
        self.current().excerpt(said, limit)
    }

    /// See [`Redactor::words`].
    #[must_use]
    pub fn words(&self, said: &str) -> Words {
        self.current().words(said)
    }
}

impl Default for Redaction {
    /// Knows no values.
    fn default() -> Self {
        static EMPTY: LazyLock<Redaction> = LazyLock::new(|| Redaction::new(&Secrets::default()));
        EMPTY.clone()
    }
}

/// The compiled rules.
pub(crate) struct Redactor {
    values: Values,
    keys: Keys,
    shapes: Shapes,
}

impl fmt::Debug for Redactor {
    /// Never shows what it hides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("values", &self.values).finish_non_exhaustive()
    }
}

impl Redactor {
    fn new(secrets: &Secrets) -> Self {
        Self {
            values: Values::new(&secrets.values),
            keys: Keys::new(&secrets.redact_keys, &secrets.keep_keys),
            shapes: Shapes::new(&secrets.redact_keys),
        }
    }

    /// A text without its secrets.
    #[must_use]
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.within(text, Depth::FULL)
    }

    /// Writes valid JSON without its secrets and without white space.
    pub(crate) fn json(&self, raw: &str, out: &mut Vec<u8>) {
        out.reserve(raw.len());
        self.rewrite(raw, Depth::FULL, out);
    }

    /// JSON in which only the known values are replaced, for a message that is passed on as it is otherwise; none if
    /// there are none in it.
    #[must_use]
    pub(crate) fn without_known(&self, raw: &str) -> Option<String> {
        let mut out = Vec::with_capacity(raw.len());
        let redacted = self.rewrite(raw, Depth::KNOWN, &mut out);
        // What comes out is put together of pieces of the text, which end where characters do.
        redacted.then(|| String::from_utf8_lossy(&out).into_owned())
    }

    /// Whether values under this key are secret.
    #[must_use]
    pub(crate) fn is_secret_key(&self, key: &str) -> bool {
        self.keys.judge(key) != Verdict::Plain
    }

    /// The beginning of a text without its secrets: enough of it to show `limit` bytes; and whether that is all of it.
    ///
    /// Where a text is cut the beginning of a secret may be left, which nobody recognises. So nothing is kept of the last
    /// word, and of as many bytes as the longest secret has.
    #[must_use]
    pub(crate) fn head<'t>(&self, text: &'t str, limit: usize) -> (Cow<'t, str>, bool) {
        let longest = self.values.longest();
        let window = limit.saturating_mul(WINDOW).max(MIN_WINDOW).saturating_add(longest);
        if text.len() <= window {
            return (self.text(text), true);
        }
        (Cow::Owned(self.unsure(&text[..text.floor_char_boundary(window)])), false)
    }

    /// A text that was cut at its end, without its secrets and without what may be the beginning of one.
    #[must_use]
    pub(crate) fn unsure(&self, cut: &str) -> String {
        let mut clean = self.text(cut).into_owned();
        let sure = clean.floor_char_boundary(clean.len().saturating_sub(self.values.longest()));
        let word = clean[..sure].rfind(char::is_whitespace).unwrap_or(0);
        // The beginning of an unknown token has no white space in it. A text without any is cut nevertheless
        // where no token is so long.
        let end = if sure - word > MAX_TOKEN { sure } else { word };
        clean.truncate(end);
        clean
    }

    /// Foreign text on one line: without secrets and harmful characters, and at most `limit` bytes of it.
    #[must_use]
    pub(crate) fn excerpt(&self, said: &str, limit: usize) -> String {
        let (clean, whole) = self.head(said, limit);
        text::beginning(clean.as_bytes(), limit, if whole { clean.len() } else { said.len() })
    }

    /// The same as a value that can be kept and shown anywhere.
    #[must_use]
    pub(crate) fn words(&self, said: &str) -> Words {
        Words(self.excerpt(said, text::SHORT).into())
    }

    /// A text as it stands in a JSON string, or is one itself.
    fn within<'t>(&self, text: &'t str, depth: Depth) -> Cow<'t, str> {
        if depth.nesting > 0 && text.trim_start().starts_with(['{', '[', '"']) && json::is_json(text) {
            let mut inner = Vec::with_capacity(text.len());
            if self.rewrite(text, depth.deeper(), &mut inner) {
                let clean = String::from_utf8_lossy(&inner).into_owned();
                // A secret may itself be JSON.
                return Cow::Owned(self.values.scrub(&clean).into_owned());
            }
            return self.values.scrub(text);
        }
        let clean = self.values.scrub(text);
        if depth.known_only {
            return clean;
        }
        match clean {
            Cow::Borrowed(text) => self.shapes.scrub(text, &self.keys),
            Cow::Owned(clean) => match self.shapes.scrub(&clean, &self.keys) {
                Cow::Borrowed(_) => Cow::Owned(clean),
                Cow::Owned(cleaner) => Cow::Owned(cleaner),
            },
        }
    }
}

/// Words of a server or a plugin, or about one, that may be shown to operators: without secrets, on one line and short.
/// Only a redactor makes them, and the gateway itself out of words that stand in its code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(Arc<str>);

impl Words {
    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&'static str> for Words {
    fn from(own: &'static str) -> Self {
        Self(own.into())
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes a JSON string.
pub(crate) fn quote(text: &str, out: &mut Vec<u8>) {
    // Writing a string into memory cannot fail.
    let _infallible = serde_json::to_writer(out, text);
}
