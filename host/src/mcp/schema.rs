//! Checks the arguments of a call against the tool's JSON Schema before a backend sees them.

use std::sync::OnceLock;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest schema that is compiled; a larger one is treated as unusable.
const MAX_SCHEMA_BYTES: usize = 1 << 20;
/// Most steps a pattern may backtrack, so that a schema cannot be used to burn time.
const BACKTRACK_LIMIT: usize = 10_000;

/// A tool's `inputSchema`, compiled at its first use.
#[derive(Debug)]
pub struct ArgumentSchema {
    text: Option<Box<RawValue>>,
    compiled: OnceLock<Result<Validator, String>>,
}

/// Why arguments are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The arguments are wrong. `pointer` is relative to `arguments`; empty means the whole.
    #[error("{message}")]
    Mismatch { pointer: String, message: String },
    /// The schema itself cannot be used, so nothing can be said: the call is refused.
    #[error("the tool's inputSchema cannot be used: {0}")]
    Schema(String),
}

impl ArgumentSchema {
    /// No schema accepts everything.
    #[must_use]
    pub fn new(text: Option<Box<RawValue>>) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// Checks a call's `arguments`; missing arguments count as `{}` (MCP "Calling Tools").
    ///
    /// # Errors
    /// The first mismatch with its place, or why the schema is unusable.
    pub fn check(&self, arguments: Option<&str>) -> Result<(), ArgumentError> {
        let Some(text) = &self.text else { return Ok(()) };
        let validator = match self.compiled.get_or_init(|| compile(text.get())) {
            Ok(validator) => validator,
            Err(error) => return Err(ArgumentError::Schema(error.clone())),
        };
        let arguments: Value = serde_json::from_str(arguments.unwrap_or("{}")).map_err(|error| {
            ArgumentError::Mismatch { pointer: String::new(), message: error.to_string() }
        })?;
        validator.validate(&arguments).map_err(|error| ArgumentError::Mismatch {
            pointer: error.instance_path().to_string(),
            message: bounded(&error.masked().to_string()),
        })
    }
}

fn compile(text: &str) -> Result<Validator, String> {
    if text.len() > MAX_SCHEMA_BYTES {
        return Err(format!("it is {} bytes long, the limit is {MAX_SCHEMA_BYTES}", text.len()));
    }
    let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    // 2020-12 unless `$schema` says otherwise (MCP 2025-11-25). Nothing is ever fetched: the crate is built
    // without its resolvers, so a remote `$ref` is an error here.
    jsonschema::options()
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT))
        .build(&schema)
        .map_err(|error| bounded(&error.to_string()))
}

fn bounded(message: &str) -> String {
    if message.chars().count() <= 300 {
        message.to_owned()
    } else {
        message.chars().take(300).chain(['…']).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn schema(text: &str) -> ArgumentSchema {
        ArgumentSchema::new(Some(RawValue::from_string(text.to_owned()).unwrap()))
    }

    #[test]
    fn names_the_pointer_that_is_wrong() {
        let schema = schema(
            r#"{"type":"object","properties":{"a":{"type":"object","properties":{"n":{"type":"integer"}}}},"required":["a"]}"#,
        );
        assert_eq!(schema.check(Some(r#"{"a":{"n":3}}"#)), Ok(()));
        let Err(ArgumentError::Mismatch { pointer, .. }) = schema.check(Some(r#"{"a":{"n":"x"}}"#)) else {
            panic!()
        };
        assert_eq!(pointer, "/a/n");
        assert!(matches!(schema.check(None), Err(ArgumentError::Mismatch { .. })));
    }

    #[test]
    fn an_unusable_schema_refuses_instead_of_letting_everything_pass() {
        assert!(matches!(schema(r#"{"type":"no-such-type"}"#).check(None), Err(ArgumentError::Schema(_))));
        assert!(matches!(
            schema(r#"{"$ref":"http://127.0.0.1:9/x"}"#).check(None),
            Err(ArgumentError::Schema(_))
        ));
    }

    #[test]
    fn values_are_not_repeated_in_messages() {
        let error = schema(r#"{"properties":{"k":{"type":"integer"}}}"#)
            .check(Some(r#"{"k":"hunter2"}"#))
            .unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
