//! Speaks with one client: says what each of its messages means, and sends it what it did not ask for.

mod clients;
mod notices;
mod standing;

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

use self::clients::SessionClient;
pub(super) use self::clients::StdioClient;
pub(super) use self::notices::Noticed;
use self::notices::Notices;
pub(super) use self::standing::Owner;
use self::standing::Standing;
use super::backlog::Backlog;
use super::given::Given;
use super::line::{Out, Outbound, Stream};
use super::pending::PendingRequests;
use super::respond;
use super::subscribers::{Listener, Subscribers};
use super::suspend::SuspendedCalls;
use crate::call::shares::Shares;
use crate::call::{Json, Share};
use crate::mcp::catalog::List;
use crate::mcp::client::{self, Affinity, Client, ClientInfo, ServerRequest};
use crate::mcp::envelope::{self, EnvelopeError, Message};
use crate::mcp::splice::Edit;
use crate::mcp::{
    Ambiguous, Era, Params, bounds, code, era, is_of_protocol, message, method, params, splice,
};
use crate::pipeline::{Answer, CallRequest, Caller, Failure, Pipeline, View};
use crate::session::{InFlight, Session};

/// What all conversations of a door share.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub pipeline: Arc<Pipeline>,
    pub subscribers: Arc<Subscribers>,
    pub suspended: Arc<SuspendedCalls>,
    /// `stdio` or `http`.
    pub door: &'static str,
    /// Only one client will ever come, so the connections to backends are its own.
    pub sole: bool,
    /// Ends work that has no end of its own, such as streams.
    pub stopping: CancellationToken,
}

/// What becomes of a request that a client sent.
pub(super) enum Dispatch<W> {
    /// It was answered at once.
    Reply(Outbound),
    /// A task of its own works on it, and will answer.
    Spawned,
    /// The work that has to be done for it; it ends with the answer.
    Run(W),
}

/// One client's conversation.
#[derive(Debug)]
pub struct Conversation {
    pub(super) endpoint: Endpoint,
    pub(super) session: Arc<Session>,
    /// What was settled in `initialize`, with the log level of later.
    pub(super) client_info: ArcSwapOption<ClientInfo>,
    /// Where messages go that belong to no request; bounded, so a client that does not read slows itself down.
    standing: Mutex<Option<Stream>>,
    /// Messages that came while the standing stream was not read.
    backlog: Mutex<Backlog>,
    /// The session has connections to backends that it does not share.
    pub(super) exclusive: AtomicBool,
    tasks: TaskTracker,
    pub(super) pending: Mutex<PendingRequests>,
    notices: Notices,
    /// The lists that the client has.
    pub(super) given: Given,
    /// What stands for the client without a request.
    stands: Standing,
}

