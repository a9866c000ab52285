//! Splits a command line that a client sends as one text, without the rules of any shell.

use super::{Refused, TOKEN, TOKENS};

/// The longest line, in bytes.
const LONGEST: usize = 16_384;

/// What a shell would read as something else than itself. No shell reads the line; but whoever wrote it may have meant
/// what one would make of it, and whoever approves it may read it that way.
const ACTIVE: &str = "\\\"'`$&|;<>(){}[]*?~#!%^";

/// The words of a line, which are separated by single spaces.
///
/// # Errors
/// It has a character that could mean something else than itself, or words that cannot be told apart.
pub(super) fn split(line: &str) -> Result<Vec<String>, Refused> {
    if line.len() > LONGEST {
        return Err(Refused::whole(format!("the line may have {LONGEST} bytes at most")));
    }
    if let Some(odd) = line.chars().find(|c| !matches!(c, ' '..='~') || ACTIVE.contains(*c)) {
        let message = format!(
            "the line holds {:?}: no shell reads it, so it may hold plain characters only, and no quotes",
            odd.escape_default().to_string()
        );
        return Err(Refused::whole(message));
    }
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if words.iter().any(String::is_empty) {
        return Err(Refused::whole("words are separated by one space, with none at the ends"));
    }
    if words.len() > TOKENS || words.iter().any(|word| word.len() > TOKEN) {
        return Err(Refused::whole("the line has too many words, or one that is too long"));
    }
    Ok(words)
}
