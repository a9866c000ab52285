//! Subscriptions of clients that shook hands, at servers of the stateless era: there a subscription is a request that
//! stays open (2026-07-28, `subscriptions/listen`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::errand::{Errand, Own};
use super::peer::{Peer, Request};
use super::reply::Reply;
use super::{PeerError, STANDING, Server};
use crate::call::shares::{Place, Shares};
use crate::call::{Call, Share};
use crate::mcp::client::{Affinity, Client, ClientInfo, ServerRequest};
use crate::mcp::splice::{self, Edit};
use crate::mcp::{era, header, message};

/// Subscriptions at one backend.
const MAX_SUBSCRIPTIONS: usize = 1_000;
/// How long a server may take to say that it listens.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

type Key = (Arc<str>, String);

/// Who has subscribed to what: by session and URI.
#[derive(Debug)]
pub(super) struct Subscriptions(Mutex<HashMap<Key, Held>>, Arc<Shares>);

/// The token that ends a subscription, and the place that the subscription occupies.
type Held = (CancellationToken, Place);

impl Default for Subscriptions {
    fn default() -> Self {
        Self(Mutex::default(), Shares::new(MAX_SUBSCRIPTIONS))
    }
}

impl Subscriptions {
    /// Takes a place; an earlier subscription to the same ends. None if there are too many, or too many of this caller.
    fn begin(&self, key: &Key, whose: Share) -> Option<CancellationToken> {
        let mut all = self.0.lock();
        let place = match all.remove(key) {
            // A subscription that is renewed keeps its place.
            Some((earlier, place)) => {
                earlier.cancel();
                place
            }
            None => self.1.take(whose, 1).ok()?,
        };
        let token = CancellationToken::new();
        all.insert(key.clone(), (token.clone(), place));
        Some(token)
    }

    /// The client wants to hear no more, or may not.
    pub(super) fn end(&self, key: &Key) {
        let mut all = self.0.lock();
        if let Some((token, _)) = all.remove(key) {
            token.cancel();
        }
    }

    /// The server ended it: the place is free, unless another subscription has it by now.
    fn ended(&self, key: &Key, token: &CancellationToken) {
        let mut all = self.0.lock();
        // A subscription that loses its place is cancelled under this lock.
        if !token.is_cancelled() {
            all.remove(key);
        }
    }

