//! Room for large messages: what is being read and what its call holds until it is answered. Without it a caller's connections,
//! each within its limit, would be gigabytes together.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};

use crate::call::Share;
use crate::call::shares::{Full, Place, Shares};
use crate::door::server::Limits;

/// A message up to this size takes no room, in bytes: with all connections there may be, that is little.
const SMALL: u64 = 64 << 10;
/// So many of the longest messages have room together.
const LONGEST_AT_ONCE: usize = 32;

/// The bytes that large messages may hold, by caller.
#[derive(Clone, Debug)]
pub struct Room(Arc<Shares>);

/// There was none.
#[derive(Clone, Copy, Debug)]
pub(in crate::door) struct NoRoom(Full);

impl Room {
    /// For messages of at most this many bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self(Shares::new(longest.saturating_mul(LONGEST_AT_ONCE)))
    }

    /// From now on messages may have this many bytes.
    pub fn bound(&self, longest: usize) {
        self.0.resize(longest.saturating_mul(LONGEST_AT_ONCE));
    }

    /// Room for a body; none is taken for a small one. A body that does not say its length may have the longest.
    ///
    /// # Errors
    /// This caller has as much as is theirs, or nothing is left.
    pub(in crate::door) fn take(
        &self,
        body: &Body,
        limits: &Limits,
        whose: Share,
    ) -> Result<Option<Arc<Place>>, NoRoom> {
        let most = body.size_hint().upper().unwrap_or(u64::MAX).min(limits.max_body as u64);
        if most <= SMALL {
            return Ok(None);
        }
        let bytes = usize::try_from(most).unwrap_or(limits.max_body);
        self.0.take(whose, bytes).map(|place| Some(Arc::new(place))).map_err(NoRoom)
    }
}

impl NoRoom {
    /// What the caller is told.
    pub(in crate::door) fn text(self) -> &'static str {
        if self.0.own {
            "too many of your large messages are under way: wait for one of them"
        } else {
            "the gateway holds as many large messages as it may: try again in a second or two"
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn large_messages_have_a_share_and_small_ones_pass() {
        let limits = Limits { max_body: 1 << 20, ..Limits::default() };
        let room = Room::new(limits.max_body);
        let large = || Body::from(vec![b'x'; 1 << 20]);
        let unknown =
            || Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
        let mut held = Vec::new();
        while let Ok(place) = room.take(&large(), &limits, Share::named("eve")) {
            held.push(place.unwrap());
        }
        assert!((16..=18).contains(&held.len()), "half of it: {}", held.len());
        assert!(
            room.take(&unknown(), &limits, Share::named("eve"))
                .unwrap_err()
                .text()
                .contains("your large messages")
        );
        assert!(room.take(&Body::from("small"), &limits, Share::named("eve")).unwrap().is_none());
        let bob = room.take(&unknown(), &limits, Share::named("bob")).unwrap();
        assert!(bob.is_some());
        drop(held);
        assert!(room.take(&large(), &limits, Share::named("eve")).unwrap().is_some());
    }
}
