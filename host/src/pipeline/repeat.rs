//! A request with an `Idempotency-Key` is done once, and its answer is given again to whoever repeats it.
//!
//! Rule: draft-ietf-httpapi-idempotency-key-header. The key belongs to its caller and to its route. A repetition is judged by
//! all policies and is on record like any other request; it only has no effect.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{CallContext, Failure, Pipeline};
use crate::audit::{Closing, Status};
use crate::backend::{Answer, AnswerKind, HttpHead};
use crate::call::{Call, Denial, DenialKind, Outcome};
use crate::state::once::{Begun, Once, Ticket};

/// The key of a request, and what the request says.
#[derive(Clone, Debug)]
pub struct Repeat {
    pub once: Arc<Once>,
    /// As the client sent it, without quotes.
    pub key: String,
    /// Of everything that makes it another request.
    pub fingerprint: [u8; 32],
}

/// Says of an answer that it was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What is to be done about a request.
pub(super) enum Begin {
    /// The work.
    Work(Ticket),
    /// Nothing: this is its end, which is on record.
    End(Result<Answer, Failure>),
}

/// What is known of a key.
enum Known {
    /// It is new.
    New(Ticket),
    /// The work was done, and this was its answer.
    Answered(Answer),
}

impl Repeat {
    /// Looks the key up.
    ///
    /// # Errors
    /// The work is under way, was another, or nobody knows what became of it.
    async fn look_up(&self, call: &Call) -> Result<Known, Failure> {
        let mut hash = blake3::Hasher::new();
        for part in [call.principal.identity().as_str(), &call.target.name, &self.key] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let (key, fingerprint, once) = (*hash.finalize().as_bytes(), self.fingerprint, self.once.clone());
        let begun = tokio::task::spawn_blocking(move || once.begin(key, fingerprint)).await;
        let refused = |kind, reason: &str, text: &str| Err(Failure::Denied(Denial::new(kind, reason, text)));
        match begun.map_err(std::io::Error::other).and_then(|begun| begun) {
            Ok(Begun::New(ticket)) => Ok(Known::New(ticket)),
            Ok(Begun::Done(result)) => match read(&result) {
                Some(answer) => Ok(Known::Answered(answer)),
                None => unknown(),
            },
            Ok(Begun::Running) => refused(
                DenialKind::InvalidArguments,
                "idempotency_running",
                "a request with this Idempotency-Key is being worked on: ask again when it may be done",
            ),
            Ok(Begun::Other) => refused(
                DenialKind::InvalidArguments,
                "idempotency_mismatch",
                "another request was sent with this Idempotency-Key: use a new key for a new request",
            ),
            Ok(Begun::Unknown) => unknown(),
            Ok(Begun::Full) => refused(
                DenialKind::Unavailable,
                "idempotency_full",
                "the gateway remembers as many keys as it may: try again later",
            ),
            Err(error) => {
                tracing::error!(
                    "a request with an Idempotency-Key was refused, because the key cannot be kept: {error}"
                );
                let text = "the Idempotency-Key cannot be kept, so the request was not done";
                refused(DenialKind::Unavailable, "idempotency_unavailable", text)
            }
        }
    }
}

fn unknown<T>() -> Result<T, Failure> {
    let text = "a request with this Idempotency-Key was begun, and it is not known whether it had its effect: find out before \
                you send it again with a new key";
    Err(Failure::Denied(Denial::new(DenialKind::InvalidArguments, "unknown_outcome", text)))
}

/// What is kept of an answer; none if it says that nobody knows what was done.
pub(super) fn kept(answer: &Result<Answer, Failure>) -> Option<Vec<u8>> {
    match answer {
        Ok(Answer { kind: AnswerKind::Http(head), payload, .. })
            // A server that failed may have done half of it.
            if !head.status.is_server_error() && head.streamed.is_none() =>
        {
            written(head, payload.text())
        }
        Ok(_) | Err(_) => None,
    }
}

/// Keeps the answer of a request that was done.
pub(super) async fn end(ticket: Ticket, kept: Option<Vec<u8>>) {
    let done = tokio::task::spawn_blocking(move || match kept {
        Some(kept) => ticket.done(&kept),
        None => {
            ticket.unknown();
            Ok(())
        }
    });
    if let Err(error) = done.await.map_err(std::io::Error::other).and_then(|done| done) {
        tracing::error!(
            "the answer for an Idempotency-Key cannot be kept; whoever repeats it hears that it is unknown: {error}"
        );
    }
}

#[derive(Deserialize, Serialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

fn written(answer: &HttpHead, body: &[u8]) -> Option<Vec<u8>> {
    let headers = answer.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let head = Head { status: answer.status.as_u16(), headers: headers.collect() };
    let mut bytes = serde_json::to_vec(&head).ok()?;
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    Some(bytes)
}

fn read(kept: &[u8]) -> Option<Answer> {
    let end = memchr::memchr(b'\n', kept)?;
    let head: Head = serde_json::from_slice(kept.get(..end)?).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    let head = HttpHead {
        status: StatusCode::from_u16(head.status).ok()?,
        headers,
        streamed: None,
        complaint: None,
    };
    let body = Bytes::copy_from_slice(kept.get(end + 1..)?);
    Some(Answer { kind: AnswerKind::Http(Box::new(head)), outcome: Outcome::Success, payload: body.into() })
}

impl Pipeline {
    /// Begins a call that is done once. One that was done already gets its answer again.
    pub(super) async fn once(&self, context: &CallContext<'_>, call: &Arc<Call>, repeat: &Repeat) -> Begin {
        match repeat.look_up(call).await {
            Ok(Known::New(ticket)) => Begin::Work(ticket),
            Ok(Known::Answered(answer)) => Begin::End(self.replayed(context, call, answer).await),
            Err(failure) => {
                Begin::End(self.refuse(context, Some(&call.principal), Some(call), failure).await)
            }
        }
    }

    /// Records that an answer was given again.
    async fn replayed(
        &self,
        context: &CallContext<'_>,
        call: &Call,
        answer: Answer,
    ) -> Result<Answer, Failure> {
        let notes = [("idempotent_replay".to_owned(), "true".to_owned())];
        let latency = context.since.elapsed();
        let closing = Closing { status: Status::Success, error: None, latency, notes: &notes };
        let entry = context.entry(Some(&call.principal), Some(call));
        self.recorded(self.audit.refused(context.id, &entry, &closing).await, &call.target.name, context)?;
        self.meters.count(&call.target.name, Status::Success, None, latency);
        Ok(answer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let head = HttpHead { status: StatusCode::CREATED, headers, streamed: None, complaint: None };
        let again = read(&written(&head, b"a\nb\xff").unwrap()).unwrap();
        let AnswerKind::Http(head) = &again.kind else { panic!("{again:?}") };
        assert_eq!((head.status, &**again.payload.text()), (StatusCode::CREATED, &b"a\nb\xff"[..]));
        assert_eq!(head.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(head.headers[REPLAYED], "true");
        assert!(read(b"").is_none() && read(b"{}\n").is_none());
    }
}
