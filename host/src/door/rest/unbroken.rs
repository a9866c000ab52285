//! A request that ends in order when its client hangs up: what is under way is cancelled, and its outcome goes on record.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::response::Response;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Work = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The work for one request. Dropped before its end, it is cancelled and goes on as a task.
pub(super) struct Unbroken {
    work: Option<Work>,
    cancelled: CancellationToken,
    left: TaskTracker,
}

impl Unbroken {
    pub(super) fn new(work: Work, cancelled: CancellationToken, left: TaskTracker) -> Self {
        Self { work: Some(work), cancelled, left }
    }
}

impl Future for Unbroken {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl Drop for Unbroken {
    fn drop(&mut self) {
        // Without a runtime everything has ended.
        if let Some((work, runtime)) = self.work.take().zip(Handle::try_current().ok()) {
            self.cancelled.cancel();
            runtime.spawn(self.left.track_future(work));
        }
    }
}
