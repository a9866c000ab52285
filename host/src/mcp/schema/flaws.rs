//! The flaws of a schema, in words for the log.

use std::fmt;

/// How many flaws of one schema are told; the others are counted.
const TOLD: usize = 4;
/// Longest place or reason that is told, in characters.
const LONGEST: usize = 160;

/// The flaws of one schema.
#[derive(Clone, Debug, Default)]
pub struct Flaws {
    told: Vec<String>,
    more: usize,
    /// Why others would not even compile the schema.
    refused: Option<String>,
}

impl Flaws {
    pub(super) fn note(&mut self, place: &str, what: &str) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        self.told.push(format!("{:?}: {}", cut(place), cut(what)));
    }

    /// Notes something for which validators of clients refuse the whole schema, whether it is a flaw here or not.
    pub(super) fn refuse(&mut self, place: &str, what: &str) {
        if self.refused.is_none() {
            self.refused = Some(format!("{:?}: {}", cut(place), cut(what)));
        }
    }

    /// Why others would refuse the schema.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    pub(super) fn is_full(&self) -> bool {
        self.told.len() >= TOLD
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join("; "))?;
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}