impl Conversation {
    #[must_use]
    pub fn new(endpoint: Endpoint, session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            session,
            client_info: ArcSwapOption::empty(),
            standing: Mutex::default(),
            backlog: Mutex::default(),
            exclusive: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            pending: Mutex::default(),
            notices: Notices::default(),
            given: Given::default(),
            stands: Standing::default(),
        })
    }

    /// From now on what is kept for the client is counted, as this caller's.
    pub(super) fn count_kept(&self, shares: Arc<Shares>, whose: Share) {
        self.backlog.lock().count(shares, whose);
    }

    /// Where messages go that belong to no request. A second stream takes over from the first.
    pub(crate) fn attach_stream(&self, out: Stream) {
        let mut standing = self.standing.lock();
        for message in self.backlog.lock().take() {
            // A new stream has room for all of them.
            let _ = out.try_send(Outbound::Part(message));
        }
        *standing = Some(out);
    }

    /// The client is gone: nothing more is said to it.
    pub(crate) fn detach(&self) {
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
        &self.endpoint.pipeline
    }

    /// Which connection to servers of the handshake era its calls need.
    pub(super) fn affinity(&self) -> Affinity {
        if !self.endpoint.sole && self.exclusive.load(Ordering::Relaxed) {
            Affinity::Session(self.session.id().clone())
        } else {
            Affinity::Shared
        }
    }

    /// Takes one message of the client, and answers on `out`. Requests run as tasks of their own, so this never waits
    /// for a backend.
    pub async fn receive(self: &Arc<Self>, text: &Bytes, out: &Out) {
        let trimmed = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
        if text.get(trimmed) == Some(&b'[') {
            return self.receive_batch(text, out).await;
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
    pub(super) fn receive_stateless(
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
        match self.dispatch(id, method, params, out) {
            Dispatch::Reply(reply) => return Some(reply),
            Dispatch::Spawned => {}
            Dispatch::Run(work) => drop(self.tasks.spawn(work)),
        }
        None
    }

    /// Answers at once a request that needs no backend; for any other it returns the work to do.
    pub(super) fn dispatch(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: Option<Json>,
        out: &Out,
    ) -> Dispatch<impl Future<Output = ()> + Send + use<>> {
        if let Err(error) = bounds::check(id, method, params.as_ref().map(Json::get)) {
            return Dispatch::Reply(Outbound::with(respond::too_long(id, error), 400));
        }
        if era::is_stateless(params.as_ref().map(Json::get)) || method == "server/discover" {
            return self.stateless(id, method, params, out).map_or(Dispatch::Spawned, Dispatch::Reply);
        }
        if method == "ping" {
            return Dispatch::Reply(Outbound::last(message::result(id.get(), "{}")));
        }
        // From here on the policies must judge exactly what the server will read.
        let params = params.map(|params| Params::read(method, params)).transpose();
        if method == "initialize" {
            return match self.open(id, params.as_ref(), &out.caller) {
                Ok(opened) => self.greet(id, opened, out).map_or(Dispatch::Spawned, Dispatch::Reply),
                Err(refused) => Dispatch::Reply(Outbound::last(refused)),
            };
        }
        let Some(client_info) = self.client_info.load_full() else {
            return Dispatch::Reply(Outbound::last(not_initialized(id, method)));
        };
        if !self.serves(method) {
            return Dispatch::Reply(Outbound::last(unknown(id, method)));
        }
        let in_flight = match self.session.admit(id) {
            Ok(in_flight) => in_flight,
            Err(error) => {
                let message = respond::not_admitted(id.get(), error, Era::Handshake);
                return Dispatch::Reply(Outbound::last(message));
            }
        };
        if matches!(method, "logging/setLevel" | "resources/subscribe") {
            self.exclusive.store(true, Ordering::Relaxed);
        }
        let out = out.of(&in_flight);
        Dispatch::Run(self.serve(id.to_owned(), method.to_owned(), params, client_info, in_flight, out))
    }

    /// Whether this method of the handshake era is served here.
    fn serves(&self, method: &str) -> bool {
        Pipeline::is_targeted(method)
            || List::of_method(method).is_some()
            || method == "logging/setLevel"
            || (matches!(method, "tasks/get" | "tasks/result" | "tasks/cancel")
                && self.pipeline().has_tasks())
            || (method == "tasks/list" && self.pipeline().lists_tasks())
            || !is_of_protocol(method)
    }

    /// The work of a request that was taken up: to do it, and to answer it.
    fn serve(
        self: &Arc<Self>,
        id: Box<RawValue>,
        method: String,
        params: Result<Option<Params>, Ambiguous>,
        client_info: Arc<ClientInfo>,
        in_flight: InFlight,
        out: Out,
    ) -> impl Future<Output = ()> + Send + use<> {
        let this = self.clone();
        async move {
            let client: Arc<dyn Client> = Arc::new(SessionClient {
                conversation: this.clone(),
                client_info,
                out: out.clone(),
                number: in_flight.number,
            });
            let request = this.call_request(&out.caller, Some(&id), &method, &client);
            let request = CallRequest { trace: out.trace.as_deref(), ..request };
            let mut view = None;
            let answer = match &params {
                Ok(params) => {
                    let request = CallRequest { params: params.as_ref(), ..request };
                    this.work(request, &mut view, &in_flight.cancelled).await
                }
                Err(ambiguous) => this.pipeline().misread(request, ambiguous).await,
            };
            if let Some(reply) = respond::ended(&id, answer, in_flight, Era::Handshake) {
                say(&out, reply).await;
                if let Some(view) = view {
                    this.was_given(view);
                }
            }
        }
    }

    /// The client has been given a list; it will hear when that list changes.
    pub(super) fn was_given(&self, view: View) {
        let (list, moved) = (view.list, self.pipeline().has_moved(&view));
        self.given.note(view);
        if moved {
            self.endpoint.subscribers.look_again(list);
        }
    }

    /// What arrives, without its params.
    pub(super) fn call_request<'a>(
        &'a self,
        caller: &'a Caller,
        id: Option<&'a RawValue>,
        method: &'a str,
        client: &'a Arc<dyn Client>,
    ) -> CallRequest<'a> {
        CallRequest {
            caller,
            door: self.endpoint.door,
            session: self.session.id(),
            rpc_id: id.map(RawValue::get),
            method,
            params: None,
            client,
            trace: None,
            body: None,
            locate: None,
            repeat: None,
        }
    }

    async fn work(
        &self,
        request: CallRequest<'_>,
        view: &mut Option<View>,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        if let Some(list) = List::of_method(request.method) {
            let (result, given) = self.pipeline().list(request, list).await?;
            *view = Some(given);
            return Ok(Answer::own(result));
        }
        if request.method == "logging/setLevel" {
            let level = request.params.and_then(|params| splice::get(params.get(), "/level"));
            if let Some((_, most)) = client::too_long(None, None, level) {
                return Err(Failure::Params(format!("`level` may have {most} bytes at most")));
            }
            if let Some((level, client_info)) = level.zip(self.client_info.load_full()) {
                let level = Some(message::raw(level.to_owned()));
                self.client_info
                    .store(Some(Arc::new(ClientInfo { log_level: level, ..(*client_info).clone() })));
            }
            return self.pipeline().broadcast(request, "logging", cancelled).await;
        }
        if request.method == "tasks/list" {
            return self.pipeline().list_tasks(request, cancelled).await;
        }
        if standing::is_about(request.method) {
            // On the heap, because it is rare.
            return Box::pin(self.subscribes(request, cancelled)).await;
        }
        self.pipeline().handle(request, cancelled).await
    }

    /// What `initialize` settled; none before it.
    #[must_use]
    pub(crate) fn client_info(&self) -> Option<Arc<ClientInfo>> {
        self.client_info.load_full()
    }

    /// Says something that belongs to no request.
    pub(super) fn notify(&self, message: Bytes) {
        if self.client_info.load().is_some() && !self.hushes(&message) {
            self.deliver(message);
        }
    }

    /// Says it, on the standing stream if there is one.
    fn deliver(&self, message: Bytes) {
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
    pub(super) fn ask(&self, question: &Arc<ServerRequest>, out: Option<&Stream>) {
        let Some(client_info) = self.client_info.load_full() else {
            return question.refuse(code::INTERNAL_ERROR, "no client is connected yet");
        };
        if !client_info.answers(&question.method) {
            return question.refuse(code::METHOD_NOT_FOUND, "the client does not support this");
        }
        if self.stands.is_off() {
            return question.refuse(code::INTERNAL_ERROR, standing::OFF);
        }
        let Some((id, text)) = self.pending.lock().add(question) else {
            return question.refuse(code::INTERNAL_ERROR, "too many questions wait for the client");
        };
        let standing = self.standing.lock().clone();
        let asked =
            out.into_iter().chain(&standing).any(|out| out.try_send(Outbound::Part(text.clone())).is_ok());
        if !asked {
            self.pending.lock().remove(id);
            question.refuse(code::INTERNAL_ERROR, "the client does not listen");
        }
    }

    /// A backend no longer wants an answer to its question: the client hears what it said, with its own id for it.
    pub(super) fn withdraw(&self, key: &str, said: Option<&str>) {
        let id = self.pending.lock().withdraw(key);
        if let Some(id) = id {
            let set = Edit::Set { pointer: "/requestId".to_owned(), json: id.to_string() };
            // Params that hold a member twice could name another question to the client.
            let said = said.filter(|said| params::check(method::CANCELLED, said).is_ok());
            let params = said.and_then(|said| splice::apply(said, &[set]).ok());
            let params = params.unwrap_or_else(|| format!("{{\"requestId\":{id}}}"));
            self.notify(message::notification(method::CANCELLED, Some(&params)));
        }
    }
}

impl Listener for Conversation {
    fn is_judged_anew(&self) {
        // On stdio there is one way to the client, and each of its requests is judged.
        if !self.endpoint.sole {
            self.detach();
        }
    }

    fn judge_standing(&self) {
        self.judge_what_stands();
    }

    fn hear_of(&self, lists: &[List]) {
        for news in self.given.changes(self.pipeline(), lists) {
            self.notify(message::notification(news.method(), None));
        }
    }
}

/// Sends, waiting for a client that is slow to read.
pub(super) async fn say(out: &Stream, message: Outbound) {
    // This fails only if the client is gone.
    let _ = out.send(message).await;
}

fn not_initialized(id: &RawValue, method: &str) -> Bytes {
    let text = format!("`{method}` before `initialize`: the session is not initialised");
    message::error(id.get(), code::NOT_INITIALIZED, &text, &json!({ "reason": "not_initialized" }))
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
