//! Refusals that come in crowds: of one source the first few leave a row each, the rest share one row with their number.
//! So a source that is refused a thousand times a second cannot fill the disk, and still every refusal is counted.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{CallId, Status};

/// How long the refusals of one source count together.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// So many of them leave a row of their own.
const OWN_ROWS: u32 = 10;
/// Sources that are told apart; what comes from more at once counts together.
const MAX_SOURCES: usize = 1_024;
/// The source of whatever comes from too many sources.
const OTHERS: &str = "others";

/// What the refusals of each source have come to.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<HashMap<Box<str>, Window>>);

#[derive(Debug)]
struct Window {
    since: Instant,
    own: u32,
    shared: Option<Shared>,
}

/// The row that the rest of a window shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) id: CallId,
    pub(super) status: Status,
    /// How many refusals it stands for.
    pub(super) count: u64,
    pub(super) since: Instant,
}

/// Where a refusal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Into a row of its own.
    Own,
    /// Into a row that the next ones will share, and that is to be closed at the end of the window: by this name.
    Opens(Box<str>),
    /// It was counted in the row that stands.
    Counted,
}

impl Tally {
    /// Counts a refusal of this source and status, which `id` names if it leaves a row.
    pub(super) fn arrive(&self, source: &str, status: Status, id: CallId, now: Instant) -> Place {
        let mut windows = self.0.lock();
        let mut key = format!("{}\u{1f}{source}", status.as_str());
        if windows.len() >= MAX_SOURCES && !windows.contains_key(key.as_str()) {
            windows.retain(|_, window| !window.is_over(now));
            if windows.len() >= MAX_SOURCES {
                key = format!("{}\u{1f}{OTHERS}", status.as_str());
            }
        }
        let key: Box<str> = key.into();
        let window = windows.entry(key.clone()).or_insert(Window { since: now, own: 0, shared: None });
        if window.is_over(now) {
            *window = Window { since: now, own: 0, shared: None };
        }
        if let Some(shared) = &mut window.shared {
            shared.count += 1;
            return Place::Counted;
        }
        if window.own < OWN_ROWS {
            window.own += 1;
            return Place::Own;
        }
        window.shared = Some(Shared { id, status, count: 1, since: now });
        Place::Opens(key)
    }

    /// Takes the shared row of a window, to be closed; the next refusals begin a new one.
    pub(super) fn close(&self, key: &str) -> Option<Shared> {
        self.0.lock().remove(key)?.shared
    }

    /// Takes all shared rows.
    pub(super) fn close_all(&self) -> Vec<Shared> {
        self.0.lock().drain().filter_map(|(_, window)| window.shared).collect()
    }

    /// The row could not be written: the next refusal tries again.
    pub(super) fn give_up(&self, key: &str) {
        if let Some(window) = self.0.lock().get_mut(key) {
            window.shared = None;
        }
    }
}

impl Window {
    /// One with a shared row is over when that is closed.
    fn is_over(&self, now: Instant) -> bool {
        self.shared.is_none() && now.duration_since(self.since) >= WINDOW
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn id(number: u64) -> CallId {
        CallId { instance: 1, number }
    }

    #[test]
    fn the_first_have_rows_and_every_other_one_is_counted() {
        let (tally, now) = (Tally::default(), Instant::now());
        let arrive = |source: &str, number: u64, at: Instant| {
            tally.arrive(source, Status::RateLimited, id(number), at)
        };
        for number in 1..=10 {
            assert_eq!(arrive("eve", number, now), Place::Own);
        }
        let Place::Opens(key) = arrive("eve", 11, now) else { panic!("the eleventh shares") };
        for number in 12..1_000 {
            assert_eq!(arrive("eve", number, now + WINDOW * 2), Place::Counted, "until it is closed");
        }
        assert_eq!(arrive("ann", 1, now), Place::Own, "another source");
        assert_eq!(tally.arrive("eve", Status::Unauthenticated, id(1), now), Place::Own, "another reason");
        let shared = tally.close(&key).unwrap();
        assert_eq!((shared.id, shared.count), (id(11), 989));
        assert_eq!(tally.close(&key), None);
        assert_eq!(arrive("eve", 1_000, now), Place::Own, "a new window");
    }

    #[test]
    fn a_window_without_a_shared_row_ends_by_itself_and_one_that_failed_is_tried_again() {
        let (tally, now) = (Tally::default(), Instant::now());
        let arrive = |at| tally.arrive("eve", Status::RateLimited, id(1), at);
        for _ in 0..10 {
            assert_eq!(arrive(now), Place::Own);
        }
        assert_eq!(arrive(now + WINDOW), Place::Own);
        for _ in 1..10 {
            arrive(now + WINDOW);
        }
        let Place::Opens(key) = arrive(now + WINDOW) else { panic!() };
        tally.give_up(&key);
        assert_eq!(arrive(now + WINDOW), Place::Opens(key));
        assert_eq!(tally.close_all().len(), 1);
        assert!(tally.close_all().is_empty());
    }

    #[test]
    fn sources_without_end_share_the_rows_of_one() {
        let (tally, now) = (Tally::default(), Instant::now());
        let mut rows = 0;
        for source in 0..5_000 {
            let place = tally.arrive(&source.to_string(), Status::Unauthenticated, id(source), now);
            rows += u32::from(place != Place::Counted);
        }
        assert!(rows <= 1_024 + 11, "{rows}");
        assert!(tally.0.lock().len() <= MAX_SOURCES + 1);
        // Later there is room for new ones.
        let later = tally.arrive("new", Status::Unauthenticated, id(1), now + WINDOW);
        assert_eq!((later, tally.0.lock().len()), (Place::Own, 2));
    }
}
