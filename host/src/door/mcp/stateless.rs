//! The stateless era at a door (2026-07-28): every request is complete in itself and says which client sends it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::conversation::{Conversation, say, unknown};
use super::line::{Out, Outbound};
use super::respond;
use super::suspend::{self, Found, RunningCall};
use crate::call::{Denial, Json, Principal, Share};
use crate::mcp::catalog::List;
use crate::mcp::client::{Affinity, Client, ClientInfo, Nobody, ServerRequest};
use crate::mcp::splice::{self, Edit};
use crate::mcp::{Ambiguous, Era, Params, bounds, code, era, is_of_protocol, message};
use crate::pipeline::{Answer, CallRequest, Failure, TASKS, View};
use crate::session::InFlight;

/// Questions of one call that wait to be asked.
const MAX_QUESTIONS: usize = 32;

/// One stateless request.
#[derive(Debug)]
struct StatelessClient {
    client_info: ClientInfo,
    affinity: Affinity,
    /// The stream of the request that waits now; a call that was set aside gets a new one.
    out: Arc<Mutex<Out>>,
    questions: mpsc::Sender<Arc<ServerRequest>>,
}

impl Client for StatelessClient {
    fn client_info(&self) -> &ClientInfo {
        &self.client_info
    }

    fn affinity(&self) -> Affinity {
        self.affinity.clone()
    }

    fn notify(&self, message: Bytes) {
        // Without a level no log message may be sent, whatever the server thinks.
        let text = std::str::from_utf8(&message).unwrap_or("{}");
        let method =
            splice::get(text, "/method").and_then(|method| serde_json::from_str::<String>(method).ok());
        if self.client_info.log_level.is_some() || method.as_deref() != Some("notifications/message") {
            let _ = self.out.lock().try_send(Outbound::Part(message));
        }
    }

    fn ask(&self, question: Arc<ServerRequest>) {
        if !self.client_info.answers(&question.method) {
            return question.refuse(code::METHOD_NOT_FOUND, "the client does not support this");
        }
        if let Err(error) = self.questions.try_send(question) {
            error.into_inner().refuse(code::INTERNAL_ERROR, "too many questions wait for the client");
        }
    }

    fn withdraw(&self, _: &str, _: Option<&str>) {
        // The client hears of the question with the end of its request; by then it is answered or refused.
    }

    fn cancel_reason(&self) -> Option<Box<RawValue>> {
        self.out.lock().cancel_reason()
    }
}

/// A request with a status that HTTP has for it.
fn refused(id: &RawValue, status: u16, code: i64, text: &str, data: &serde_json::Value) -> Outbound {
    Outbound::with(message::error(id.get(), code, text, data), status)
}

/// What a request of the stateless era is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Something of a backend.
    Target,
    /// A list, or what the gateway says of itself.
    List,
    /// To hear of changes.
    Listen,
}

/// A request that was taken up.
struct Asked {
    id: Box<RawValue>,
    method: String,
    params: Result<Params, Ambiguous>,
    client_info: ClientInfo,
    purpose: Purpose,
}

/// What the sender says of itself.
fn sender(id: &RawValue, params: &Json) -> Result<ClientInfo, Outbound> {
    era::read_meta(params.get()).map_err(|error| match error {
        (code::UNSUPPORTED_VERSION, requested) => {
            let data = json!({ "supported": era::all_revisions(), "requested": requested });
            let text = format!("protocol version {requested:?} is not spoken here");
            refused(id, 400, code::UNSUPPORTED_VERSION, &text, &data)
        }
        (code, text) => refused(id, 400, code, &text, &json!({ "reason": "invalid_arguments" })),
    })
}

impl Conversation {
    pub(super) fn stateless(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: Option<Json>,
        out: &Out,
    ) -> Option<Outbound> {
        let params = params.unwrap_or_else(Json::empty);
        if let Err(error) = bounds::check(id, method, Some(params.get())) {
            return Some(Outbound::with(respond::too_long(id, error), 400));
        }
        // What the sender says of itself is read first; if it can be read in two ways, so can the rest.
        let client_info = match sender(id, &params) {
            Ok(client_info) => client_info,
            Err(refused) => return Some(refused),
        };
        // Its abilities come with each call, and no handshake will follow that the backends could wait for.
        if self.endpoint.sole {
            self.pipeline().client_declares_nothing();
        }
        let purpose = match self.purpose(id, method, &client_info) {
            Ok(purpose) => purpose,
            Err(refused) => return Some(refused),
        };
        let in_flight = match self.session.admit(id) {
            Ok(in_flight) => in_flight,
            Err(error) => {
                return Some(Outbound::last(respond::not_admitted(id.get(), error, Era::Stateless)));
            }
        };
        let params = Params::read(method, params);
        let asked = Asked { id: id.to_owned(), method: method.to_owned(), params, client_info, purpose };
        let out = out.of(&in_flight);
        self.tasks().spawn(self.clone().serve_stateless(asked, in_flight, out));
        None
    }

