//! Judges what a caller gives for the slots of a command.

use serde_json::Value as Json;

use super::{Command, Kind, Refused, STDIN, Slot, Stdin, TOKEN, TOKENS, clean};
use crate::text::is_harmful;

/// The argument that becomes a command's stdin.
pub(super) const STDIN_NAME: &str = "stdin";

/// What a caller says for a slot, before it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A whole number.
    Int(i64),
    /// A text.
    Text(String),
}

/// What is given for all slots, by their names.
pub(super) type All = Vec<(String, Given)>;

/// A value that a slot takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Stands in the token as it is.
    Text(String),
    /// Stands in the token in decimal.
    Int(i64),
    /// A file, relative to the slot's folder.
    Path(String),
}

/// What a call says for all slots of one command, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The values of each slot, in the order of [`Command::slots`].
    pub(super) values: Vec<Vec<Value>>,
    pub(super) stdin: Option<String>,
}

impl Filled {
    /// What goes to its stdin.
    #[must_use]
    pub fn stdin(&self) -> Option<&str> {
        self.stdin.as_deref()
    }

    /// The values by the names of their slots, to be sent to the executor.
    #[must_use]
    pub fn given(&self, command: &Command) -> Vec<(String, Given)> {
        let mut given = Vec::new();
        for (slot, values) in command.slots.iter().zip(&self.values) {
            for value in values {
                let value = match value {
                    Value::Text(text) | Value::Path(text) => Given::Text(text.clone()),
                    Value::Int(number) => Given::Int(*number),
                };
                given.push((slot.name.clone(), value));
            }
        }
        given
    }
}

impl Command {
    /// What the arguments of a tool call give, before it is judged; `stdin` apart.
    ///
    /// # Errors
    /// The arguments are no object, or hold something that no slot could take.
    fn taken(&self, arguments: Option<&str>) -> Result<(All, Option<String>), Refused> {
        let arguments = match arguments {
            None => return Ok((Vec::new(), None)),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| Refused::whole(format!("the arguments cannot be read: {error}")))?,
        };
        let Json::Object(arguments) = arguments else {
            return Err(Refused::whole("the arguments must be an object"));
        };
        let (mut given, mut stdin) = (Vec::new(), None);
        for (name, value) in arguments {
            match value {
                Json::String(text) if name == STDIN_NAME && self.slot(&name).is_none() => stdin = Some(text),
                Json::Array(values) if self.slot(&name).is_some_and(|slot| slot.most > 1) => {
                    if values.len() > TOKENS {
                        return Err(Refused::slot(&name, "it has too many values"));
                    }
                    for value in values {
                        given.push((name.clone(), one(&name, value)?));
                    }
                }
                value => {
                    let value = one(&name, value)?;
                    given.push((name, value));
                }
            }
        }
        Ok((given, stdin))
    }

    /// Judges the arguments of a tool call.
    ///
    /// # Errors
    /// The first that does not fit, by the name of its slot.
    pub fn fill_arguments(&self, arguments: Option<&str>) -> Result<Filled, Refused> {
        let (given, stdin) = self.taken(arguments)?;
        self.fill(given, stdin)
    }

    /// Judges what was given for the slots, and on stdin.
    ///
    /// # Errors
    /// The first that does not fit, by the name of its slot.
    pub fn fill(&self, given: Vec<(String, Given)>, stdin: Option<String>) -> Result<Filled, Refused> {
        let mut values: Vec<Vec<Value>> = vec![Vec::new(); self.slots.len()];
        for (name, value) in given {
            let Some(at) = self.slots.iter().position(|slot| slot.name == name) else {
                return Err(Refused::slot(&shown(&name), "this command has no such argument"));
            };
            let slot = &self.slots[at];
            if values[at].len() >= slot.most {
                return Err(Refused::slot(&name, format!("it takes {} at most", values_of(slot.most))));
            }
            values[at].push(slot.judge(value)?);
        }
        for (slot, values) in self.slots.iter().zip(&values) {
            if slot.required && values.is_empty() {
                return Err(Refused::slot(&slot.name, "it is missing"));
            }
        }
        let stdin = self.stdin.judge(stdin)?;
        Ok(Filled { values, stdin })
    }

    fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == name)
    }
}

