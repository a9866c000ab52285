//! What a connection is doing, so that a timer can tell a stalled connection from an idle one and from one at work.
//!
//! The socket, the requests and the responses report to a [`Activity`]; the connection's task reads it after every poll.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Limits;

impl Limits {
    /// How long a connection may stay as it is.
    pub(super) fn patience(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Head => Some(self.header_timeout),
            Phase::Resting | Phase::Stalled => Some(self.idle_timeout),
            Phase::Serving => None,
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A head is awaited or half here.
    Head = 0,
    /// A request is with the application, or its response under way.
    Serving = 1,
    /// A response waits for the client to take some of it.
    Stalled = 2,
    /// Between two requests.
    Resting = 3,
}

impl Phase {
    pub(super) fn of(state: u32) -> Self {
        match state & 3 {
            0 => Self::Head,
            1 => Self::Serving,
            2 => Self::Stalled,
            _ => Self::Resting,
        }
    }

    pub(super) fn complaint(self) -> &'static str {
        match self {
            Self::Head => "the head of its request did not come in time",
            Self::Serving | Self::Stalled => "the client did not take its response",
            Self::Resting => "no request for too long",
        }
    }
}

/// Written by the socket, the requests and the responses, read by the timer. All of them run in one task.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The phase in the lowest two bits, above them a count of the changes: the same phase twice is two phases.
    state: AtomicU32,
    /// Of the request at hand.
    unread: AtomicBool,
    /// More of its body is waited for.
    awaits_body: AtomicBool,
}

impl Activity {
    pub(super) fn now(&self) -> u32 {
        self.state.load(Ordering::Relaxed)
    }

    fn enter(&self, phase: Phase) {
        let next = ((self.now() >> 2).wrapping_add(1) << 2) | phase as u32;
        self.state.store(next, Ordering::Relaxed);
    }

    /// A request goes to the application.
    pub(super) fn serve(&self) {
        self.unread.store(false, Ordering::Relaxed);
        self.awaits_body.store(false, Ordering::Relaxed);
        self.enter(Phase::Serving);
    }

    /// Whether the rest of the request's body is what the application waits for.
    pub(super) fn awaits_body(&self) -> bool {
        self.awaits_body.load(Ordering::Relaxed)
    }

    pub(super) fn await_body(&self, awaits: bool) {
        self.awaits_body.store(awaits, Ordering::Relaxed);
    }

    /// The application has given its whole response.
    pub(super) fn rest(&self) {
        self.enter(Phase::Resting);
    }

    /// A body was given up before its end, so bytes that belong to no request may follow.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn left_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    fn read(&self) {
        if Phase::of(self.now()) == Phase::Resting {
            self.enter(Phase::Head);
        }
    }

    fn wrote<T>(&self, outcome: &Poll<io::Result<T>>) {
        match (outcome, Phase::of(self.now())) {
            (Poll::Pending, Phase::Serving) => self.enter(Phase::Stalled),
            (Poll::Ready(Ok(_)), Phase::Stalled) => self.enter(Phase::Serving),
            // The end of a large response: the application is done, the client still takes it.
            (Poll::Ready(Ok(_)), phase @ (Phase::Head | Phase::Resting)) => self.enter(phase),
            _ => {}
        }
    }
}

/// A socket that reports to the connection's activity.
pub(super) struct Watched<I> {
    io: I,
    activity: Arc<Activity>,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, activity: Arc<Activity>) -> Self {
        Self { io, activity }
    }

    pub(super) fn into_inner(self) -> I {
        self.io
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read();
        }
        outcome
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.activity.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.activity.wrote(&outcome);
        outcome
    }

    /// With it hyper hands over head and body together, in one write and without copying the body.
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Poll<io::Result<usize>> = Poll::Ready(Ok(1));

    /// The phase after an event, and whether the clock starts anew for it.
    fn after(phase: Phase, event: impl FnOnce(&Activity)) -> (Phase, bool) {
        let activity = Activity::default();
        activity.enter(phase);
        let before = activity.now();
        event(&activity);
        (Phase::of(activity.now()), activity.now() != before)
    }

    #[test]
    fn the_first_byte_ends_the_rest_and_later_ones_buy_no_time() {
        assert_eq!(after(Phase::Resting, Activity::read), (Phase::Head, true));
        assert_eq!(after(Phase::Head, Activity::read), (Phase::Head, false));
        assert_eq!(after(Phase::Serving, Activity::read), (Phase::Serving, false));
    }

    #[test]
    fn a_client_that_takes_something_gets_more_time() {
        assert_eq!(
            after(Phase::Serving, |activity| activity.wrote::<usize>(&Poll::Pending)),
            (Phase::Stalled, true)
        );
        assert_eq!(
            after(Phase::Stalled, |activity| activity.wrote::<usize>(&Poll::Pending)),
            (Phase::Stalled, false)
        );
        assert_eq!(after(Phase::Stalled, |activity| activity.wrote(&TOOK)), (Phase::Serving, true));
        assert_eq!(after(Phase::Resting, |activity| activity.wrote(&TOOK)), (Phase::Resting, true));
        assert_eq!(
            after(Phase::Resting, |activity| activity.wrote::<usize>(&Poll::Pending)),
            (Phase::Resting, false)
        );
    }

    #[test]
    fn the_count_of_phases_may_wrap() {
        let activity = Activity { state: AtomicU32::new(u32::MAX), ..Activity::default() };
        activity.enter(Phase::Serving);
        assert_eq!(Phase::of(activity.now()), Phase::Serving);
    }
}
