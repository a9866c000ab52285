//! What a load is: so many calls at once, or so many in a second whether or not the other side keeps up.
//!
//! In the open loop the time of a call begins when it was *meant* to be sent. A side that stalls for a moment
//! therefore pays for every call of that moment, as it would with real callers; a generator that waits with it
//! would count one slow call ("coordinated omission").

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// How long the last calls of a load may take once it has ended, before the load counts as failed.
pub(crate) const GRACE: Duration = Duration::from_secs(15);
/// How far an open load may fall behind before it is given up: the other side cannot keep up.
pub(crate) const BEHIND: Duration = Duration::from_secs(2);
/// The longest time that is told apart from longer ones.
const LONGEST_NS: u64 = 120_000_000_000;

/// When calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many at once; the next as soon as one is answered.
    Closed(usize),
    /// So many in a second.
    Open(u32),
}

/// One stretch of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) pace: Pace,
    /// Bytes of the text that goes there and comes back.
    pub(crate) payload: usize,
    pub(crate) lasts: Duration,
}

/// When the calls of an open loop are meant to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    per_second: u32,
    count: u64,
}

impl Schedule {
    pub(crate) fn new(start: Instant, per_second: u32, lasts: Duration) -> Self {
        let count =
            u64::try_from(lasts.as_nanos() * u128::from(per_second) / 1_000_000_000).unwrap_or(u64::MAX);
        Self { start, per_second, count }
    }

    /// How many calls there are in all.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// When the call of this index is meant to be sent. Computed anew for each, so that no error adds up.
    pub(crate) fn due(&self, index: u64) -> Instant {
        let nanos = u128::from(index) * 1_000_000_000 / u128::from(self.per_second);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many calls are due by then.
    pub(crate) fn due_by(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_nanos();
        if now < self.start {
            return 0;
        }
        // The call of index 0 is due at once.
        let due = since * u128::from(self.per_second) / 1_000_000_000 + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.count)
    }
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Tally {
    times: Histogram<u64>,
    /// From the first call to the last answer.
    pub(crate) elapsed: Duration,
    /// Why the load says nothing, if it does not.
    pub(crate) void: Option<String>,
    /// An open load that the other side could not follow.
    pub(crate) behind: bool,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let times = Histogram::new_with_max(LONGEST_NS, 3).expect("these bounds are valid");
        Self { times, elapsed: Duration::ZERO, void: None, behind: false }
    }

    pub(crate) fn void(why: String) -> Self {
        Self { void: Some(why), ..Self::new() }
    }

    /// Counts a good answer.
    pub(crate) fn good(&mut self, took: Duration) {
        self.times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// Keeps the first reason.
    pub(crate) fn spoil(&mut self, why: impl FnOnce() -> String) {
        if self.void.is_none() {
            self.void = Some(why());
        }
    }

    /// Adds a later round of the same load.
    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing is out of range.
        let _ = self.times.add(&other.times);
        self.elapsed += other.elapsed;
        self.behind |= other.behind;
        if let Some(why) = &other.void {
            self.spoil(|| why.clone());
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.times.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let calls = self.calls() as f64;
        if self.elapsed.is_zero() { 0.0 } else { calls / self.elapsed.as_secs_f64() }
    }

    /// The time that this share of the calls took at most, in microseconds.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let nanos = self.times.value_at_quantile(share) as f64;
        nanos / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut tally = Tally::new();
        for micros in 1..=1_000 {
            tally.good(Duration::from_micros(micros));
        }
        for (share, wanted) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1_000.0)] {
            let got = tally.quantile_us(share);
            assert!((got - wanted).abs() / wanted < 0.002, "p{share}: {got}, wanted {wanted}");
        }
        assert_eq!(tally.calls(), 1_000);
    }

    #[test]
    fn rounds_add_up_and_one_void_round_voids_all() {
        let (mut one, mut two) = (Tally::new(), Tally::new());
        one.good(Duration::from_micros(10));
        two.good(Duration::from_micros(30));
        (one.elapsed, two.elapsed) = (Duration::from_secs(1), Duration::from_secs(3));
        two.spoil(|| "first".to_owned());
        two.spoil(|| "second".to_owned());
        one.add(&two);
        assert_eq!((one.calls(), one.void.as_deref()), (2, Some("first")));
        assert!((one.per_second() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_schedule_neither_drifts_nor_runs_ahead() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 3_000, Duration::from_secs(2));
        assert_eq!(schedule.count(), 6_000);
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(3_000), start + Duration::from_secs(1));
        // 1/3000 s has no end in nanoseconds; the 5,999th call is still where it belongs.
        assert_eq!(schedule.due(5_999).duration_since(start).as_micros(), 1_999_666);
        assert_eq!(schedule.due_by(start), 1);
        assert_eq!(schedule.due_by(start + Duration::from_millis(1)), 4);
        assert_eq!(schedule.due_by(start + Duration::from_secs(60)), 6_000);
        for index in [0, 1, 2, 17, 5_999] {
            assert!(schedule.due_by(schedule.due(index) + Duration::from_nanos(1)) > index);
        }
    }

    #[test]
    fn nothing_is_due_before_the_start() {
        let start = Instant::now() + Duration::from_secs(60);
        assert_eq!(Schedule::new(start, 1_000, Duration::from_secs(1)).due_by(Instant::now()), 0);
    }
}
