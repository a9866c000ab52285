//! Calls that are suspended until their client comes back. A server of the handshake era asks its question in the
//! middle of a call; a stateless client gets the question as the answer `input_required`, and sends a new request with
//! its reply. The call itself is not repeated: it waits here, and the new request finds it by the sealed state it
//! brings.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::line::Out;
use super::seal::{NoRandom, PREFIX, Sealer};
use crate::call::Share;
use crate::call::shares::{Place, Shares};
use crate::mcp::client::{Answered, ServerRequest};
use crate::mcp::message;
use crate::mcp::splice::{self, Edit};
use crate::pipeline::{Answer, Failure};

/// How long a call waits for its client to come back.
const PATIENCE: Duration = Duration::from_secs(300);
/// Questions of a server that come within this time are put to the client in one answer.
const TOGETHER: Duration = Duration::from_millis(5);
/// How often calls that have waited too long are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// How many calls may wait at once, and how many bytes they may hold. Each caller may have a share of both.
const MAX_SUSPENDED: usize = 1_024;
const MAX_SUSPENDED_BYTES: usize = 64 << 20;

/// A call under way, with the questions it asks.
#[derive(Debug)]
pub(super) struct RunningCall {
    pub(super) work: JoinHandle<Result<Answer, Failure>>,
    pub(super) questions: mpsc::Receiver<Arc<ServerRequest>>,
    /// Questions without an answer yet, by the key under which the client answers them.
    pub(super) open: Vec<(String, Arc<ServerRequest>)>,
    pub(super) asked: u64,
    /// Where the call's messages go: the stream of the request that waits now.
    pub(super) out: Arc<Mutex<Out>>,
    /// Ends the call in order.
    pub(super) cancel: CancellationToken,
}

#[derive(Debug)]
struct Suspended {
    running: RunningCall,
    since: Instant,
    _places: [Place; 2],
}

/// All calls that wait.
#[derive(Debug)]
pub struct SuspendedCalls {
    sealer: Sealer,
    suspended: Mutex<HashMap<String, Suspended>>,
    calls: Arc<Shares>,
    bytes: Arc<Shares>,
}

/// The result of looking up a state that a client brought.
#[derive(Debug)]
pub(super) enum Found {
    /// It is not one of ours; the backend may know it.
    Foreign,
    Call(RunningCall),
    /// It is ours, but was changed, belongs to another request, was used already, or is too old.
    Expired,
}

impl SuspendedCalls {
    /// Needs a Tokio runtime.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Arc<Self>, NoRandom> {
        let suspended = Arc::new(Self {
            sealer: Sealer::new()?,
            suspended: Mutex::default(),
            calls: Shares::new(MAX_SUSPENDED),
            bytes: Shares::new(MAX_SUSPENDED_BYTES),
        });
        let weak = Arc::downgrade(&suspended);
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(SWEEP);
            loop {
                beat.tick().await;
                let Some(suspended) = weak.upgrade() else { return };
                suspended.sweep();
            }
        });
        Ok(suspended)
    }

    /// Ends the calls whose clients did not come back in time.
    fn sweep(&self) {
        self.suspended.lock().retain(|_, suspended| {
            let late = suspended.since.elapsed() > PATIENCE;
            if late {
                suspended.running.cancel.cancel();
            }
            !late
        });
    }

    /// An id that cannot be guessed.
    pub(super) fn id(&self) -> Result<String, NoRandom> {
        self.sealer.id()
    }

    /// Suspends a call, and returns the state by which it is found again. `bytes` is how much it holds. `None` if too
    /// many calls wait already, or too many of this caller; the call is then ended.
    pub(super) fn suspend(
        &self,
        running: RunningCall,
        bound: &[u8],
        whose: Share,
        bytes: usize,
    ) -> Option<String> {
        let places = self.calls.take(whose, 1).and_then(|call| Ok([call, self.bytes.take(whose, bytes)?]));
        let Ok(places) = places else {
            running.cancel.cancel();
            return None;
        };
        let id = self.sealer.id().ok()?;
        let state = self.sealer.seal(&id, bound).ok()?;
        self.suspended.lock().insert(id, Suspended { running, since: Instant::now(), _places: places });
        Some(state)
    }

    /// The call that a state was made for.
    pub(super) fn find(&self, state: &str, bound: &[u8]) -> Found {
        if !state.starts_with(PREFIX) {
            return Found::Foreign;
        }
        let suspended = self.sealer.open(state, bound).and_then(|id| self.suspended.lock().remove(&id));
        match suspended {
            Some(suspended) if suspended.since.elapsed() <= PATIENCE => Found::Call(suspended.running),
            Some(suspended) => {
                suspended.running.cancel.cancel();
                Found::Expired
            }
            None => Found::Expired,
        }
    }
}

