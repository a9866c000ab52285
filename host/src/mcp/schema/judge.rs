//! Judges arguments by a schema that is compiled.

use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, json};

use super::ArgumentError;
use super::cost::{Cost, Size};
use super::lower::Lowered;
use super::raise::raise;
use crate::mcp::lossy;

/// Most memory of one pattern's machine. What is let in by its number of states needs less.
const PATTERN_BYTES: usize = 4 << 20;
/// Values that are tried where one stands that cannot be read, and once more for what is left.
const TRIES: f64 = 8.0;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Judge {
    validator: Validator,
    spelled: Vec<(String, String)>,
}

impl Judge {
    /// Compiles a schema.
    ///
    /// # Errors
    /// Something is wrong with it that was not found before.
    pub(super) fn new(lowered: Lowered) -> Result<Self, String> {
        let schema = raise(&lowered);
        let draft = lowered.draft;
        // The library catches panics of the pattern engine; what else it does not expect must not end more than this.
        let built = std::panic::catch_unwind(|| {
            jsonschema::options()
                .with_draft(draft)
                .offline()
                .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES))
                .build(&schema)
                .map_err(|error| bounded(&error.masked().to_string()))
        });
        let validator = built.unwrap_or_else(|_| Err("it cannot be compiled".to_owned()))?;
        Ok(Self { validator, spelled: lowered.spelled })
    }

    /// Judges arguments, if that costs no more than is allowed; without a cost in any case.
    pub(super) fn judge(&self, text: &str, cost: Option<&Cost>) -> Result<(), ArgumentError> {
        match serde_json::from_str(text) {
            Ok(arguments) => {
                let place = allowed(cost, &arguments, 1.0)?;
                self.value(&arguments, place)
            }
            Err(error) => self.partly(text, &error, cost),
        }
    }

    fn value(&self, arguments: &Value, place: bool) -> Result<(), ArgumentError> {
        if self.validator.is_valid(arguments) {
            return Ok(());
        }
        if !place {
            let message =
                "they do not fit the tool's inputSchema; they are too large for it to say where".to_owned();
            return Err(ArgumentError::Mismatch { pointer: String::new(), message });
        }
        self.validator.validate(arguments).map_err(|error| {
            let mut message = error.masked().to_string();
            for (engine, author) in &self.spelled {
                message = message.replace(engine.as_str(), author);
            }
            ArgumentError::Mismatch { pointer: error.instance_path().to_string(), message: bounded(&message) }
        })
    }

    /// Arguments with something in them that no machine type holds (`1e400`, half a surrogate pair). They pass if the
    /// schema accepts anything where that stands: a value of every type is tried in its place. Otherwise nobody here can
    /// tell whether they fit.
    fn partly(
        &self,
        text: &str,
        error: &serde_json::Error,
        cost: Option<&Cost>,
    ) -> Result<(), ArgumentError> {
        let Some(mut partly) = lossy::partly(text) else {
            let message = format!("they cannot be read, so they cannot be checked: {error}");
            return Err(ArgumentError::Mismatch { pointer: String::new(), message });
        };
        let place = allowed(cost, &partly.value, TRIES)?;
        let probes =
            [json!(null), json!(true), json!(-7.5), json!(1e308), json!("?"), json!([null]), json!({"?": 0})];
        let mut judged: Vec<_> = Vec::new();
        for probe in probes {
            for (pointer, _) in &partly.places {
                if let Some(place) = partly.value.pointer_mut(pointer) {
                    *place = probe.clone();
                }
            }
            judged.push(self.value(&partly.value, place));
        }
        let Some(Err(mismatch)) = judged.iter().find(|result| result.is_err()) else { return Ok(()) };
        let ArgumentError::Mismatch { pointer: at, .. } = mismatch else { return Err(mismatch.clone()) };
        // Whatever stood there, it would not fit.
        if judged.windows(2).all(|pair| pair[0] == pair[1]) {
            return Err(mismatch.clone());
        }
        let found = partly.places.iter().find(|(place, _)| within(place, at)).or(partly.places.first());
        let (pointer, what) = found.cloned().unwrap_or_default();
        let message =
            format!("{what}, so it cannot be checked against what the schema says about this place");
        Err(ArgumentError::Mismatch { pointer, message })
    }
}

/// Whether the place of a mistake is to be looked for; an error if the arguments may not even be judged here.
fn allowed(cost: Option<&Cost>, arguments: &Value, times: f64) -> Result<bool, ArgumentError> {
    let size = Size::of(arguments);
    let many = Size { values: size.values * times, bytes: size.bytes * times, ..size };
    match cost {
        // In a helper, where a clock and a limit of memory end it.
        None => Ok(true),
        Some(cost) if cost.allows(&many) => Ok(cost.allows_place(&many)),
        Some(_) => Err(ArgumentError::Elsewhere),
    }
}

/// Whether a mismatch at a pointer may be about a place: it is there, in it, or in what holds it.
fn within(place: &str, at: &str) -> bool {
    let under = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    under(at, place) || under(place, at)
}

pub(super) fn bounded(message: &str) -> String {
    if message.chars().count() <= 300 {
        message.to_owned()
    } else {
        message.chars().take(300).chain(['…']).collect()
    }
}