fn values_of(most: usize) -> String {
    if most == 1 { "one value".to_owned() } else { format!("{most} values") }
}

/// A name that nobody configured, fit to be said.
fn shown(name: &str) -> String {
    crate::text::excerpt(name.as_bytes(), 64)
}

fn one(name: &str, value: Json) -> Result<Given, Refused> {
    match value {
        Json::String(text) => Ok(Given::Text(text)),
        Json::Number(number) if number.as_i64().is_some() => Ok(Given::Int(number.as_i64().unwrap_or(0))),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
            Err(Refused::slot(&shown(name), "it must be a text or a whole number"))
        }
    }
}

impl Slot {
    /// Whether it takes a value.
    pub(super) fn judge(&self, given: Given) -> Result<Value, Refused> {
        let refused = |message: String| Err(Refused::slot(&self.name, message));
        let text = match (&self.kind, given) {
            (Kind::Int { min, max }, Given::Int(number)) if (*min..=*max).contains(&number) => {
                return Ok(Value::Int(number));
            }
            (Kind::Int { min, max }, _) => {
                return refused(format!("it must be a whole number from {min} to {max}"));
            }
            (_, Given::Int(_)) => return refused("it must be a text".to_owned()),
            (_, Given::Text(text)) => text,
        };
        if text.len() > TOKEN {
            return refused(format!("it may have {TOKEN} bytes at most"));
        }
        match &self.kind {
            Kind::Int { .. } => refused("it must be a whole number".to_owned()),
            Kind::Enum(words) => {
                if words.contains(&text) {
                    return Ok(Value::Text(text));
                }
                refused(format!("it must be one of {}", words.join(", ")))
            }
            Kind::Path { beneath, .. } => match clean(beneath.to_str().unwrap_or("/"), &text) {
                Ok(below) => Ok(Value::Path(below.to_owned())),
                Err(why) => refused(format!("it must be a file below {}: {why}", beneath.display())),
            },
            Kind::Text { pattern, regex, max_bytes } => {
                if text.len() > *max_bytes {
                    return refused(format!("it may have {max_bytes} bytes at most"));
                }
                if text.chars().any(is_harmful) {
                    return refused("it holds a control character, or one that cannot be seen".to_owned());
                }
                if text.starts_with('-') && !self.behind_dashes {
                    return refused(
                        "it must not begin with `-`: the program would take it for an option".to_owned(),
                    );
                }
                if !regex.is_match(&text) {
                    return refused(format!("it does not fit the pattern {pattern}"));
                }
                Ok(Value::Text(text))
            }
        }
    }
}

impl Stdin {
    fn judge(&self, given: Option<String>) -> Result<Option<String>, Refused> {
        let refused = |message: String| Err(Refused::slot(STDIN_NAME, message));
        match (self, given) {
            (Self::Nothing, None) => Ok(None),
            (Self::Nothing, Some(_)) => refused("this command takes no stdin".to_owned()),
            (Self::Text { required: true, .. }, None) => refused("it is missing".to_owned()),
            (Self::Text { .. }, None) => Ok(None),
            (Self::Text { pattern, max_bytes, .. }, Some(text)) => {
                if text.len() > (*max_bytes).min(STDIN) {
                    return refused(format!("it may have {max_bytes} bytes at most"));
                }
                if text.contains('\0') {
                    return refused("it holds a NUL character".to_owned());
                }
                match pattern {
                    Some((pattern, regex)) if !regex.is_match(&text) => {
                        refused(format!("it does not fit the pattern {pattern}"))
                    }
                    _ => Ok(Some(text)),
                }
            }
        }
    }
}
