//! Work that takes untrusted input and that no budget of ours can stop, done by a child of our own program under limits
//! of the system: time, memory and the length of the answer. Whatever goes wrong ends that child and nothing else.
//!
//! The child is this same program, started again with a hidden command (`confined NAME`, in `cli/confined.rs`). It has no
//! environment, no descriptors but three pipes, a process group of its own, and dies with us. Question and answer are
//! frames on its stdin and stdout. Nothing here needs a runtime: [`Worker::ask`] blocks its thread.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

mod child;
mod frame;
mod serve;

pub use self::serve::serve;

use crate::files;

use self::frame::{Broken, Pipes};

/// Which program is started, if it named itself.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The limits of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory it can write to. It is counted by the kernel (`RLIMIT_DATA`), addresses that are only reserved are not.
    pub memory_bytes: u64,
    /// The longest answer that is taken from it.
    pub answer_bytes: usize,
    /// Time on the processor for all it is ever asked, of all callers together.
    pub processor: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfinedError {
    #[error("there is no sentinel-gateway beside this program that could do `{0}` in a process of its own")]
    NoProgram(String),
    #[error("the process that does `{work}` cannot be started: {source}")]
    Start { work: String, source: std::io::Error },
    #[error("it took longer than {} ms", .0.as_millis())]
    Time(Duration),
    #[error("it needs more than {} MiB of memory", .0 >> 20)]
    Memory(u64),
    #[error("its result is longer than {0} bytes")]
    Answer(usize),
    #[error("the process that did it ended: {0}")]
    Crash(String),
    /// The work was done, and says no; the worker can be asked again.
    #[error("{0}")]
    Refused(String),
}

/// Names the program whose hidden command does the work; the first who names one decides.
pub(crate) fn use_program(path: impl Into<PathBuf>) {
    let _ = PROGRAM.set(path.into());
}

/// The program that runs now does it. For its `main`.
pub fn use_this_program() {
    use_program(files::this_program());
}

/// The program that has the hidden command. Another program that uses this library, such as a test or a bench, has it done
/// by the gateway that was built with it: itself it would do something else altogether.
fn program() -> Option<PathBuf> {
    if let Some(named) = PROGRAM.get() {
        return Some(named.clone());
    }
    let running = std::env::current_exe().ok()?;
    let folders = running.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("sentinel-gateway")).find(|program| program.is_file())
}

/// A child that waits for questions of one kind. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Worker {
    work: String,
    child: Child,
    pipes: Option<Pipes>,
    limits: Limits,
}

impl Worker {
    /// Starts a child for one kind of work.
    ///
    /// # Errors
    /// There is no program, or no process can be made.
    pub(crate) fn spawn(work: &str, limits: &Limits) -> Result<Self, ConfinedError> {
        let program = program().ok_or_else(|| ConfinedError::NoProgram(work.to_owned()))?;
        Self::of(&program, &["confined", work], work, limits)
    }

    fn of(program: &Path, arguments: &[&str], work: &str, limits: &Limits) -> Result<Self, ConfinedError> {
        let failed = |source| ConfinedError::Start { work: work.to_owned(), source };
        let mut child = child::start(program, arguments, limits).map_err(failed)?;
        let pipes = Pipes::of(&mut child).map_err(|source| {
            child::end(&mut child);
            failed(source)
        })?;
        Ok(Self { work: work.to_owned(), child, pipes: Some(pipes), limits: *limits })
    }

    /// Asks it, and waits for the answer until the deadline. A worker that did not answer is dead afterwards, whatever
    /// the reason, and says so when it is asked again.
    ///
    /// # Errors
    /// See [`ConfinedError`]; after [`ConfinedError::Refused`] it can be asked again.
    pub(crate) fn ask(&mut self, question: &[u8], deadline: Duration) -> Result<Vec<u8>, ConfinedError> {
        let Some(pipes) = &mut self.pipes else {
            return Err(ConfinedError::Crash(format!("`{}` had ended before it was asked", self.work)));
        };
        let broken = match pipes.exchange(question, self.limits.answer_bytes, Instant::now() + deadline) {
            Ok(answer) => return answer.map_err(ConfinedError::Refused),
            Err(broken) => broken,
        };
        let status = child::end(&mut self.child);
        let said = self.pipes.take().map(Pipes::last_words).unwrap_or_default();
        Err(match broken {
            Broken::Time => ConfinedError::Time(deadline),
            Broken::Answer => ConfinedError::Answer(self.limits.answer_bytes),
            Broken::Ended if child::ran_out_of_processor(status) => {
                ConfinedError::Time(self.limits.processor.unwrap_or(deadline))
            }
            Broken::Ended if out_of_memory(&said) => ConfinedError::Memory(self.limits.memory_bytes),
            Broken::Ended => ConfinedError::Crash(child::words(status, &said)),
            Broken::Io(error) => ConfinedError::Crash(format!("its pipes failed: {error}")),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.pipes.take().is_some() {
            child::end(&mut self.child);
        }
    }
}

/// Rust and the system say so in words of their own, and nothing else does: the process just aborts.
fn out_of_memory(said: &str) -> bool {
    ["memory allocation of ", "Cannot allocate memory", "(os error 12)"]
        .iter()
        .any(|words| said.contains(words))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
