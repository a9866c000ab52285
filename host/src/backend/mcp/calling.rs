//! One call of a server: over the right connection, in its words, with what its answer says about it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::errand::Errand;
use super::peer::{Peer, Request};
use super::reply::Reply;
use super::transport::{self, TransportError};
use super::{PeerError, Server, share_of, translate};
use crate::backend::{self, Answer, BackendError};
use crate::call::shares::Full;
use crate::mcp::Era;
use crate::mcp::client::{Affinity, Client};
use crate::mcp::payload::Unkept;
use crate::policy::Permitted;

/// The pause before a first retry; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Does what was permitted. Names are turned into the server's own here. Dropping the future cancels the request at the
    /// server. What wants no answer, a notification that is not MCP's, is passed on, and the answer is the gateway's own.
    ///
    /// # Errors
    /// There is no answer; a JSON-RPC error is an answer.
    pub(in crate::backend) async fn call(
        self: &Arc<Self>,
        permitted: &Permitted,
        request: backend::Request<'_>,
    ) -> Result<Answer, BackendError> {
        let backend::Request { params, headers, client, answered, resolved: _, body: _ } = request;
        let call = permitted.call();
        let share = share_of(call);
        // What the operator says of a call while it is under way is for those after it.
        let errors_count = self.settings.load().errors_count;
        let slot = self.slots.take(share, 1);
        let _slot = slot.map_err(|full| self.full(full, self.slots.most(), "calls"))?;
        let peer = self.connected().await?;
        let params = params.unwrap_or(&call.params).get();
        let renamed = translate::own_names(call, params);
        let params = renamed.as_deref().unwrap_or(params);
        // To a stateless server a connection is no session: everybody shares it.
        let alone = match peer.era() {
            Era::Handshake => true,
            Era::Stateless => {
                client.client_info().era() == Era::Handshake && self.shakes_hands.load(Ordering::Relaxed)
            }
        };
        let (peer, lease) = match client.affinity() {
            Affinity::Shared => (peer, None),
            _ if !alone => (peer, None),
            affinity => {
                let (peer, lease) = self.connection_for(&affinity, share, client).await?;
                (peer, Some(lease))
            }
        };
        let reply = if answered {
            translate::exchange(self, &peer, permitted, params, headers, client).await
        } else {
            translate::pass(self, &peer, permitted, params, headers, client)
        };
        if reply.is_ok() {
            peer.has_served();
        }
        if let (Some(lease), Ok(reply)) = (&lease, &reply)
            && !reply.is_error()
        {
            lease.heard(&call.method, params);
        }
        let reply = reply.map_err(|error| self.lost(error, &peer))?;
        // Clients refuse the whole message for it, and wait for another.
        if !reply.is_error() && !reply.text().starts_with('{') && !crate::mcp::is_custom(&call.method) {
            let reason = self.words(&format!("its result for {} is no object", call.method));
            return Err(BackendError::Protocol { backend: self.name.clone(), reason });
        }
        if let Some(long) = reply.payload().source() {
            // From here on it waits for this caller to read it.
            let kept = long.keep_for(share);
            kept.map_err(|why| BackendError::Unkept {
                backend: self.name.clone(),
                own: why == Unkept::Share,
            })?;
        }
        Ok(reply.answer(errors_count))
    }

    /// Why a call on this connection failed. Of those that are lost with it only the first counts.
    fn lost(&self, error: PeerError, peer: &Peer) -> BackendError {
        let lost =
            matches!(error, PeerError::Transport(TransportError::Closed(_) | TransportError::SessionLost));
        let more = lost && !peer.is_first_lost();
        match self.failed(error) {
            BackendError::Unreachable { backend, reason, again, .. } if more => {
                BackendError::Unreachable { backend, reason, counts: false, again }
            }
            error => error,
        }
    }

    /// The error when there is no place for a caller; it is not the server's fault.
    pub(super) fn full(&self, full: Full, limit: usize, what: &'static str) -> BackendError {
        let backend = self.name.clone();
        if full.own { BackendError::Share { backend, what } } else { BackendError::Busy { backend, limit } }
    }

    /// Sends the request, again if the server certainly did not see it (no connection came to be). Whatever it may
    /// have seen is never sent twice: a tool has effects.
    pub(super) async fn request(
        &self,
        peer: &Peer,
        permitted: &Permitted,
        params: &str,
        headers: Vec<(String, String)>,
        client: &Arc<dyn Client>,
    ) -> Result<Reply, PeerError> {
        let (patience, retries) = {
            let settings = self.settings.load();
            (settings.patience(permitted.call()), settings.retries)
        };
        let begun = Instant::now();
        let mut left_of_it = patience.silence;
        let mut pause = RETRY_PAUSE;
        let mut left = retries;
        loop {
            let sent = peer.request(Request {
                errand: Errand::Call(permitted),
                params: Some(params),
                headers: headers.clone(),
                client: client.clone(),
                patience: left_of_it,
                longest: patience.longest,
            });
            let sent = sent.await;
            let unseen = matches!(sent, Err(PeerError::Transport(TransportError::Unreachable(_))));
            if !unseen || left == 0 || left_of_it <= pause {
                return sent;
            }
            left -= 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
            left_of_it = patience.silence.saturating_sub(begun.elapsed());
        }
    }

    pub(super) fn failed(&self, error: PeerError) -> BackendError {
        let backend = self.name.clone();
        match error {
            PeerError::Timeout { after, alive } => {
                BackendError::Timeout { backend, after, alive, endless: false }
            }
            PeerError::Endless(after) => BackendError::Timeout { backend, after, alive: true, endless: true },
            PeerError::Garbage(reason) => BackendError::Protocol { backend, reason: self.words(&reason) },
            PeerError::Transport(error) => match error {
                TransportError::Status { status, retry_after, said } => {
                    BackendError::Status { backend, status, retry_after, said }
                }
                TransportError::TooLarge { limit } => BackendError::TooLarge { backend, limit },
                TransportError::Protocol(_) => {
                    BackendError::Protocol { backend, reason: self.words(&error.to_string()) }
                }
                TransportError::Busy => BackendError::Busy { backend, limit: transport::OUTGOING_QUEUE },
                TransportError::Unreachable(_) | TransportError::SessionLost | TransportError::Closed(_)
                    if self.wanted.is_stopped() =>
                {
                    BackendError::Stopped { backend }
                }
                TransportError::Unreachable(_) | TransportError::SessionLost | TransportError::Closed(_) => {
                    let reason = self.words(&error.to_string());
                    BackendError::Unreachable { backend, reason, counts: true, again: None }
                }
            },
        }
    }
}
