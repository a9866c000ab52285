//! A request's work, done on the task of its connection: most answers are one message, and a task of its own would cost
//! two task switches. If the connection ends first, or reads a stream, the work goes on without it: in the
//! handshake era a client that hangs up has not cancelled anything (2025-11-25, "Transports").

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// The largest future of a request's work, in bytes.
const MAX_WORK: usize = 6_144;

/// The largest future of a request, in bytes, but for its work.
const MAX_REQUEST: usize = 2_048;

/// Does a request. Its future is copied on its way through the router, so it must not hold what is large and rare; a future
/// that is awaited within another is part of it.
pub(super) fn small<F: Future>(request: F) -> F {
    const { assert!(size_of::<F>() <= MAX_REQUEST, "what is rare in a request belongs on the heap") }
    request
}

/// Work that is not lost when it is dropped: it then goes on as a task.
pub(super) struct Work(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Work {
    /// Work that the tracker knows of until it is done.
    pub(super) fn new<F: Future<Output = ()> + Send + 'static>(work: F, tasks: &TaskTracker) -> Self {
        // It is copied to where it stays, for every call.
        const { assert!(size_of::<F>() <= MAX_WORK, "what is rare in a call belongs on the heap") }
        Self(Some(Box::pin(tasks.track_future(work))))
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work(done: {})", self.0.is_none())
    }
}

impl Future for Work {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.0 else { return Poll::Ready(()) };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.0 = None;
        }
        done
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Without a runtime everything has ended.
        if let Some((work, runtime)) = self.0.take().zip(Handle::try_current().ok()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_half_way_is_done_all_the_same() {
        let tasks = TaskTracker::new();
        let (begin, begun) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let mut work = Work::new(
            async move {
                begun.await.unwrap();
                tell.send("done").unwrap();
            },
            &tasks,
        );
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        begin.send(()).unwrap();
        assert_eq!(told.await, Ok("done"));
        tasks.close();
        tasks.wait().await;
    }
}
