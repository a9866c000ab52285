//! When a server that is gone is started again, or its address tried again.
//!
//! A server that has proven itself is started again at once: it answered since its last start, so the next one will most
//! likely work as well, and nobody should do without it meanwhile. One that does not come up is tried after pauses that
//! double, because it may be there any second when everything is started together. What only a person can mend is tried
//! rarely. All of it is arithmetic about times that are handed in.

use std::time::{Duration, Instant};

/// The pause after a first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The first and the longest pause where only a person can mend what is wrong; a few minutes do not matter then.
const FIRST_LASTING: Duration = Duration::from_secs(60);
const LONGEST_LASTING: Duration = Duration::from_secs(300);
/// A server that was up for so long has proven itself, called or not.
const PROVEN_AFTER: Duration = Duration::from_secs(5);
/// A server that proves itself and dies again and again is started at once a few times, then once in each such time,
/// because a server that dies with every call must not keep a processor busy.
const PER_START: Duration = Duration::from_secs(1);
/// So many starts at once are allowed before that rate holds.
const BURST: u32 = 5;
/// A call starts an attempt, too, but not too soon after the last: as long after it as it took, within these bounds.
const SHORTEST_GAP: Duration = Duration::from_secs(1);
const LONGEST_GAP: Duration = Duration::from_secs(30);
/// The same for what only a person can mend.
const LASTING_GAP: Duration = Duration::from_secs(10);

/// How a connection, or the attempt to make one, ended: this decides when the next attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It may be another time.
    Passing,
    /// It will be another time, and said itself when.
    Asked(Duration),
    /// It stays so until a person changes something: there is no such program, the key is refused.
    Lasting,
}

/// One connection from the attempt to make it to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// When it was up, if it ever was.
    pub(super) up: Option<Instant>,
    /// It answered a call.
    pub(super) answered: bool,
    pub(super) cause: Cause,
}

impl Life {
    fn has_proven_itself(&self) -> bool {
        self.up.is_some_and(|up| self.answered || self.ended.duration_since(up) >= PROVEN_AFTER)
    }
}

/// When the next attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) again: Instant,
    /// If somebody calls, at this time already.
    pub(super) soonest: Instant,
}

/// What has happened so far.
#[derive(Debug)]
pub(super) struct Restarts {
    /// After more failures in a row than this the pause is the longest.
    limit: Option<u32>,
    in_a_row: u32,
    /// When all starts so far would have been made at the rate of one per [`PER_START`].
    paid: Option<Instant>,
    /// When the attempt was due before which a call came.
    due: Option<Instant>,
}

impl Restarts {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Self { limit, in_a_row: 0, paid: None, due: None }
    }

    /// From now on so many failures in a row make the pause the longest.
    pub(super) fn limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    /// How often it has failed since it last proved itself.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// What follows. `noise` is any number, so that many servers do not come back in step.
    pub(super) fn after(&mut self, life: &Life, noise: u8) -> Next {
        let now = life.ended;
        if life.has_proven_itself() {
            (self.in_a_row, self.due) = (0, None);
            let paid = self.paid.map_or(now, |paid| paid.max(now));
            let again = now.max(paid.checked_sub((BURST - 1) * PER_START).unwrap_or(now));
            self.paid = Some(paid + PER_START);
            return Next { again, soonest: again };
        }
        // An attempt that a call started says nothing new. If it counted, many callers would make the pauses long.
        let due = match self.due.filter(|due| *due > now) {
            Some(due) => due,
            None => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                now + jittered(self.pause(life), noise)
            }
        };
        self.due = Some(due);
        let gap = match life.cause {
            Cause::Lasting => LASTING_GAP,
            Cause::Asked(wait) => wait.min(LONGEST_LASTING),
            Cause::Passing => now.duration_since(life.began).clamp(SHORTEST_GAP, LONGEST_GAP),
        };
        Next { again: due, soonest: due.min(now + gap) }
    }

    fn pause(&self, life: &Life) -> Duration {
        let doubled = |first: Duration| first.saturating_mul(1 << (self.in_a_row.saturating_sub(1)).min(16));
        match life.cause {
            Cause::Lasting => doubled(FIRST_LASTING).min(LONGEST_LASTING),
            // It had come up before it could be told how good it is.
            Cause::Passing if life.up.is_some() && self.in_a_row == 1 => Duration::ZERO,
            Cause::Passing if self.limit.is_some_and(|limit| self.in_a_row > limit) => LONGEST_PAUSE,
            Cause::Passing => doubled(FIRST_PAUSE).min(LONGEST_PAUSE),
            Cause::Asked(wait) => doubled(FIRST_PAUSE).min(LONGEST_PAUSE).max(wait.min(LONGEST_LASTING)),
        }
    }
}