    /// The session is over.
    pub(super) fn forget(&self, session: &Arc<str>) {
        self.0.lock().retain(|(owner, _), (token, _)| {
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
    fn client_info(&self) -> &ClientInfo {
        self.client.client_info()
    }
    fn affinity(&self) -> Affinity {
        Affinity::Shared
    }
    fn notify(&self, message: Bytes) {
        let text = std::str::from_utf8(&message).unwrap_or("{}");
        let method = splice::get(text, "/method").unwrap_or("");
        if method == "\"notifications/subscriptions/acknowledged\"" {
            self.acknowledged.notify_one();
        } else {
            let pointer = "/params/_meta/io.modelcontextprotocol~1subscriptionId".to_owned();
            let bare = splice::apply(text, &[Edit::Remove { pointer }]).unwrap_or_else(|_| text.to_owned());
            self.client.notify(era::without_empty(bare, "/params/_meta").into());
        }
    }
    fn ask(&self, question: Arc<ServerRequest>) {
        self.client.ask(question);
    }
    fn withdraw(&self, key: &str, said: Option<&str>) {
        self.client.withdraw(key, said);
    }
}

impl Server {
    /// Emulates a request that only the handshake era has; `None` if this request needs no emulation.
    pub(super) async fn courtesy(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        call: &Call,
        params: &str,
        client: &Arc<dyn Client>,
    ) -> Option<Result<Reply, PeerError>> {
        let session = &call.session;
        match call.method.as_str() {
            // The level goes along with every request from now on.
            "logging/setLevel" => {}
            "resources/subscribe" => {
                let uri: String = serde_json::from_str(splice::get(params, "/uri")?).ok()?;
                if let Err(error) = self.subscribe(peer, (session, super::share_of(call)), uri, client).await
                {
                    return Some(Err(error));
                }
            }
            "resources/unsubscribe" => {
                let uri: String = serde_json::from_str(splice::get(params, "/uri")?).ok()?;
                self.subscriptions.end(&(session.clone(), uri));
            }
            _ => return None,
        }
        Some(Ok(Reply::own("{}".to_owned(), false)))
    }

    async fn subscribe(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        (session, whose): (&Arc<str>, Share),
        uri: String,
        client: &Arc<dyn Client>,
    ) -> Result<(), PeerError> {
        let key = (session.clone(), uri);
        let token = self.subscriptions.begin(&key, whose).ok_or(super::transport::TransportError::Busy)?;
        let subscriber = Arc::new(Subscriber { client: client.clone(), acknowledged: Notify::new() });
        let (peer, listener) = (peer.clone(), subscriber.clone());
        let quoted = message::quoted(&key.1);
        let params = format!("{{\"notifications\":{{\"resourceSubscriptions\":[{quoted}]}}}}");
        let params = era::request_to_stateless(&params, client.client_info());
        let this = self.clone();
        self.dedicated.spawn(async move {
            let headers = header::of_request(Own::Listen.method(), &params, &[]);
            let client = listener.clone();
            let errand = Errand::Own(Own::Listen);
            let (patience, longest) = (STANDING, STANDING);
            let request = Request { errand, params: Some(&params), headers, client, patience, longest };
            tokio::select! {
                () = token.cancelled() => {}
                ended = peer.request(request) => {
                    tracing::debug!(uri = key.1, "the subscription ended: {:?}", ended.map(|_| ()));
                    this.subscriptions.ended(&key, &token);
                    // Nothing to wait for any more.
                    listener.acknowledged.notify_one();
                }
            }
        });
        // A server that never says so may still listen.
        let _ = tokio::time::timeout(ACKNOWLEDGE, subscriber.acknowledged.notified()).await;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::backend::mcp::scripted::{self, LONG};
    use crate::backend::mcp::transport::{Incoming, Transport};
    use crate::mcp::client::Nobody;

    #[test]
    fn an_ended_subscription_frees_its_place_and_no_others() {
        let all = Subscriptions::default();
        let key = |number: usize| -> Key { ("s".into(), format!("a://{number}")) };
        let tokens: Vec<_> =
            (0..MAX_SUBSCRIPTIONS).map(|number| all.begin(&key(number), Share::SOLE).unwrap()).collect();
        assert!(all.begin(&key(MAX_SUBSCRIPTIONS), Share::SOLE).is_none(), "bounded");
        let second = all.begin(&key(0), Share::SOLE).unwrap();
        assert!(tokens[0].is_cancelled(), "the same again takes over");
        all.ended(&key(0), &tokens[0]);
        assert!(all.begin(&key(MAX_SUBSCRIPTIONS), Share::SOLE).is_none(), "the place is the second one's");
        all.ended(&key(0), &second);
        assert!(all.begin(&key(MAX_SUBSCRIPTIONS), Share::SOLE).is_some());
    }

    #[tokio::test]
    async fn a_server_that_ends_every_subscription_never_uses_the_places_up() {
        let script =
            r#"n=1; while read -r line; do echo '{"jsonrpc":"2.0","id":'$n',"result":{}}'; n=$((n+1)); done"#;
        let backend = scripted::backend(script, LONG);
        let Transport { sender, mut receiver, control } =
            backend.opener.open(&backend.settings).await.unwrap();
        let peer = Arc::new(Peer::new("scripted".into(), sender));
        let pumped = peer.clone();
        let pump = tokio::spawn(async move {
            while let Incoming::Message(raw) = receiver.recv().await {
                pumped.receive(&raw, None, |_, _| {});
            }
        });
        let (session, client): (Arc<str>, Arc<dyn Client>) = ("s".into(), Nobody::new());
        for number in 0..MAX_SUBSCRIPTIONS + 5 {
            let uri = format!("a://{number}");
            let subscribed = backend.subscribe(&peer, (&session, Share::SOLE), uri, &client);
            tokio::time::timeout(LONG, subscribed).await.unwrap().unwrap();
        }
        assert!(backend.subscriptions.0.lock().is_empty());
        control.stop(LONG).await;
        pump.abort();
    }
}
