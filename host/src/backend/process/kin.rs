//! Which of the gateway's children is a keeper, and which is a stranger: a process that a server started and that lost
//! its parent and its keeper. The gateway adopts such processes, in case a keeper fails, and ends them.

use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::sync::watch;
use tokio::time::timeout;

use super::family;
use super::spawner::{on_spawn_thread, was_before};

/// How long strangers are killed for. Only those stuck in the kernel need more than milliseconds.
const SWEEP: Duration = Duration::from_secs(3);
/// The pause between two looks for processes that are left.
const PAUSE: Duration = Duration::from_millis(2);

/// The keepers that are not reaped, by their process ids, each with a number that is never used again.
static KEEPERS: LazyLock<watch::Sender<HashMap<u32, u64>>> = LazyLock::new(watch::Sender::default);
/// Holds a keeper's place among the gateway's own.
#[derive(Debug)]
pub(super) struct Kept {
    pid: u32,
    number: u64,
}

/// On the spawner only, right after the fork.
pub(super) fn keep(pid: u32) -> Kept {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    KEEPERS.send_modify(|keepers| {
        keepers.insert(pid, number);
    });
    Kept { pid, number }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEEPERS.send_modify(|keepers| {
            // The keeper is reaped, so another one may have its process id by now.
            if keepers.get(&self.pid) == Some(&self.number) {
                keepers.remove(&self.pid);
            }
        });
    }
}

/// Waits until all keepers have ended, so that nothing of any server is left, and kills what they left behind.
pub async fn settle(patience: Duration) {
    let mut keepers = KEEPERS.subscribe();
    if timeout(patience, keepers.wait_for(HashMap::is_empty)).await.is_err() {
        let left = keepers.borrow().len();
        tracing::error!(
            left,
            "keeper processes of servers have not ended yet; they go on without the gateway"
        );
    }
    sweep().await;
}

/// Kills whatever the gateway has adopted, and reaps it.
pub(super) async fn sweep() {
    let swept = on_spawn_thread(|| {
        let own = family::session(rustix::process::getpid())
            .ok_or_else(|| io::Error::other("/proc does not tell the session of this process"))?;
        let start = Instant::now();
        loop {
            let strangers = strangers(own);
            for stranger in &strangers {
                // The errors mean that it has ended, or that it runs as another user and is out of reach.
                let _ = rustix::process::kill_process(*stranger, Signal::KILL);
                let _ = rustix::process::waitpid(Some(*stranger), WaitOptions::NOHANG);
            }
            if strangers.is_empty() || start.elapsed() >= SWEEP {
                return Ok(strangers.len());
            }
            std::thread::sleep(PAUSE);
        }
    })
    .await;
    match swept {
        Ok(0) => {}
        Ok(left) => tracing::error!(left, "processes that servers had started cannot be killed"),
        Err(error) => tracing::error!("processes that servers had started cannot be looked for: {error}"),
    }
}

/// Children that are no keepers and are of another session than ours. What the gateway itself starts is of its own
/// session, unless it is a keeper; what is below a keeper is not and cannot become so.
fn strangers(own: i32) -> Vec<Pid> {
    let keepers = KEEPERS.borrow();
    let is_stranger = |child: &Pid| {
        let pid = child.as_raw_nonzero().get().unsigned_abs();
        let known = keepers.contains_key(&pid) || was_before(child);
        !known && family::session(*child).is_some_and(|session| session != own)
    };
    family::children(rustix::process::getpid()).into_iter().filter(is_stranger).collect()
}
