//! Divides limited places among callers, so that no caller can take those that others need.
//!
//! Every pool of places (calls under way, connections, sessions, bytes) follows one rule, [`may_have`]: one caller alone
//! may have half of the places, and the more of them are taken, the fewer one caller may have. It is the dynamic threshold
//! of shared-memory switches (Choudhury and Hahne, 1998) with a threshold that falls with the square of what is free, so
//! that the last places always remain for callers who have none, however many others are greedy.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::Principal;

mod crowd;

pub use crowd::{Crowd, Look};

/// In a pool with fewer places than this the rule would leave too little: there one caller leaves one place to others.
const FEW: usize = 8;
/// Callers are counted in so many tables, so that two calls seldom wait for one lock.
const TABLES: usize = 16;

/// By what a caller is known where places are counted: a digest of who it is, which says nothing outside of this
/// process. Two callers with one digest would share a share, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u64);

impl Share {
    /// The one client of a gateway on stdio: there is nobody to share with.
    pub const SOLE: Self = Self(0);

    /// The share of somebody with this name, for tests.
    #[cfg(test)]
    pub(crate) fn named(subject: &str) -> Self {
        Self::of(["", "", subject])
    }

    /// The share of strangers from a network, whoever they are.
    pub(crate) fn of_network(network: &str) -> Self {
        Self::of(["network", "", network])
    }

    /// The share of the caller with this identity.
    fn of(identity: [&str; 3]) -> Self {
        static SEED: OnceLock<RandomState> = OnceLock::new();
        Self(SEED.get_or_init(RandomState::new).hash_one(identity).max(1))
    }

    /// As a number that is never 0.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.max(1)
    }
}

impl Principal {
    /// The share that this caller's calls count to: that of the issuer, application and subject, whichever token is
    /// sent.
    #[must_use]
    pub fn share(&self) -> Share {
        Share::of(self.parts())
    }
}

/// Whether a caller with `held` of `most` places may have `more` of the `free` ones. The first is refused only if there
/// is none: the last √(`most` / 2) places are for those who have nothing yet.
#[must_use]
pub fn may_have(held: usize, more: usize, free: usize, most: usize) -> bool {
    if more > free {
        return false;
    }
    if held == 0 {
        return true;
    }
    if most < FEW {
        return most < 3 || held + more < most;
    }
    let (before, left) = ((held + more - 1) as u128, (free - more + 1) as u128);
    before * (most as u128) < 2 * left * left
}

/// There was no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// It is the caller's own share that is used up; others would get a place.
    pub own: bool,
}

/// Places that are counted by caller. Taking one locks a table of a sixteenth of the callers for a moment, and allocates
/// nothing for a caller who is counted already.
#[derive(Debug)]
pub struct Shares {
    most: AtomicUsize,
    taken: AtomicUsize,
    tables: [Mutex<Table>; TABLES],
}

type Table = HashMap<Share, usize, BuildHasherDefault<AsItIs>>;

/// A share is a digest with a secret seed already. Which table it is in is told by its lowest bits, so these come last.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, share: u64) {
        self.0 = share.rotate_right(TABLES.ilog2());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub struct Place {
    shares: Arc<Shares>,
    whose: Share,
    amount: usize,
}

