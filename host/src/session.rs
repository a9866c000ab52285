//! One client's conversation: which of its requests are under way, to be cancelled by their ids.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::mcp::{method, params, splice};

/// What the client said when it cancelled a request: the params of its `notifications/cancelled`.
pub type Said = Arc<OnceLock<Box<RawValue>>>;

/// Longest words of a client that cancels, in bytes; longer ones cancel, and are not passed on.
const MAX_SAID: usize = 4 << 10;

/// A session of the handshake era.
#[derive(Debug)]
pub struct Session {
    id: Arc<str>,
    in_flight: Mutex<Table>,
    max_in_flight: AtomicUsize,
    /// Something was asked in it since it was opened.
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    /// Requests under way by the spelling of their id, to be cancelled by it.
    by_id: HashMap<Box<str>, Entry>,
    /// Requests that were taken up.
    taken: u64,
}

#[derive(Debug)]
struct Entry {
    cancelled: CancellationToken,
    said: Said,
    number: u64,
}

/// Why a request is not taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("a request with this id is still under way")]
    Doubled,
    #[error("too many requests are under way")]
    Full,
}

/// A request under way; leaves the table when it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    session: Arc<Session>,
    id: Box<str>,
    /// Cancelled when the client sends `notifications/cancelled` for it.
    pub cancelled: CancellationToken,
    /// Set before that.
    pub said: Said,
    /// The place in the order in which requests were taken up.
    pub number: u64,
}

impl Session {
    #[must_use]
    pub fn new(id: &str, max_in_flight: usize) -> Arc<Self> {
        let used = AtomicBool::new(false);
        Arc::new(Self {
            id: id.into(),
            in_flight: Mutex::default(),
            max_in_flight: AtomicUsize::new(max_in_flight),
            used,
        })
    }

    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// From now on so many requests may be under way in it at once.
    pub fn bound(&self, max_in_flight: usize) {
        self.max_in_flight.store(max_in_flight, Ordering::Relaxed);
    }

    /// Whether a request was ever taken up in it.
    #[must_use]
    pub fn used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes up a request.
    ///
    /// # Errors
    /// Its id is in use, or the table is full.
    pub(crate) fn admit(self: &Arc<Self>, id: &RawValue) -> Result<InFlight, AdmitError> {
        let mut in_flight = self.in_flight.lock();
        if in_flight.by_id.len() >= self.max_in_flight.load(Ordering::Relaxed) {
            return Err(AdmitError::Full);
        }
        if in_flight.by_id.contains_key(id.get()) {
            return Err(AdmitError::Doubled);
        }
        self.used.store(true, Ordering::Relaxed);
        let (cancelled, said) = (CancellationToken::new(), Said::default());
        in_flight.taken += 1;
        let number = in_flight.taken;
        let entry = Entry { cancelled: cancelled.clone(), said: said.clone(), number };
        in_flight.by_id.insert(id.get().into(), entry);
        Ok(InFlight { session: self.clone(), id: id.get().into(), cancelled, said, number })
    }

    /// Whether a request is still under way that was taken up before the one with this number.
    #[must_use]
    pub(crate) fn has_earlier(&self, number: u64) -> bool {
        self.in_flight.lock().by_id.values().any(|entry| entry.number < number)
    }

    /// The client no longer wants an answer; `params` are those of its notification.
    pub fn cancel(&self, params: &RawValue) {
        let Some(id) = splice::get(params.get(), "/requestId") else { return };
        if let Some(Entry { cancelled, said, .. }) = self.in_flight.lock().by_id.get(id) {
            // What is long is not kept until the call ends. Of two spellings, the server could read the id of another request
            // than the gateway did.
            if params.get().len() <= MAX_SAID && params::check(method::CANCELLED, params.get()).is_ok() {
                // The first one counts.
                let _ = said.set(params.to_owned());
            }
            cancelled.cancel();
        }
    }

    /// Cancels everything that is under way.
    pub fn cancel_all(&self) {
        self.in_flight.lock().by_id.values().for_each(|entry| entry.cancelled.cancel());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.session.in_flight.lock().by_id.remove(&self.id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn id(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn ids_are_told_apart_by_their_spelling() {
        let session = Session::new("s", 8);
        let number = session.admit(&id("1")).unwrap();
        let text = session.admit(&id("\"1\"")).unwrap();
        session.cancel(&id(r#"{"requestId":"1","reason":"r"}"#));
        assert!(text.cancelled.is_cancelled() && !number.cancelled.is_cancelled());
        assert_eq!(text.said.get().unwrap().get(), r#"{"requestId":"1","reason":"r"}"#);
        session.cancel(&id(r#"{"requestId":1,"requestId":7}"#));
        assert!(number.cancelled.is_cancelled() && number.said.get().is_none(), "not passed on");
        assert_eq!(session.admit(&id("1")).unwrap_err(), AdmitError::Doubled);
        let other = session.admit(&id("2")).unwrap();
        session.cancel(&id(r#"{"requestId":2,"RequestId":7}"#));
        assert!(other.cancelled.is_cancelled() && other.said.get().is_none(), "not passed on");
        drop(number);
        assert!(session.admit(&id("1")).is_ok());
    }

    #[test]
    fn only_what_came_before_is_earlier() {
        let session = Session::new("s", 8);
        let first = session.admit(&id("1")).unwrap();
        let second = session.admit(&id("2")).unwrap();
        assert!(!session.has_earlier(first.number) && session.has_earlier(second.number));
        drop(first);
        let third = session.admit(&id("1")).unwrap();
        assert!(!session.has_earlier(second.number) && session.has_earlier(third.number));
    }

    #[test]
    fn the_table_is_bounded() {
        let session = Session::new("s", 1);
        let _one = session.admit(&id("1")).unwrap();
        assert_eq!(session.admit(&id("2")).unwrap_err(), AdmitError::Full);
    }
}
