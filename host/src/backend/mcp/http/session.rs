//! A session of a server that gives out sessions, and the next one after the server has forgotten it.
//!
//! A server that does not know a session has not looked at the request that named it. So the session is opened again, with
//! the words it was opened with, and that request is sent once more; whatever else is under way goes on undisturbed.
//!
//! Rule: MCP, "Transports", session management.

use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::super::transport::{Incoming, Outgoing, TransportError};
use super::body::{answers, refused};
use super::deliver::{answer_of, deliver};
use super::send::{Sending, send};
use super::{Link, headers};
use crate::mcp::{message, method, said, splice};
use crate::queue;

/// The id of the one request that the transport makes by itself; the peer's ids begin with 1 and never come this far.
const PROBE: u64 = 1 << 52;
/// A session that is in doubt is asked about at most so often.
const DOUBTS: Duration = Duration::from_secs(1);
/// Sessions that are remembered only to be deleted.
const STRAYS: usize = 8;

/// The session of a transport.
#[derive(Debug, Default)]
pub(super) struct Session {
    current: RwLock<Option<Named>>,
    /// The message that opened it.
    opening: Mutex<Option<Outgoing>>,
    /// The holder of this lock asks about the session or opens the next one. It holds the time of the last such question.
    turn: tokio::sync::Mutex<Option<Instant>>,
    /// Sessions that a server gave out and the gateway does not use.
    strays: Mutex<Vec<HeaderValue>>,
    /// Notified when there is a new session: whatever belonged to the old one has to be set up again.
    pub(super) renewed: Notify,
}

/// One session, with its number on the transport, because a server may give out the same id again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    number: u64,
    value: HeaderValue,
}

impl Named {
    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }
}

impl Session {
    pub(super) fn current(&self) -> Option<Named> {
        self.current.read().clone()
    }

    /// Remembers what the answer to `initialize` opened.
    pub(super) fn opened(&self, headers: &HeaderMap, opening: &Outgoing) {
        if let Some(value) = given(headers) {
            *self.current.write() = Some(Named { number: 0, value });
            *self.opening.lock() = Some(opening.clone());
        }
    }

    /// Remembers a session that was given out unasked, so that it is deleted.
    pub(super) fn stray(&self, headers: &HeaderMap) {
        let Some(value) = given(headers) else { return };
        let mut strays = self.strays.lock();
        if strays.len() < STRAYS && !strays.contains(&value) {
            strays.push(value);
        }
    }
}

fn given(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut value = headers.get(headers::SESSION).filter(|value| !value.is_empty())?.clone();
    value.set_sensitive(true);
    Some(value)
}

/// What a refusal with a 4xx status means for the session that the request named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server does not know it, and has not looked at the request.
    Over,
    /// It may be that.
    Doubtful,
    /// It is about the request.
    Alive,
}

/// Judges a refusal; `answers` says whether it is the JSON-RPC answer to the request itself.
///
/// The specification has one status for it, 404. In practice 400 is as frequent (the examples of the TypeScript SDK,
/// older Python SDKs), and 401 (older Rust SDKs) and 410 occur; then the text decides.
pub(super) fn judge(status: StatusCode, body: &[u8], answers: bool) -> Verdict {
    let said = || speaks_of_it(&said::in_body(body));
    match status.as_u16() {
        404 | 410 if !answers || said() => Verdict::Over,
        400 | 401 | 422 if said() => Verdict::Over,
        400 if !answers => Verdict::Doubtful,
        // Some servers say it so; with others the status is about a tool.
        500 | 503 if said() => Verdict::Doubtful,
        _ => Verdict::Alive,
    }
}

/// Whether a server's sentence is that it does not know the session.
fn speaks_of_it(said: &str) -> bool {
    const MISSING: [&str; 12] = [
        "not found",
        "no valid",
        "invalid",
        "unknown",
        "expired",
        "terminated",
        "not exist",
        "n't exist",
        "missing",
        "required",
        "closed",
        "no active",
    ];
    let said = said.to_lowercase();
    if said.len() > 300 {
        return false;
    }
    let of_session = said.contains("session") && MISSING.iter().any(|word| said.contains(word));
    of_session || said.contains("server not initialized") || said.contains("not been initialized")
}

/// Opens the next session in place of one that the server does not know. One task does it, the others wait for that task.
///
/// # Errors
/// The server does not open another like the first.
pub(super) async fn renew(
    link: &Link,
    incoming: &queue::Sender<Incoming>,
    lost: &Named,
) -> Result<(), TransportError> {
    let turn = link.session.turn.lock().await;
    if link.session.current().as_ref() != Some(lost) {
        return Ok(());
    }
    reopen(link, lost).await?;
    drop(turn);
    tracing::debug!(
        backend = link.name,
        "the server had forgotten the session; the gateway opened a new one"
    );
    link.session.renewed.notify_one();
    deliver(incoming, Incoming::Renewed).await;
    Ok(())
}

