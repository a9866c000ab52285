//! How much work the credentials of strangers may cause: while many are refused, they are verified one at a time, beside the
//! threads on which calls are served, and for a small part of the time.
//!
//! A well-formed token that is wrong costs as much as a right one: a plugin runs, a signature is checked. Only callers whom an
//! authenticator accepted are remembered, so each wrong token costs that anew, at any speed at which one can send.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;

use crate::call::Share;
use crate::call::shares::{Full, Shares};

/// One more refusal is forgotten after each of these, so that 32 in a second are nothing unusual for ever.
const FORGOTTEN: Duration = Duration::from_millis(31);
/// So many refusals at once are nothing unusual: a team whose tokens ended at the same minute.
const USUAL: u32 = 64;
/// How many may wait for their turn. Each network has a share of them, which shrinks as they are taken.
const WAITING: usize = 64;
/// After its turn one rests for so many times as long as it took: an eighth of one processor is used.
const REST: u32 = 7;
/// The longest rest after one turn, so that one slow plugin does not shut the door.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The credentials that are not remembered, and how many of them were refused of late.
#[derive(Debug)]
pub(crate) struct Strangers {
    /// When all refusals so far will be forgotten (the generic cell rate algorithm).
    forgotten_at: Mutex<Option<Instant>>,
    /// When the next may be verified.
    next: Arc<Turn<Option<Instant>>>,
    waiting: Arc<Shares>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { forgotten_at: Mutex::default(), next: Arc::default(), waiting: Shares::new(WAITING) }
    }
}

impl Strangers {
    /// Whether more credentials were refused of late than is usual.
    pub(in crate::door) fn are_many(&self, now: Instant) -> bool {
        self.forgotten_at.lock().is_some_and(|at| at > now + FORGOTTEN * USUAL)
    }

    /// One was refused.
    pub(in crate::door) fn refused(&self, now: Instant) {
        let mut at = self.forgotten_at.lock();
        // A bound on how long a flood is remembered after its end.
        let most = now + FORGOTTEN * USUAL * 2;
        *at = Some((at.unwrap_or(now).max(now) + FORGOTTEN).min(most));
    }

    /// Verifies one when its turn comes. Who goes away while it is verified gives nobody an earlier turn.
    ///
    /// # Errors
    /// As many wait as may, or as many of this network.
    pub(in crate::door) async fn in_turn<T: Send + 'static>(
        &self,
        from: IpAddr,
        verify: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Full> {
        let place = self.waiting.take(Share::of_network(&network(from)), 1)?;
        let mut next = self.next.clone().lock_owned().await;
        if let Some(at) = *next {
            tokio::time::sleep_until(at.into()).await;
        }
        let verified = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let verified = verify();
            let ended = Instant::now();
            *next = Some(ended + ((ended - began) * REST).min(LONGEST_REST));
            drop(place);
            verified
        });
        // It is not cancelled while it runs, and a panic in it is one of this request.
        verified.await.map_err(|_| Full { own: false })
    }
}

/// The network of an address, for people and for shares: an IPv4 address, or the 64 bits that one IPv6 customer gets.
pub(in crate::door) fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn many_is_more_than_usual_and_is_forgotten() {
        let (strangers, start) = (Strangers::default(), Instant::now());
        for _ in 0..USUAL {
            strangers.refused(start);
            assert!(!strangers.are_many(start));
        }
        strangers.refused(start);
        assert!(strangers.are_many(start));
        assert!(!strangers.are_many(start + FORGOTTEN));
        // However long the flood was, its end is forgotten soon.
        (0..100_000).for_each(|_| strangers.refused(start));
        assert!(strangers.are_many(start + FORGOTTEN * (USUAL - 1)));
        assert!(!strangers.are_many(start + FORGOTTEN * USUAL));
        // At the usual pace it never comes to that.
        let strangers = Strangers::default();
        for number in 0..100_000 {
            strangers.refused(start + FORGOTTEN * number);
            assert!(!strangers.are_many(start + FORGOTTEN * number));
        }
    }

    #[tokio::test]
    async fn one_at_a_time_and_each_network_has_places() {
        let strangers = Arc::new(Strangers::default());
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let first = {
            let strangers = strangers.clone();
            tokio::spawn(async move { strangers.in_turn(HERE, move || gate.recv().is_ok()).await })
        };
        while strangers.next.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        let mut waiting = Vec::new();
        let mut full = None;
        for _ in 0..WAITING {
            let turn = strangers.clone();
            let mut next = Box::pin(async move { turn.in_turn(HERE, || true).await });
            match futures_util::poll!(&mut next) {
                std::task::Poll::Pending => waiting.push(next),
                std::task::Poll::Ready(answer) => full = Some(answer.unwrap_err()),
            }
        }
        assert!(full.unwrap().own);
        assert!((WAITING / 2 - 2..WAITING).contains(&waiting.len()), "{}", waiting.len());
        // Another network still finds a place, and all have their turn, as do those behind one who went away.
        let other = tokio::spawn({
            let strangers = strangers.clone();
            async move { strangers.in_turn("2001:db8::1".parse().unwrap(), || true).await }
        });
        drop(waiting.remove(0));
        go.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        let all =
            tokio::time::timeout(Duration::from_secs(20), futures_util::future::join_all(waiting)).await;
        assert!(all.unwrap().into_iter().all(|verified| verified.unwrap()));
        assert!(other.await.unwrap().unwrap());
        assert_eq!(strangers.waiting.taken(), 0);
    }

    #[tokio::test]
    async fn after_a_turn_there_is_a_rest_even_if_the_caller_went_away() {
        let strangers = Strangers::default();
        let (went, gone) = std::sync::mpsc::channel::<()>();
        let mut left = Box::pin(strangers.in_turn(HERE, move || {
            let _ = gone.recv();
            std::thread::sleep(Duration::from_millis(5));
        }));
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(left);
        went.send(()).unwrap();
        let next = strangers.next.lock().await;
        assert!(next.is_some_and(|at| at > Instant::now() + Duration::from_millis(1)), "{next:?}");
    }

    #[test]
    fn a_network_is_what_one_customer_has() {
        assert_eq!(network("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::/64");
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }
}
