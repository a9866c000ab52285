//! Subscriptions of clients that shook hands, at servers of the stateless era: there a subscription is a request that
//! stays open (2026-07-28, `subscriptions/listen`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::peer::{Peer, Reply, Request};
use super::{Backend, PeerError, STANDING};
use crate::mcp::client::{Affinity, Client, Hello, Question};
use crate::mcp::splice::{self, Edit};
use crate::mcp::{era, header, message};

/// Subscriptions at one backend.
const MAX_SUBSCRIPTIONS: usize = 1_000;
/// How long a server may take to say that it listens.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

type Key = (Arc<str>, String);

/// Who has subscribed to what: by session and URI.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Mutex<HashMap<Key, CancellationToken>>);

impl Subscriptions {
    /// The session is over.
    pub(super) fn forget(&self, session: &Arc<str>) {
        self.0.lock().retain(|(owner, _), token| {
            let gone = owner == session;
            if gone {
                token.cancel();
            }
            !gone
        });
    }
}

/// Takes what belongs to the subscription off the messages before they reach the client.
#[derive(Debug)]
struct Subscriber {
    client: Arc<dyn Client>,
    acknowledged: Notify,
}

impl Client for Subscriber {
    fn hello(&self) -> &Hello {
        self.client.hello()
    }
    fn affinity(&self) -> Affinity {
        Affinity::Shared
    }
    fn tell(&self, message: Bytes) {
        let text = std::str::from_utf8(&message).unwrap_or("{}");
        let method = splice::get(text, "/method").unwrap_or("");
        if method == "\"notifications/subscriptions/acknowledged\"" {
            self.acknowledged.notify_one();
        } else {
            let pointer = "/params/_meta/io.modelcontextprotocol~1subscriptionId".to_owned();
            let bare =
                splice::apply(text, &[Edit::Remove { pointer }]).unwrap_or_else(|_| text.to_owned());
            self.client.tell(era::without_empty(bare, "/params/_meta").into());
        }
    }
    fn ask(&self, question: Arc<Question>) {
        self.client.ask(question);
    }
    fn take_back(&self, key: &str, reason: Option<&str>) {
        self.client.take_back(key, reason);
    }
}

impl Backend {
    /// What the stateless era has no request for; none if it has.
    pub(super) async fn courtesy(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        session: &Arc<str>,
        method: &str,
        params: &str,
        client: &Arc<dyn Client>,
    ) -> Option<Result<Reply, PeerError>> {
        match method {
            // The level goes along with every request from now on.
            "logging/setLevel" => {}
            "resources/subscribe" => {
                let uri: String = serde_json::from_str(splice::get(params, "/uri")?).ok()?;
                if let Err(error) = self.subscribe(peer, session, uri, client).await {
                    return Some(Err(error));
                }
            }
            "resources/unsubscribe" => {
                let uri: String = serde_json::from_str(splice::get(params, "/uri")?).ok()?;
                if let Some(token) = self.subscriptions.0.lock().remove(&(session.clone(), uri)) {
                    token.cancel();
                }
            }
            _ => return None,
        }
        Some(Ok(Reply::own("{}".to_owned(), false)))
    }

    async fn subscribe(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        session: &Arc<str>,
        uri: String,
        client: &Arc<dyn Client>,
    ) -> Result<(), PeerError> {
        let token = CancellationToken::new();
        {
            let mut subscriptions = self.subscriptions.0.lock();
            if subscriptions.len() >= MAX_SUBSCRIPTIONS {
                return Err(super::WireError::Busy.into());
            }
            if let Some(earlier) = subscriptions.insert((session.clone(), uri.clone()), token.clone()) {
                earlier.cancel();
            }
        }
        let subscriber = Arc::new(Subscriber { client: client.clone(), acknowledged: Notify::new() });
        let (peer, listener) = (peer.clone(), subscriber.clone());
        let quoted = message::quoted(&uri);
        let params = format!("{{\"notifications\":{{\"resourceSubscriptions\":[{quoted}]}}}}");
        let params = era::request_to_stateless(&params, client.hello());
        self.links.spawn(async move {
            let method = "subscriptions/listen";
            let headers = header::of_request(method, &params, &[]);
            let request =
                Request { method, params: Some(&params), headers, client: listener, patience: STANDING };
            tokio::select! {
                () = token.cancelled() => {}
                ended = peer.request(request) => {
                    tracing::debug!(uri, "the subscription ended: {:?}", ended.map(|_| ()));
                }
            }
        });
        // A server that never says so may still listen.
        let _ = tokio::time::timeout(ACKNOWLEDGE, subscriber.acknowledged.notified()).await;
        Ok(())
    }
}
