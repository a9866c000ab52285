//! Log lines about what strangers can cause any number of times: the first at once, and then one in a while that says how
//! many more there were.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The least time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    silent: u64,
}

impl LogLimit {
    /// Whether a line may be written now, and how many were not since the last one.
    pub(super) fn may(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.silent += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let (lines, start) = (LogLimit::default(), Instant::now());
        assert_eq!(lines.may(start), Some(0));
        for second in 0..10 {
            assert_eq!(lines.may(start + Duration::from_secs(second)), None);
        }
        assert_eq!(lines.may(start + PAUSE), Some(10));
        assert_eq!(lines.may(start + 2 * PAUSE), Some(0));
    }
}
