//! Tells everybody who listens what changed. Telling never waits: a listener that is behind hears of the change with
//! its next message, for it is told that something changed and not what.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::pipeline::News;

/// Somebody who wants to hear of changes.
pub trait Listener: Send + Sync + std::fmt::Debug {
    fn hear_news(&self, news: News);
}

/// Everybody who listens.
#[derive(Debug, Default)]
pub struct Hub {
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    by_number: HashMap<u64, Weak<dyn Listener>>,
}

/// Listening lasts as long as this is held.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    number: u64,
}

impl Hub {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Begins to listen.
    #[must_use]
    pub fn join(self: &Arc<Self>, listener: &Arc<dyn Listener>) -> Membership {
        let mut listeners = self.listeners.lock();
        listeners.next += 1;
        let number = listeners.next;
        listeners.by_number.insert(number, Arc::downgrade(listener));
        Membership { hub: self.clone(), number }
    }

    /// Passes news on until nobody can make any.
    pub async fn relay(self: Arc<Self>, mut news: mpsc::Receiver<News>) {
        while let Some(news) = news.recv().await {
            let listeners: Vec<_> =
                self.listeners.lock().by_number.values().filter_map(Weak::upgrade).collect();
            listeners.iter().for_each(|listener| listener.hear_news(news));
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.listeners.lock().by_number.remove(&self.number);
    }
}
