//! The names of files that callers give: below a folder, and spelled in one way only.

use crate::text::is_harmful;

/// The longest path, in bytes, and the longest of its steps (POSIX `NAME_MAX`).
const LONGEST: usize = 1_024;
const STEP: usize = 255;

/// Why a path is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclean {
    #[error("it is empty")]
    Empty,
    #[error("it is too long")]
    Long,
    #[error("it holds a character that cannot be seen")]
    Unseen,
    #[error("it is not below the folder of this slot")]
    Outside,
    #[error("it has a step that is empty, `.` or `..`")]
    Step,
}

/// The path below `beneath` that a text names: relative to it, or absolute and beginning with it. Nothing is looked up, so
/// the answer depends on no file; links are refused when the file is opened.
///
/// # Errors
/// It could be read in two ways, or leads elsewhere.
pub fn clean<'text>(beneath: &str, text: &'text str) -> Result<&'text str, Unclean> {
    if text.len() > LONGEST {
        return Err(Unclean::Long);
    }
    if text.chars().any(is_harmful) {
        return Err(Unclean::Unseen);
    }
    let below = if text.starts_with('/') {
        let rest = text.strip_prefix(beneath.trim_end_matches('/')).ok_or(Unclean::Outside)?;
        rest.strip_prefix('/').ok_or(Unclean::Outside)?
    } else {
        text
    };
    if below.is_empty() {
        return Err(Unclean::Empty);
    }
    for step in below.split('/') {
        if matches!(step, "" | "." | "..") {
            return Err(Unclean::Step);
        }
        if step.len() > STEP {
            return Err(Unclean::Long);
        }
    }
    Ok(below)
}
