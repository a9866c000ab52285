//! Judges arguments that would cost the threads that serve calls too much: in a few processes, each under limits.
//!
//! Only a caller or backend that makes them work hard waits: a backend has one of them at a time, a caller a few questions,
//! and every wait ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::call::Call;
use crate::confined::{ConfinedError, Limits, Worker};
use crate::mcp::schema::{ArgumentError, ArgumentSchema, apart};
use crate::plugin::blocking;

/// The name of the work, for the hidden command.
const WORK: &str = "schema";
/// Processes at once.
const WORKERS: usize = 2;
/// Questions of all callers that wait or are answered.
const QUESTIONS: usize = 32;
/// Those of one caller.
const QUESTIONS_OF_ONE: usize = 4;
/// How long a question may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long one question may be worked on.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long a process may take to start.
const START: Duration = Duration::from_secs(5);
/// How long an unused process is kept.
const IDLE: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits { memory_bytes: 128 << 20, answer_bytes: 64 << 10, processor: None };

/// The processes, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Judges {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The backends about whose schemas a process is asked now.
    asked: HashSet<Arc<str>>,
    /// Questions that wait or are answered, by caller.
    questions: HashMap<String, usize>,
    idle: Vec<(Worker, Instant)>,
}

/// One question of a caller, counted until it is dropped; with its turn, once it has one.
struct Question<'s> {
    shared: &'s Shared,
    who: String,
    turn: Option<Arc<str>>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(backend) = &self.turn {
            state.asked.remove(backend);
        }
        if let Some(count) = state.questions.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                state.questions.remove(&self.who);
            }
        }
        drop(state);
        self.shared.freed.notify_all();
    }
}

impl Judges {
    /// Has arguments judged. Waits, on a thread that is announced as waiting.
    ///
    /// # Errors
    /// They do not fit, or it could not be found out within the limits.
    pub(super) fn ask(
        &self,
        call: &Call,
        schema: &ArgumentSchema,
        arguments: &str,
    ) -> Result<(), ArgumentError> {
        let mut question = self.shared.question(call.principal.identity())?;
        let answer = blocking(|| {
            question.wait(&call.target.backend)?;
            let failed = |error| ArgumentError::Schema(format!("judging these arguments failed: {error}"));
            self.shared.answer(&apart::question(schema.text(), arguments)).map_err(failed)
        });
        drop(question);
        apart::read(&answer?)
    }
}

impl Question<'_> {
    /// Waits for a turn.
    fn wait(&mut self, backend: &Arc<str>) -> Result<(), ArgumentError> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        while state.asked.len() >= WORKERS || state.asked.contains(backend) {
            if self.shared.freed.wait_until(&mut state, until).timed_out() {
                return Err(busy("none had time for them"));
            }
        }
        state.asked.insert(backend.clone());
        self.turn = Some(backend.clone());
        Ok(())
    }
}

impl Shared {
    fn question(&self, who: String) -> Result<Question<'_>, ArgumentError> {
        let mut state = self.state.lock();
        if state.questions.values().sum::<usize>() >= QUESTIONS {
            return Err(busy("too many calls wait"));
        }
        let count = state.questions.entry(who.clone()).or_default();
        if *count >= QUESTIONS_OF_ONE {
            return Err(busy("too many calls of yours wait"));
        }
        *count += 1;
        Ok(Question { shared: self, who, turn: None })
    }

    /// Asks a process, one that is there or a new one.
    fn answer(self: &Arc<Self>, question: &[u8]) -> Result<Vec<u8>, ConfinedError> {
        let kept = self.state.lock().idle.pop();
        if let Some((mut worker, _)) = kept {
            match worker.ask(question, DEADLINE) {
                Ok(answer) => {
                    self.keep(worker);
                    return Ok(answer);
                }
                // It may have ended while it was idle.
                Err(ConfinedError::Crash(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut worker = Worker::spawn(WORK, &LIMITS)?;
        // The process starts before the timer of the question does: it answers an empty question with an error.
        match worker.ask(&[], START) {
            Ok(_) | Err(ConfinedError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let answer = worker.ask(question, DEADLINE)?;
        self.keep(worker);
        Ok(answer)
    }

    /// Keeps a process for a while.
    fn keep(self: &Arc<Self>, worker: Worker) {
        self.state.lock().idle.push((worker, Instant::now()));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = self.clone();
        runtime.spawn(async move {
            tokio::time::sleep(IDLE).await;
            let old = |(_, since): &(Worker, Instant)| since.elapsed() >= IDLE;
            let old: Vec<_> = shared.state.lock().idle.extract_if(.., |kept| old(kept)).collect();
            // Ending one waits for its end.
            let _ = tokio::task::spawn_blocking(move || drop(old)).await;
        });
    }
}

fn busy(why: &str) -> ArgumentError {
    ArgumentError::Schema(format!(
        "arguments that take long to judge wait for a process of their own, and {why}; try again later"
    ))
}
