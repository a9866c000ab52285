//! Time is a value that is handed in, so that every rule about time can be tested without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Where the gateway reads the time. Cloning is cheap and all clones agree.
///
/// Its nanoseconds are those of the state store: they go on where they stood when the state was last kept (see
/// [`epoch`](super::epoch)), so a time that a plugin put into a cell means the same after a restart and to another
/// gateway that reads the same state.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The time since the boot, which cannot be set, and the offset that is added to it.
    Real {
        ahead_ns: u64,
    },
    Manual(Arc<Hands>),
}

#[derive(Debug, Default)]
struct Hands {
    ns: AtomicU64,
    unix_ms: AtomicU64,
}

impl Clock {
    /// The machine's clock, for a state that is not kept: its nanoseconds begin with those of the calendar.
    #[must_use]
    pub fn real() -> Self {
        Self::ahead(unix_ns().saturating_sub(boot_ns()))
    }

    /// The machine's clock, with its nanoseconds so far ahead of those since the machine was started.
    pub(super) fn ahead(ahead_ns: u64) -> Self {
        Self(Source::Real { ahead_ns })
    }

    /// A clock that stands at zero until its other half moves it.
    #[must_use]
    pub(crate) fn manual() -> (Self, ManualClock) {
        let hands = Arc::new(Hands::default());
        (Self(Source::Manual(Arc::clone(&hands))), ManualClock { hands })
    }

    /// Nanoseconds of the state store's clock. A real clock never goes back, whatever is done to the calendar, and counts
    /// on while the machine sleeps.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        match &self.0 {
            Source::Real { ahead_ns } => boot_ns().saturating_add(*ahead_ns),
            Source::Manual(hands) => hands.ns.load(Ordering::Acquire),
        }
    }

    /// Nanoseconds since the machine was started, and those of the store's clock, at one moment.
    pub(super) fn both_ns(&self) -> (u64, u64) {
        let boot = boot_ns();
        match &self.0 {
            Source::Real { ahead_ns } => (boot, boot.saturating_add(*ahead_ns)),
            Source::Manual(hands) => (boot, hands.ns.load(Ordering::Acquire)),
        }
    }

    /// Milliseconds since 1970; 0 on a machine whose clock stands before that.
    #[must_use]
    pub(crate) fn unix_ms(&self) -> u64 {
        match &self.0 {
            Source::Real { .. } => unix_ns() / 1_000_000,
            Source::Manual(hands) => hands.unix_ms.load(Ordering::Acquire),
        }
    }
}

/// Nanoseconds since the machine was started, its sleep included.
pub(super) fn boot_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nanoseconds since 1970, until 2554; 0 on a machine whose clock stands before that.
pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The half of a manual clock that a test keeps.
#[derive(Debug)]
pub(crate) struct ManualClock {
    hands: Arc<Hands>,
}

impl ManualClock {
    /// Lets time pass on both scales.
    pub(crate) fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.hands.ns.fetch_add(ns, Ordering::AcqRel);
        self.hands.unix_ms.fetch_add(ms, Ordering::AcqRel);
    }

    /// Puts the monotonic scale anywhere, also backwards.
    pub(crate) fn set_ns(&self, ns: u64) {
        self.hands.ns.store(ns, Ordering::Release);
    }

    /// Puts the calendar anywhere.
    pub(crate) fn set_unix_ms(&self, unix_ms: u64) {
        self.hands.unix_ms.store(unix_ms, Ordering::Release);
    }
}

/// Time for one shard of the store: what it returns never goes back, whatever it is given.
///
/// Two threads may read the clock in one order and reach the shard in the other; such a small step back is
/// held at the latest time seen. A step of more than [`Steady::SLACK_NS`] means that the clock itself was
/// set back: time then goes on from where it stood, so that a jump neither refills a bucket nor keeps
/// anybody out until the clock has caught up.
#[derive(Debug, Default)]
pub(super) struct Steady {
    last: u64,
    offset: u64,
}

impl Steady {
    /// The largest step back that is taken for a race between threads.
    pub(super) const SLACK_NS: u64 = 1_000_000_000;

    pub(super) fn observe(&mut self, now_ns: u64) -> u64 {
        let now = now_ns.saturating_add(self.offset);
        if now.saturating_add(Self::SLACK_NS) < self.last {
            self.offset = self.last.saturating_sub(now_ns);
        } else if now > self.last {
            self.last = now;
        }
        self.last
    }

    /// The latest time that was returned.
    pub(super) fn latest(&self) -> u64 {
        self.last
    }

    /// How far the steady time is ahead of the caller's clock: a caller who waits by that clock has to
    /// wait so much longer.
    pub(super) fn lead_ns(&self, now_ns: u64) -> u64 {
        self.last.saturating_sub(now_ns.saturating_add(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_for_all_clones() {
        let (clock, hand) = Clock::manual();
        let other = clock.clone();
        assert_eq!((clock.now_ns(), clock.unix_ms()), (0, 0));
        hand.set_unix_ms(1_000);
        hand.advance(Duration::from_millis(3));
        assert_eq!((other.now_ns(), other.unix_ms()), (3_000_000, 1_003));
        hand.set_ns(7);
        assert_eq!(other.now_ns(), 7);
    }

    #[test]
    fn the_real_clock_does_not_go_back_and_knows_the_century() {
        let clock = Clock::real();
        let first = clock.now_ns();
        assert!(clock.now_ns() >= first);
        assert!(clock.unix_ms() > 1_700_000_000_000);
        // Without a state that is kept it begins at the calendar's time, and all of its clones agree.
        assert!(clock.now_ns().abs_diff(unix_ns()) < 60_000_000_000);
        assert!(clock.clone().now_ns() >= first);
    }

    #[test]
    fn a_race_is_held_and_a_jump_back_is_bridged() {
        let mut steady = Steady::default();
        assert_eq!(steady.observe(5_000_000_000), 5_000_000_000);
        assert_eq!(steady.observe(4_999_999_990), 5_000_000_000);
        assert_eq!(steady.lead_ns(4_999_999_990), 10);
        assert_eq!(steady.observe(5_000_000_001), 5_000_000_001);
        // Set back by almost five seconds: time stands still once, then goes on.
        assert_eq!(steady.observe(100), 5_000_000_001);
        assert_eq!(steady.lead_ns(100), 0);
        assert_eq!(steady.observe(150), 5_000_000_051);
    }
}
