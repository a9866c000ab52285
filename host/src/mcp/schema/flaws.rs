//! What is wrong with a schema, in words for the log.

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
}

impl Flaws {
    pub(super) fn note(&mut self, place: &str, what: &str) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let cut = |text: &str| match text.char_indices().nth(LONGEST) {
            None => text.to_owned(),
            Some((end, _)) => format!("{}…", &text[..end]),
        };
        self.told.push(format!("{:?}: {}", cut(place), cut(what)));
    }

    pub(super) fn is_full(&self) -> bool {
        self.told.len() >= TOLD
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
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
