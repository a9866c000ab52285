//! The revisions of MCP, and the two eras that they belong to.

/// The handshake-era revisions the gateway speaks, newest first (MCP "Versioning").
pub const REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The only revision that allows JSON-RPC batches (2025-03-26 "Batching"; removed in 2025-06-18).
pub(crate) const BATCH_REVISION: &str = "2025-03-26";

/// The revision to answer `initialize` with: the requested one if the gateway speaks it, else its newest.
#[must_use]
pub(crate) fn negotiate(requested: &str) -> &'static str {
    REVISIONS.iter().find(|known| **known == requested).copied().unwrap_or(REVISIONS[0])
}

/// The stateless revision.
pub const STATELESS: &str = "2026-07-28";

/// How a hop speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    Handshake,
    Stateless,
}

impl Era {
    /// The era of a revision.
    #[must_use]
    pub fn of(version: &str) -> Self {
        if version == STATELESS { Self::Stateless } else { Self::Handshake }
    }
}
