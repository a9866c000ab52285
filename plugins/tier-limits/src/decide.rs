//! What a caller has used, and whether one more call fits: pure, with the time given.
//!
//! A window is cut into parts, and counts the parts that may still be in it, whole: the present one and as many before it as a window
//! has. Whichever moment a window is said to begin at, the calls in it lie in those parts, so they are never more than the limit.

use crate::config::Tier;

/// Into how many parts a window is cut. What is counted too long is at most one of them.
pub(crate) const PARTS: usize = 30;
/// The parts that are counted.
pub(crate) const COUNTED: usize = PARTS + 1;

/// What a caller has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// One for each window of the tier, in its order.
    pub(crate) windows: Vec<Counts>,
    /// The calls under way: number and when they began, in milliseconds.
    pub(crate) leases: Vec<(u64, u64)>,
    /// The number of the next call.
    pub(crate) next: u64,
}

/// The calls of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Milliseconds of a part.
    pub(crate) width_ms: u64,
    /// The number of the part that was last written to.
    pub(crate) head: u64,
    /// By number modulo their length.
    pub(crate) parts: [u32; COUNTED],
}

/// Why a call does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// The windows that are full, by their place in the tier.
    pub(crate) windows: Vec<usize>,
    /// Whether too many calls are under way.
    pub(crate) concurrent: bool,
    /// When the windows have room again; none if they never will, because the limit is 0.
    pub(crate) retry_after_ms: Option<u64>,
}

impl Counts {
    fn new(seconds: u32, now_ms: u64) -> Self {
        let width_ms = width(seconds);
        Self { width_ms, head: now_ms / width_ms, parts: [0; COUNTED] }
    }

    /// Forgets the parts that have left the window. Time that goes back changes nothing.
    fn advance(&mut self, now_ms: u64) {
        let now = now_ms / self.width_ms;
        if now <= self.head {
            return;
        }
        let passed = usize::try_from(now - self.head).unwrap_or(COUNTED).min(COUNTED);
        for step in 1..=passed as u64 {
            self.parts[place(self.head + step)] = 0;
        }
        // After a longer pause every part has been emptied, wherever the loop began.
        self.head = now;
    }

    fn sum(&self) -> u64 {
        self.parts.iter().map(|&calls| u64::from(calls)).sum()
    }

    /// When so few calls are left that `below` is more than they are; none if that is never.
    fn fewer_than(&self, below: u64, now_ms: u64) -> Option<u64> {
        let mut left = self.sum();
        if left < below {
            return Some(0);
        }
        // From the oldest to the present one.
        for step in 0..COUNTED as u64 {
            let number = (self.head + 1 + step).checked_sub(COUNTED as u64);
            let Some(number) = number else { continue };
            left -= u64::from(self.parts[place(number)]);
            if left < below {
                let leaves = (number + COUNTED as u64) * self.width_ms;
                return Some(leaves.saturating_sub(now_ms).max(1));
            }
        }
        None
    }
}

/// Parts are never so short that their number times their length is less than the window.
fn width(seconds: u32) -> u64 {
    (u64::from(seconds) * 1_000).div_ceil(PARTS as u64).max(1)
}

fn place(number: u64) -> usize {
    usize::try_from(number % COUNTED as u64).unwrap_or(0)
}

impl Usage {
    /// Counts one more call in every window and begins a lease for it, or changes nothing that counts.
    pub(crate) fn take(&mut self, tier: &Tier, now_ms: u64) -> Result<u64, Full> {
        self.fit(tier, now_ms);
        let mut full = Full { windows: Vec::new(), concurrent: false, retry_after_ms: Some(0) };
        for (at, (counts, window)) in self.windows.iter().zip(&tier.windows).enumerate() {
            if counts.sum() >= u64::from(window.limit) {
                full.windows.push(at);
                let wait = counts.fewer_than(u64::from(window.limit), now_ms);
                full.retry_after_ms = full.retry_after_ms.zip(wait).map(|(one, two)| one.max(two));
            }
        }
        if tier.concurrent.is_some_and(|most| self.leases.len() >= most as usize) {
            full.concurrent = true;
            // When a call ends is not known; a second is as good as any guess.
            full.retry_after_ms =
                full.retry_after_ms.map(|wait| wait.max(1_000)).filter(|_| tier.concurrent != Some(0));
        }
        if full.concurrent || !full.windows.is_empty() {
            return Err(full);
        }
        for counts in &mut self.windows {
            let part = &mut counts.parts[place(counts.head)];
            *part = part.saturating_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if tier.concurrent.is_some() {
            self.leases.push((number, now_ms));
        }
        Ok(number)
    }

    /// Ends the lease of a call; whether there was one.
    pub(crate) fn give_back(&mut self, number: u64) -> bool {
        let before = self.leases.len();
        self.leases.retain(|(lease, _)| *lease != number);
        self.leases.len() < before
    }

    /// What is left in a window, and in how many milliseconds it will be more; none if nothing was used.
    pub(crate) fn left(&self, tier: &Tier, at: usize, now_ms: u64) -> (u64, Option<u64>) {
        let (Some(counts), Some(window)) = (self.windows.get(at), tier.windows.get(at)) else {
            return (0, None);
        };
        let used = counts.sum();
        let left = u64::from(window.limit).saturating_sub(used);
        // Calls of a tier that had more do not make room here before so many of them have left.
        let below = used.min(u64::from(window.limit));
        (left, if below == 0 { None } else { counts.fewer_than(below, now_ms) })
    }

    /// Brings everything to this moment and this tier.
    fn fit(&mut self, tier: &Tier, now_ms: u64) {
        for counts in &mut self.windows {
            counts.advance(now_ms);
        }
        let mut old = std::mem::take(&mut self.windows);
        for (at, window) in tier.windows.iter().enumerate() {
            let same = old.iter().position(|counts| counts.width_ms == width(window.seconds));
            self.windows.push(match same {
                Some(same) => old[same].clone(),
                // Another tier, or other rules: what was used counts as used just now, so that a change is no new allowance.
                None => {
                    let mut counts = Counts::new(window.seconds, now_ms);
                    let used = old.get(at).or(old.last()).map_or(0, Counts::sum);
                    counts.parts[place(counts.head)] = u32::try_from(used).unwrap_or(u32::MAX);
                    counts
                }
            });
        }
        old.clear();
        self.leases.retain(|(_, began)| now_ms.saturating_sub(*began) < tier.lease_ms);
    }
}

#[cfg(test)]
mod tests;
