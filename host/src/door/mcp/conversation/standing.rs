//! What stands for a client without a request: its subscriptions to resources, its standing stream, questions that wait for
//! its answer. All of it was allowed once. It ends when its caller is switched off, and a subscription also when its caller
//! may not see the resource any more.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Conversation;
use crate::call::Principal;
use crate::mcp::client::ServerRequest;
use crate::mcp::{Params, code, message, method, splice};
use crate::pipeline::{Answer, CallRequest, Caller, Failure};

/// Resources that one session may be subscribed to.
const MAX_SUBSCRIBED: usize = 4_096;
/// Resources that are remembered because they must not be heard of any more, for as long as their server may not have heard
/// that.
const MAX_ENDED: usize = 1_024;
/// What a server is told whose question nobody may answer.
pub(super) const OFF: &str = "an operator has switched the client off";
/// A client wants to hear no more.
const UNSUBSCRIBE: &str = "resources/unsubscribe";
/// A server says that a resource has changed.
const UPDATED: &str = "\"notifications/resources/updated\"";

/// Whose conversation it is.
#[derive(Debug)]
pub(in crate::door::mcp) enum Owner {
    /// Over HTTP the caller who opened the session.
    Known(Arc<Principal>),
    /// On stdio the caller whom the file names, who may be another one after a reload.
    Caller(Arc<Caller>),
}

/// Whether a request begins or ends something that stands.
pub(super) fn is_about(method: &str) -> bool {
    matches!(method, "resources/subscribe" | UNSUBSCRIBE)
}

#[derive(Debug, Default)]
pub(super) struct Standing {
    owner: OnceLock<Owner>,
    /// The owner is switched off: nothing is said to the client, and nothing asked.
    off: AtomicBool,
    /// Something must not be heard of any more.
    ends: AtomicBool,
    subscribed: Mutex<Subscribed>,
}

#[derive(Debug, Default)]
struct Subscribed {
    /// By URI: who subscribed, and the backend.
    all: HashMap<String, (Arc<Principal>, Arc<str>)>,
    /// What must not be heard of any more.
    ended: HashSet<String>,
    /// There is more of that than is remembered, so only what is subscribed to is heard of.
    overfull: bool,
}

impl Standing {
    pub(super) fn is_off(&self) -> bool {
        self.off.load(Ordering::Acquire)
    }
}

impl Subscribed {
    /// Whether a change of this resource must not be heard of. A server may also name a part of what was subscribed to.
    fn has_ended(&self, uri: &str) -> bool {
        let covers = |whole: &String| uri.starts_with(whole.as_str());
        let ended = || self.overfull || self.ended.iter().any(covers);
        self.ended.contains(uri) || (ended() && !self.all.keys().any(covers))
    }

    fn end(&mut self, uri: &str) {
        self.all.remove(uri);
        if self.ended.len() < MAX_ENDED {
            self.ended.insert(uri.to_owned());
        } else {
            self.overfull = true;
        }
    }

    /// Whether there is no room for one more.
    fn is_full_for(&self, uri: &str) -> bool {
        self.all.len() >= MAX_SUBSCRIBED && !self.all.contains_key(uri)
    }
}

impl Conversation {
    /// Says whose conversation it is; once.
    pub(in crate::door::mcp) fn belongs_to(&self, owner: Owner) {
        let off = self.is_switched_off(&owner);
        self.stands.off.store(off, Ordering::Release);
        // A second one does not come.
        let _first = self.stands.owner.set(owner);
    }