async fn reopen(link: &Link, lost: &Named) -> Result<(), TransportError> {
    let opening = link.session.opening.lock().clone();
    let Some((opening, id)) = opening.and_then(|opening| opening.id.map(|id| (opening, id))) else {
        return Err(TransportError::SessionLost);
    };
    let request = Sending::post(opening.body.clone(), &opening.headers).unversioned();
    let response = timeout(link.times.timeout(), send(link, &request)).await.map_err(|_| link.silent())??;
    if !response.status().is_success() {
        return Err(refused(link, response).await.0);
    }
    // It is there from now on, whatever becomes of it.
    link.session.stray(response.headers());
    let next = given(response.headers()).map(|value| Named { number: lost.number + 1, value });
    let answer = answer_of(link, response, id).await?;
    let version = splice::get(answer.json(), "/result/protocolVersion").map(|json| json.trim_matches('"'));
    let agreed = link.version.read().clone();
    if agreed.as_ref().is_some_and(|agreed| version.map(str::as_bytes) != Some(agreed.as_bytes())) {
        return Err(TransportError::Protocol(
            "after it forgot the session it wants another revision".to_owned(),
        ));
    }
    let body = message::notification(method::INITIALIZED, None);
    let request = Sending::post(body, &[]).within(next.as_ref().map(Named::value));
    let response = timeout(link.times.timeout(), send(link, &request)).await.map_err(|_| link.silent())??;
    if !response.status().is_success() {
        return Err(refused(link, response).await.0);
    }
    if let Some(next) = &next {
        link.session.strays.lock().retain(|stray| stray != next.value());
    }
    *link.session.current.write() = next;
    Ok(())
}

/// Asks the server whether it still knows a session, after something that may mean that it does not, and opens the next
/// one if so. True if the session is another one now.
///
/// # Errors
/// As for [`renew`].
pub(super) async fn ask(
    link: &Link,
    incoming: &queue::Sender<Incoming>,
    session: &Named,
) -> Result<bool, TransportError> {
    {
        let mut asked = link.session.turn.lock().await;
        if link.session.current().as_ref() != Some(session) {
            return Ok(true);
        }
        if asked.is_some_and(|at| at.elapsed() < DOUBTS) {
            return Ok(false);
        }
        *asked = Some(Instant::now());
        if knows(link, session).await {
            return Ok(false);
        }
    }
    renew(link, incoming, session).await?;
    Ok(true)
}

/// Whether the server answers a `ping` in this session. An answer that says nothing about the session counts as yes.
async fn knows(link: &Link, session: &Named) -> bool {
    let request = Sending::post(message::request(PROBE, "ping", None), &[]).within(Some(session.value()));
    let Ok(Ok(response)) = timeout(link.times.timeout(), send(link, &request)).await else { return true };
    let status = response.status();
    if status.is_success() {
        return true;
    }
    let (_, body) = refused(link, response).await;
    let answers = answers(&body, PROBE);
    // A ping has nothing that could be wrong but the session.
    judge(status, &body, answers) == Verdict::Alive
}

/// Deletes every session that the server gave out on this transport.
pub(super) async fn delete(link: &Link) {
    let mut sessions: Vec<Named> =
        link.session.strays.lock().drain(..).map(|value| Named { number: 0, value }).collect();
    sessions.extend(link.session.current());
    let deleted = sessions.iter().map(async |session| {
        // 405 means that the server ends sessions by itself; any other answer changes nothing either.
        match send(link, &Sending::delete().within(Some(session.value()))).await {
            Ok(answer) => tracing::debug!(backend = link.name, status = %answer.status(), "session deleted"),
            Err(error) => tracing::debug!(backend = link.name, %error, "session not deleted"),
        }
    });
    futures_util::future::join_all(deleted).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_says_about_the_session() {
        use Verdict::{Alive, Doubtful, Over};
        for (status, body, answers, verdict) in [
            (404, "", false, Over),
            (404, r#"{"error":{"code":-32001,"message":"Session not found"},"id":null}"#, false, Over),
            (404, r#"{"error":{"code":-32602,"message":"Unknown tool"},"id":3}"#, true, Alive),
            (410, "gone", false, Over),
            (
                400,
                r#"{"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}"#,
                false,
                Over,
            ),
            (
                400,
                r#"{"error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}"#,
                false,
                Over,
            ),
            (400, "Invalid or missing session ID", false, Over),
            (401, "Unauthorized: Session not found", false, Over),
            (401, "the token has expired", false, Alive),
            (
                400,
                r#"{"error":{"code":-32602,"message":"limit must be at most 50"},"id":null}"#,
                false,
                Doubtful,
            ),
            (400, r#"{"error":{"code":-32602,"message":"limit must be at most 50"},"id":3}"#, true, Alive),
            (403, "session", false, Alive),
            (429, "too many sessions", false, Alive),
            (503, r#"{"error":"Unknown session"}"#, false, Doubtful),
            (503, "busy", false, Alive),
        ] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            assert_eq!(judge(status, body.as_bytes(), answers), verdict, "{status} {body}");
        }
    }
}
