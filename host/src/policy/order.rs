//! What can be switched off, and the order of an operator to do so.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that can be switched off as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// A tool, by any of its names; `*` stands for anything.
    Tool(String),
    /// A backend with all it offers.
    Backend(String),
    /// A caller.
    Subject(String),
    /// Every call of everybody.
    All,
}

impl Switch {
    /// Its name; empty for everything.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Tool(name) | Self::Backend(name) | Self::Subject(name) => name,
            Self::All => "",
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(name) => write!(f, "tool {name:?}"),
            Self::Backend(name) => write!(f, "backend {name:?}"),
            Self::Subject(name) => write!(f, "subject {name:?}"),
            Self::All => f.write_str("everything"),
        }
    }
}

/// One order, with who gave it and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What is off.
    pub what: Switch,
    /// Who ordered it.
    pub by: String,
    /// Their role.
    pub role: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What they said about it; may be empty.
    pub why: String,
}
