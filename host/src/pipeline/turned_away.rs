//! Requests that a door refused before they could be read as calls: they are on record as well.

use std::time::Instant;

use super::{Failure, Pipeline, outcome};
use crate::audit::{Closing, Entry};
use crate::call::{Denial, Principal};

/// A request that never became a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnedAway<'a> {
    pub door: &'static str,
    /// Who sent it, if that is known.
    pub who: Option<&'a Principal>,
    /// Where it came from.
    pub address: &'a str,
    /// The source that it is counted with: this caller, or all addresses that one client may have.
    pub source: &'a str,
    /// As much as was read of it: `POST /mcp`, `tools/call`.
    pub asked: &'a str,
    /// The number that its sender was given for it; empty if none was.
    pub rpc_id: &'a str,
    pub since: Instant,
}

impl Pipeline {
    /// Records a request that a door refused before it could be read as a call: of each source the first few within a
    /// minute, and how many more there were.
    pub(crate) async fn turned_away(&self, request: TurnedAway<'_>, denial: &Denial) {
        let failure = Failure::Denied(denial.clone());
        let status = outcome::refused_status(&failure);
        let entry = Entry {
            rpc_id: request.rpc_id,
            method: request.asked,
            subject: request.who.map_or("", |who| &who.subject),
            role: request.who.map_or("", |who| &who.role),
            kind: "",
            tool: "",
            backend: "",
            session: "",
            arguments: "",
            sent: None,
            generation: self.live.load().id(),
        };
        let notes = [
            ("address".to_owned(), request.address.to_owned()),
            ("door".to_owned(), request.door.to_owned()),
        ];
        // The client that started the gateway (stdio) has no address.
        let notes = &notes[usize::from(request.address.is_empty())..];
        let closing =
            Closing { status, error: Some(&denial.message), latency: request.since.elapsed(), notes };
        self.refused(&self.policy(), request.door, &entry, &closing);
        let id = self.audit.next_id();
        let recorded = self.audit.refused_often(id, request.source, &entry, &closing).await;
        // The request is refused even if it cannot be recorded; the log then says why.
        let failure = recorded.err().map_or(failure, |error| Failure::Audit(error.for_callers()));
        self.meters.count("unknown", status, Some(&failure), request.since.elapsed());
    }
}
