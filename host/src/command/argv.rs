//! The command line: made of tokens and what fills their slots, and recognised again.

use std::collections::HashSet;

use super::fill::{Filled, Given, Value};
use super::{Command, Kind, Refused, TOKENS, Token};

/// A token of a command line that is made: a text, or where a file's place is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// As it stands.
    Text(String),
    /// What stands before the name of a file, the file below the slot's folder, and what stands behind.
    File {
        /// The place of its slot in [`Command::slots`].
        slot: usize,
        /// Before the name.
        before: &'a str,
        /// The file, relative to the slot's folder.
        below: &'a str,
        /// Behind the name.
        after: &'a str,
    },
}

impl Command {
    /// The command line, without the program's own name.
    #[must_use]
    pub fn words<'a>(&'a self, filled: &'a Filled) -> Vec<Word<'a>> {
        let mut words = Vec::new();
        for token in &self.argv {
            match token {
                Token::Fixed(text) => words.push(Word::Text(text.clone())),
                Token::Slot { slot, before, after } => {
                    for value in filled.values.get(*slot).into_iter().flatten() {
                        words.push(match value {
                            Value::Text(text) => Word::Text(format!("{before}{text}{after}")),
                            Value::Int(number) => Word::Text(format!("{before}{number}{after}")),
                            Value::Path(below) => Word::File { slot: *slot, before, below, after },
                        });
                    }
                }
            }
        }
        words
    }

    /// The command line as people read it: files by their absolute paths.
    #[must_use]
    pub fn shown(&self, filled: &Filled) -> Vec<String> {
        let shown = |word: Word<'_>| match word {
            Word::Text(text) => text,
            Word::File { slot, before, below, after } => {
                format!("{before}{}{after}", self.file(slot, below))
            }
        };
        self.words(filled).into_iter().map(shown).collect()
    }

    /// The absolute path of a file that a slot names.
    fn file(&self, slot: usize, below: &str) -> String {
        match self.slots.get(slot).map(|slot| &slot.kind) {
            Some(Kind::Path { beneath, .. }) => {
                format!("{}/{below}", beneath.display().to_string().trim_end_matches('/'))
            }
            Some(Kind::Enum(_) | Kind::Int { .. } | Kind::Text { .. }) | None => below.to_owned(),
        }
    }

    /// What the words of a whole line give for the slots of this command.
    ///
    /// # Errors
    /// A word stands where the command has none like it, or a value does not fit its slot.
    pub(super) fn recognise(&self, words: &[String]) -> Result<Filled, Refused> {
        if words.len() > TOKENS {
            return Err(Refused::whole("the line has too many words"));
        }
        let mut search = Search { command: self, words, dead: HashSet::new(), refusal: None };
        let mut given = Vec::new();
        if !search.from(0, 0, &mut given) {
            let unlike = || Refused::whole("its words are not those of the command");
            return Err(search.refusal.unwrap_or_else(unlike));
        }
        let filled = self.fill(given, None)?;
        // The line that will run is the line that was read, or none.
        if self.shown(&filled) != words {
            return Err(Refused::whole("its words are not spelled as the command spells them"));
        }
        Ok(filled)
    }
}

/// Looks for the one way in which words are the tokens of a command; each pair of places is tried once.
struct Search<'a> {
    command: &'a Command,
    words: &'a [String],
    dead: HashSet<(usize, usize)>,
    refusal: Option<Refused>,
}

impl Search<'_> {
    fn from(&mut self, token: usize, word: usize, given: &mut Vec<(String, Given)>) -> bool {
        if self.dead.contains(&(token, word)) {
            return false;
        }
        let command = self.command;
        let fits = match command.argv.get(token) {
            None => word == self.words.len(),
            Some(Token::Fixed(text)) => {
                self.words.get(word) == Some(text) && self.from(token + 1, word + 1, given)
            }
            Some(Token::Slot { slot, before, after }) => {
                let slot = &command.slots[*slot];
                let value = self.words.get(word).and_then(|word| {
                    word.strip_prefix(before.as_str())?.strip_suffix(after.as_str()).map(str::to_owned)
                });
                let taken = value.is_some_and(|value| {
                    let value = match &slot.kind {
                        // Only the one spelling of a number is that number.
                        Kind::Int { .. } => match value.parse::<i64>() {
                            Ok(number) if number.to_string() == value => Given::Int(number),
                            _ => Given::Text(value),
                        },
                        Kind::Enum(_) | Kind::Path { .. } | Kind::Text { .. } => Given::Text(value),
                    };
                    match slot.judge(value.clone()) {
                        Ok(_) => {}
                        Err(refused) => {
                            self.refusal.get_or_insert(refused);
                            return false;
                        }
                    }
                    given.push((slot.name.clone(), value));
                    // A slot of several values may take the next word as well.
                    let again = slot.most > 1 && self.from(token, word + 1, given);
                    if again || self.from(token + 1, word + 1, given) {
                        return true;
                    }
                    given.pop();
                    false
                });
                let left_out = |search: &mut Self, given: &mut Vec<_>| {
                    let had = given.iter().any(|(name, _): &(String, Given)| *name == slot.name);
                    (!slot.required || had) && search.from(token + 1, word, given)
                };
                taken || left_out(self, given)
            }
        };
        if !fits {
            self.dead.insert((token, word));
        }
        fits
    }
}
