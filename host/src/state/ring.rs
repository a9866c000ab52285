//! A sum over the recent past that may count an event too long, and never too short.

/// How many parts a window is cut into: an event is counted for at most 1/99 of the window too long.
const PARTS: u64 = 100;

/// Counts by sub-window. A sub-window counts until all of it has left the window.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    window_ns: u64,
    part_ns: u64,
    /// The sub-window that the latest event or reading fell into.
    head: u64,
    total: u64,
    parts: [u32; PARTS as usize],
}

impl Ring {
    /// An empty ring; a window of 0 is taken for one of 1 ns.
    pub(super) fn new(window_ns: u64, now: u64) -> Self {
        let window_ns = window_ns.max(1);
        // One part fewer than there are: the window begins somewhere inside the oldest one.
        let part_ns = window_ns.div_ceil(PARTS - 1);
        Self { window_ns, part_ns, head: now / part_ns, total: 0, parts: [0; PARTS as usize] }
    }

    /// Moves to `now`, forgetting what has left, and to another width of window if it changed: old events
    /// are then taken for as late as they can have been. Must not be called with an earlier time.
    pub(super) fn advance(&mut self, window_ns: u64, now: u64) {
        if self.window_ns != window_ns.max(1) {
            *self = self.resized(window_ns, now);
            return;
        }
        let head = now / self.part_ns;
        if head >= self.head.saturating_add(PARTS) {
            if self.total > 0 {
                self.parts = [0; PARTS as usize];
                self.total = 0;
            }
        } else {
            for part in self.head + 1..=head {
                let count = std::mem::take(&mut self.parts[Self::place(part)]);
                self.total -= u64::from(count);
            }
        }
        self.head = self.head.max(head);
    }

    fn resized(&self, window_ns: u64, now: u64) -> Self {
        let mut new = Self::new(window_ns, now);
        for part in self.held() {
            let latest = (part.saturating_add(1).saturating_mul(self.part_ns) - 1).min(now);
            let target = latest / new.part_ns;
            if target.saturating_add(PARTS) > new.head {
                new.add_at(target, self.parts[Self::place(part)]);
            }
        }
        new
    }

    /// Counts in the sub-window last advanced to; a sub-window holds at most `u32::MAX`.
    pub(super) fn add(&mut self, count: u32) {
        self.add_at(self.head, count);
    }

    fn add_at(&mut self, part: u64, count: u32) {
        let place = &mut self.parts[Self::place(part)];
        let before = *place;
        *place = before.saturating_add(count);
        self.total += u64::from(*place - before);
    }

    /// The sum over the window that ends at the last advance.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The earliest time at which no more than `at_most` will be counted, if nothing is added;
    /// 0 if that is so already.
    pub(super) fn falls_to(&self, at_most: u64) -> u64 {
        let mut left = self.total;
        if left <= at_most {
            return 0;
        }
        for part in self.held() {
            left -= u64::from(self.parts[Self::place(part)]);
            if left <= at_most {
                return self.leaves(part);
            }
        }
        self.empty_at()
    }

    /// When everything counted so far will have left.
    pub(super) fn empty_at(&self) -> u64 {
        self.leaves(self.head)
    }

    fn leaves(&self, part: u64) -> u64 {
        part.saturating_add(PARTS).saturating_mul(self.part_ns)
    }

    /// The sub-windows held, oldest first.
    fn held(&self) -> std::ops::RangeInclusive<u64> {
        self.head.saturating_sub(PARTS - 1)..=self.head
    }

    fn place(part: u64) -> usize {
        (part % PARTS) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the plain list of events: never less than the window holds, and never an event that is
        /// older than the window and one sub-window.
        #[test]
        fn it_counts_all_of_the_window_and_little_more(
            window in 1u64..5_000,
            events in proptest::collection::vec((0u64..700, 0u32..5), 1..80),
        ) {
            let (mut now, mut ring) = (0, Ring::new(window, 0));
            let mut all: Vec<(u64, u64)> = Vec::new();
            for (step, count) in events {
                now += step;
                ring.advance(window, now);
                ring.add(count);
                all.push((now, u64::from(count)));
                let within = |age: u64| -> u64 {
                    all.iter().filter(|(at, _)| now - at <= age).map(|(_, count)| count).sum()
                };
                let part = window.div_ceil(99);
                prop_assert!(ring.total() >= within(window));
                prop_assert!(ring.total() <= within(100 * part));
                let free = ring.falls_to(ring.total() / 2);
                let mut later = ring.clone();
                later.advance(window, free.max(now));
                prop_assert!(later.total() <= ring.total() / 2);
                if free > now {
                    let mut before = ring.clone();
                    before.advance(window, free - 1);
                    prop_assert!(before.total() > ring.total() / 2);
                }
                let mut empty = ring.clone();
                empty.advance(window, ring.empty_at());
                prop_assert_eq!(empty.total(), 0);
            }
        }

        /// A changed window forgets nothing that both windows contain.
        #[test]
        fn resizing_keeps_what_both_windows_hold(
            old in 1u64..5_000, new in 1u64..5_000,
            events in proptest::collection::vec((0u64..200, 1u32..5), 1..60),
        ) {
            let (mut now, mut ring) = (0, Ring::new(old, 0));
            let mut all: Vec<(u64, u64)> = Vec::new();
            for (step, count) in events {
                now += step;
                ring.advance(old, now);
                ring.add(count);
                all.push((now, u64::from(count)));
            }
            ring.advance(new, now);
            let kept: u64 =
                all.iter().filter(|(at, _)| now - at <= old.min(new)).map(|(_, count)| count).sum();
            prop_assert!(ring.total() >= kept);
        }
    }
}
