//! Reads what a server offers: all lists at its start, and again those that could not be read, or all of them when it may be
//! another program.

use std::sync::Arc;
use std::time::Duration;

use super::fleet::ServerFleet;
use super::peer::Peer;
use super::progress::{Progress, Stage};
use super::server_info::ServerInfo;
use super::transport::TransportError;
use super::{PeerError, Server, listing, refresh};
use crate::mcp::catalog::{List, Offers};

/// The first pause before a list that could not be read is asked for again, and the longest.
const FIRST_REREAD: Duration = Duration::from_secs(1);
const LONGEST_REREAD: Duration = Duration::from_secs(60);

/// What a server offers, and the lists that could not be read. The other lists are used without those; without any list
/// the start has failed.
pub(super) async fn offers(
    peer: &Peer,
    info: &ServerInfo,
    patience: Duration,
    progress: &Progress,
) -> Result<(Offers, Vec<List>), PeerError> {
    let mut offers = Offers::default();
    let (mut read, mut unread) = (false, Vec::new());
    let mut first = None;
    for list in List::ALL {
        let capability = match list {
            List::Tools => "tools",
            List::Resources | List::Templates => "resources",
            List::Prompts => "prompts",
        };
        // Tools are asked for in any case: some servers forget to declare them.
        if list == List::Tools || info.has(capability) {
            progress.is_at(Stage::Listing(list));
            match listing::drain(peer, list, patience).await {
                Ok(items) => {
                    read = true;
                    offers.set(list, items);
                }
                Err(PeerError::Transport(
                    error @ (TransportError::Closed(_)
                    | TransportError::SessionLost
                    | TransportError::Unreachable(_)),
                )) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::warn!(backend = %peer.name(), list = list.wire().1, "this list cannot be read; the server is asked for it again: {error}");
                    unread.push(list);
                    first.get_or_insert(error);
                }
            }
        }
    }
    match first {
        Some(error) if !read => Err(error),
        _ => Ok((offers, unread)),
    }
}

/// Reads all lists again of a server that had forgotten the session, as it may be another program now. One reading at a
/// time.
pub(super) async fn read_again(backend: &Arc<Server>, fleet: &Arc<ServerFleet>) {
    let (Some(peer), Some(info)) = (backend.peer(), backend.info()) else { return };
    let Ok(_turn) = backend.rereading.try_lock() else { return };
    let patience = backend.settings.load().timeout;
    match offers(&peer, &info, patience, &Progress::default()).await {
        Ok((offers, unread)) if unread.is_empty() => {
            fleet.offer(backend, offers).await;
            fleet.changed(backend);
            fleet.remember(backend);
        }
        Ok(_) => {
            tracing::warn!(backend = %backend.name, "the server's lists cannot be read whole in the new session; the old ones stay")
        }
        Err(error) => {
            tracing::warn!(backend = %backend.name, "the server's lists cannot be read in the new session; the old ones stay: {error}");
        }
    }
}

/// Asks again for lists that could not be read, after growing pauses, until all are there.
pub(super) async fn reread(backend: &Arc<Server>, fleet: &Arc<ServerFleet>, unread: &[List]) {
    let mut unread = unread.to_vec();
    let mut pause = FIRST_REREAD;
    while !unread.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_REREAD);
        let mut still = Vec::new();
        for list in unread {
            if refresh::refresh(backend, fleet, &[list]).await.is_none() {
                still.push(list);
            }
        }
        unread = still;
    }
}