    /// What a request is for, or the answer to one that is for nothing here.
    fn purpose(&self, id: &RawValue, method: &str, client_info: &ClientInfo) -> Result<Purpose, Outbound> {
        if matches!(method, "tasks/get" | "tasks/update" | "tasks/cancel")
            && self.pipeline().extensions().contains_key(TASKS)
        {
            let declared = format!("/extensions/{}", TASKS.replace('/', "~1"));
            if splice::get(client_info.capabilities.get(), &declared).is_some() {
                return Ok(Purpose::Target);
            }
            let data = json!({ "requiredCapabilities": { "extensions": { TASKS: {} } } });
            let text = format!("`{method}` needs the capability `{TASKS}`");
            return Err(refused(id, 400, code::MISSING_CAPABILITY, &text, &data));
        }
        match method {
            "tools/call" | "prompts/get" | "resources/read" | "completion/complete" => Ok(Purpose::Target),
            "server/discover" => Ok(Purpose::List),
            "subscriptions/listen" => Ok(Purpose::Listen),
            _ if List::of_method(method).is_some() => Ok(Purpose::List),
            _ if !is_of_protocol(method) => Ok(Purpose::Target),
            _ => Err(Outbound::with(unknown(id, method), 404)),
        }
    }

    /// Does a request that was taken up, and answers it.
    fn serve_stateless(
        self: Arc<Self>,
        asked: Asked,
        in_flight: InFlight,
        out: Out,
    ) -> impl Future<Output = ()> + Send + use<> {
        let Asked { id, method, params, client_info, purpose } = asked;
        async move {
            let mut view = None;
            let answer = match (&params, purpose) {
                (Err(ambiguous), _) => {
                    let client: Arc<dyn Client> = Nobody::new();
                    let request = self.call_request(&out.caller, Some(&id), &method, &client);
                    self.pipeline().misread(request, ambiguous).await
                }
                (Ok(params), Purpose::Target) => {
                    self.stateless_call(&id, &method, params, client_info, &out, &in_flight.cancelled).await
                }
                (Ok(params), Purpose::Listen) => self.listen(&id, params, &out, &in_flight.cancelled).await,
                (Ok(params), Purpose::List) => {
                    self.stateless_list(&id, &method, params, client_info, &mut view, &out).await
                }
            };
            if let Some(reply) = respond::ended(&id, answer, in_flight, Era::Stateless) {
                say(&out, reply).await;
                if let Some(view) = view {
                    self.was_given(view);
                }
            }
        }
    }

    async fn stateless_list(
        &self,
        id: &RawValue,
        method: &str,
        params: &Params,
        client_info: ClientInfo,
        view: &mut Option<View>,
        out: &Out,
    ) -> Result<Answer, Failure> {
        let (questions, _) = mpsc::channel(1);
        let (caller, trace) = (out.caller.clone(), out.trace.clone());
        let out = Arc::new(Mutex::new(out.clone()));
        let client: Arc<dyn Client> =
            Arc::new(StatelessClient { client_info, affinity: Affinity::Shared, out, questions });
        let trace = trace.as_deref();
        let request = CallRequest {
            params: Some(params),
            trace,
            ..self.call_request(&caller, Some(id), method, &client)
        };
        let result = match List::of_method(method) {
            Some(list) => {
                let (result, given) = self.pipeline().list(request, list).await?;
                *view = Some(given);
                result
            }
            None => {
                let who = self.pipeline().known(&request).await?;
                self.pipeline().introduced().await;
                self.discovery(&who)
            }
        };
        Ok(Answer::own(era::result_to_stateless(method, &result, &era::server_info())))
    }

    fn discovery(&self, who: &Arc<Principal>) -> String {
        let mut result = json!({
            "supportedVersions": era::all_revisions(),
            "capabilities": {
                "tools": { "listChanged": true },
                "resources": { "subscribe": true, "listChanged": true },
                "prompts": { "listChanged": true },
                "completions": {},
                "logging": {},
            },
        });
        if let Some(instructions) = self.pipeline().instructions(who, self.session.id(), self.endpoint.door) {
            result["instructions"] = instructions.into();
        }
        let result = result.to_string();
        let extensions = self.pipeline().extensions();
        let Some(json) = serde_json::to_string(&extensions).ok().filter(|_| !extensions.is_empty()) else {
            return result;
        };
        let set = Edit::Set { pointer: "/capabilities/extensions".to_owned(), json };
        splice::apply(&result, &[set]).unwrap_or(result)
    }

