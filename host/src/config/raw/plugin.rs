//! `[[plugins]]` as it is typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Free, Seconds};

/// Where a plugin stands in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawStage {
    Authenticate,
    Guard,
    Breaker,
    Rewrite,
}

/// What happens to a call when the plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawOnFailure {
    Deny,
    Allow,
}

/// How long an instance of a plugin lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawIsolation {
    Shared,
    Call,
}

/// Settings of a shipped plugin, or a plugin of your own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawPlugin {
    /// The name of a shipped plugin (auth-jwt, auth-jwks, auth-local, auth-api-key, rate-limit, rbac,
    /// command-policy, cel-policy, circuit-breaker, rewrite-rules, redact-pii), or a new one.
    pub(in crate::config) name: Option<String>,
    /// Where it stands in the chain; only for a plugin of your own.
    pub(in crate::config) stage: Option<RawStage>,
    /// Of an authenticator of your own: the authenticator before which it is asked, such as "auth-jwt". Without it, it is asked
    /// after those that come with the gateway, in the order of the file.
    pub(in crate::config) before: Option<String>,
    /// The file of the component; relative to this file. A shipped plugin has its own.
    pub(in crate::config) wasm: Option<String>,
    /// The SHA-256 digest the file must have, in hex.
    #[schemars(regex(pattern = r"^[0-9A-Fa-f]{64}$"))]
    pub(in crate::config) sha256: Option<String>,
    /// "deny" (the default) or "allow": what happens to a call when the plugin fails.
    pub(in crate::config) on_failure: Option<RawOnFailure>,
    /// Environment variables it may read.
    pub(in crate::config) secrets: Vec<String>,
    /// Interfaces it may import besides the gateway's own.
    pub(in crate::config) grants: Vec<String>,
    /// Where it may send HTTP requests.
    pub(in crate::config) http: Option<RawHttpGrant>,
    /// "shared" (the default): instances are reused. "call": a new one for each call.
    pub(in crate::config) isolation: Option<RawIsolation>,
    /// How much it may use.
    pub(in crate::config) limits: RawLimits,
    /// Its configuration; for a shipped plugin laid over what the other sections say.
    pub(in crate::config) config: Free,
}

/// Where a plugin may send HTTP requests: https, and http only to this machine. Redirects are not followed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawHttpGrant {
    /// Each exactly, as "auth.example.com" or "127.0.0.1:8443".
    pub(in crate::config) hosts: Vec<String>,
    /// A file with certificates (PEM) to trust besides the system's.
    pub(in crate::config) ca_file: Option<String>,
    /// How long connecting may take; by default 2.
    #[schemars(range(min = 0.1, max = 60.0))]
    pub(in crate::config) connect_timeout_secs: Option<Seconds>,
    /// How long a request may take in all; by default 5.
    #[schemars(range(min = 0.1, max = 60.0))]
    pub(in crate::config) timeout_secs: Option<Seconds>,
    /// Requests under way at once; by default 4.
    #[schemars(range(min = 1, max = 16))]
    pub(in crate::config) max_requests: Option<usize>,
}

/// How much a plugin may use; by default what the shipped plugins need with room to spare.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawLimits {
    /// Instructions for each call, roughly.
    #[schemars(range(min = 1_000))]
    pub(in crate::config) fuel: Option<u64>,
    /// Milliseconds for each call.
    #[schemars(range(min = 1, max = 60_000))]
    pub(in crate::config) deadline_ms: Option<u64>,
    /// Linear memory of an instance.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub(in crate::config) memory_bytes: Option<usize>,
    /// Elements of its tables.
    #[schemars(range(min = 1))]
    pub(in crate::config) table_elements: Option<usize>,
    /// Lines it may log for each call.
    pub(in crate::config) log_lines: Option<u32>,
    /// Bytes it may move across the border for each call.
    #[schemars(range(min = 1_024))]
    pub(in crate::config) host_bytes: Option<usize>,
    /// Calls after which an instance is replaced.
    #[schemars(range(min = 1))]
    pub(in crate::config) max_calls: Option<u64>,
    /// Keys of shared state it may hold.
    pub(in crate::config) state_keys: Option<usize>,
    /// Bytes of shared state it may hold.
    pub(in crate::config) state_bytes: Option<usize>,
}
