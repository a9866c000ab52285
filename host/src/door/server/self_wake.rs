//! A connection that wakes itself is polled again at once.
//!
//! The parts of a connection's task often wake each other: hyper's reader hands the body to the handler, the handler
//! its answer to the response. Each of these wakes the task that is running already. The scheduler would queue that
//! task again and wake a second thread to take it over. With one caller at a time that was half of all context
//! switches: 4.8 a call, and 2.5 without.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How many polls in a row; then other tasks come first.
const TURNS: usize = 8;

/// Polls a future, and polls it again as long as it woke itself, without going through the scheduler.
pub(super) async fn poll_while_self_woken<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    poll_fn(|cx| {
        wakes.task.register(cx.waker());
        for _ in 0..TURNS {
            wakes.state.swap(RUNNING, Ordering::AcqRel);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            if wakes.state.swap(0, Ordering::AcqRel) & WOKEN == 0 {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The future is being polled; a wake-up now is noticed when the poll returns.
const RUNNING: u8 = 1;
/// It was woken during the poll.
const WOKEN: u8 = 2;

/// Wakes the task, or notes that another poll is needed if it is being polled.
#[derive(Debug, Default)]
struct Wakes {
    task: AtomicWaker,
    state: AtomicU8,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Two atomic exchanges of one word: either the end of the poll sees this wake-up, or this wake-up sees that the
        // poll has ended.
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) & RUNNING == 0 {
            self.task.wake();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn now(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_one_part_tells_another_wakes_no_task() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let (begin, begun) = oneshot::channel();
        let (tell, mut told) = mpsc::channel(1);
        let teller = async {
            begun.await.unwrap();
            tell.send("news").await.unwrap();
        };
        // The hearer is looked at first, and waits when the teller speaks.
        let mut both = pin!(poll_while_self_woken(async { tokio::join!(told.recv(), teller).0 }));
        assert!(both.as_mut().poll(&mut context).is_pending());
        begin.send(()).unwrap();
        assert_eq!(count.now(), 1, "others wake it as ever");
        assert_eq!(both.as_mut().poll(&mut context), Poll::Ready(Some("news")));
        assert_eq!(count.now(), 1, "it does not wake itself");
    }

    #[test]
    fn whoever_never_comes_to_rest_lets_others_go_first() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let turns = AtomicUsize::new(0);
        let mut restless = pin!(poll_while_self_woken(poll_fn(|cx| {
            turns.fetch_add(1, Ordering::SeqCst);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })));
        for round in 1..=3 {
            assert!(restless.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!((turns.load(Ordering::SeqCst), count.now()), (round * TURNS, round));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_said_by_another_thread_is_overlooked() {
        for _ in 0..2_000 {
            let (tell, mut told) = mpsc::channel(1);
            let teller = tokio::spawn(async move { tell.send(()).await });
            let mut turns = 0;
            // It is looked at a few times while the other thread speaks.
            let hearer = poll_while_self_woken(poll_fn(|cx| {
                turns += 1;
                let heard = told.poll_recv(cx);
                if heard.is_pending() && turns < 4 {
                    cx.waker().wake_by_ref();
                }
                heard
            }));
            let heard = tokio::time::timeout(Duration::from_secs(10), hearer).await;
            assert_eq!(heard, Ok(Some(())));
            teller.await.unwrap().unwrap();
        }
    }
}
