//! What a client said of itself.

use serde_json::value::RawValue;

use super::revision::Era;
use super::splice;

/// Longest `capabilities` and longest `clientInfo`, in bytes: they are kept for as long as a session lives.
const MAX_GREETING: usize = 8 << 10;
/// Longest level of log messages, in bytes as it is spelled.
const MAX_LEVEL: usize = 64;

/// The part of a client's description of itself that is too long, with its limit.
#[must_use]
pub fn too_long(
    capabilities: Option<&str>,
    info: Option<&str>,
    level: Option<&str>,
) -> Option<(&'static str, usize)> {
    let over = |text: Option<&str>, most: usize| text.is_some_and(|text| text.len() > most);
    if over(capabilities, MAX_GREETING) {
        Some(("capabilities", MAX_GREETING))
    } else if over(info, MAX_GREETING) {
        Some(("clientInfo", MAX_GREETING))
    } else if over(level, MAX_LEVEL) {
        Some(("logLevel", MAX_LEVEL))
    } else {
        None
    }
}

/// What a client said of itself: in `initialize`, or in the `_meta` of a stateless request.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The revision spoken with it.
    pub version: &'static str,
    /// Its capabilities, a JSON object.
    pub capabilities: Box<RawValue>,
    /// Its `clientInfo`, if it gave one.
    pub info: Option<Box<RawValue>>,
    /// Stateless era: the lowest level of log messages it wants with this request; none without it.
    pub log_level: Option<Box<RawValue>>,
}

impl ClientInfo {
    #[must_use]
    pub fn era(&self) -> Era {
        Era::of(self.version)
    }

    /// How much of what the client said is kept, in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        let optional = [&self.info, &self.log_level].into_iter().flatten();
        self.capabilities.get().len() + optional.map(|json| json.get().len()).sum::<usize>()
    }

    /// Whether the client can answer questions of this method (MCP "Capabilities").
    #[must_use]
    pub fn answers(&self, method: &str) -> bool {
        let capability = match method {
            "sampling/createMessage" => "/sampling",
            "elicitation/create" => "/elicitation",
            "roots/list" => "/roots",
            _ => return true,
        };
        splice::get(self.capabilities.get(), capability).is_some()
    }

    /// Whether it can answer any question at all.
    #[must_use]
    pub(crate) fn answers_any(&self) -> bool {
        ["sampling/createMessage", "elicitation/create", "roots/list"]
            .iter()
            .any(|method| self.answers(method))
    }
}
