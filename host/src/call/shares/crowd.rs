//! Things that belong to somebody and can be taken back: how many each holder has, and which of them rested longest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

/// Things that are looked at in one search; what was in use goes behind the others, so the next search goes on.
const LOOKS: usize = 256;
/// So many milliseconds are let pass before a thing in use is looked at again.
const PAUSE: u64 = 100;

/// What a thing is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look<G> {
    /// It is in use and stays.
    Busy,
    /// It has rested since then, in milliseconds.
    Since(u64),
    /// It belongs elsewhere by now.
    Moved(G),
}

/// All things, by holder and by the time since when they rest. That time need not be told when it changes: a thing is
/// asked when its turn has come, and put behind the others if it was in use since. All steps take O(log n).
#[derive(Debug)]
pub struct Crowd<G, T> {
    next: u64,
    places: HashMap<u64, (G, u64)>,
    holders: HashMap<G, BTreeMap<(u64, u64), T>>,
    sizes: BTreeSet<(usize, G)>,
}

impl<G, T> Default for Crowd<G, T> {
    fn default() -> Self {
        Self { next: 0, places: HashMap::new(), holders: HashMap::new(), sizes: BTreeSet::new() }
    }
}

impl<G: Copy + Ord + Hash, T> Crowd<G, T> {
    /// Takes a thing in; the number it is found by.
    pub fn insert(&mut self, holder: G, at: u64, thing: T) -> u64 {
        self.next += 1;
        self.put(self.next, holder, at, thing);
        self.next
    }

    /// Takes a thing out; none if it is not there (any more).
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let (holder, at) = self.places.remove(&number)?;
        let things = self.holders.get_mut(&holder)?;
        let before = things.len();
        let thing = things.remove(&(at, number));
        if before <= 1 {
            self.holders.remove(&holder);
        }
        self.resize(holder, before, before.saturating_sub(1));
        thing
    }

    /// Hands a thing to another holder.
    pub fn give(&mut self, number: u64, holder: G) {
        let Some((_, at)) = self.places.get(&number).copied() else { return };
        if let Some(thing) = self.remove(number) {
            self.put(number, holder, at, thing);
        }
    }

    /// A thing by its number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        let (holder, at) = self.places.get(&number)?;
        self.holders.get(holder)?.get(&(*at, number))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many things a holder has.
    #[must_use]
    pub fn held(&self, holder: G) -> usize {
        self.holders.get(&holder).map_or(0, BTreeMap::len)
    }

    /// How many have any.
    #[must_use]
    pub(crate) fn holders(&self) -> usize {
        self.holders.len()
    }

    /// Who has how many, those with the most first.
    pub(crate) fn largest(&self) -> impl Iterator<Item = (usize, G)> {
        self.sizes.iter().rev().copied()
    }

    /// The thing of a holder that has rested longest; none if all are in use, as far as one search sees.
    pub fn longest(&mut self, holder: G, now: u64, look: impl Fn(&T) -> Look<G>) -> Option<u64> {
        for _ in 0..LOOKS {
            let (&(at, number), thing) = self.holders.get(&holder)?.first_key_value()?;
            if at > now {
                return None;
            }
            let again = match look(thing) {
                Look::Since(since) if since <= at => return Some(number),
                Look::Since(since) => since,
                Look::Busy => now + PAUSE,
                Look::Moved(elsewhere) => {
                    self.give(number, elsewhere);
                    continue;
                }
            };
            let thing = self.remove(number)?;
            self.put(number, holder, again, thing);
        }
        None
    }

    /// The first thing of a holder by the time it was taken in or found in use.
    #[must_use]
    pub fn first(&self, holder: G) -> Option<(u64, &T)> {
        let (&(_, number), thing) = self.holders.get(&holder)?.first_key_value()?;
        Some((number, thing))
    }

    fn put(&mut self, number: u64, holder: G, at: u64, thing: T) {
        self.places.insert(number, (holder, at));
        let things = self.holders.entry(holder).or_default();
        let before = things.len();
        things.insert((at, number), thing);
        self.resize(holder, before, before + 1);
    }

    fn resize(&mut self, holder: G, before: usize, after: usize) {
        self.sizes.remove(&(before, holder));
        if after > 0 {
            self.sizes.insert((after, holder));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_one_that_rested_longest_is_found_though_nobody_told_when() {
        let rested = RefCell::new(vec![Look::<u8>::Since(0); 4]);
        let mut crowd: Crowd<u8, usize> = Crowd::default();
        let numbers: Vec<u64> = (0..4).map(|thing| crowd.insert(7, 0, thing)).collect();
        let look = |thing: &usize| rested.borrow()[*thing];
        rested.borrow_mut()[0] = Look::Busy;
        rested.borrow_mut()[1] = Look::Since(50);
        assert_eq!(crowd.longest(7, 60, look), Some(numbers[2]));
        crowd.remove(numbers[2]);
        rested.borrow_mut()[3] = Look::Busy;
        assert_eq!(crowd.longest(7, 60, look), Some(numbers[1]));
        crowd.remove(numbers[1]);
        assert_eq!(crowd.longest(7, 60, look), None, "both are in use");
        rested.borrow_mut()[0] = Look::Since(61);
        assert_eq!(crowd.longest(7, 60 + PAUSE, look), Some(numbers[0]), "and looked at again later");
        rested.borrow_mut()[3] = Look::Moved(8);
        crowd.remove(numbers[0]);
        assert_eq!(crowd.longest(7, 1_000, look), None);
        assert_eq!((crowd.held(7), crowd.held(8), crowd.len()), (0, 1, 1));
        assert_eq!(crowd.longest(9, 0, look), None, "who has nothing");
    }

    proptest! {
        #[test]
        fn it_counts_as_a_plain_list_does(
            steps in prop::collection::vec((0_u8..5, 0_u8..4, any::<prop::sample::Index>()), 1..300),
        ) {
            let mut crowd: Crowd<u8, u64> = Crowd::default();
            let mut plain: Vec<(u64, u8)> = Vec::new();
            for (time, (holder, what, which)) in steps.into_iter().enumerate() {
                let time = time as u64;
                match what {
                    0 if !plain.is_empty() => {
                        let (number, _) = plain.swap_remove(which.index(plain.len()));
                        prop_assert!(crowd.remove(number).is_some());
                        prop_assert!(crowd.remove(number).is_none());
                    }
                    1 if !plain.is_empty() => {
                        let index = which.index(plain.len());
                        plain[index].1 = holder;
                        crowd.give(plain[index].0, holder);
                    }
                    _ => plain.push((crowd.insert(holder, time, time), holder)),
                }
                let held = |holder: u8| plain.iter().filter(|(_, whose)| *whose == holder).count();
                for holder in 0..5 {
                    prop_assert_eq!(crowd.held(holder), held(holder));
                }
                let sizes: Vec<usize> = crowd.largest().map(|(size, _)| size).collect();
                prop_assert!(sizes.is_sorted_by(|one, other| one >= other));
                prop_assert_eq!(sizes.iter().sum::<usize>(), plain.len());
                prop_assert_eq!(sizes.len(), crowd.holders());
                prop_assert_eq!(crowd.len(), plain.len());
                let oldest = crowd.longest(holder, u64::MAX - PAUSE, |time| Look::Since(*time));
                prop_assert_eq!(oldest.is_some(), held(holder) > 0);
            }
        }
    }
}
