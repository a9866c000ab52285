//! Tries the lines that an operator gave with a command.

use super::raw::RawLine;
use super::{Command, line};

impl Command {
    /// The examples that do not come out as they should, each with its place among those of its kind.
    #[must_use]
    pub(crate) fn failing_examples(&self) -> Vec<(&'static str, usize, String)> {
        let mut failing = Vec::new();
        for (index, words) in self.allow.iter().enumerate() {
            if let Err(refused) = self.recognise(words) {
                let slot =
                    if refused.slot.is_empty() { String::new() } else { format!("{}: ", refused.slot) };
                failing.push(("allow", index, format!("it is refused: {slot}{}", refused.message)));
            }
        }
        for (index, words) in self.refuse.iter().enumerate() {
            if self.recognise(words).is_ok() {
                failing.push(("refuse", index, "it is accepted".to_owned()));
            }
        }
        failing
    }
}

/// The tokens of a line as it was typed. One that cannot be split is a line that is refused in any case.
pub(super) fn tokens(typed: &RawLine) -> Result<Vec<String>, String> {
    match typed {
        RawLine::Tokens(tokens) => Ok(tokens.clone()),
        RawLine::Words(text) if text.is_empty() => Ok(Vec::new()),
        RawLine::Words(text) => line::split(text).map_err(|refused| refused.message),
    }
}
