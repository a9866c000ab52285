//! What a person should know about an import, each thing once with the places it concerns.

use std::fmt;

use crate::text::line;

/// Most different sentences; a document that has more to say is not worth reading on.
const MOST: usize = 1_000;
/// Most places that are named for one thing.
const NAMED: usize = 3;

/// Sentences in the order in which they came up, each with its places.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    said: Vec<(String, Vec<String>)>,
}

impl Notes {
    /// Notes a sentence for a place; an empty place stands for the whole document.
    pub(super) fn add(&mut self, place: &str, what: impl Into<String>) {
        let what = what.into();
        let at = match self.said.iter().position(|(said, _)| *said == what) {
            Some(at) => at,
            None if self.said.len() >= MOST => return,
            None => {
                self.said.push((what, Vec::new()));
                self.said.len() - 1
            }
        };
        let places = &mut self.said[at].1;
        if !place.is_empty() && places.last().is_none_or(|last| last != place) {
            places.push(place.to_owned());
        }
    }

    /// The number of different sentences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Takes over what other notes say.
    pub fn extend(&mut self, other: Self) {
        for (what, places) in other.said {
            if places.is_empty() {
                self.add("", what);
            } else {
                places.iter().for_each(|place| self.add(place, what.as_str()));
            }
        }
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, places) in &self.said {
            write!(f, "{}", line(what))?;
            if !places.is_empty() {
                let named: Vec<_> = places.iter().take(NAMED).map(|place| line(place)).collect();
                write!(f, " ({}", named.join(", "))?;
                if places.len() > NAMED {
                    write!(f, " and {} more", places.len() - NAMED)?;
                }
                f.write_str(")")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
