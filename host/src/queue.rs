//! A queue between two tasks that is bounded in messages and in bytes. A bound in messages alone is none: 256 places for
//! messages of 4 MiB are a gigabyte for one client that does not read.
//!
//! The bytes are counted by a [`Budget`], which several queues may share: all ways to one client have one.

use std::sync::Arc;

use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How many bytes of the budget a message takes while it waits.
pub trait Weight {
    /// In bytes; 0 for a message that others have counted already.
    fn weight(&self) -> usize;
}

/// How many bytes may wait at once, in all queues that share it.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    limit: u32,
}

impl Budget {
    /// In bytes, below 4 GiB.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(limit as usize)), limit }
    }

    /// A message that is larger than the whole budget takes all of it, so it passes when nothing else waits.
    fn share(&self, weight: usize) -> u32 {
        u32::try_from(weight).unwrap_or(self.limit).min(self.limit)
    }

    fn try_take(&self, weight: usize) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_many_owned(self.share(weight)).ok()
    }
}

/// A message with its part of the budget, which is given back when this is dropped.
#[derive(Debug)]
pub struct Held<T> {
    pub item: T,
    permit: Option<OwnedSemaphorePermit>,
}

impl<T> Held<T> {
    /// The message alone; what it held is free again.
    #[must_use]
    pub fn release(self) -> T {
        drop(self.permit);
        self.item
    }
}

/// A queue of so many messages, whose bytes are counted in this budget.
pub(crate) fn bounded<T>(places: usize, budget: Budget) -> (Sender<T>, Receiver<T>) {
    let (queue, rest) = mpsc::channel(places);
    (Sender { queue, budget }, Receiver { rest })
}

/// The end that messages go into; every clone leads into the same queue.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::Sender<Held<T>>,
    budget: Budget,
}

// Derived, it would ask for a message that can be cloned.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), budget: self.budget.clone() }
    }
}

impl<T: Weight> Sender<T> {
    /// Puts a message in without waiting.
    ///
    /// # Errors
    /// The queue is full, in messages or in bytes, or nobody receives any more.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        match self.try_reserve(item.weight()) {
            Ok(place) => {
                place.send(item);
                Ok(())
            }
            Err(TrySendError::Full(())) => Err(TrySendError::Full(item)),
            Err(TrySendError::Closed(())) => Err(TrySendError::Closed(item)),
        }
    }

    /// A place for a message of this weight, to be filled later.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    pub(crate) fn try_reserve(&self, weight: usize) -> Result<Place<'_, T>, TrySendError<()>> {
        let place = self.queue.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => TrySendError::Full(()),
            TrySendError::Closed(()) => TrySendError::Closed(()),
        })?;
        let permit = match weight {
            0 => None,
            weight => Some(self.budget.try_take(weight).ok_or(TrySendError::Full(()))?),
        };
        Ok(Place { place, permit })
    }

    /// Puts a message in as soon as there is room for it.
    ///
    /// # Errors
    /// Nobody receives any more.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        // There nearly always is room, and then nothing has to be watched. Senders that wait already keep their turn: what
        // becomes free is theirs first.
        let item = match self.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(item)) => item,
            Err(TrySendError::Closed(item)) => return Err(SendError(item)),
        };
        let permit = match item.weight() {
            0 => None,
            weight => {
                let share = self.budget.share(weight);
                tokio::select! {
                    // The semaphore is never closed, so this always yields one.
                    permit = self.budget.free.clone().acquire_many_owned(share) => permit.ok(),
                    () = self.queue.closed() => return Err(SendError(item)),
                }
            }
        };
        let held = Held { item, permit };
        self.queue.send(held).await.map_err(|SendError(held)| SendError(held.item))
    }
}

impl<T> Sender<T> {
    /// Whether the receiver is gone.
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Waits until the receiver is gone.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}

/// Room for one message.
#[derive(Debug)]
pub(crate) struct Place<'a, T> {
    place: mpsc::Permit<'a, Held<T>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<T> Place<'_, T> {
    pub(crate) fn send(self, item: T) {
        self.place.send(Held { item, permit: self.permit });
    }
}

/// The end that messages come out of.
#[derive(Debug)]
pub struct Receiver<T> {
    rest: mpsc::Receiver<Held<T>>,
}

impl<T> Receiver<T> {
    /// The next message; what it held is free again. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        self.held().await.map(Held::release)
    }

    /// The next message with what it holds. Cancel safe.
    pub async fn held(&mut self) -> Option<Held<T>> {
        self.rest.recv().await
    }

    /// The next message if one waits.
    ///
    /// # Errors
    /// None waits.
    pub fn try_recv(&mut self) -> Result<T, mpsc::error::TryRecvError> {
        self.rest.try_recv().map(Held::release)
    }

    /// Lets nothing more in; what waits still comes out.
    pub fn close(&mut self) {
        self.rest.close();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    impl Weight for Vec<u8> {
        fn weight(&self) -> usize {
            self.len()
        }
    }

    #[tokio::test]
    async fn bytes_are_counted_as_well_as_messages() {
        let (sender, mut receiver) = bounded(3, Budget::new(10));
        sender.try_send(vec![0; 6]).unwrap();
        assert!(matches!(sender.try_send(vec![0; 5]), Err(TrySendError::Full(item)) if item.len() == 5));
        sender.try_send(vec![0; 4]).unwrap();
        sender.try_send(Vec::new()).unwrap();
        assert!(matches!(sender.try_send(Vec::new()), Err(TrySendError::Full(_))), "three places");
        assert_eq!(receiver.recv().await.unwrap().len(), 6);
        sender.try_send(vec![0; 6]).unwrap();
    }

    #[tokio::test]
    async fn one_that_is_larger_than_the_budget_passes_alone() {
        let (sender, mut receiver) = bounded(8, Budget::new(10));
        sender.try_send(vec![0; 1]).unwrap();
        assert!(sender.try_send(vec![0; 99]).is_err());
        receiver.recv().await.unwrap();
        sender.try_send(vec![0; 99]).unwrap();
        assert!(sender.try_send(vec![0; 1]).is_err());
        assert_eq!(receiver.recv().await.unwrap().len(), 99);
        sender.try_send(vec![0; 10]).unwrap();
    }

    #[tokio::test]
    async fn what_is_held_stays_counted_and_queues_share_a_budget() {
        let budget = Budget::new(10);
        let (first, mut receiver) = bounded(8, budget.clone());
        let (second, _rest) = bounded(8, budget);
        first.try_send(vec![0; 8]).unwrap();
        let held = receiver.held().await.unwrap();
        assert!(second.try_send(vec![0; 8]).is_err());
        drop(held);
        second.try_send(vec![0; 8]).unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it_or_hears_of_the_end() {
        let (sender, mut receiver) = bounded(8, Budget::new(4));
        sender.try_send(vec![0; 4]).unwrap();
        let (sent, got) = tokio::join!(sender.send(vec![0; 3]), receiver.recv());
        sent.unwrap();
        assert_eq!((got.unwrap().len(), receiver.recv().await.unwrap().len()), (4, 3));
        sender.try_send(vec![0; 4]).unwrap();
        let (refused, ()) = tokio::join!(sender.send(vec![0; 3]), async { drop(receiver) });
        assert_eq!(refused.unwrap_err().0.len(), 3);
    }
}
