//! Speaks with one client: says what each of its messages means, and sends it what it did not ask for.

mod clients;
mod notices;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::clients::CallLine;
pub(super) use self::clients::Sole;
pub(super) use self::notices::Noticed;
use self::notices::Notices;
use super::asked::Asked;
use super::backlog::Backlog;
use super::given::Given;
use super::hub::{Hub, Listener};
use super::line::{Out, Outbound, Stream};
use super::park::Parking;
use super::respond;
use crate::call::shares::Shares;
use crate::call::{Json, Share};
use crate::mcp::catalog::List;
use crate::mcp::client::{self, Affinity, Client, Hello, Question};
use crate::mcp::envelope::{self, EnvelopeError, Message};
use crate::mcp::splice::Edit;
use crate::mcp::{Era, Params, bounds, code, era, is_of_protocol, message, method, params, splice};
use crate::pipeline::{Answer, Arrival, Caller, Failure, Pipeline, View};
use crate::session::Session;

/// What all conversations of a door share.
#[derive(Clone, Debug)]
pub struct House {
    pub pipeline: Arc<Pipeline>,
    pub hub: Arc<Hub>,
    pub parking: Arc<Parking>,
    /// `stdio` or `http`.
    pub door: &'static str,
    /// Only one client will ever come, so the connections to backends are its own.
    pub sole: bool,
    /// Ends work that has no end of its own, such as streams.
    pub stopping: CancellationToken,
}

/// How a request was taken up.
pub(super) enum TakenUp<W> {
    /// It was answered at once.
    Answered(Outbound),
    /// A task of its own works on it, and will answer.
    Away,
    /// The work that has to be done for it; it ends with the answer.
    ToDo(W),
}

/// One client's conversation.
#[derive(Debug)]
pub struct Conversation {
    pub(super) house: House,
    pub(super) session: Arc<Session>,
    /// What was settled in `initialize`, with the log level of later.
    pub(super) hello: ArcSwapOption<Hello>,
    /// Where messages go that belong to no request; bounded, so a client that does not read slows itself down.
    standing: Mutex<Option<Stream>>,
    /// What was said while nobody read the standing stream.
    backlog: Mutex<Backlog>,
    /// The session has connections to backends that it does not share.
    pub(super) exclusive: AtomicBool,
    tasks: TaskTracker,
    pub(super) asked: Mutex<Asked>,
    notices: Notices,
    /// The lists that the client has.
    pub(super) given: Given,
}

