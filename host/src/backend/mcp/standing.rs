//! What stands at a server without a call, and is ended though no client asked for it: subscriptions of a caller who may not
//! hear of the resource any more, and everything that a server says of its own accord while it is switched off.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Server;
use super::errand::{Errand, Own};
use super::fleet::ServerFleet;
use super::peer::Request;
use crate::mcp::client::{Client, Nobody};
use crate::mcp::{Era, message};

impl ServerFleet {
    /// Ends what a session has subscribed to at the servers of this name. `sole`: it is the one client of a gateway on stdio.
    pub(crate) fn unsubscribe(&self, (session, sole): (&Arc<str>, bool), backend: &str, uri: &str) {
        let running = self.running();
        let named = running.iter().filter(|server| *server.name == *backend);
        named.for_each(|server| server.unsubscribe((session, sole), uri));
    }

    /// Has the servers of these names say nothing to clients, and the others speak again.
    pub(crate) fn mute(&self, is_off: impl Fn(&str) -> bool) {
        for server in self.running() {
            server.muted.store(is_off(&server.name), Ordering::Relaxed);
        }
    }
}

impl Server {
    /// Whether nothing that it says of its own accord reaches a client.
    pub(super) fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    fn unsubscribe(self: &Arc<Self>, (session, sole): (&Arc<str>, bool), uri: &str) {
        // At a server of the stateless era it is a request of its own, which is cancelled.
        self.subscriptions.end(&(session.clone(), uri.to_owned()));
        let quoted = message::quoted(uri);
        let peer = if sole { self.peer() } else { self.dedicated.unsubscribed(session, &quoted) };
        let Some(peer) = peer.filter(|peer| peer.era() == Era::Handshake) else { return };
        let (this, patience) = (self.clone(), self.settings.load().timeout);
        self.dedicated.spawn(async move {
            let client: Arc<dyn Client> = Nobody::new();
            let params = format!("{{\"uri\":{quoted}}}");
            let request = Request {
                errand: Errand::Own(Own::Unsubscribe),
                params: Some(&params),
                headers: Vec::new(),
                client,
                patience,
                longest: patience,
            };
            // What the server goes on saying about it is dropped.
            if let Err(error) = peer.request(request).await {
                tracing::debug!(backend = %this.name, "a subscription was ended without the server's consent: {error}");
            }
        });
    }
}
