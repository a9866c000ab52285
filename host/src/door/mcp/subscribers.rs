//! Tells all subscribers that something changed. This never waits for one: a listener whose queue is full hears of the
//! change with its next message, because a message says only that something changed, not what.
//!
//! Changes that come together are told together, at most twice a second; while the servers are starting they are told
//! once, when all servers are up or have failed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::mcp::catalog::List;
use crate::pipeline::ListChanged;

/// The least time between two rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// A client, or a stream of one, that wants to hear of changes.
pub trait Listener: Send + Sync + std::fmt::Debug {
    /// These lists may have changed. Called where blocking is allowed.
    fn hear_of(&self, lists: &[List]);

    /// Callers are judged by other authenticators from now on. Whoever listens over HTTP has to come again with what it
    /// brings, because that is not kept. Never waits.
    fn is_judged_anew(&self);

    /// Something was switched off or on, or another generation is in force: what stands for this listener is judged anew, and
    /// what may not stand any more ends. Called where blocking is allowed.
    fn judge_standing(&self);
}

/// Everybody who listens.
#[derive(Debug)]
pub struct Subscribers {
    listeners: Mutex<Listeners>,
    news: mpsc::Sender<ListChanged>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    by_number: HashMap<u64, Weak<dyn Listener>>,
}

/// A listener is told of changes while this is held.
#[derive(Debug)]
pub struct Subscription {
    subscribers: Arc<Subscribers>,
    number: u64,
}

impl Subscribers {
    /// `news` is where [`Self::relay`] hears of what it tells.
    #[must_use]
    pub fn new(news: mpsc::Sender<ListChanged>) -> Arc<Self> {
        Arc::new(Self { listeners: Mutex::default(), news })
    }

    /// Begins to listen.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, listener: &Arc<dyn Listener>) -> Subscription {
        let mut listeners = self.listeners.lock();
        listeners.next += 1;
        let number = listeners.next;
        listeners.by_number.insert(number, Arc::downgrade(listener));
        Subscription { subscribers: self.clone(), number }
    }

    /// How many listen.
    #[must_use]
    pub fn count(&self) -> usize {
        self.listeners.lock().by_number.len()
    }

    /// Callers are judged by other authenticators from now on.
    pub(crate) fn judge_anew(&self) {
        self.all().iter().for_each(|listener| listener.is_judged_anew());
    }

    /// Has everything judged anew that stands for listeners. Called where blocking is allowed.
    pub(crate) fn judge_standing(&self) {
        self.all().iter().for_each(|listener| listener.judge_standing());
    }

    fn all(&self) -> Vec<Arc<dyn Listener>> {
        self.listeners.lock().by_number.values().filter_map(Weak::upgrade).collect()
    }

    /// Somebody was given a list that may have changed in the same moment.
    pub(crate) fn look_again(&self, list: List) {
        // If the queue is full, another round is due in any case.
        let _ = self.news.try_send(ListChanged(list));
    }

    /// Passes news on, from when `met` is done until all senders are gone.
    pub(crate) async fn relay(
        self: Arc<Self>,
        mut news: mpsc::Receiver<ListChanged>,
        met: impl Future<Output = ()>,
    ) {
        met.await;
        while let Some(ListChanged(list)) = news.recv().await {
            let mut lists = vec![list];
            while let Ok(ListChanged(list)) = news.try_recv() {
                if !lists.contains(&list) {
                    lists.push(list);
                }
            }
            let listeners = self.all();
            let round = tokio::task::spawn_blocking(move || {
                listeners.iter().for_each(|listener| listener.hear_of(&lists));
            });
            if let Err(error) = round.await {
                tracing::error!("clients could not be told that a list has changed: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.listeners.lock().by_number.remove(&self.number);
    }
}