    fn is_switched_off(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Known(who) => self.pipeline().may_stand(who).is_err(),
            // One whom nobody knows any more is refused with every request.
            Owner::Caller(caller) => {
                self.pipeline().identify(caller).is_ok_and(|who| self.pipeline().may_stand(&who).is_err())
            }
        }
    }

    /// Subscribes, or ends that; what was subscribed to stands from then on.
    pub(super) async fn subscribes(
        &self,
        request: CallRequest<'_>,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let uri = request.params.and_then(|params| splice::get(Params::get(params), "/uri"));
        let uri = uri.and_then(|uri| serde_json::from_str::<String>(uri).ok());
        if let Some(uri) = &uri
            && request.method != UNSUBSCRIBE
            && self.stands.subscribed.lock().is_full_for(uri)
        {
            let text = format!("one session may be subscribed to {MAX_SUBSCRIBED} resources at most");
            return Err(Failure::Params(text));
        }
        let answer = self.pipeline().handle(request, cancelled).await;
        let Some(uri) = uri.filter(|_| answer.as_ref().is_ok_and(|answer| !answer.is_rpc_error())) else {
            return answer;
        };
        if request.method == UNSUBSCRIBE {
            self.stands.subscribed.lock().all.remove(&uri);
        } else if let Ok(who) = self.pipeline().identify(request.caller)
            && let Some(backend) = self.pipeline().home_of(&who, &uri)
        {
            let mut subscribed = self.stands.subscribed.lock();
            subscribed.ended.remove(&uri);
            subscribed.all.insert(uri.clone(), (who.clone(), backend.clone()));
            drop(subscribed);
            // Something may have been switched off while it was under way.
            self.judge_subscription(&uri, &who, &backend);
        }
        answer
    }

    fn judge_subscription(&self, uri: &str, who: &Arc<Principal>, backend: &Arc<str>) {
        let looker = (who, self.session.id(), self.endpoint.door);
        if self.stands.is_off() || !self.pipeline().may_hear_of(looker, backend, uri) {
            self.end_subscription(uri, backend);
        }
    }

    /// Whether the client must not hear this.
    pub(super) fn hushes(&self, message: &[u8]) -> bool {
        if self.stands.is_off() {
            return true;
        }
        if !self.stands.ends.load(Ordering::Acquire) {
            return false;
        }
        let text = std::str::from_utf8(message).unwrap_or("{}");
        if splice::get(text, "/method") != Some(UPDATED) {
            return false;
        }
        let uri = splice::get(text, "/params/uri").and_then(|uri| serde_json::from_str::<String>(uri).ok());
        uri.is_some_and(|uri| self.stands.subscribed.lock().has_ended(&uri))
    }

    /// Something was switched off or on, or another generation is in force. Asks plugins, so it is for threads that may block.
    pub(super) fn judge_what_stands(&self) {
        let off = self.stands.owner.get().is_some_and(|owner| self.is_switched_off(owner));
        if off {
            self.fall_silent();
        } else {
            self.stands.off.store(false, Ordering::Release);
        }
        let all: Vec<_> = self.stands.subscribed.lock().all.clone().into_iter().collect();
        for (uri, (who, backend)) in all {
            self.judge_subscription(&uri, &who, &backend);
        }
    }

    /// The owner is switched off: what waits for the client is given up, and its stream ends.
    fn fall_silent(&self) {
        // From here on questions are refused where they are asked.
        self.stands.off.store(true, Ordering::Release);
        let waiting = self.pending.lock().take();
        for (id, question) in waiting {
            self.give_up(id, &question);
        }
        if !self.endpoint.sole {
            self.detach();
            self.pipeline().forget(self.session.id());
        }
    }

    /// Takes a question back at both ends.
    fn give_up(&self, id: u64, question: &ServerRequest) {
        let params = format!("{{\"requestId\":{id},\"reason\":{}}}", message::quoted(OFF));
        self.deliver(message::notification(method::CANCELLED, Some(&params)));
        question.refuse(code::INTERNAL_ERROR, OFF);
    }

    fn end_subscription(&self, uri: &str, backend: &Arc<str>) {
        tracing::info!(backend = %backend, uri, "a subscription has ended: its caller may not hear of the resource any more");
        self.stands.subscribed.lock().end(uri);
        self.stands.ends.store(true, Ordering::Release);
        self.pipeline().unsubscribe((self.session.id(), self.endpoint.sole), backend, uri);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_what_was_ended_is_not_heard_of_and_anything_else_is() {
        let mut subscribed = Subscribed::default();
        subscribed.ended.insert("file:///a/".to_owned());
        assert!(subscribed.has_ended("file:///a/") && subscribed.has_ended("file:///a/b"));
        assert!(!subscribed.has_ended("file:///c") && !subscribed.has_ended("file:///"));
        let (who, backend) = (Arc::new(principal()), "one".into());
        subscribed.all.insert("file:///a/b/".to_owned(), (who, backend));
        assert!(!subscribed.has_ended("file:///a/b/c"), "it is subscribed to by itself");
        assert!(subscribed.has_ended("file:///a/"));
        // When there is too much to be remembered, only what is subscribed to is heard of.
        for number in 0..MAX_ENDED {
            subscribed.end(&format!("test://{number}"));
        }
        assert!(subscribed.has_ended("test://0") && subscribed.has_ended("other://"));
        assert!(!subscribed.has_ended("file:///a/b/c"));
    }

    #[test]
    fn a_session_is_subscribed_to_so_much_and_no_more() {
        let who = Arc::new(principal());
        let mut subscribed = Subscribed::default();
        for number in 0..MAX_SUBSCRIBED {
            let uri = format!("test://{number}");
            assert!(!subscribed.is_full_for(&uri));
            subscribed.all.insert(uri, (who.clone(), "one".into()));
        }
        assert!(subscribed.is_full_for("test://more") && !subscribed.is_full_for("test://0"));
        subscribed.end("test://0");
        assert!(!subscribed.is_full_for("test://more"));
    }

    fn principal() -> Principal {
        Principal {
            subject: "ann".to_owned(),
            role: "user".to_owned(),
            issuer: None,
            audience: None,
            token_id: None,
            expires_at: None,
            claims: Vec::new(),
        }
    }
}