    async fn stateless_call(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: &Params,
        client_info: ClientInfo,
        out: &Out,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let who = match self.pipeline().identify(&out.caller) {
            Ok(who) => who,
            Err(denial) => return self.stranger(id, method, params, client_info, out, denial).await,
        };
        let identity = who.identity();
        let bound = suspend::bound(&identity, method, params.get());
        let state = splice::get(params.get(), "/requestState");
        let state = state.and_then(|state| serde_json::from_str::<String>(state).ok());
        let mut running = match state
            .map_or(Found::Foreign, |state| self.endpoint.suspended.find(&state, &bound))
        {
            Found::Foreign => self.start_call(id, method, params, client_info, &identity, out),
            // It ended while nobody was there; what the client brings now comes too late for it.
            Found::Call(running) if running.work.is_finished() => {
                return running.work.await.unwrap_or(Err(Failure::Cancelled));
            }
            Found::Call(mut running) => {
                *running.out.lock() = out.clone();
                running.answer(splice::get(params.get(), "/inputResponses").unwrap_or("{}"));
                running
            }
            Found::Expired => {
                let text = "`requestState` is not one the gateway gave out for this request, or it was used or is too old";
                return Err(Failure::Params(text.to_owned()));
            }
        };
        if running.open.is_empty()
            && let Some(done) = running.until_it_asks(cancelled).await
        {
            return done;
        }
        let required = running.required();
        let suspended = &self.endpoint.suspended;
        // On stdio there is nobody to share with.
        let share = if self.endpoint.sole { Share::SOLE } else { who.share() };
        let state = suspended.suspend(running, &bound, share, params.get().len()).ok_or_else(|| {
            let text = "too many of your calls wait for an answer of yours: answer one of them first";
            Failure::Denied(Denial::overloaded(text))
        })?;
        let set = Edit::Set { pointer: "/requestState".to_owned(), json: message::quoted(&state) };
        let required = era::result_to_stateless("", &required, &era::server_info());
        Ok(Answer::own(splice::apply(&required, &[set]).unwrap_or(required)))
    }

    /// Refuses the call of an unknown caller, with a record.
    async fn stranger(
        &self,
        id: &RawValue,
        method: &str,
        params: &Params,
        client_info: ClientInfo,
        out: &Out,
        denial: Denial,
    ) -> Result<Answer, Failure> {
        let (questions, _) = mpsc::channel(1);
        let waits = Arc::new(Mutex::new(out.clone()));
        let line = StatelessClient { client_info, affinity: Affinity::Shared, out: waits, questions };
        let client: Arc<dyn Client> = Arc::new(line);
        let request = self.call_request(&out.caller, Some(id), method, &client);
        self.pipeline().stranger(CallRequest { params: Some(params), ..request }, denial).await
    }

    /// Begins a call that outlives its request if it has to ask.
    fn start_call(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: &Params,
        client_info: ClientInfo,
        identity: &str,
        out: &Out,
    ) -> RunningCall {
        let (ask, questions) = mpsc::channel(MAX_QUESTIONS);
        let affinity = if client_info.answers_any() || client_info.log_level.is_some() {
            // Callers alike: the same person who can be asked the same and hears the same.
            let level = client_info.log_level.as_ref().map_or("", |level| level.get());
            Affinity::Lease(format!("{identity}\u{1f}{level}\u{1f}{}", client_info.capabilities.get()).into())
        } else {
            Affinity::Shared
        };
        let (caller, trace) = (out.caller.clone(), out.trace.clone());
        let out = Arc::new(Mutex::new(out.clone()));
        let line = StatelessClient { client_info, affinity, out: out.clone(), questions: ask };
        let cancel = CancellationToken::new();
        let (this, stop) = (self.clone(), cancel.clone());
        let (id, method, params) = (id.to_owned(), method.to_owned(), params.clone());
        let work = self.tasks().spawn(async move {
            let client: Arc<dyn Client> = Arc::new(line);
            let request = this.call_request(&caller, Some(&id), &method, &client);
            let request = CallRequest { params: Some(&params), trace: trace.as_deref(), ..request };
            this.pipeline().handle(request, &stop).await
        });
        RunningCall { work, questions, open: Vec::new(), asked: 0, out, cancel }
    }
}
