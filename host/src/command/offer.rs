//! A command as a tool: what clients see of it.

use serde_json::{Map, Value, json};

use super::fill::STDIN_NAME;
use super::{Command, Kind, Slot, Stdin};

impl Command {
    /// The tool of MCP that this command is, with a schema made of its slots.
    #[must_use]
    pub fn tool(&self) -> Value {
        let mut properties = Map::new();
        let mut required: Vec<&str> = Vec::new();
        for slot in &self.slots {
            properties.insert(slot.name.clone(), slot.schema());
            if slot.required {
                required.push(&slot.name);
            }
        }
        if let Stdin::Text { pattern, max_bytes, required: needed } = &self.stdin {
            let mut schema = json!({ "type": "string", "maxLength": max_bytes, "description": "What the command reads on its stdin." });
            if let Some((pattern, _)) = pattern {
                schema["pattern"] = whole(pattern).into();
            }
            properties.insert(STDIN_NAME.to_owned(), schema);
            if *needed {
                required.push(STDIN_NAME);
            }
        }
        json!({
            "name": self.name,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            },
            "annotations": { "readOnlyHint": self.read_only, "openWorldHint": false },
        })
    }
}

impl Slot {
    fn schema(&self) -> Value {
        let mut one = match &self.kind {
            Kind::Enum(words) => json!({ "type": "string", "enum": words }),
            Kind::Int { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Kind::Path { beneath, .. } => json!({
                "type": "string", "minLength": 1, "maxLength": 1024,
                "description": format!("A file below {}.", beneath.display()),
            }),
            Kind::Text { pattern, max_bytes, .. } => {
                json!({ "type": "string", "maxLength": max_bytes, "pattern": whole(pattern) })
            }
        };
        if let Some(description) = &self.description {
            one["description"] = description.as_str().into();
        }
        if self.most == 1 {
            return one;
        }
        let least = usize::from(self.required);
        json!({ "type": "array", "items": one, "minItems": least, "maxItems": self.most })
    }
}

/// A pattern of JSON Schema finds its text anywhere, unless it says otherwise.
fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}
