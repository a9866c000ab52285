//! What a server answered.

use crate::mcp::payload::{Payload, PayloadError};
use crate::mcp::splice;

/// An answer: a result or a JSON-RPC error, still in the bytes it came in.
#[derive(Clone, Debug)]
pub struct Reply {
    payload: Payload,
    is_error: bool,
}

impl Reply {
    pub(super) fn new(payload: Payload, is_error: bool) -> Self {
        Self { payload, is_error }
    }

    /// An answer of the gateway's own.
    pub(super) fn own(text: String, is_error: bool) -> Self {
        Self { payload: text.into(), is_error }
    }

    /// This answer, rewritten for the client's era.
    pub(super) fn rewritten(&self, text: String, is_error: bool) -> Self {
        Self { payload: self.payload.reworded(text), is_error }
    }

    /// The result's or the error's JSON text; large strings may be missing from it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.payload.json()
    }

    /// The same with everything that belongs to it.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The whole answer in memory, for code that must see all of it.
    ///
    /// # Errors
    /// It is too long for that.
    pub async fn whole(self) -> Result<Self, PayloadError> {
        let Self { payload, is_error } = self;
        Ok(Self { payload: super::whole(payload).await?.into(), is_error })
    }

    /// Whether this is a JSON-RPC error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// The JSON-RPC error code.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        self.is_error.then(|| splice::get(self.text(), "/code")?.parse().ok()).flatten()
    }
}
