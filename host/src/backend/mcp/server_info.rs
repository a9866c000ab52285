//! What a server says of itself when it is met.

use serde_json::value::RawValue;

use crate::mcp::splice;

/// What a server said of itself.
#[derive(Clone, Debug)]
pub(crate) struct ServerInfo {
    pub version: String,
    pub capabilities: Box<RawValue>,
    pub instructions: Option<String>,
    /// Whether it shakes hands, if asked to.
    pub handshake: bool,
    /// Its name and its version; empty if it says none.
    pub server: String,
}

impl ServerInfo {
    /// Whether the server declared a capability by its top-level key.
    #[must_use]
    pub(crate) fn has(&self, capability: &str) -> bool {
        splice::get(self.capabilities.get(), &format!("/{capability}")).is_some()
    }
}
