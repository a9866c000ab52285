//! The client's side of a call: what it said of itself, and the way back to it while a backend works.

mod notice;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;

pub use self::notice::ClientNotice;
pub use super::client_info::{ClientInfo, too_long};
use super::revision::REVISIONS;
use super::{code, message, params, splice};

/// Which connection to a server of the handshake era a call needs. There, capabilities, log level and subscriptions
/// belong to the connection, and a question of the server does not say which request caused it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// The connection everybody shares.
    Shared,
    /// One for all calls of this session.
    Session(Arc<str>),
    /// One of the connections for callers with these abilities, for this call alone.
    Lease(Arc<str>),
}

/// The way back to the client of one call. Nothing here waits: a client that does not read loses progress and log
/// messages, never an answer.
pub trait Client: Send + Sync + fmt::Debug {
    /// What the client said of itself.
    fn client_info(&self) -> &ClientInfo;
    /// Which connection the call needs.
    fn affinity(&self) -> Affinity;
    /// Passes a notification on that belongs to the call; a whole JSON-RPC message.
    fn notify(&self, message: Bytes);
    /// Asks the client something. The answer, or a refusal, goes through the question.
    fn ask(&self, question: Arc<ServerRequest>);
    /// The server no longer wants the answer; `said` are the params of its notification.
    fn withdraw(&self, key: &str, said: Option<&str>);
    /// Whether what goes to it is looked at by rewriters of its call first.
    fn is_sieved(&self) -> bool {
        false
    }
    /// Whether something that the client asked before this is still under way.
    fn has_asked_before(&self) -> bool {
        false
    }
    /// What the client said when it cancelled the call: the params of its notification, none if it did not.
    fn cancel_reason(&self) -> Option<Box<RawValue>> {
        None
    }
}

/// How a question ended: the client's result or its JSON-RPC error object.
#[derive(Clone, Debug)]
pub enum Answered {
    Result(Box<RawValue>),
    Error(Box<RawValue>),
}

type Reply = Box<dyn FnOnce(Answered) + Send>;
type Hear = Box<dyn Fn(&ClientNotice) + Send + Sync>;

/// A question of a server to the client. It is answered once; a question without an answer is refused when it is
/// dropped.
pub struct ServerRequest {
    /// Unique in this process.
    pub serial: u64,
    /// By what the server takes it back: its own id, with the connection's number.
    pub key: String,
    pub method: String,
    pub params: Option<Box<RawValue>>,
    reply: Mutex<Option<Reply>>,
    /// Takes a client's notifications about it, before or after the answer; none where the server has no use for them.
    hear: Option<Hear>,
}

impl ServerRequest {
    #[must_use]
    pub fn new(
        key: String,
        method: String,
        params: Option<Box<RawValue>>,
        reply: impl FnOnce(Answered) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self::made(key, method, params, Box::new(reply), None))
    }

    /// One whose server also hears what the client says about it.
    #[must_use]
    pub fn heard(
        key: String,
        method: String,
        params: Option<Box<RawValue>>,
        reply: impl FnOnce(Answered) + Send + 'static,
        hear: impl Fn(&ClientNotice) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self::made(key, method, params, Box::new(reply), Some(Box::new(hear))))
    }

    fn made(
        key: String,
        method: String,
        params: Option<Box<RawValue>>,
        reply: Reply,
        hear: Option<Hear>,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Self { serial, key, method, params, reply: Mutex::new(Some(reply)), hear }
    }

    /// Hands the answer over; a second one is dropped. One that two readers could read differently is not passed on: the
    /// server is told so in its place.
    pub fn answer(&self, answer: Answered) {
        let Some(reply) = self.reply.lock().take() else { return };
        let checked = match &answer {
            Answered::Result(result) => params::check_answer(&self.method, Ok(result)),
            Answered::Error(error) => params::check_answer(&self.method, Err(error)),
        };
        reply(match checked {
            Ok(()) => answer,
            Err(ambiguous) => {
                tracing::warn!(method = %self.method.escape_debug(), "a client's answer was not passed on to the server: {ambiguous}");
                error(
                    code::INTERNAL_ERROR,
                    "the client's answer can be read in two ways, so it is not passed on",
                )
            }
        });
    }

    /// Passes on what the client says about it.
    pub fn notify(&self, notice: &ClientNotice) {
        if let Some(hear) = &self.hear {
            hear(notice);
        }
    }

    /// The server's own token, if it wants to hear how far the client is.
    #[must_use]
    pub(crate) fn progress_token(&self) -> Option<&str> {
        splice::get(self.params.as_deref()?.get(), "/_meta/progressToken")
    }

    /// Whether the server lets the client answer with a task (2025-11-25, "Tasks").
    #[must_use]
    pub(crate) fn may_be_task(&self) -> bool {
        self.params.as_deref().is_some_and(|params| splice::get(params.get(), "/task").is_some())
    }

    /// Answers with an error of the gateway's.
    pub fn refuse(&self, code: i64, text: &str) {
        self.answer(error(code, text));
    }
}

