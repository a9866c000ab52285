//! Checks the arguments of a call against the tool's JSON Schema before a backend sees them.

use std::sync::OnceLock;

use jsonschema::{PatternOptions, Validator};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::readable;

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
        let text = arguments.unwrap_or("{}");
        match serde_json::from_str(text) {
            Ok(arguments) => judge(validator, &arguments),
            Err(error) => judge_partly(validator, text, &error),
        }
    }
}

fn judge(validator: &Validator, arguments: &Value) -> Result<(), ArgumentError> {
    validator.validate(arguments).map_err(|error| ArgumentError::Mismatch {
        pointer: error.instance_path().to_string(),
        message: bounded(&error.masked().to_string()),
    })
}

/// Arguments with something in them that no machine type holds (`1e400`, half a surrogate pair). They pass if the
/// schema accepts anything where that stands: a value of every type is tried in its place. Otherwise nobody here can
/// tell whether they fit.
fn judge_partly(validator: &Validator, text: &str, error: &serde_json::Error) -> Result<(), ArgumentError> {
    let Some(mut partly) = readable::partly(text) else {
        let message = format!("they cannot be read, so they cannot be checked: {error}");
        return Err(ArgumentError::Mismatch { pointer: String::new(), message });
    };
    let probes =
        [json!(null), json!(true), json!(-7.5), json!(1e308), json!("?"), json!([null]), json!({"?": 0})];
    let mut judged: Vec<_> = Vec::new();
    for probe in probes {
        for (pointer, _) in &partly.places {
            if let Some(place) = partly.value.pointer_mut(pointer) {
                *place = probe.clone();
            }
        }
        judged.push(judge(validator, &partly.value));
    }
    let Some(Err(mismatch)) = judged.iter().find(|result| result.is_err()) else { return Ok(()) };
    let ArgumentError::Mismatch { pointer: at, .. } = mismatch else { return Err(mismatch.clone()) };
    // Whatever stood there, it would not fit.
    if judged.windows(2).all(|pair| pair[0] == pair[1]) {
        return Err(mismatch.clone());
    }
    let found = partly.places.iter().find(|(place, _)| within(place, at)).or(partly.places.first());
    let (pointer, what) = found.cloned().unwrap_or_default();
    let message = format!("{what}, so it cannot be checked against what the schema says about this place");
    Err(ArgumentError::Mismatch { pointer, message })
}

/// Whether a mismatch at a pointer may be about a place: it is there, in it, or in what holds it.
fn within(place: &str, at: &str) -> bool {
    let under = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    under(at, place) || under(place, at)
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
    fn what_no_type_holds_passes_where_the_schema_says_nothing() {
        let open = schema(r#"{"type":"object","properties":{"n":{"type":"integer"},"any":{}}}"#);
        for fits in
            [r#"{"any":1e400}"#, r#"{"n":1,"x":["\ud800",{"y":-1e999}]}"#, r#"{"any":[1e400,"\udfff"]}"#]
        {
            assert_eq!(open.check(Some(fits)), Ok(()), "{fits}");
        }
        assert_eq!(schema("{}").check(Some(r#"{"n":1e400}"#)), Ok(()));
        let refused = |arguments: &str| match open.check(Some(arguments)) {
            Err(ArgumentError::Mismatch { pointer, message }) => (pointer, message),
            other => panic!("{arguments}: {other:?}"),
        };
        let (pointer, message) = refused(r#"{"any":1e400,"n":1e400}"#);
        assert_eq!(pointer, "/n");
        assert!(message.contains("larger than a 64-bit float") && message.contains("schema"), "{message}");
        let (pointer, message) = refused(r#"{"n":"\ud800"}"#);
        assert_eq!(pointer, "/n");
        assert!(message.contains("surrogate"), "{message}");
        let required = schema(r#"{"required":["a"]}"#).check(Some(r#"{"b":1e400}"#)).unwrap_err();
        assert!(required.to_string().contains("required"), "{required}");
        assert_eq!(refused(r#"{"any":1e400,"n":"x"}"#).0, "/n", "the rest is judged as ever");
        assert!(refused(r#"{"\ud800":1}"#).1.contains("cannot be read"));
        let closed = schema(r#"{"additionalProperties":{"type":"number"}}"#);
        assert!(matches!(closed.check(Some(r#"{"x":1e400}"#)), Err(ArgumentError::Mismatch { .. })));
    }

    #[test]
    fn values_are_not_repeated_in_messages() {
        let error = schema(r#"{"properties":{"k":{"type":"integer"}}}"#)
            .check(Some(r#"{"k":"hunter2"}"#))
            .unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
