//! Messages to a client that came while its standing stream was not read: between two such streams, or before the
//! first.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::call::Share;
use crate::call::shares::{Place, Shares};

/// How many messages are kept.
const MAX_MESSAGES: usize = 64;
/// How many bytes of them are kept; the notice of a changed list takes a hundred.
const MAX_BYTES: usize = 256 << 10;

/// The newest messages, within both bounds; the oldest go first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Each with the place it takes up among what is kept for all callers.
    messages: VecDeque<(Bytes, Option<Place>)>,
    bytes: usize,
    /// Where that is counted, and whose it is; nowhere if there is one client only.
    counted: Option<(Arc<Shares>, Share)>,
}

impl Backlog {
    /// Keeps a message. One that is larger than all that may be kept is dropped, and the log says so.
    pub(super) fn push(&mut self, message: Bytes) {
        if message.len() > MAX_BYTES {
            tracing::debug!(bytes = message.len(), "no client listens; a long notification was dropped");
            return;
        }
        while self.messages.len() >= MAX_MESSAGES || self.bytes + message.len() > MAX_BYTES {
            let Some((oldest, _)) = self.messages.pop_front() else { return };
            self.bytes -= oldest.len();
        }
        let take = |(shares, whose): &(Arc<Shares>, Share)| shares.take(*whose, message.len());
        let Ok(place) = self.counted.as_ref().map(take).transpose() else {
            tracing::debug!("what is kept for a caller is too much; a notification was dropped");
            return;
        };
        self.bytes += message.len();
        self.messages.push_back((message, place));
    }

    /// From now on the kept messages count to this caller's share.
    pub(super) fn count(&mut self, shares: Arc<Shares>, whose: Share) {
        self.counted = Some((shares, whose));
    }

    /// Takes everything out, the oldest first.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.messages).into_iter().map(|(message, _)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_within_both_bounds() {
        let mut backlog = Backlog::default();
        for number in 0..100_u8 {
            backlog.push(Bytes::from(vec![number; 10]));
        }
        let kept: Vec<u8> = backlog.take().map(|message| message[0]).collect();
        assert_eq!(kept, (36..100).collect::<Vec<u8>>());
        for number in 0..10_u8 {
            backlog.push(Bytes::from(vec![number; 100 << 10]));
        }
        backlog.push(Bytes::from(vec![99; MAX_BYTES + 1]));
        let kept: Vec<u8> = backlog.take().map(|message| message[0]).collect();
        assert_eq!(kept, [8, 9]);
        assert_eq!(backlog.take().count(), 0);
    }
}
