//! `subscriptions/listen` (2026-07-28): a request whose stream says what changes, for as long as its client listens.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::conversation::Conversation;
use super::given::Given;
use super::line::{Out, Outbound};
use super::subscribers::Listener;
use crate::call::Principal;
use crate::mcp::catalog::List;
use crate::mcp::client::{Affinity, Client, ClientInfo, Nobody, ServerRequest};
use crate::mcp::{Params, REVISIONS, code, era, message, splice};
use crate::pipeline::{Answer, CallRequest, Failure, Pipeline, View};

/// Resources one request may listen to.
const MAX_RESOURCES: usize = 256;

/// The resources that one client may listen to.
#[derive(Debug)]
struct Granted {
    /// What stands for its subscription at the servers.
    session: Arc<str>,
    /// By URI and backend.
    resources: Vec<(String, Arc<str>)>,
}

/// One client that listens.
#[derive(Debug)]
struct Subscription {
    id: Box<RawValue>,
    out: Out,
    /// The lists it wants to hear of, as they were when it began, or as its client was given them before.
    given: Given,
    pipeline: Arc<Pipeline>,
    /// Ends it, so that its client comes again.
    over: CancellationToken,
    sole: bool,
    who: Arc<Principal>,
    granted: OnceLock<Granted>,
    door: &'static str,
}

impl Listener for Subscription {
    fn is_judged_anew(&self) {
        if !self.sole {
            self.over.cancel();
        }
    }

    fn judge_standing(&self) {
        let may_hear = |session: &Arc<str>, uri: &str, backend: &Arc<str>| {
            self.pipeline.may_hear_of((&self.who, session, self.door), backend, uri)
        };
        let all = self.granted.get().is_none_or(|Granted { session, resources }| {
            resources.iter().all(|(uri, backend)| may_hear(session, uri, backend))
        });
        // Its client may ask again, and is granted what it may hear of now.
        if self.pipeline.may_stand(&self.who).is_err() || !all {
            self.over.cancel();
        }
    }

    fn hear_of(&self, lists: &[List]) {
        for news in self.given.changes(&self.pipeline, lists) {
            // A listener whose queue is full may miss this one: the next says the same (something changed, not what).
            let _ = self.out.try_send(Outbound::Part(self.tagged(news.method(), "{}")));
        }
    }
}

/// Listens to single resources, for which the backends' own words are the handshake era's.
#[derive(Debug)]
struct Resources {
    subscription: Arc<Subscription>,
    client_info: ClientInfo,
    session: Arc<str>,
}

impl Client for Resources {
    fn client_info(&self) -> &ClientInfo {
        &self.client_info
    }
    fn affinity(&self) -> Affinity {
        Affinity::Session(self.session.clone())
    }
    fn notify(&self, message: Bytes) {
        let text = std::str::from_utf8(&message).unwrap_or("{}");
        // Progress and log messages never travel on this stream.
        if splice::get(text, "/method") == Some("\"notifications/resources/updated\"") {
            let params = splice::get(text, "/params").unwrap_or("{}");
            let tagged = self.subscription.tagged("notifications/resources/updated", params);
            let _ = self.subscription.out.try_send(Outbound::Part(tagged));
        }
    }
    fn ask(&self, question: Arc<ServerRequest>) {
        question.refuse(code::METHOD_NOT_FOUND, "the client does not support this");
    }
    fn withdraw(&self, _: &str, _: Option<&str>) {}
}

impl Subscription {
    /// A notification that says which subscription it belongs to.
    fn tagged(&self, method: &str, params: &str) -> bytes::Bytes {
        let set = splice::Edit::Set {
            pointer: "/_meta/io.modelcontextprotocol~1subscriptionId".to_owned(),
            json: self.id.get().to_owned(),
        };
        let params = splice::apply(params, &[set]).unwrap_or_else(|_| params.to_owned());
        message::notification(method, Some(&params))
    }
}

