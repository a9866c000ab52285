//! A request that is not served: the answer to its sender, the count, the log line and the row on record.
//!
//! Each refusal is counted, and some have a line in the log. A refusal is on record if it was a call, or if its sender
//! is not known; for each caller, or each network of strangers, the record bounds how many rows a minute there are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use parking_lot::Mutex;
use serde_json::json;

use super::{Mount, reply};
use crate::call::{self, Denial, Principal};
use crate::door::guard::Rejection;
use crate::door::log_limit::LogLimit;
use crate::door::mcp::line::Outbound;
use crate::door::mcp::respond;
use crate::door::server::Peer;
use crate::door::strangers::network;
use crate::mcp::{Era, code, message, splice};
use crate::pipeline::{Pipeline, TurnedAway};

/// How many reasons have log lines of their own; plugins may give any number of reasons.
const REASONS: usize = 64;

/// A request that is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) response: Response,
    denial: Denial,
    /// Who sent it, if that is known.
    who: Option<Arc<Principal>>,
    /// What was asked for, if it was read.
    method: Option<String>,
}

pub(super) type Refused = Box<Refusal>;

impl Refusal {
    /// With these words for the record.
    pub(super) fn new(response: Response, denial: Denial) -> Refused {
        Box::new(Self { response, denial, who: None, method: None })
    }

    /// The same, of somebody who is known.
    pub(super) fn by(mut self: Box<Self>, who: &Arc<Principal>) -> Refused {
        self.who = Some(who.clone());
        self
    }

    /// The same, of a message with this method.
    pub(super) fn asking(mut self: Box<Self>, method: &str) -> Refused {
        self.method = Some(method.chars().take(64).collect());
        self
    }

    /// The same, and the connection ends: the unread rest of this request would be read as the next one.
    pub(super) fn closing(mut self: Box<Self>) -> Refused {
        self.response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        self
    }
}

/// The words of the door about a request's head.
pub(super) fn rejected(rejection: &Rejection) -> Refused {
    refused(rejection.status.as_u16(), code::INVALID_REQUEST, &rejection.message, "rejected")
}

pub(super) fn refused(code: u16, rpc: i64, text: &str, reason: &str) -> Refused {
    let kind = match code {
        401 => call::DenialKind::Unauthenticated,
        403 => call::DenialKind::Forbidden,
        429 => call::DenialKind::RateLimited,
        500.. => call::DenialKind::Unavailable,
        _ => call::DenialKind::InvalidArguments,
    };
    Refusal::new(status(code, rpc, text, reason), Denial::new(kind, reason, text))
}

pub(super) fn status(status: u16, code: i64, text: &str, reason: &str) -> Response {
    let body = message::error("null", code, text, &json!({ "reason": reason }));
    reply(status, body)
}

/// To a caller whose own share is used up. HTTP has a status and a header for it, too.
pub(super) fn overloaded(text: &str, era: Era) -> Refused {
    let data = json!({ "reason": "overloaded", "retryAfter": 1 });
    let mut response = reply(503, message::error("null", respond::overloaded(era), text, &data));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Refusal::new(response, Denial::new(call::DenialKind::RateLimited, "overloaded", text))
}

/// To a caller who holds more connections than are theirs, all of them at work.
pub(super) fn too_many_connections(era: Era) -> Refused {
    overloaded("too many connections of yours are open: wait for a call on one to end", era).closing()
}

/// What is kept of a refusal.
struct Turned<'a> {
    status: u16,
    asked: &'a str,
    who: Option<&'a Arc<Principal>>,
    denial: &'a Denial,
    since: Instant,
}

/// The log lines about refusals, by status and reason.
#[derive(Debug, Default)]
pub struct Lines(Mutex<HashMap<(u16, String), Arc<LogLimit>>>);

impl Lines {
    fn of(&self, status: u16, reason: &str) -> Arc<LogLimit> {
        let mut lines = self.0.lock();
        let full = lines.len() >= REASONS;
        let key = (status, reason.to_owned());
        let key = if full && !lines.contains_key(&key) { (status, String::new()) } else { key };
        lines.entry(key).or_default().clone()
    }
}