/// An error of the gateway's.
fn error(code: i64, text: &str) -> Answered {
    let error = serde_json::json!({ "code": code, "message": text }).to_string();
    Answered::Error(message::raw(error))
}

impl fmt::Debug for ServerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRequest")
            .field("key", &self.key)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Drop for ServerRequest {
    fn drop(&mut self) {
        self.refuse(code::INTERNAL_ERROR, "the client is gone");
    }
}

/// The client of the gateway's own requests: it receives nothing and can answer nothing.
#[derive(Debug)]
pub struct Nobody(ClientInfo);

impl Nobody {
    #[must_use]
    pub fn new() -> Arc<Self> {
        let capabilities = message::raw("{}".to_owned());
        Arc::new(Self(ClientInfo { version: REVISIONS[0], capabilities, info: None, log_level: None }))
    }
}

impl Client for Nobody {
    fn client_info(&self) -> &ClientInfo {
        &self.0
    }
    fn affinity(&self) -> Affinity {
        Affinity::Shared
    }
    fn notify(&self, _: Bytes) {}
    fn ask(&self, question: Arc<ServerRequest>) {
        question.refuse(code::METHOD_NOT_FOUND, "nobody is there to answer");
    }
    fn withdraw(&self, _: &str, _: Option<&str>) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_once_and_a_forgotten_one_refused() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |seen: &Arc<Mutex<Vec<String>>>| {
            let seen = seen.clone();
            move |answer| {
                seen.lock().push(match answer {
                    Answered::Result(result) => result.get().to_owned(),
                    Answered::Error(error) => error.get().to_owned(),
                });
            }
        };
        let one = ServerRequest::new("1".into(), "roots/list".into(), None, note(&seen));
        one.answer(Answered::Result(message::raw("{\"roots\":[]}".to_owned())));
        one.refuse(1, "late");
        drop(one);
        drop(ServerRequest::new("2".into(), "roots/list".into(), None, note(&seen)));
        let seen = seen.lock();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], "{\"roots\":[]}");
        assert!(seen[1].contains("-32603"), "{}", seen[1]);
    }

    #[test]
    fn an_answer_that_can_be_read_in_two_ways_is_an_error_for_the_server() {
        for (method, answer, passed) in [
            ("elicitation/create", r#"{"action":"decline","action":"accept"}"#, false),
            ("elicitation/create", r#"{"action":"decline","Action":"accept"}"#, false),
            ("elicitation/create", r#"{"action":"accept","content":{"Name":"a","name":"b"}}"#, true),
            ("elicitation/create", r#"{"action":"accept","content":{"a":1,"a":2}}"#, false),
            ("sampling/createMessage", r#"{"role":"user","content":{"Type":"text"}}"#, false),
            ("roots/list", r#"{"roots":[{"uri":"file:///a","URI":"file:///"}]}"#, false),
            ("vendor/ask", r#"{"x":{"Name":1}}"#, true),
        ] {
            let seen = Arc::new(Mutex::new(None));
            let note = seen.clone();
            let question = ServerRequest::new("1".into(), method.into(), None, move |answer| {
                *note.lock() = Some(answer)
            });
            question.answer(Answered::Result(message::raw(answer.to_owned())));
            let seen = seen.lock().take();
            assert_eq!(matches!(seen, Some(Answered::Result(_))), passed, "{answer}: {seen:?}");
        }
    }

    #[test]
    fn capabilities_say_which_questions_are_answered() {
        let client_info = ClientInfo {
            version: "2025-11-25",
            capabilities: message::raw(r#"{"elicitation":{}}"#.to_owned()),
            info: None,
            log_level: None,
        };
        assert!(
            client_info.answers("elicitation/create")
                && !client_info.answers("roots/list")
                && client_info.answers_any()
        );
    }
}