impl Conversation {
    pub(super) async fn listen(
        &self,
        id: &RawValue,
        params: &Params,
        out: &Out,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let who = self.pipeline().identify(&out.caller)?;
        self.pipeline().may_stand(&who)?;
        let wants = |kind: &str| splice::get(params.get(), &format!("/notifications/{kind}")) == Some("true");
        let subscription = Arc::new(Subscription {
            id: id.to_owned(),
            out: out.clone(),
            given: Given::default(),
            pipeline: self.pipeline().clone(),
            over: CancellationToken::new(),
            sole: self.endpoint.sole,
            who,
            granted: OnceLock::new(),
            door: self.endpoint.door,
        });
        let over = subscription.over.clone();
        // What is granted is said first, and only what was asked for.
        let mut granted = json!({});
        let mut wanted: Vec<List> = Vec::new();
        for (kind, lists) in [
            ("toolsListChanged", &[List::Tools][..]),
            ("promptsListChanged", &[List::Prompts]),
            ("resourcesListChanged", &[List::Resources, List::Templates]),
        ] {
            if wants(kind) {
                granted[kind] = true.into();
                wanted.extend(lists);
            }
        }
        let (session, resources) = self.listen_to_resources(id, params, &subscription, cancelled).await?;
        let home = |uri: &String| Some((uri.clone(), self.pipeline().home_of(&subscription.who, uri)?));
        let homes = resources.iter().filter_map(home).collect();
        let standing = Granted { session: session.clone(), resources: homes };
        // Set once, here.
        let _infallible = subscription.granted.set(standing);
        let _end = Forget(self, session);
        if !resources.is_empty() {
            granted["resourceSubscriptions"] = resources.into();
        }
        // Looked at before the client hears that it will be told, so that no later change is missed.
        let views = self.look(id, &wanted, out).await?;
        let params = json!({ "notifications": granted }).to_string();
        let acknowledged = subscription.tagged("notifications/subscriptions/acknowledged", &params);
        if out.send(Outbound::Part(acknowledged)).await.is_err() {
            return Err(Failure::Cancelled);
        }
        views.into_iter().for_each(|view| subscription.given.note(view));
        let listener: Arc<dyn Listener> = subscription;
        let _subscription = self.endpoint.subscribers.subscribe(&listener);
        // Something may have changed in between.
        wanted.iter().for_each(|list| self.endpoint.subscribers.look_again(*list));
        // So may what its caller may hear of, or its caller be switched off. The stream itself ends then.
        let judged = listener.clone();
        drop(tokio::task::spawn_blocking(move || judged.judge_standing()));
        let ended = async {
            tokio::select! {
                () = self.endpoint.stopping.cancelled() => {}
                () = over.cancelled() => {}
            }
        };
        tokio::select! {
            () = cancelled.cancelled() => Err(Failure::Cancelled),
            () = out.closed() => Err(Failure::Cancelled),
            () = ended => {
                let tag = format!("{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{}}}}}", id.get());
                let ended = era::result_to_stateless("", &tag, &era::server_info());
                Ok(Answer::own(ended))
            }
        }
    }

    /// The lists that somebody wants to hear of. On stdio, where the client is known from one request to the next, they are
    /// what it was given before.
    async fn look(&self, id: &RawValue, wanted: &[List], out: &Out) -> Result<Vec<View>, Failure> {
        let client: Arc<dyn Client> = Nobody::new();
        let mut views = Vec::new();
        for list in wanted {
            views.push(match self.given.view(*list) {
                Some(view) => view,
                None => {
                    let request = self.call_request(&out.caller, Some(id), list.wire().0, &client);
                    self.pipeline().list(request, *list).await?.1
                }
            });
        }
        Ok(views)
    }

    /// Subscribes at the backends, each URI through all decisions; what is refused is not granted.
    async fn listen_to_resources(
        &self,
        id: &RawValue,
        params: &Params,
        subscription: &Arc<Subscription>,
        cancelled: &CancellationToken,
    ) -> Result<(Arc<str>, Vec<String>), Failure> {
        let wanted = splice::get(params.get(), "/notifications/resourceSubscriptions").unwrap_or("[]");
        let wanted: Vec<String> = serde_json::from_str(wanted)
            .map_err(|_| Failure::Params("`resourceSubscriptions` must be a list of URIs".to_owned()))?;
        if wanted.len() > MAX_RESOURCES {
            let text = format!("one request may listen to {MAX_RESOURCES} resources at most");
            return Err(Failure::Params(text));
        }
        let unique = self.endpoint.suspended.id().map_err(|error| Failure::Params(error.to_string()))?;
        let session: Arc<str> = format!("listen-{unique}").into();
        let client_info = ClientInfo {
            version: REVISIONS[0],
            capabilities: message::raw("{}".to_owned()),
            info: None,
            log_level: None,
        };
        let client: Arc<dyn Client> =
            Arc::new(Resources { subscription: subscription.clone(), client_info, session: session.clone() });
        let mut granted = Vec::new();
        for uri in wanted {
            let method = "resources/subscribe";
            let params = Params::read(method, json!({ "uri": uri }).to_string().into());
            let params = params.map_err(|ambiguous| Failure::Params(ambiguous.to_string()))?;
            let request = CallRequest {
                session: &session,
                params: Some(&params),
                ..self.call_request(&subscription.out.caller, Some(id), method, &client)
            };
            match self.pipeline().handle(request, cancelled).await {
                Ok(answer) if !answer.is_rpc_error() => granted.push(uri),
                Ok(_) | Err(Failure::Unknown { .. } | Failure::Unlisted { .. } | Failure::Denied(_)) => {
                    tracing::debug!(uri, "a subscription was not granted");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok((session, granted))
    }
}

/// Ends what was subscribed to for one request.
struct Forget<'a>(&'a Conversation, Arc<str>);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.pipeline().forget(&self.1);
    }
}
