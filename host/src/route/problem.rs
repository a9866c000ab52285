//! What a caller of the HTTP API reads when a request is refused or fails.
//!
//! Rule: RFC 9457, "Problem Details for HTTP APIs". `reason` is a stable word, the same as in `data.reason` of MCP.

use http::StatusCode;
use serde_json::{Map, Value};

use super::read::Misfit;

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// Most members of `errors` in one document.
const ERRORS: usize = 32;

/// A problem document.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The status that goes with it.
    pub status: StatusCode,
    /// The stable word.
    pub reason: String,
    /// What happened and what to do, for people.
    pub detail: Option<String>,
    /// Which parts of the request were wrong.
    pub errors: Vec<Misfit>,
    /// Further facts, such as `retry_after`.
    pub facts: Map<String, Value>,
}

impl Problem {
    /// One without further facts.
    #[must_use]
    pub fn new(status: StatusCode, reason: &str, detail: impl Into<String>) -> Self {
        let detail = Some(detail.into()).filter(|detail| !detail.is_empty());
        Self { status, reason: reason.to_owned(), detail, errors: Vec::new(), facts: Map::new() }
    }

    /// The same with these parts of the request.
    #[must_use]
    pub fn about(self, errors: Vec<Misfit>) -> Self {
        Self { errors, ..self }
    }

    /// The document.
    #[must_use]
    pub fn document(&self, request_id: &str) -> Vec<u8> {
        let mut document = Map::new();
        document.insert("type".to_owned(), "about:blank".into());
        document.insert("title".to_owned(), self.status.canonical_reason().unwrap_or("Error").into());
        document.insert("status".to_owned(), self.status.as_u16().into());
        if let Some(detail) = &self.detail {
            document.insert("detail".to_owned(), detail.as_str().into());
        }
        document.insert("reason".to_owned(), self.reason.as_str().into());
        document.insert("request_id".to_owned(), request_id.into());
        if !self.errors.is_empty() {
            let error = |misfit: &Misfit| {
                let (member, place) = misfit.place.member();
                serde_json::json!({ member: place, "detail": misfit.detail })
            };
            document.insert("errors".to_owned(), self.errors.iter().take(ERRORS).map(error).collect());
        }
        document.extend(self.facts.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut bytes = serde_json::to_vec(&document).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}
