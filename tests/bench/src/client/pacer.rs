//! Waking up on time. Tokio's timer counts in milliseconds, which is longer than what is measured here; the
//! kernel's own timer, waited for like a socket, is late by microseconds.

use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::net::unix::pipe::Receiver;

use crate::load::Schedule;

/// Wakes whenever calls of a schedule are due.
#[derive(Debug)]
pub(super) struct Pacer {
    /// No pipe, but read and waited for in the same way.
    timer: Receiver,
    schedule: Schedule,
    /// Calls that have been announced.
    told: u64,
}

impl Pacer {
    pub(super) fn new(schedule: Schedule) -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: Receiver::from_owned_fd_unchecked(timer)?, schedule, told: 0 })
    }

    /// Waits until further calls are due, and returns the range of their indices; none at the end. Nothing is
    /// lost if the future is dropped.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<std::ops::Range<u64>>> {
        if self.told == self.schedule.count() {
            return Ok(None);
        }
        loop {
            let now = Instant::now();
            let due = self.schedule.due_by(now);
            if due > self.told {
                let range = self.told..due;
                self.told = due;
                return Ok(Some(range));
            }
            // Zero would disarm it.
            let wait =
                self.schedule.due(self.told).saturating_duration_since(now).max(Duration::from_nanos(1));
            let value =
                Timespec { tv_sec: i64::try_from(wait.as_secs())?, tv_nsec: wait.subsec_nanos().into() };
            let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: interval, it_value: value };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            self.timer.readable().await?;
            // What cannot be read has not fired: readiness of an earlier setting, cleared by this.
            let _ = self.timer.try_read(&mut [0; 8]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_announced_once_and_none_early() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let start = Instant::now();
            let schedule = Schedule::new(start, 2_000, Duration::from_millis(50));
            let mut pacer = Pacer::new(schedule).unwrap();
            let mut next = 0;
            while let Some(range) = pacer.next().await.unwrap() {
                assert_eq!(range.start, next);
                assert!(Instant::now() >= schedule.due(range.end - 1));
                next = range.end;
            }
            assert_eq!(next, 100);
            assert!(start.elapsed() >= Duration::from_micros(49_500));
        });
    }
}
