//! The one thread that forks keepers and looks after what the gateway adopts.

use std::collections::HashSet;
use std::io;
use std::sync::OnceLock;

use rustix::process::Pid;
use tokio::sync::{mpsc, oneshot};

use super::family;

/// Jobs that wait for the thread.
const QUEUE: usize = 64;

/// Children that this process had before it adopted any: a shell may have started something and then become us. Nobody
/// reaps them, so their ids are not used again.
static BEFORE: OnceLock<HashSet<Pid>> = OnceLock::new();

type Job = Box<dyn FnOnce() + Send>;

/// Runs a job on the one thread that forks keepers and looks after what the gateway adopts, so that neither sees half of
/// what the other does.
pub(super) async fn on_spawn_thread<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    static SPAWNER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        adopt();
        let run = move || {
            while let Some(job) = queue.blocking_recv() {
                // A panic must not end the thread. The caller sees its reply missing.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            }
        };
        std::thread::Builder::new().name("spawner".to_owned()).spawn(run).ok().map(|_| jobs)
    });
    let unavailable = || io::Error::other("the thread that starts children is not available");
    let (reply, replied) = oneshot::channel();
    let job = Box::new(move || {
        // If the caller no longer waits, the child is dropped, and its keeper sees that the connection is closed.
        let _ = reply.send(job());
    });
    spawner.as_ref().ok_or_else(unavailable)?.send(job).await.map_err(|_| unavailable())?;
    replied.await.map_err(|_| unavailable())?
}

/// From now on the gateway becomes the parent of its descendants that lose theirs.
fn adopt() {
    let _ = BEFORE.set(family::children(rustix::process::getpid()).into_iter().collect());
    match rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        Ok(()) => tracing::info!(
            "a keeper process for each server ends what the server started, also when this process is killed \
             (PR_SET_CHILD_SUBREAPER, no PID namespace)"
        ),
        Err(error) => tracing::warn!(
            "this process cannot adopt orphans ({error}): what a server starts is left to its keeper process alone"
        ),
    }
}

/// Whether this process had the child before it adopted any.
pub(super) fn was_before(child: &Pid) -> bool {
    BEFORE.get().is_some_and(|before| before.contains(child))
}