impl Mount {
    /// What its sender is told; counted, logged and on record as it should be.
    pub(super) async fn turn_away(
        &self,
        refusal: Refused,
        parts: &Parts,
        peer: &Peer,
        since: Instant,
    ) -> Response {
        let Refusal { response, denial, who, method } = *refusal;
        let asked = method.unwrap_or_else(|| format!("{} {}", parts.method, shown(parts.uri.path())));
        let status = response.status().as_u16();
        let request = Turned { status, asked: &asked, who: who.as_ref(), denial: &denial, since };
        self.note(request, parts, peer).await;
        response
    }

    /// A call that was answered before it could be made, by an error: its id is in use, say, or too long.
    pub(super) async fn refused_call(
        &self,
        method: &str,
        reply: &Outbound,
        parts: &Parts,
        peer: &Peer,
        who: &Arc<Principal>,
    ) {
        let Outbound::Last { message, status } = reply else { return };
        if !Pipeline::is_targeted(method) {
            return;
        }
        let text = message.json();
        let said = |at: &str| {
            let found = splice::get(text, at).and_then(|value| serde_json::from_str::<String>(value).ok());
            found.unwrap_or_default()
        };
        let reason = said("/error/data/reason");
        let kind = if reason == "overloaded" {
            call::DenialKind::RateLimited
        } else {
            call::DenialKind::InvalidArguments
        };
        let denial = Denial::new(kind, &reason, said("/error/message"));
        let since = Instant::now();
        let request = Turned { status: *status, asked: method, who: Some(who), denial: &denial, since };
        self.note(request, parts, peer).await;
    }

    async fn note(&self, turned: Turned<'_>, parts: &Parts, peer: &Peer) {
        let Turned { status, asked, who, denial, since } = turned;
        let ip = peer.address().ip();
        metrics::counter!("sentinel_http_refusals_total", "status" => status.to_string()).increment(1);
        if let Some(more) = self.lines.of(status, &denial.reason).may(Instant::now()) {
            let subject = who.map_or("", |who| who.subject.as_str());
            let also =
                if more == 0 { String::new() } else { format!(" ({more} more since the last such line)") };
            tracing::info!(status, from = %ip, subject, "refused {asked}: {}{also}", denial.message);
        }
        // A stream that cannot be opened is no call, nor is a page that does not exist; an attempt to get in deserves a
        // row.
        if parts.method == Method::POST || (who.is_none() && !matches!(status, 404..=406)) {
            let (address, network) = (ip.to_string(), network(ip));
            let source = who.map_or(network, |who| who.identity());
            let (door, who) = (self.endpoint.door, who.map(|who| &**who));
            let request =
                TurnedAway { door, who, address: &address, source: &source, asked, rpc_id: "", since };
            self.endpoint.pipeline.turned_away(request, denial).await;
        }
    }

    /// Nothing is served at a path.
    pub(super) fn not_found(&self, parts: &Parts) -> Refused {
        let text = format!(
            "nothing is served at {}: MCP is at {}, for POST, GET and DELETE",
            shown(parts.uri.path()),
            self.path
        );
        refused(404, code::INVALID_REQUEST, &text, "not_found")
    }

    /// Nothing can be done with a method at a path.
    pub(super) fn no_such_method(parts: &Parts, allowed: &'static str) -> Refused {
        let method: String = parts.method.as_str().chars().take(32).collect();
        let text = format!("{method} is not a method of this path: it has {allowed}");
        let mut refusal = refused(405, code::INVALID_REQUEST, &text, "method_not_allowed");
        refusal.response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        refusal
    }

    /// The stateless era has POST only.
    pub(super) fn not_here() -> Refused {
        let text = format!("revision {} has POST only", crate::mcp::STATELESS);
        let mut refusal = refused(405, code::INVALID_REQUEST, &text, "method_not_allowed");
        refusal.response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        refusal
    }
}

/// A path in a sentence: what a client sent, short.
fn shown(path: &str) -> String {
    let short: String = path.chars().take(80).collect();
    if short.len() < path.len() { format!("{short}…") } else { short }
}