/// Up to a quarter more.
fn jittered(pause: Duration, noise: u8) -> Duration {
    pause.mul_f64(1.0 + f64::from(noise) / 1024.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed(began: Instant) -> Life {
        Life { began, ended: began, up: None, answered: false, cause: Cause::Passing }
    }

    /// The pauses of a server that fails at once whenever it is tried.
    fn pauses(restarts: &mut Restarts, cause: Cause, number: usize) -> Vec<u64> {
        let mut now = Instant::now();
        let mut next = || {
            let again = restarts.after(&Life { cause, ..failed(now) }, 0).again;
            let pause = again - now;
            now = again;
            pause.as_secs()
        };
        (0..number).map(|_| next()).collect()
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let grow = pauses(&mut Restarts::new(None), Cause::Passing, 9);
        assert_eq!(grow, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pauses(&mut Restarts::new(Some(3)), Cause::Passing, 5), [1, 2, 4, 60, 60]);
        assert_eq!(pauses(&mut Restarts::new(None), Cause::Lasting, 5), [60, 120, 240, 300, 300]);
        let next = Restarts::new(None).after(&failed(Instant::now()), 255);
        assert!(next.again.duration_since(Instant::now()) <= SECOND + SECOND / 4);
    }

    #[test]
    fn one_that_proved_itself_is_started_at_once_however_often_it_dies() {
        let mut restarts = Restarts::new(Some(2));
        let mut began = Instant::now();
        for answered in [true, true, true, true, true, false, false, false] {
            let ended = began + 25 * SECOND;
            let life = Life { ended, up: Some(began + SECOND), answered, ..failed(began) };
            assert_eq!(restarts.after(&life, 255), Next { again: ended, soonest: ended });
            assert_eq!(restarts.in_a_row(), 0);
            began = ended;
        }
        // It forgets what was before.
        pauses(&mut restarts, Cause::Passing, 6);
        let life = Life { ended: began + SECOND / 4, up: Some(began), answered: true, ..failed(began) };
        assert!(restarts.after(&life, 0).again <= began + SECOND);
        assert_eq!(pauses(&mut restarts, Cause::Passing, 2), [1, 2]);
    }

    #[test]
    fn one_that_dies_of_every_call_is_started_a_few_times_at_once_and_then_once_a_second() {
        let mut restarts = Restarts::new(None);
        let (first, mut now) = (Instant::now(), Instant::now());
        let mut begun = Vec::new();
        for _ in 0..12 {
            let life = Life { ended: now, up: Some(now), answered: true, ..failed(now) };
            now = restarts.after(&life, 0).again;
            begun.push(now.duration_since(first).as_secs());
        }
        assert_eq!(begun, [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
        // After a quiet time it has its few starts again.
        let life = Life { ended: now + 20 * SECOND, up: Some(now), answered: true, ..failed(now) };
        assert_eq!(restarts.after(&life, 0).again, life.ended);
    }

    #[test]
    fn one_that_dies_before_it_answered_anything_gets_one_more_chance_at_once() {
        let mut restarts = Restarts::new(None);
        let began = Instant::now();
        let life = Life { ended: began + SECOND, up: Some(began), ..failed(began) };
        assert_eq!(restarts.after(&life, 0).again, life.ended);
        assert_eq!(restarts.after(&life, 0).again, life.ended + 2 * SECOND);
    }

    #[test]
    fn a_call_starts_an_attempt_and_changes_no_pause() {
        let mut restarts = Restarts::new(None);
        let mut now = Instant::now();
        for _ in 0..4 {
            now = restarts.after(&failed(now), 0).again;
        }
        let planned = restarts.after(&failed(now), 0);
        assert_eq!((planned.again - now, planned.soonest - now), (16 * SECOND, SECOND));
        // Twelve callers, one a second: the attempt is made when it was due, and the pause after it is the next longer one.
        for later in 1..=12 {
            let next = restarts.after(&failed(now + later * SECOND), 0);
            assert_eq!(next.again, planned.again, "{later}");
        }
        let after = restarts.after(&failed(planned.again), 0);
        assert_eq!(after.again - planned.again, 32 * SECOND);
        // One that said when it has time is left alone until then.
        let busy = Life { cause: Cause::Asked(20 * SECOND), ..failed(now) };
        let next = Restarts::new(None).after(&busy, 0);
        assert_eq!((next.again - now, next.soonest - now), (20 * SECOND, 20 * SECOND));
        let never = Life { cause: Cause::Asked(Duration::MAX), ..failed(now) };
        assert_eq!(Restarts::new(None).after(&never, 0).again - now, LONGEST_LASTING);
        // What takes long, or cannot help, is not tried with every call.
        let slow = Life { ended: now + 90 * SECOND, ..failed(now) };
        assert_eq!(Restarts::new(None).after(&slow, 0).soonest - slow.ended, SECOND);
        let life = Life { cause: Cause::Lasting, ..failed(now) };
        assert_eq!(Restarts::new(None).after(&life, 0).soonest - now, 10 * SECOND);
    }
}
