//! Judging in another process: the question, the answer, and the work between them. How that process is made and ended
//! is none of this module's business.

use serde::{Deserialize, Serialize};

use super::judge::Judge;
use super::{ArgumentError, lower, weaken};

/// Compiled schemas that are kept for the next question.
const KEPT: usize = 4;

/// A schema and arguments in one piece.
#[must_use]
pub fn question(schema: &str, arguments: &str) -> Vec<u8> {
    let mut question = Vec::with_capacity(8 + schema.len() + arguments.len());
    question.extend_from_slice(&(schema.len() as u64).to_le_bytes());
    question.extend_from_slice(schema.as_bytes());
    question.extend_from_slice(arguments.as_bytes());
    question
}

#[derive(Deserialize, Serialize)]
enum Answer {
    Fits,
    Mismatch { pointer: String, message: String },
    Schema(String),
}

/// Reads an answer. The process that gave it may have been taken over by the schema, so its form is checked.
///
/// # Errors
/// What is wrong with the arguments, the schema or the answer.
pub fn read(answer: &[u8]) -> Result<(), ArgumentError> {
    match serde_json::from_slice(answer) {
        Ok(Answer::Fits) => Ok(()),
        Ok(Answer::Mismatch { pointer, message }) => Err(ArgumentError::Mismatch { pointer, message }),
        Ok(Answer::Schema(reason)) => Err(ArgumentError::Schema(reason)),
        Err(_) => Err(ArgumentError::Schema("the process that judges by it gave no answer".to_owned())),
    }
}

/// The other process's side.
#[derive(Debug, Default)]
pub struct Helper {
    kept: Vec<(String, Result<Option<Judge>, String>)>,
}

impl Helper {
    /// Answers a question.
    ///
    /// # Errors
    /// It is no question.
    pub fn work(&mut self, question: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = || "this is no question".to_owned();
        let (length, rest) = question.split_first_chunk().ok_or_else(wrong)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| wrong())?;
        let (schema, arguments) = rest.split_at_checked(length).ok_or_else(wrong)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| wrong());
        let (schema, arguments) = (text(schema)?, text(arguments)?);
        let answer = match self
            .judge(schema)
            .as_ref()
            .map(|judge| judge.as_ref().map_or(Ok(()), |judge| judge.judge(arguments, None)))
        {
            Ok(Ok(())) => Answer::Fits,
            Ok(Err(ArgumentError::Mismatch { pointer, message })) => Answer::Mismatch { pointer, message },
            Ok(Err(error)) => Answer::Schema(error.to_string()),
            Err(reason) => Answer::Schema(reason.clone()),
        };
        serde_json::to_vec(&answer).map_err(|error| error.to_string())
    }

    /// The judge for a schema; `None` if the schema cannot be compiled, and then all arguments fit.
    fn judge(&mut self, schema: &str) -> &Result<Option<Judge>, String> {
        let at = self.kept.iter().position(|(text, _)| text == schema).unwrap_or_else(|| {
            if self.kept.len() >= KEPT {
                drop(self.kept.remove(0));
            }
            let judge = lower::lower(schema).map(|mut lowered| {
                weaken::weaken(&mut lowered.nodes);
                Judge::new(lowered).ok()
            });
            self.kept.push((schema.to_owned(), judge));
            self.kept.len() - 1
        });
        &self.kept[at].1
    }
}
