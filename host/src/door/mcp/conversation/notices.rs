//! Messages of a client that get no answer: notifications, and its answers to the questions of servers.
//!
//! Many servers look at the method of a message alone. A notification with the name of a request would be a request to
//! them, and no policy would have judged it. So none is passed on as it came: a few that every client may send are
//! judged by its session ([`ClientNotice`]); those that are not MCP's go through the pipeline as a call does, without
//! an answer; all others are dropped, and the log says so.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::pending;
use super::Conversation;
use crate::mcp::bounds;
use crate::mcp::client::ClientNotice;
use crate::mcp::client::{Affinity, Client, ClientInfo, ServerRequest};
use crate::mcp::envelope::Body;
use crate::mcp::method::Notice;
use crate::mcp::{Params, code, era, splice};
use crate::pipeline::{CallRequest, Caller, Failure};

/// Notifications of one client that are under way through the pipeline at once.
const MAX_UNDER_WAY: usize = 32;
/// Methods that the log names for one session.
const MAX_NAMED: usize = 16;
/// Characters of a method that a log line shows.
const MAX_SHOWN: usize = 64;

/// What became of the notifications of one client.
#[derive(Debug)]
pub(super) struct Notices {
    /// Methods that were dropped and logged.
    named: Mutex<HashSet<String>>,
    under_way: Arc<Semaphore>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { named: Mutex::default(), under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)) }
    }
}

impl Notices {
    /// Says that a notification was dropped: once for a session and method.
    fn dropped(&self, session: &str, method: &str, why: &str) {
        let method: String = method.escape_debug().take(MAX_SHOWN).collect();
        let mut named = self.named.lock();
        if named.len() < MAX_NAMED && named.insert(method.clone()) {
            tracing::warn!(session, method, "a notification of the client was dropped: {why}");
        }
    }
}

/// A client that sends a notification: nothing is ever sent back to it.
#[derive(Debug)]
struct Speaker {
    client_info: ClientInfo,
    affinity: Affinity,
}

impl Client for Speaker {
    fn client_info(&self) -> &ClientInfo {
        &self.client_info
    }
    fn affinity(&self) -> Affinity {
        self.affinity.clone()
    }
    fn notify(&self, _: Bytes) {}
    fn ask(&self, question: Arc<ServerRequest>) {
        question.refuse(code::INTERNAL_ERROR, "the client waits for no answer, so it is not asked");
    }
    fn withdraw(&self, _: &str, _: Option<&str>) {}
}

/// What became of a notification.
pub(in crate::door) enum Noticed<W> {
    /// It was taken.
    Done,
    /// It is not passed on, and why.
    Dropped(String),
    /// It is not MCP's, and has to pass the pipeline.
    Run(W),
}

impl Conversation {
    /// Takes a notification; one that has to pass the pipeline gets a task of its own.
    pub(in crate::door) fn notification(
        self: &Arc<Self>,
        method: &str,
        params: Option<&RawValue>,
        caller: &Arc<Caller>,
    ) {
        let work = match self.noticed(method, params, caller) {
            Noticed::Done => return,
            Noticed::Dropped(why) => return self.dropped(method, &why),
            Noticed::Run(work) => work,
        };
        let Ok(place) = self.notices.under_way.clone().try_acquire_owned() else {
            return self.dropped(method, "too many are under way");
        };
        let (this, method) = (self.clone(), method.to_owned());
        self.tasks().spawn(async move {
            if let Err(failure) = work.await {
                this.dropped(&method, &failure.to_string());
            }
            drop(place);
        });
    }

