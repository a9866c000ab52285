//! What a caller says as one line: which command of this executor it is a call of.

use serde_json::{Map, Value};

use super::Client;
use crate::command::{Given, Refused};

impl Client {
    /// The environment that its commands run in.
    #[must_use]
    pub fn environment(&self) -> &str {
        &self.settings.environment
    }

    /// Whether it has a command of this name.
    #[must_use]
    pub fn knows(&self, command: &str) -> bool {
        self.settings.commands.find(command).is_some()
    }

    /// The command that a whole line is a call of, and the arguments that say the same.
    ///
    /// # Errors
    /// There is none, or the line says something else than the command takes.
    pub fn recognise(&self, line: &str) -> Result<(String, Value), Refused> {
        let (command, filled) = self.settings.commands.recognise(line)?;
        let mut arguments = Map::new();
        for (name, given) in filled.given(command) {
            let value = match given {
                Given::Int(number) => Value::from(number),
                Given::Text(text) => Value::from(text),
            };
            match arguments.get_mut(&name) {
                // A slot of several values.
                Some(Value::Array(values)) => values.push(value),
                _ => {
                    let several = command.slots.iter().any(|slot| slot.name == name && slot.most > 1);
                    arguments.insert(name, if several { Value::Array(vec![value]) } else { value });
                }
            }
        }
        Ok((command.name.clone(), Value::Object(arguments)))
    }
}
