//! What outlives the process.

use schemars::JsonSchema;
use serde::Deserialize;

/// What guards know of earlier calls: limits that are used up, circuits that are open.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawState {
    /// Whether the next start goes on from there. It is written soon after it changes, by a thread of its own; a gateway that
    /// is killed forgets at most what changed in its last second. Gateways that are started with the same file take over
    /// what the others have kept, the stricter value of each key. What authenticators keep, such as fetched keys, is never
    /// written. With `false` every start begins with full limits and closed circuits.
    pub(in crate::config) persist: bool,
    /// The folder it is kept in, by default `state` in audit.dir; nobody else may have access to it.
    pub(in crate::config) dir: Option<String>,
}

impl Default for RawState {
    fn default() -> Self {
        Self { persist: true, dir: None }
    }
}