    /// Takes a notification, and says what there is to do for one that is not MCP's.
    pub(in crate::door) fn noticed(
        self: &Arc<Self>,
        method: &str,
        params: Option<&RawValue>,
        caller: &Arc<Caller>,
    ) -> Noticed<impl Future<Output = Result<(), Failure>> + Send + use<>> {
        if method.len() > bounds::METHOD {
            return Noticed::Dropped(bounds::TooLong::Method.to_string());
        }
        let notice = Notice::of(method);
        match notice {
            Notice::Initialized => return Noticed::Done,
            Notice::Cancelled => {
                if let Some(params) = params {
                    self.session.cancel(params);
                }
                return Noticed::Done;
            }
            Notice::NotForClients => {
                let why = "what has this name needs an id, or is not for clients to say";
                return Noticed::Dropped(why.to_owned());
            }
            Notice::Progress | Notice::RootsChanged | Notice::TaskStatus | Notice::Custom => {}
        }
        let params = match params.map(|params| Params::read(method, params.into())).transpose() {
            Ok(params) => params,
            Err(ambiguous) => return Noticed::Dropped(format!("`params`: {ambiguous}")),
        };
        if notice == Notice::Custom {
            return match self.speaker(params.as_ref()) {
                Ok(speaker) => {
                    // On the heap, because it would make the future of every request as large as a call's.
                    let work = self.clone().passed(method.to_owned(), params, speaker, caller.clone());
                    Noticed::Run(Box::pin(work))
                }
                Err(why) => Noticed::Dropped(why),
            };
        }
        self.own_accord(notice, params.as_ref());
        Noticed::Done
    }

    /// Passes on a notification that every client may send, to the servers it is for.
    fn own_accord(&self, notice: Notice, params: Option<&Params>) {
        let Some(client_info) = self.client_info() else { return };
        if notice == Notice::RootsChanged {
            if let Some(notice) = ClientNotice::roots_changed(&client_info, params) {
                let session = (!self.endpoint.sole).then(|| self.session.id());
                self.pipeline().tell_all(session, &notice);
            }
            return;
        }
        let Some(params) = params else { return };
        let asked = self.pending.lock();
        let of = |pointer: &str| splice::get(params.get(), pointer);
        let (question, made): (_, fn(&ServerRequest, &Params) -> Option<ClientNotice>) = match notice {
            Notice::Progress => {
                (of("/progressToken").and_then(|id| asked.under_way(id)), ClientNotice::progress)
            }
            _ => (of("/taskId").and_then(|id| asked.with_task(id)), ClientNotice::task_status),
        };
        match question.and_then(|question| Some((question, made(question, params)?))) {
            Some((question, notice)) => question.notify(&notice),
            None => tracing::debug!("the client spoke of something that nobody asked for"),
        }
    }

    /// The sender of a notification that is not MCP's: in the stateless era the message itself says who it is.
    fn speaker(&self, params: Option<&Params>) -> Result<Speaker, String> {
        let text = params.map(Params::get);
        if era::is_stateless(text) {
            let client_info = era::read_meta(text.unwrap_or("{}")).map_err(|(_, text)| text)?;
            return Ok(Speaker { client_info, affinity: Affinity::Shared });
        }
        let client_info = self.client_info().ok_or("it came before `initialize`")?;
        Ok(Speaker { client_info: ClientInfo::clone(&client_info), affinity: self.affinity() })
    }

    /// Passes on what is not MCP's, as a call that has no answer.
    async fn passed(
        self: Arc<Self>,
        method: String,
        params: Option<Params>,
        speaker: Speaker,
        caller: Arc<Caller>,
    ) -> Result<(), Failure> {
        let client: Arc<dyn Client> = Arc::new(speaker);
        let request =
            CallRequest { params: params.as_ref(), ..self.call_request(&caller, None, &method, &client) };
        self.pipeline().handle(request, &CancellationToken::new()).await.map(drop)
    }

    /// The client answers a backend's question. It can answer no other session's, because ids are this session's own,
    /// and each is answered once.
    pub(in crate::door) fn response(&self, id: &RawValue, body: Body<'_>) {
        let question = self.pending.lock().answered(id);
        match question {
            Some(question) => {
                self.pending.lock().note_task(&question, body);
                question.answer(pending::answer(body));
            }
            None => tracing::debug!("the client answered something nobody asked"),
        }
    }

    fn dropped(&self, method: &str, why: &str) {
        self.notices.dropped(self.session.id(), method, why);
    }
}
