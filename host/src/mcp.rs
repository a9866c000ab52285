//! The protocol core: messages are passed through, not re-modelled.
//!
//! A message is read as an [`envelope`] whose parts stay raw JSON; the few keys the gateway must change
//! are [`splice`]d, everything else is copied byte for byte. So unknown fields, key order and number
//! spelling survive, and a megabyte of result costs one scan.

pub mod bounds;
pub mod catalog;
pub mod client;
mod client_info;
mod duplicate_keys;
pub mod envelope;
pub mod era;
pub mod extract;
pub mod header;
pub mod item;
mod lossy;
mod members;
pub mod mend;
pub mod message;
pub mod method;
pub mod params;
pub mod payload;
mod revision;
pub mod said;
pub mod scan;
pub mod schema;
pub(crate) mod seldom;
mod spelling;
pub mod splice;

/// JSON-RPC and MCP error codes the gateway itself sends (JSON-RPC 2.0 §5.1; the README lists the -320xx ones).
pub mod code {
    pub const PARSE_ERROR: i64 = -32700;
    pub const INVALID_REQUEST: i64 = -32600;
    pub const METHOD_NOT_FOUND: i64 = -32601;
    pub const INVALID_PARAMS: i64 = -32602;
    pub const INTERNAL_ERROR: i64 = -32603;
    pub const UNAUTHENTICATED: i64 = -32001;
    pub const NOT_INITIALIZED: i64 = -32002;
    pub const FORBIDDEN: i64 = -32003;
    pub const RATE_LIMITED: i64 = -32004;
    pub const KILLED: i64 = -32005;
    pub const CIRCUIT_OPEN: i64 = -32007;
    /// A resource that does not exist, in the handshake era; -32602 since 2026-07-28.
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    /// 2025-11-25: the user must visit a URL first.
    pub const URL_ELICITATION_REQUIRED: i64 = -32042;
    /// 2026-07-28: a header and the body disagree.
    pub const HEADER_MISMATCH: i64 = -32020;
    /// 2026-07-28: the request did not declare what its answer needs.
    pub const MISSING_CAPABILITY: i64 = -32021;
    /// 2026-07-28: the revision is not spoken here.
    pub const UNSUPPORTED_VERSION: i64 = -32022;
}

pub use duplicate_keys::Ambiguous;
pub use method::{is_custom, is_of_protocol};
pub use params::Params;
pub use revision::{BATCH_REVISION, Era, REVISIONS, STATELESS, negotiate};