impl RunningCall {
    /// Waits until the call asks its client something, and a little longer, so that questions which come together are put
    /// together. The answer of the call, if it ends instead.
    pub(super) async fn until_it_asks(
        &mut self,
        cancelled: &CancellationToken,
    ) -> Option<Result<Answer, Failure>> {
        let question = tokio::select! {
            done = &mut self.work => return Some(done.unwrap_or(Err(Failure::Cancelled))),
            question = self.questions.recv() => question,
            () = cancelled.cancelled() => {
                self.cancel.cancel();
                None
            }
        };
        // Without a question the call no longer holds its line, or is cancelled, so it is ending.
        let Some(question) = question else {
            return Some((&mut self.work).await.unwrap_or(Err(Failure::Cancelled)));
        };
        self.take(question);
        while let Ok(Some(question)) = tokio::time::timeout(TOGETHER, self.questions.recv()).await {
            self.take(question);
        }
        None
    }

    /// Takes a question, and returns its key for the client.
    pub(super) fn take(&mut self, question: Arc<ServerRequest>) {
        self.asked += 1;
        self.open.push((format!("q{}", self.asked), question));
    }

    /// Hands over the answers that the client brought. Questions that it left out stay open.
    pub(super) fn answer(&mut self, responses: &str) {
        self.open.retain(|(key, question)| {
            let pointer = format!("/{key}");
            let Some(response) = splice::get(responses, &pointer).filter(|json| json.starts_with('{')) else {
                return true;
            };
            question.answer(Answered::Result(message::raw(response.to_owned())));
            false
        });
    }

    /// The result that asks the client (2026-07-28, "Multi Round-Trip Requests").
    pub(super) fn required(&self) -> String {
        let mut text = "{\"resultType\":\"input_required\",\"inputRequests\":{".to_owned();
        for (index, (key, question)) in self.open.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let params = question.params.as_deref().map_or("{}", RawValue::get);
            let method = message::quoted(&question.method);
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}\"{key}\":{{\"method\":{method},\"params\":{params}}}");
        }
        text.push_str("}}");
        text
    }
}

/// The data that a state is bound to: the caller, and everything of the request that a repetition must not change.
pub(super) fn bound(identity: &str, method: &str, params: &str) -> Vec<u8> {
    let bare = ["/_meta", "/inputResponses", "/requestState"]
        .map(|pointer| Edit::Remove { pointer: pointer.to_owned() });
    let params = splice::apply(params, &bare).unwrap_or_default();
    let mut digest = Sha256::new();
    for part in [identity, method, &params] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::call::Credential;
    use crate::door::mcp::line;
    use crate::pipeline::Caller;

    fn running() -> RunningCall {
        let credential = Credential { door: "http", bearer: None, attrs: Vec::new() };
        let caller = Arc::new(Caller::new(credential));
        let (stream, _) = line::stream(&caller);
        let (_, questions) = mpsc::channel(1);
        RunningCall {
            work: tokio::spawn(async { Err(Failure::Cancelled) }),
            questions,
            open: Vec::new(),
            asked: 0,
            out: Arc::new(Mutex::new(Out::new(stream, caller))),
            cancel: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn calls_that_wait_are_shared_in_number_and_in_bytes() {
        let suspended = SuspendedCalls::new().unwrap();
        let states: Vec<String> =
            std::iter::from_fn(|| suspended.suspend(running(), b"eve", Share::named("eve"), 100)).collect();
        assert!((MAX_SUSPENDED / 2..MAX_SUSPENDED / 2 + 2).contains(&states.len()), "{}", states.len());
        assert!(suspended.suspend(running(), b"bob", Share::named("bob"), 100).is_some());
        // Who comes back gives the place back.
        assert!(matches!(suspended.find(&states[0], b"eve"), Found::Call(_)));
        assert!(suspended.suspend(running(), b"eve", Share::named("eve"), 100).is_some());
        let refused = running();
        let cancel = refused.cancel.clone();
        assert!(suspended.suspend(refused, b"eve", Share::named("eve"), 100).is_none());
        assert!(cancel.is_cancelled(), "what cannot wait ends");

        let suspended = SuspendedCalls::new().unwrap();
        let large =
            std::iter::from_fn(|| suspended.suspend(running(), b"eve", Share::named("eve"), 4 << 20)).count();
        assert!((2..=9).contains(&large), "{large}");
        assert!(suspended.suspend(running(), b"bob", Share::named("bob"), 4 << 20).is_some());
    }
}