impl Shares {
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let (most, taken) = (AtomicUsize::new(most), AtomicUsize::new(0));
        Arc::new(Self { most, taken, tables: std::array::from_fn(|_| Mutex::default()) })
    }

    /// All places, taken or free.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// From now on there are so many places. Those that are taken stay so until they are given back.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Takes so many places at once, or none.
    ///
    /// # Errors
    /// There are not so many, or not for this caller.
    pub fn take(self: &Arc<Self>, whose: Share, amount: usize) -> Result<Place, Full> {
        let most = self.most();
        let reserve = |held: Option<usize>| {
            let step = |taken: usize| {
                let free = most.saturating_sub(taken);
                let fits = held.map_or(amount <= free, |held| may_have(held, amount, free, most));
                fits.then_some(taken + amount)
            };
            let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
            taken.map_err(|taken| Full { own: amount <= most.saturating_sub(taken) })
        };
        if whose == Share::SOLE {
            reserve(None)?;
        } else {
            let mut table = self.table(whose).lock();
            let held = table.get(&whose).copied().unwrap_or(0);
            reserve(Some(held))?;
            table.insert(whose, held + amount);
        }
        Ok(Place { shares: self.clone(), whose, amount })
    }

    /// How many places a caller has.
    #[must_use]
    pub fn held(&self, whose: Share) -> usize {
        self.table(whose).lock().get(&whose).copied().unwrap_or(0)
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    fn table(&self, whose: Share) -> &Mutex<Table> {
        &self.tables[(whose.0 % TABLES as u64) as usize]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.whose != Share::SOLE {
            let mut table = self.shares.table(self.whose).lock();
            match table.get_mut(&self.whose) {
                Some(held) if *held > self.amount => *held -= self.amount,
                _ => drop(table.remove(&self.whose)),
            }
        }
        self.shares.taken.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn who(number: usize) -> Share {
        Share::named(&number.to_string())
    }

    /// Everybody takes, one after the other, until nobody gets any more.
    fn greedy(shares: &Arc<Shares>, callers: usize) -> Vec<Place> {
        let mut places = Vec::new();
        for caller in 0..callers {
            places.extend(std::iter::from_fn(|| shares.take(who(caller), 1).ok()));
        }
        places
    }

    #[test]
    fn one_caller_alone_has_half_and_ten_leave_something() {
        for most in [8, 20, 30, 64, 256, 1_024, 10_000] {
            let shares = Shares::new(most);
            let places = greedy(&shares, 1);
            assert!(places.len() >= most / 2 && places.len() <= most / 2 + 2, "{} of {most}", places.len());
            assert_eq!(shares.take(who(0), 1).unwrap_err(), Full { own: true });
            assert!(shares.take(who(1), 1).is_ok(), "of {most}");
        }
        let shares = Shares::new(256);
        let _places = greedy(&shares, 10);
        assert!(shares.take(who(11), 1).is_ok());
    }

    #[test]
    fn in_a_small_pool_one_place_is_left_if_that_leaves_two() {
        for (most, may) in [(1, 1), (2, 2), (3, 2), (4, 3), (7, 6)] {
            let shares = Shares::new(most);
            assert_eq!(greedy(&shares, 1).len(), may, "of {most}");
        }
        assert_eq!(Shares::new(0).take(who(0), 1).unwrap_err(), Full { own: false });
    }

    #[test]
    fn nobody_shares_with_the_only_client() {
        let shares = Shares::new(20);
        let places: Vec<Place> = std::iter::from_fn(|| shares.take(Share::SOLE, 1).ok()).collect();
        assert_eq!(places.len(), 20);
        drop(places);
        assert_eq!(shares.taken(), 0);
    }

    #[test]
    fn a_caller_is_the_same_with_every_token() {
        let principal = |subject: &str, token: &str| Principal {
            token_id: Some(token.to_owned()),
            ..super::super::sample::principal(subject, "r")
        };
        assert_eq!(principal("ann", "1").share(), principal("ann", "2").share());
        assert_ne!(principal("ann", "1").share(), principal("bob", "1").share());
    }

    #[test]
    fn places_are_counted_right_by_many_threads() {
        let shares = Shares::new(64);
        std::thread::scope(|scope| {
            for caller in 0..8 {
                let shares = shares.clone();
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let one = shares.take(who(caller % 4), 1);
                        let other = shares.take(who(caller % 4), 2);
                        assert!(shares.taken() <= 64);
                        drop((one, other));
                    }
                });
            }
        });
        assert_eq!(shares.taken(), 0);
        assert!(shares.tables.iter().all(|table| table.lock().is_empty()));
    }

    proptest! {
        /// Callers take and give back at random. Nobody gets a place beyond the share, nothing is lost, and a caller who
        /// has none gets one as long as one is free; the last places are never taken by those who have some.
        #[test]
        fn shares_hold_whatever_callers_do(
            most in 1_usize..200,
            steps in prop::collection::vec((0_usize..12, 1_usize..4, any::<bool>(), any::<prop::sample::Index>()), 1..400),
        ) {
            let shares = Shares::new(most);
            let mut places: Vec<(usize, Place)> = Vec::new();
            let count = |places: &[(usize, Place)], caller: usize| -> usize {
                places.iter().filter(|(whose, _)| *whose == caller).map(|(_, place)| place.amount).sum()
            };
            for (caller, amount, gives_back, which) in steps {
                if gives_back && !places.is_empty() {
                    drop(places.swap_remove(which.index(places.len())));
                } else {
                    let (held, free) = (count(&places, caller), most - shares.taken());
                    match shares.take(who(caller), amount) {
                        Ok(place) => {
                            prop_assert!(may_have(held, amount, free, most));
                            places.push((caller, place));
                        }
                        Err(full) => {
                            prop_assert!(!may_have(held, amount, free, most));
                            prop_assert!(held > 0 || amount > free, "a newcomer was refused");
                            prop_assert_eq!(full.own, amount <= free);
                        }
                    }
                }
                let all: usize = places.iter().map(|(_, place)| place.amount).sum();
                prop_assert_eq!(shares.taken(), all);
                for caller in 0..12 {
                    prop_assert_eq!(shares.held(who(caller)), count(&places, caller));
                }
            }
            places.clear();
            prop_assert_eq!(shares.taken(), 0);
        }

        /// However many callers take all they can, the next caller gets a place as long as fewer have come than the
        /// square root of half of them: a newcomer never waits for more than those to give one back.
        #[test]
        fn a_newcomer_always_gets_a_place(most in FEW..3_000, order in prop::collection::vec(0_usize..50, 1..200)) {
            let shares = Shares::new(most);
            let mut places = Vec::new();
            let reserved = (1..).take_while(|places| 2 * places * places <= most).count();
            let mut seen = std::collections::HashSet::new();
            for caller in order {
                let newcomer = seen.insert(caller);
                if newcomer && seen.len() > reserved {
                    break;
                }
                let taken: Vec<Place> = std::iter::from_fn(|| shares.take(who(caller), 1).ok()).collect();
                prop_assert!(!newcomer || !taken.is_empty(), "caller {} of {most} got nothing", seen.len());
                places.extend(taken);
            }
        }
    }
}
