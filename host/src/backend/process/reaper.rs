//! The one task that owns a keeper, and through it a child.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::frames::{self, Command, Report};
use super::kin::{self, Kept};
use super::{Exit, StopRequest};

/// How long the last words may take once everybody is dead: a process that changed its user may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long a keeper may take to kill, or to end when its work is done. One that takes longer has been stopped or is
/// stuck in the kernel; then the gateway does its work.
const KEEPER: Duration = Duration::from_secs(2);

pub(super) struct Reaper {
    pub(super) name: String,
    pub(super) keeper: Child,
    pub(super) kept: Kept,
    pub(super) reports: OwnedReadHalf,
    pub(super) commands: OwnedWriteHalf,
    pub(super) orders: watch::Receiver<StopRequest>,
    pub(super) closing: CancellationToken,
    pub(super) gone: CancellationToken,
    pub(super) stderr: JoinHandle<()>,
}

impl Reaper {
    pub(super) async fn run(self, told: watch::Sender<Option<Exit>>) {
        let Self { name, mut keeper, kept, reports, mut commands, mut orders, closing, gone, mut stderr } =
            self;
        let ended = ended(reports);
        tokio::pin!(ended);
        // How it ended, if the keeper said so; whether somebody ordered it, and whether by a signal.
        let (status, ordered, forced) = 'run: {
            let grace = tokio::select! {
                biased;
                status = &mut ended => break 'run (status, false, false),
                grace = stop_ordered(&mut orders) => grace,
            };
            let mut forced = false;
            if let Some(grace) = grace {
                let start = Instant::now();
                closing.cancel();
                for (deadline, last) in [(start + grace / 2, false), (start + grace, true)] {
                    tokio::select! {
                        biased;
                        status = &mut ended => break 'run (status, true, forced),
                        () = kill_ordered(&mut orders) => break,
                        () = sleep_until(deadline) => {}
                    }
                    if !last {
                        // It fails if the keeper is gone, which `ended` will say.
                        let _ = frames::send(&mut commands, &Command::Terminate).await;
                        forced = true;
                    }
                }
            }
            let _ = frames::send(&mut commands, &Command::Kill).await;
            (timeout(KEEPER, &mut ended).await.ok().flatten(), true, true)
        };
        gone.cancel();
        see_off(&mut keeper).await;
        if status.is_none() {
            // Without its keeper the kernel has killed the child, and what the child started has been given to us.
            tracing::warn!(
                backend = name,
                "the keeper process of this server was killed or did not react; the server and what it had started were \
                 killed"
            );
            kin::sweep().await;
        }
        drop(kept);
        if timeout(LAST_WORDS, &mut stderr).await.is_err() {
            stderr.abort();
        }
        told.send_replace(Some(Exit { status, ordered, forced }));
    }
}

/// Reaps a keeper that is about to end; kills one that does not.
pub(super) async fn see_off(keeper: &mut Child) {
    if timeout(KEEPER, keeper.wait()).await.is_err() {
        // It fails only if it has just ended.
        let _ = keeper.start_kill();
        let _ = keeper.wait().await;
    }
}

/// Waits for the keeper's last report; nothing, if it ends without one.
async fn ended(mut reports: OwnedReadHalf) -> Option<ExitStatus> {
    match frames::receive(&mut reports).await {
        Ok(Report::Ended { status }) => Some(ExitStatus::from_raw(status)),
        Ok(Report::Started { .. } | Report::Refused { .. }) | Err(_) => None,
    }
}

/// The grace of a stop; `None` for a kill, and when all handles are gone.
async fn stop_ordered(orders: &mut watch::Receiver<StopRequest>) -> Option<Duration> {
    match orders.wait_for(|order| *order != StopRequest::None).await.as_deref() {
        Ok(StopRequest::InOrder(grace)) => Some(*grace),
        Ok(StopRequest::Kill | StopRequest::None) | Err(_) => None,
    }
}

async fn kill_ordered(orders: &mut watch::Receiver<StopRequest>) {
    // An error means that all handles are gone: the same as a kill.
    let _ = orders.wait_for(|order| *order == StopRequest::Kill).await;
}
