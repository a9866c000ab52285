//! Reads a backend's lists again when its server says that they have changed.
//!
//! Some servers say so after every request for a list, or in bursts of hundreds, although nothing changed. So there is one
//! refresh at a time and at most one more after it, with a pause between two that grows for as long as they find nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fleet::ServerFleet;
use super::{Server, listing};
use crate::mcp::catalog::{List, Offers};

/// The pause after a refresh that has found a change, and after the first that has not.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause. A server that said nothing for so long is believed at once again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Which lists of one backend are to be read again, and when.
#[derive(Debug, Default)]
pub(super) struct Refreshing(Mutex<Pace>);

#[derive(Debug, Default)]
struct Pace {
    /// The lists that its server has spoken of since they were last read.
    wanted: Vec<List>,
    /// A task is reading or waits for its turn; it takes what is wanted by then.
    running: bool,
    pause: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// How long the next refresh has to wait.
    fn wait(&self, now: Instant) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let since = now.saturating_duration_since(last);
        if since >= LONGEST_PAUSE { Duration::ZERO } else { self.pause.saturating_sub(since) }
    }

    fn done(&mut self, changed: bool, now: Instant) {
        let quiet = self.last.is_none_or(|last| now.saturating_duration_since(last) >= 2 * LONGEST_PAUSE);
        self.pause = if changed || quiet {
            SHORTEST_PAUSE
        } else {
            (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
        };
        self.last = Some(now);
    }
}

impl Refreshing {
    /// A new connection: what an earlier process said too often is forgotten.
    pub(super) fn reset(&self) {
        let mut pace = self.0.lock();
        (pace.pause, pace.last) = (Duration::ZERO, None);
    }
}

/// The lists a notification of a server speaks of.
pub(super) fn lists_of(method: &str) -> &'static [List] {
    match method {
        "notifications/tools/list_changed" => &[List::Tools],
        "notifications/resources/list_changed" => &[List::Resources, List::Templates],
        "notifications/prompts/list_changed" => &[List::Prompts],
        _ => &[],
    }
}

/// A server says that lists of its own have changed. Returns at once, because the lists can only be read while the task
/// that brought this message goes on.
pub(super) fn ask_again(backend: &Arc<Server>, fleet: &Arc<ServerFleet>, lists: &[List]) {
    let mut pace = backend.refreshing.0.lock();
    for list in lists {
        if !pace.wanted.contains(list) {
            pace.wanted.push(*list);
        }
    }
    if !std::mem::replace(&mut pace.running, true) {
        tokio::spawn(run(backend.clone(), fleet.clone()));
    }
}

async fn run(backend: Arc<Server>, fleet: Arc<ServerFleet>) {
    loop {
        let wait = backend.refreshing.0.lock().wait(Instant::now());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = backend.stopping() => return,
        }
        let lists = std::mem::take(&mut backend.refreshing.0.lock().wanted);
        let changed = refresh(&backend, &fleet, &lists).await == Some(true);
        let mut pace = backend.refreshing.0.lock();
        pace.done(changed, Instant::now());
        if pace.wanted.is_empty() {
            pace.running = false;
            return;
        }
    }
}

/// Reads the lists, and says whether they are others than before; none if they cannot be read.
pub(super) async fn refresh(backend: &Arc<Server>, fleet: &Arc<ServerFleet>, lists: &[List]) -> Option<bool> {
    // One that is away is listed anew when it is back.
    let peer = backend.peer()?;
    let before = backend.original().unwrap_or_default();
    let mut offers = Offers::clone(&before);
    let patience = backend.settings.load().timeout;
    for list in lists {
        match listing::drain(&peer, *list, patience).await {
            Ok(items) => offers.set(*list, items),
            Err(error) => {
                tracing::warn!(backend = %backend.name, "the changed list of the server cannot be read; the old one stays: {error}");
                return None;
            }
        }
    }
    let changed = !offers.same_as(&before);
    if changed {
        fleet.offer(backend, offers).await;
        fleet.changed(backend);
        fleet.remember(backend);
    }
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_while_nothing_changes_and_a_change_or_silence_ends_that() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait(begun), Duration::ZERO);
        let (mut now, mut pauses) = (begun, Vec::new());
        for _ in 0..9 {
            pace.done(false, now);
            pauses.push(pace.wait(now));
            now += pace.wait(now);
        }
        let half = SHORTEST_PAUSE;
        assert_eq!(pauses[..4], [half, 2 * half, 4 * half, 8 * half]);
        assert_eq!(pauses[8], LONGEST_PAUSE);
        // In the first minute a server that never stops is asked a handful of times.
        assert_eq!(
            pauses
                .iter()
                .scan(Duration::ZERO, |sum, pause| {
                    *sum += *pause;
                    Some(*sum)
                })
                .filter(|sum| *sum < 60 * SECOND)
                .count(),
            6
        );
        pace.done(true, now);
        assert_eq!(pace.wait(now), SHORTEST_PAUSE);
        assert_eq!(pace.wait(now + LONGEST_PAUSE), Duration::ZERO);
        pace.done(false, now);
        pace.done(false, now + 3 * LONGEST_PAUSE);
        assert_eq!(
            pace.wait(now + 3 * LONGEST_PAUSE),
            SHORTEST_PAUSE,
            "what it said long ago does not count"
        );
    }
}
