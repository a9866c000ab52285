//! Who may hold how many connections, and who gives way when places run out.
//!
//! A connection is a stranger's until a request on it brings a credential that is accepted. Strangers of one address
//! have a bound of their own, far below the whole; one too many takes the place of the one that has rested longest. When
//! all places are taken the strangers give way first, then callers with more than an equal part. A connection that works
//! on a request of a known caller never does. All of this is looked at when a connection comes or goes, and when a caller
//! is first known on it: never by a further request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Limits;
use super::activity::{Activity, Phase};
use super::certificate::Certificate;
use crate::call::Share;
use crate::call::shares::{Crowd, Look, may_have};

/// Among how many holders of connections an idle one is looked for.
const ASKED: usize = 16;

/// How often a connection that finds no place asks again; all tries together take a second.
const TRIES: u32 = 50;
const AGAIN: Duration = Duration::from_millis(20);

/// Where somebody comes from: an IPv4 address, or an IPv6 network of 64 bits, which is what one household or one
/// machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Net {
    V4(u32),
    V6(u64),
}

impl Net {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Whose a connection is, once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Holder {
    Caller(Share),
    /// Several callers come over it, as they do through a proxy.
    Several,
}

const STRANGER: u64 = 0;
const SEVERAL: u64 = u64::MAX;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    /// Both may be changed while connections are open.
    most: AtomicUsize,
    of_one_address: AtomicUsize,
    began: Instant,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    strangers: Crowd<Net, Arc<Seat>>,
    known: Crowd<Holder, Arc<Seat>>,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Seat {
    places: Arc<Places>,
    activity: Arc<Activity>,
    /// Its number among the strangers or the known; 0 for one that is not counted, because it was sent away.
    number: AtomicU64,
    /// [`STRANGER`], [`SEVERAL`], or the number of the caller's share.
    holder: AtomicU64,
    /// Since when it is in its present phase, in milliseconds.
    since: AtomicU64,
    /// It was told to make room: it closes as soon as what it had begun is done.
    left: AtomicBool,
    /// The waker of its task.
    task: AtomicWaker,
    /// What was found out about the process at the other end.
    origin: OnceCell<Option<&'static str>>,
}

/// The other end of a request's connection.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    /// Our own end.
    local: Option<SocketAddr>,
    seat: Arc<Seat>,
    secure: bool,
    certificate: Option<Arc<Certificate>>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(limits.max_connections),
            of_one_address: AtomicUsize::new(limits.max_per_address.max(1)),
            began: Instant::now(),
            all: Mutex::default(),
        })
    }

    /// All places.
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// From now on there are so many. Connections that are open stay until they rest and another one comes.
    pub(super) fn bound(&self, most: usize, of_one_address: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.of_one_address.store(of_one_address.max(1), Ordering::Relaxed);
    }

    /// A place for a connection that comes; none if nobody gives way.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Arc<Seat>> {
        let (net, now) = (Net::of(from), self.now());
        let mut all = self.all.lock();
        if all.strangers.held(net) >= self.of_one_address.load(Ordering::Relaxed) {
            let longest = all.strangers.longest(net, now, Seat::look_at_stranger)?;
            all.send_away_stranger(longest);
        }
        let most = self.most();
        if all.len() >= most && !all.make_room(most, now) {
            return None;
        }
        let seat = Arc::new(Seat {
            places: Arc::clone(self),
            activity: Arc::new(Activity::default()),
            number: AtomicU64::new(0),
            holder: AtomicU64::new(STRANGER),
            since: AtomicU64::new(now),
            left: AtomicBool::new(false),
            task: AtomicWaker::new(),
            origin: OnceCell::new(),
        });
        let number = all.strangers.insert(net, now, Arc::clone(&seat));
        seat.number.store(number, Ordering::Relaxed);
        Some(seat)
    }

    /// The same, for a connection that has the patience. It asks again and again, because being told when a connection
    /// begins to rest would cost something in every request.
    pub(super) async fn wait(self: &Arc<Self>, from: IpAddr) -> Option<Arc<Seat>> {
        let mut again = tokio::time::interval(AGAIN);
        for _ in 0..TRIES {
            again.tick().await;
            if let Some(seat) = self.enter(from) {
                return Some(seat);
            }
        }
        None
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

impl All {
    fn len(&self) -> usize {
        self.strangers.len() + self.known.len()
    }

    /// Closes a connection so that another can come.
    fn make_room(&mut self, most: usize, now: u64) -> bool {
        let nets: Vec<Net> = self.strangers.largest().take(ASKED).map(|(_, net)| net).collect();
        for net in nets {
            if let Some(longest) = self.strangers.longest(net, now, Seat::look_at_stranger) {
                self.send_away_stranger(longest);
                return true;
            }
        }
        // An equal part for each caller, and one for the newcomer.
        let part = most / (self.known.holders() + 1);
        let over = self.known.largest().take_while(|(held, _)| *held > part);
        let over: Vec<Holder> = over.take(ASKED).map(|(_, holder)| holder).collect();
        over.into_iter().any(|holder| self.shorten(holder, now))
    }

    /// Closes the connection of a holder that has rested longest.
    fn shorten(&mut self, holder: Holder, now: u64) -> bool {
        let Some(longest) = self.known.longest(holder, now, Seat::look_at_known) else { return false };
        if let Some(seat) = self.known.remove(longest) {
            seat.leave();
        }
        true
    }

    fn send_away_stranger(&mut self, number: u64) {
        if let Some(seat) = self.strangers.remove(number) {
            seat.leave();
        }
    }
}

impl Seat {
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The activity has changed.
    pub(super) fn note(&self, now: Instant) {
        self.since.store(self.places.at(now), Ordering::Relaxed);
    }

    /// Registers the task to wake when the connection has to make room.
    pub(super) fn wake(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Whether it has to make room.
    pub(super) fn has_to_leave(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    fn leave(&self) {
        self.number.store(0, Ordering::Relaxed);
        self.left.store(true, Ordering::Release);
        self.task.wake();
    }

    fn since<G>(&self) -> Look<G> {
        Look::Since(self.since.load(Ordering::Relaxed))
    }

    fn look_at_stranger(seat: &Arc<Self>) -> Look<Net> {
        match Phase::of(seat.activity.now()) {
            Phase::Serving => Look::Busy,
            // A client that does not read a refusal counts as resting, too.
            Phase::Head | Phase::Resting | Phase::Stalled => seat.since(),
        }
    }

    fn look_at_known(seat: &Arc<Self>) -> Look<Holder> {
        match Phase::of(seat.activity.now()) {
            Phase::Head | Phase::Resting => seat.since(),
            // Before its body has come a request is no call yet.
            Phase::Serving if seat.activity.awaits_body() => seat.since(),
            Phase::Serving | Phase::Stalled => Look::Busy,
        }
    }

    /// Whether it may be closed as it is, half a request or not.
    pub(super) fn may_be_cut(&self) -> bool {
        match Phase::of(self.activity.now()) {
            Phase::Head => true,
            Phase::Serving => self.activity.awaits_body(),
            Phase::Stalled => self.holder.load(Ordering::Relaxed) == STRANGER,
            // hyper closes it itself, as soon as the response has left.
            Phase::Resting => false,
        }
    }

    /// A credential was accepted on it. False if its caller has more connections than are theirs, and none that rests.
    fn known(self: &Arc<Self>, whose: Share) -> bool {
        let held_by = self.holder.load(Ordering::Relaxed);
        if (held_by == whose.number() || held_by == SEVERAL) && !self.has_to_leave() {
            return true;
        }
        let mut all = self.places.all.lock();
        let number = self.number.load(Ordering::Relaxed);
        if held_by == STRANGER || number == 0 {
            return self.belongs_to(whose, &mut all);
        }
        if held_by != whose.number() {
            all.known.give(number, Holder::Several);
            self.holder.store(SEVERAL, Ordering::Relaxed);
        }
        true
    }

    /// It counts for this caller alone for a while, even if others send requests over it. False as for [`Seat::known`].
    fn held(self: &Arc<Self>, whose: Share) -> bool {
        let mut all = self.places.all.lock();
        let mine = self.holder.load(Ordering::Relaxed) == whose.number();
        (mine && self.number.load(Ordering::Relaxed) != 0) || self.belongs_to(whose, &mut all)
    }

    fn belongs_to(self: &Arc<Self>, whose: Share, all: &mut All) -> bool {
        let (most, now, holder) = (self.places.most(), self.places.now(), Holder::Caller(whose));
        let mut number = self.number.load(Ordering::Relaxed);
        // One that was sent away while its request came needs a place again, or it would not be counted.
        if number == 0 && all.len() >= most && !all.make_room(most, now) {
            return false;
        }
        // The place it has now is free for this.
        let free = (most + usize::from(number != 0)).saturating_sub(all.len());
        if !may_have(all.known.held(holder), 1, free, most) && !all.shorten(holder, now) {
            return false;
        }
        if self.holder.load(Ordering::Relaxed) != STRANGER && number != 0 {
            all.known.give(number, holder);
        } else {
            all.strangers.remove(number);
            number = all.known.insert(holder, now, Arc::clone(self));
        }
        self.number.store(number, Ordering::Relaxed);
        self.holder.store(whose.number(), Ordering::Relaxed);
        true
    }

    /// The connection is over.
    pub(super) fn gone(&self) {
        let mut all = self.places.all.lock();
        let number = self.number.swap(0, Ordering::Relaxed);
        if self.holder.load(Ordering::Relaxed) == STRANGER {
            all.strangers.remove(number);
        } else {
            all.known.remove(number);
        }
    }
}

impl Peer {
    pub(super) fn new(address: SocketAddr, local: Option<SocketAddr>, seat: Arc<Seat>) -> Self {
        Self { address, local, secure: false, certificate: None, seat }
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the connection began with a handshake of TLS.
    #[must_use]
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    pub(super) fn set_secure(&mut self, certificate: Option<Arc<Certificate>>) {
        self.secure = true;
        self.certificate = certificate;
    }

    /// What the client has shown in the handshake.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// Our own end of the connection.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What was found out about the process at the other end; once for each connection.
    pub(in super::super) fn origin(&self) -> &OnceCell<Option<&'static str>> {
        &self.seat.origin
    }

    /// A credential of this caller was accepted. False if they have more connections than are theirs.
    #[must_use]
    pub fn known(&self, whose: Share) -> bool {
        self.seat.known(whose)
    }

    /// The connection will be held for long by this caller. False if they have more connections than are theirs.
    #[must_use]
    pub fn held(&self, whose: Share) -> bool {
        self.seat.held(whose)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn places(max_connections: usize, max_per_address: usize) -> Arc<Places> {
        Places::new(&Limits { max_connections, max_per_address, ..Limits::default() })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Lets a moment pass, as short as can be told from none.
    fn pass(places: &Places) {
        let then = places.now();
        while places.now() <= then + 1 {
            std::thread::yield_now();
        }
    }

    fn left(seat: &Seat) -> bool {
        seat.has_to_leave()
    }

    #[test]
    fn of_one_address_the_longest_rest_gives_way_to_the_next() {
        let places = places(100, 3);
        let mut seats = Vec::new();
        for _ in 0..3 {
            seats.push(places.enter(address(1)).unwrap());
            pass(&places);
        }
        let other = places.enter(address(2)).unwrap();
        // The first has just sent something again.
        seats[0].note(Instant::now());
        assert!(places.enter(address(1)).is_some());
        assert_eq!(seats.iter().map(|seat| left(seat)).collect::<Vec<_>>(), [false, true, false]);
        assert!(!left(&other));
        seats.iter().for_each(|seat| seat.activity.serve());
        assert!(places.enter(address(1)).is_some(), "the fourth rests");
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_one_is_its_ipv4() {
        let net = |text: &str| Net::of(text.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:2"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("::ffff:10.0.0.1"), net("10.0.0.1"));
    }

    #[test]
    fn strangers_give_way_before_callers_and_who_works_never_does() {
        let places = places(10, 4);
        let mut ann = Vec::new();
        for _ in 0..5 {
            let seat = places.enter(address(1)).unwrap();
            assert!(seat.known(Share::named("ann")), "half of all");
            ann.push(seat);
        }
        let strangers: Vec<_> = (2..7).map(|last| places.enter(address(last)).unwrap()).collect();
        pass(&places);
        let bob = places.enter(address(8)).unwrap();
        assert_eq!(strangers.iter().filter(|seat| left(seat)).count(), 1);
        assert!(bob.known(Share::named("bob")));
        assert!(ann.iter().all(|seat| !left(seat)));
        // Without strangers a caller with more than an equal part gives way, as far as its connections rest.
        let more: Vec<_> = strangers.iter().filter(|seat| !left(seat)).collect();
        for (index, seat) in more.iter().enumerate() {
            assert!(seat.known(Share::named(&format!("c{index}"))));
        }
        for seat in &ann[..4] {
            seat.activity.serve();
        }
        pass(&places);
        let cat = places.enter(address(9)).unwrap();
        assert_eq!(ann.iter().map(|seat| left(seat)).collect::<Vec<_>>(), [false, false, false, false, true]);
        assert!(cat.known(Share::named("cat")));
        pass(&places);
        assert!(places.enter(address(9)).is_none(), "the others work, or have one only");
    }

    #[test]
    fn a_caller_beyond_the_share_gives_up_an_own_one_or_gets_none() {
        let places = places(20, 20);
        let mut ann = Vec::new();
        for _ in 0..10 {
            let seat = places.enter(address(1)).unwrap();
            assert!(seat.known(Share::named("ann")));
            ann.push(seat);
            pass(&places);
        }
        let one_more = places.enter(address(1)).unwrap();
        assert!(one_more.known(Share::named("ann")));
        assert!(left(&ann[0]) && !left(&ann[1]));
        ann.iter().chain([&one_more]).for_each(|seat| seat.activity.serve());
        let refused = places.enter(address(1)).unwrap();
        assert!(!refused.known(Share::named("ann")));
        assert!(refused.known(Share::named("bob")), "the place is there for others");
    }

    #[test]
    fn a_proxys_connection_is_nobodys_until_somebody_holds_it() {
        let places = places(20, 5);
        let proxy = places.enter(address(1)).unwrap();
        assert!(
            proxy.known(Share::named("ann"))
                && proxy.known(Share::named("bob"))
                && proxy.known(Share::named("ann"))
        );
        assert_eq!(places.all.lock().known.held(Holder::Several), 1);
        assert!(proxy.held(Share::named("bob")));
        assert_eq!(places.all.lock().known.held(Holder::Caller(Share::named("bob"))), 1);
        proxy.gone();
        proxy.gone();
        assert_eq!(places.all.lock().len(), 0);
    }

    #[test]
    fn who_was_sent_away_while_a_request_came_is_counted_again() {
        let places = places(2, 1);
        let first = places.enter(address(1)).unwrap();
        pass(&places);
        let second = places.enter(address(1)).unwrap();
        assert!(left(&first));
        assert_eq!(places.all.lock().len(), 1);
        first.activity.serve();
        assert!(first.known(Share::named("ann")), "what it had begun goes on");
        assert_eq!(places.all.lock().len(), 2);
        assert!(first.known(Share::named("ann")) && left(&first));
        assert_eq!(places.all.lock().len(), 2);
        // With all places taken by who works, one that was sent away gets none.
        pass(&places);
        let third = places.enter(address(1)).unwrap();
        assert!(left(&second));
        third.activity.serve();
        assert!(third.known(Share::named("bob")));
        second.activity.serve();
        assert!(!second.known(Share::named("cat")));
        for seat in [first, second, third] {
            seat.gone();
            seat.gone();
        }
        assert_eq!(places.all.lock().len(), 0);
    }
}
