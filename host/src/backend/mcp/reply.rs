//! What an MCP server answered, and what that says about it.

use crate::backend::{Answer, AnswerKind};
use crate::call::Outcome;
use crate::mcp::payload::{Payload, PayloadError};
use crate::mcp::{code, splice};

/// An answer: a result or a JSON-RPC error, still in the bytes it came in.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
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
    pub(super) fn text(&self) -> &str {
        self.payload.json()
    }

    /// The same with everything that belongs to it.
    #[must_use]
    pub(super) fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The whole answer in memory, for code that must see all of it.
    ///
    /// # Errors
    /// It is too long for that.
    pub(super) async fn whole(self) -> Result<Self, PayloadError> {
        let Self { payload, is_error } = self;
        Ok(Self { payload: super::whole(payload).await?.into(), is_error })
    }

    /// Whether this is a JSON-RPC error.
    #[must_use]
    pub(super) fn is_error(&self) -> bool {
        self.is_error
    }

    /// The JSON-RPC error code.
    #[must_use]
    pub(super) fn error_code(&self) -> Option<i64> {
        self.is_error.then(|| splice::get(self.text(), "/code")?.parse().ok()).flatten()
    }

    /// The same for the rest of the gateway.
    pub(super) fn answer(self, errors_count: bool) -> Answer {
        let code = self.error_code();
        let outcome = self.outcome(code, errors_count);
        let kind = if self.is_error { AnswerKind::RpcError { code } } else { AnswerKind::Result };
        Answer { kind, outcome, payload: self.payload }
    }

    /// A server that answers is alive, so an error that it answers with is no failure of the server, unless the operator
    /// says that it is (`errors_count`): many answer -32603 to whatever a tool throws, and a caller's wrong id must not
    /// switch the server off for everybody.
    fn outcome(&self, code: Option<i64>, errors_count: bool) -> Outcome {
        if !self.is_error {
            // A result that says `isError` (MCP "Tools", error handling).
            let failed = splice::get(self.text(), "/isError") == Some("true");
            return if failed { Outcome::ToolError } else { Outcome::Success };
        }
        match code {
            Some(code) if is_about_the_request(code) => Outcome::InvalidRequest,
            _ if errors_count => Outcome::ServerError,
            _ => Outcome::ToolError,
        }
    }
}

/// Errors that JSON-RPC and MCP reserve for faulty requests: no request, an unknown method, wrong params, a resource
/// that does not exist.
fn is_about_the_request(code: i64) -> bool {
    /// MCP "Resources": not found.
    const NOT_FOUND: i64 = -32002;
    matches!(
        code,
        code::PARSE_ERROR | code::INVALID_REQUEST | code::METHOD_NOT_FOUND | code::INVALID_PARAMS | NOT_FOUND
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_the_request_never_counts_and_others_only_if_the_operator_says_so() {
        let of = |text: &str, is_error, count| {
            let answer = Reply::own(text.to_owned(), is_error).answer(count);
            (answer.outcome, answer.error_code(), answer.is_rpc_error())
        };
        for count in [false, true] {
            assert_eq!(of("{}", false, count), (Outcome::Success, None, false));
            assert_eq!(of(r#"{"isError":true}"#, false, count), (Outcome::ToolError, None, false));
            assert_eq!(of(r#"{"code":-32602}"#, true, count), (Outcome::InvalidRequest, Some(-32602), true));
        }
        assert_eq!(of(r#"{"code":-32603}"#, true, false), (Outcome::ToolError, Some(-32603), true));
        assert_eq!(of(r#"{"code":-32603}"#, true, true), (Outcome::ServerError, Some(-32603), true));
        assert_eq!(of(r#"{"message":"x"}"#, true, true), (Outcome::ServerError, None, true));
    }
}
