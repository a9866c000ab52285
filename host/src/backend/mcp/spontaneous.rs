//! What a server says of its own accord: news of its lists is for the gateway, everything else for a client.

use std::sync::Arc;

use super::fleet::ServerFleet;
use super::peer::Peer;
use super::{Server, Spontaneous, forward, refresh};
use crate::mcp::Era;
use crate::mcp::client::Client;

/// Takes a message that a server sent over its shared connection.
pub(super) fn take(
    fleet: &Arc<ServerFleet>,
    backend: &Arc<Server>,
    peer: &Arc<Peer>,
    message: Spontaneous,
    client: Option<Arc<dyn Client>>,
) {
    if let Spontaneous::Notification { method, .. } = &message {
        let lists = refresh::lists_of(method);
        if !lists.is_empty() {
            // The cache first, then the clients: each hears of it whose list has changed.
            refresh::ask_again(backend, fleet, lists);
            return;
        }
    }
    // Among several clients nobody can know whose request caused it. A stateless server speaks about requests
    // under way only, so if there is one, it is that.
    let only = || (peer.era() == Era::Stateless).then(|| peer.only()).flatten();
    // The sole client has made all calls. While one is under way whose rewriters want to see what the server says, it goes
    // through them.
    let sole = || {
        let sole = fleet.sole.get()?;
        Some(peer.newest().filter(|client| client.is_sieved()).unwrap_or_else(|| sole.clone()))
    };
    let client = client.or_else(only).or_else(sole).filter(|_| !backend.is_muted());
    forward::pass_on(&backend.name, peer, client, message);
}
