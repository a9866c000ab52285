//! One contestant's turn: a load, with what it cost in processor time until it is quiet again.

use std::time::{Duration, Instant};

use crate::call::Calls;
use crate::contestant::Running;
use crate::load::{Load, Tally};
use crate::result::Cell;

/// How long a contestant may go on working after its load before the next one's turn.
const SETTLE: Duration = Duration::from_secs(20);
/// It is quiet when it used less than a tick of the kernel's clock in this time.
const QUIET: Duration = Duration::from_millis(30);

/// All rounds of one load on one contestant.
#[derive(Debug)]
pub(super) struct Sum {
    load: Load,
    tally: Tally,
    cpu: Duration,
    server_cpu: Duration,
}

impl Sum {
    pub(super) fn new(load: Load) -> Self {
        Self { load, tally: Tally::new(), cpu: Duration::ZERO, server_cpu: Duration::ZERO }
    }

    /// Lets it work once more, unless this load is void already. Returns how many calls were good.
    pub(super) async fn turn(&mut self, running: &mut Running) -> u64 {
        if self.is_void() {
            return 0;
        }
        let calls = Calls::new(&running.tool, self.load.payload);
        let before = running.tree();
        let (cpu, server_cpu) = (before.cpu(), before.backend_cpu());
        let tally = running.client.drive(&self.load, &calls).await;
        settle(running).await;
        // Looked at again: a server for a new session is a process that was not there before.
        let after = running.tree();
        self.cpu += after.cpu().saturating_sub(cpu);
        self.server_cpu += after.backend_cpu().saturating_sub(server_cpu);
        self.tally.add(&tally);
        tally.calls()
    }

    /// Lets it work once more beside others who work on it at the same time. What those cost is not told apart, so the
    /// processor is not looked at.
    pub(super) async fn drive(&mut self, running: &mut Running) {
        let calls = Calls::new(&running.tool, self.load.payload);
        self.tally.add(&running.client.drive(&self.load, &calls).await);
    }

    /// Whether an answer was wrong or missing.
    pub(super) fn is_void(&self) -> bool {
        self.tally.void.is_some()
    }

    pub(super) fn cell(&self) -> Cell {
        Cell::new(&self.load, &self.tally, self.cpu.as_secs_f64(), self.server_cpu.as_secs_f64())
    }
}

/// Waits until it has done what it put off, such as moving records into the database: that belongs to its own
/// account, and not into the next one's turn.
pub(super) async fn settle(running: &Running) {
    let tree = running.tree();
    let since = Instant::now();
    let mut last = tree.cpu() + tree.backend_cpu();
    while since.elapsed() < SETTLE {
        tokio::time::sleep(QUIET).await;
        let now = tree.cpu() + tree.backend_cpu();
        if now == last {
            return;
        }
        last = now;
    }
}