impl Conversation {
    #[must_use]
    pub fn new(house: House, session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self {
            house,
            session,
            hello: ArcSwapOption::empty(),
            standing: Mutex::default(),
            backlog: Mutex::default(),
            exclusive: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            asked: Mutex::default(),
            notices: Notices::default(),
            given: Given::default(),
        })
    }

    /// From now on what is kept for the client is counted, as this caller's.
    pub(super) fn count_kept(&self, shares: Arc<Shares>, whose: Share) {
        self.backlog.lock().count(shares, whose);
    }

    /// Where messages go that belong to no request. A second stream takes over from the first.
    pub fn stand(&self, out: Stream) {
        let mut standing = self.standing.lock();
        for message in self.backlog.lock().take() {
            // A new stream has room for all of them.
            let _ = out.try_send(Outbound::Part(message));
        }
        *standing = Some(out);
    }

    /// The client is gone: nothing more is said to it.
    pub fn leave(&self) {
        self.standing.lock().take();
    }

    /// The requests under way, to wait for.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(super) fn pipeline(&self) -> &Arc<Pipeline> {
        &self.house.pipeline
    }

    /// Which connection to servers of the handshake era its calls need.
    pub(super) fn affinity(&self) -> Affinity {
        if !self.house.sole && self.exclusive.load(Ordering::Relaxed) {
            Affinity::Session(self.session.id().clone())
        } else {
            Affinity::Shared
        }
    }

    /// Takes one message of the client, and answers on `out`. Requests run as tasks of their own, so this never waits
    /// for a backend.
    pub async fn hear(self: &Arc<Self>, text: &Bytes, out: &Out) {
        let trimmed = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
        if text.get(trimmed) == Some(&b'[') {
            return self.hear_batch(text, out).await;
        }
        match envelope::parse(text) {
            Ok(Message::Request { id, method, params }) => {
                let params = params.map(|params| Json::shared(text, params));
                if let Some(reply) = self.request(id, &method, params, out) {
                    say(out, reply).await;
                }
            }
            Ok(Message::Notification { method, params }) => self.notification(&method, params, &out.caller),
            Ok(Message::Response { id, body }) => self.response(id, body),
            Err(error) => {
                let message = complaint(&error);
                say(out, Outbound::with(message, 400)).await;
            }
        }
    }

    /// Takes one request of the stateless era, in a conversation that is over with it; its answer, if it has one at once.
    pub(super) fn hear_stateless(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: Option<Json>,
        out: &Out,
    ) -> Option<Outbound> {
        self.stateless(id, method, params, out)
    }

    /// Whether somebody reads the standing stream.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.standing.lock().as_ref().is_some_and(|out| !out.is_closed())
    }

    /// A message that was too long to be read.
    pub async fn too_long(&self, head: &[u8], limit: usize, out: &Out) {
        // The id usually stands before the large part, so that its sender can be told.
        let id = std::str::from_utf8(head).ok().and_then(|head| splice::get(head, "/id")).unwrap_or("null");
        let id = if serde_json::from_str::<&RawValue>(id).is_ok() { id } else { "null" };
        let text =
            format!("the message is longer than {limit} bytes; raise gateway.max_message_bytes to allow it");
        let data = json!({ "reason": "message_too_large" });
        say(out, Outbound::last(message::error(id, code::INVALID_REQUEST, &text, &data))).await;
    }

    /// Answers at once what needs no backend; starts a task for the rest.
    pub(super) fn request(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: Option<Json>,
        out: &Out,
    ) -> Option<Outbound> {
        match self.taken_up(id, method, params, out) {
            TakenUp::Answered(reply) => return Some(reply),
            TakenUp::Away => {}
            TakenUp::ToDo(work) => drop(self.tasks.spawn(work)),
        }
        None
    }

    /// Answers at once a request that needs no backend; for any other it returns the work to do.
    pub(super) fn taken_up(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: Option<Json>,
        out: &Out,
    ) -> TakenUp<impl Future<Output = ()> + Send + use<>> {
        if let Err(error) = bounds::check(id, method, params.as_ref().map(Json::get)) {
            return TakenUp::Answered(Outbound::with(respond::too_long(id, error), 400));
        }
        if era::is_stateless(params.as_ref().map(Json::get)) || method == "server/discover" {
            return self.stateless(id, method, params, out).map_or(TakenUp::Away, TakenUp::Answered);
        }
        if method == "ping" {
            return TakenUp::Answered(Outbound::last(message::result(id.get(), "{}")));
        }
        // From here on the policies must judge exactly what the server will read.
        let params = params.map(|params| Params::read(method, params)).transpose();
        if method == "initialize" {
            return match self.open(id, params.as_ref(), &out.caller) {
                Ok(opened) => self.greet(id, opened, out).map_or(TakenUp::Away, TakenUp::Answered),
                Err(refused) => TakenUp::Answered(Outbound::last(refused)),
            };
        }
        let Some(hello) = self.hello.load_full() else {
            let text = format!("`{method}` before `initialize`: the session is not initialised");
            let data = json!({ "reason": "not_initialized" });
            let message = message::error(id.get(), code::NOT_INITIALIZED, &text, &data);
            return TakenUp::Answered(Outbound::last(message));
        };
        let known = Pipeline::is_targeted(method)
            || List::of_method(method).is_some()
            || method == "logging/setLevel"
            || (matches!(method, "tasks/get" | "tasks/result" | "tasks/cancel")
                && self.pipeline().has_tasks())
            || (method == "tasks/list" && self.pipeline().lists_tasks())
            || !is_of_protocol(method);
        if !known {
            return TakenUp::Answered(Outbound::last(unknown(id, method)));
        }
        let in_flight = match self.session.admit(id) {
            Ok(in_flight) => in_flight,
            Err(error) => {
                let message = respond::not_admitted(id.get(), error, Era::Handshake);
                return TakenUp::Answered(Outbound::last(message));
            }
        };
        if matches!(method, "logging/setLevel" | "resources/subscribe") {
            self.exclusive.store(true, Ordering::Relaxed);
        }
        let (this, out) = (self.clone(), out.of(&in_flight));
        let (id, method) = (id.to_owned(), method.to_owned());
        TakenUp::ToDo(async move {
            let client: Arc<dyn Client> = Arc::new(CallLine {
                conversation: this.clone(),
                hello,
                out: out.clone(),
                number: in_flight.number,
            });
            let arrival = this.arrival(&out.caller, Some(&id), &method, &client);
            let arrival = Arrival { trace: out.trace.as_deref(), ..arrival };
            let mut view = None;
            let answer = match &params {
                Ok(params) => {
                    let arrival = Arrival { params: params.as_ref(), ..arrival };
                    this.work(arrival, &mut view, &in_flight.cancelled).await
                }
                Err(ambiguous) => this.pipeline().misread(arrival, ambiguous).await,
            };
            let cancelled = in_flight.cancelled.is_cancelled();
            drop(in_flight);
            let status = respond::status(&answer, Era::Handshake);
            if let Some(message) = respond::reply(id.get(), answer, Era::Handshake)
                && !cancelled
            {
                say(&out, Outbound::Last { message, status }).await;
                if let Some(view) = view {
                    this.was_given(view);
                }
            }
        })
    }

    /// The client has been given a list; it will hear when that list changes.
    pub(super) fn was_given(&self, view: View) {
        let (list, moved) = (view.list, self.pipeline().has_moved(&view));
        self.given.note(view);
        if moved {
            self.house.hub.look_again(list);
        }
    }

    /// What arrives, without its params.
    pub(super) fn arrival<'a>(
        &'a self,
        caller: &'a Caller,
        id: Option<&'a RawValue>,
        method: &'a str,
        client: &'a Arc<dyn Client>,
    ) -> Arrival<'a> {
        Arrival {
            caller,
            door: self.house.door,
            session: self.session.id(),
            rpc_id: id.map(RawValue::get),
            method,
            params: None,
            client,
            trace: None,
        }
    }

    async fn work(
        &self,
        arrival: Arrival<'_>,
        view: &mut Option<View>,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        if let Some(list) = List::of_method(arrival.method) {
            let (result, given) = self.pipeline().list(arrival, list).await?;
            *view = Some(given);
            return Ok(Answer::Result(result.into()));
        }
        if arrival.method == "logging/setLevel" {
            let level = arrival.params.and_then(|params| splice::get(params.get(), "/level"));
            if let Some((_, most)) = client::too_long(None, None, level) {
                return Err(Failure::Params(format!("`level` may have {most} bytes at most")));
            }
            if let Some((level, hello)) = level.zip(self.hello.load_full()) {
                let level = Some(message::raw(level.to_owned()));
                self.hello.store(Some(Arc::new(Hello { log_level: level, ..(*hello).clone() })));
            }
            return self.pipeline().broadcast(arrival, "logging", cancelled).await;
        }
        if arrival.method == "tasks/list" {
            return self.pipeline().list_tasks(arrival, cancelled).await;
        }
        self.pipeline().handle(arrival, cancelled).await
    }

    /// What `initialize` settled; none before it.
    #[must_use]
    pub fn hello(&self) -> Option<Arc<Hello>> {
        self.hello.load_full()
    }

    /// Says something that belongs to no request.
    pub(super) fn tell(&self, message: Bytes) {
        if self.hello.load().is_none() {
            return;
        }
        let standing = self.standing.lock();
        match standing.as_ref().map(|out| out.try_send(Outbound::Part(message.clone()))) {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => {
                tracing::debug!("a client does not read its stream; a notification was dropped");
            }
            // Between two streams of a client, or before the first: the oldest go first.
            Some(Err(TrySendError::Closed(_))) | None => {
                self.backlog.lock().push(message);
            }
        }
    }

    /// Passes a backend's question on, if the client said that it can answer such: on the stream of the request that
    /// caused it, or else on the standing one.
    pub(super) fn ask(&self, question: &Arc<Question>, out: Option<&Stream>) {
        let Some(hello) = self.hello.load_full() else {
            return question.refuse(code::INTERNAL_ERROR, "no client is connected yet");
        };
        if !hello.answers(&question.method) {
            return question.refuse(code::METHOD_NOT_FOUND, "the client does not support this");
        }
        let Some((id, text)) = self.asked.lock().add(question) else {
            return question.refuse(code::INTERNAL_ERROR, "too many questions wait for the client");
        };
        let standing = self.standing.lock().clone();
        let asked =
            out.into_iter().chain(&standing).any(|out| out.try_send(Outbound::Part(text.clone())).is_ok());
        if !asked {
            self.asked.lock().remove(id);
            question.refuse(code::INTERNAL_ERROR, "the client does not listen");
        }
    }

    /// A backend no longer wants an answer to its question: the client hears what it said, with its own id for it.
    pub(super) fn take_back(&self, key: &str, said: Option<&str>) {
        let id = self.asked.lock().take_back(key);
        if let Some(id) = id {
            let set = Edit::Set { pointer: "/requestId".to_owned(), json: id.to_string() };
            // Params that hold a member twice could name another question to the client.
            let said = said.filter(|said| params::check(method::CANCELLED, said).is_ok());
            let params = said.and_then(|said| splice::apply(said, &[set]).ok());
            let params = params.unwrap_or_else(|| format!("{{\"requestId\":{id}}}"));
            self.tell(message::notification(method::CANCELLED, Some(&params)));
        }
    }
}

impl Listener for Conversation {
    fn hear_of(&self, lists: &[List]) {
        for news in self.given.changes(self.pipeline(), lists) {
            self.tell(message::notification(news.method(), None));
        }
    }
}

/// Sends, waiting for a client that is slow to read.
pub(super) async fn say(out: &Stream, message: Outbound) {
    // The client is gone if this fails; then there is nobody to tell.
    let _ = out.send(message).await;
}

pub(super) fn unknown(id: &RawValue, method: &str) -> Bytes {
    let text = format!("method `{method}` is not known here");
    message::error(id.get(), code::METHOD_NOT_FOUND, &text, &serde_json::Value::Null)
}

/// The answer to bytes that are no message.
pub(super) fn complaint(error: &EnvelopeError<'_>) -> Bytes {
    let (id, code) = match error {
        EnvelopeError::Syntax(_) => ("null", code::PARSE_ERROR),
        EnvelopeError::Shape { id, .. } => (id.map_or("null", RawValue::get), code::INVALID_REQUEST),
    };
    message::error(id, code, &error.to_string(), &serde_json::Value::Null)
}
