//! The params of a message, read once, where it comes in: a [`Params`] is the proof that every reader reads them alike.

use std::ops::Range;

use serde_json::value::RawValue;

use super::duplicate_keys::{self, Ambiguous};
use super::{members, method};
use crate::call::Json;

/// Params that have one meaning. Nothing else is taken into the pipeline or passed on to a server.
#[derive(Clone, Debug)]
pub struct Params {
    json: Json,
    /// Where these two stand, which every step of a call asks for.
    arguments: Option<Range<usize>>,
    meta: Option<Range<usize>>,
}

impl Params {
    /// Reads the params of a message of this method.
    ///
    /// # Errors
    /// A member that two readers could read differently.
    pub fn read(method: &str, json: Json) -> Result<Self, Ambiguous> {
        let mut found = [("arguments", None), ("_meta", None)];
        duplicate_keys::check_noting(json.get(), method::params(method), &mut found)?;
        let [(_, arguments), (_, meta)] = found;
        Ok(Self { json, arguments, meta })
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.json.get()
    }

    /// `arguments`, as they are spelled.
    #[must_use]
    pub fn arguments(&self) -> Option<&str> {
        self.get().get(self.arguments.clone()?)
    }

    /// `_meta`, as it is spelled.
    #[must_use]
    pub fn meta(&self) -> Option<&str> {
        self.get().get(self.meta.clone()?)
    }

    #[must_use]
    pub fn json(&self) -> &Json {
        &self.json
    }
}

/// Whether the params of a message of this method have one meaning, for code that does not keep them.
///
/// # Errors
/// A member that two readers could read differently.
pub fn check(method: &str, params: &str) -> Result<(), Ambiguous> {
    duplicate_keys::check(params, method::params(method))
}

/// The same for the answer of a client to a question of this method, its result or its error.
///
/// # Errors
/// A member that two readers could read differently.
pub(super) fn check_answer(method: &str, answer: Result<&RawValue, &RawValue>) -> Result<(), Ambiguous> {
    match answer {
        Ok(result) => duplicate_keys::check(result.get(), method::answer(method)),
        Err(error) => duplicate_keys::check(error.get(), &members::ERROR),
    }
}

/// The same for an item of a list of a server.
///
/// # Errors
/// A member that two readers could read differently.
pub fn check_item(list: super::catalog::List, item: &str) -> Result<(), Ambiguous> {
    duplicate_keys::check(item, method::item(list))
}

/// The same for a task, as a list of tasks has it.
///
/// # Errors
/// A member that two readers could read differently.
pub fn check_task(task: &str) -> Result<(), Ambiguous> {
    duplicate_keys::check(task, &members::TASK)
}

#[cfg(test)]
mod tests;
