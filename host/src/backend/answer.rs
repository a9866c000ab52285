//! What a backend answered, in the form of its protocol.

use http::{HeaderMap, StatusCode};

use super::{Body, whole};
use crate::call::Outcome;
use crate::mcp::payload::{Payload, PayloadError};

/// An answer, still in the bytes it came in.
#[derive(Debug)]
pub struct Answer {
    /// What the payload is.
    pub kind: AnswerKind,
    /// How the call ended, which only the backend can tell: the guards and the record hear it.
    pub outcome: Outcome,
    /// The result, the error or the body.
    pub payload: Payload,
}

/// What the payload of an answer is.
#[derive(Debug)]
pub enum AnswerKind {
    /// The result of an MCP method, a JSON text.
    Result,
    /// The error object of JSON-RPC.
    RpcError {
        /// Its code; none if it has no number there.
        code: Option<i64>,
    },
    /// The body of an HTTP response, of any type.
    Http(Box<HttpHead>),
    /// What a program wrote to its standard output, as much as is kept.
    Exit {
        /// The exit code.
        code: i32,
        /// SHA-256 of all of the output.
        digest: [u8; 32],
    },
}

/// The head of an HTTP response.
#[derive(Debug)]
pub struct HttpHead {
    /// The status.
    pub status: StatusCode,
    /// The headers that go to the client.
    pub headers: HeaderMap,
    /// The body, if it is streamed; then the payload is empty.
    pub streamed: Option<Body>,
    /// What operators read of an answer that is a failure, if it is another text than the body.
    pub complaint: Option<String>,
}

impl Answer {
    /// A result of the gateway's own.
    #[must_use]
    pub fn own(result: impl Into<Payload>) -> Self {
        Self { kind: AnswerKind::Result, outcome: Outcome::Success, payload: result.into() }
    }

    /// The text; large strings may be missing from it.
    #[must_use]
    pub fn json(&self) -> &str {
        self.payload.json()
    }

    /// Whether it is an error object of JSON-RPC.
    #[must_use]
    pub fn is_rpc_error(&self) -> bool {
        matches!(self.kind, AnswerKind::RpcError { .. })
    }

    /// The code of a JSON-RPC error.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        if let AnswerKind::RpcError { code } = self.kind { code } else { None }
    }

    /// The whole answer in memory, for code that must see all of it.
    ///
    /// # Errors
    /// It is too long for that.
    pub async fn whole(self) -> Result<Self, PayloadError> {
        Ok(Self { payload: whole(self.payload).await?.into(), ..self })
    }
}
