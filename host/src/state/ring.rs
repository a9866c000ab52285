//! A sum over the recent past that may count an event too long, and never too short.

use super::bytes::Reader;
use super::record::{Keep, Kind};

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
    /// are then taken for as late as they can have been, and the answer is true. Must not be called with an earlier time.
    pub(super) fn advance(&mut self, window_ns: u64, now: u64) -> bool {
        if self.window_ns != window_ns.max(1) {
            *self = self.resized(window_ns, now);
            return true;
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
        false
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

    pub(super) fn same_window(&self, other: &Self) -> bool {
        self.window_ns == other.window_ns
    }

    /// Counts in each sub-window what the one of both counted that counted more there. Both have the same window.
    pub(super) fn join(&mut self, mut other: Self, now: u64) {
        let window = self.window_ns;
        self.advance(window, now);
        other.advance(window, now);
        for (own, second) in self.parts.iter_mut().zip(other.parts) {
            *own = (*own).max(second);
        }
        self.total = self.parts.iter().map(|count| u64::from(*count)).sum();
    }

    /// Writes the sub-windows that count something.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.window_ns.to_le_bytes());
        out.extend_from_slice(&self.head.to_le_bytes());
        let counting = || (0u8..).zip(self.parts).filter(|(_, count)| *count > 0);
        out.push(u8::try_from(counting().count()).unwrap_or(u8::MAX));
        for (place, count) in counting() {
            out.push(place);
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    /// Reads what [`Self::write`] wrote at a time that was not after `now`; none if no ring can be like this.
    pub(super) fn read(from: &mut Reader<'_>, now: u64) -> Option<Self> {
        let (window_ns, head) = (from.u64()?, from.u64()?);
        let mut ring = Self::new(window_ns, now);
        if window_ns == 0 || head > ring.head {
            return None;
        }
        ring.head = head;
        for _ in 0..from.u8()? {
            let (place, count) = (from.u8()?, from.u32()?);
            // Before its first time there is nothing.
            if u64::from(place) > head {
                return None;
            }
            *ring.parts.get_mut(usize::from(place))? = count;
        }
        ring.total = ring.parts.iter().map(|count| u64::from(*count)).sum();
        Some(ring)
    }
}

impl Keep for Box<Ring> {
    const KIND: Kind = Kind::Window;

    fn write(&self, out: &mut Vec<u8>) {
        Ring::write(self, out);
    }

    fn read(from: &mut Reader<'_>, now: u64) -> Option<Self> {
        Ring::read(from, now).map(Box::new)
    }

    fn stricter(one: (Self, u64), other: (Self, u64), now: u64) -> (Self, u64) {
        let ((mut ring, expires), (second, until)) = (one, other);
        if ring.same_window(&second) {
            ring.join(*second, now);
            return (ring, expires.max(until));
        }
        if until > expires { (second, until) } else { (ring, expires) }
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
