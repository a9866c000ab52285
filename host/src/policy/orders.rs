//! The orders of operators that switched something off while the gateway ran, kept in a file so that they survive a
//! restart.
//!
//! The gateways of one configuration file share its file of orders: clients on stdio start a gateway each, and an order is
//! about all of them. Each change is made under a lock of the file system, read first and written whole. What cannot be
//! read is never taken for "nothing is off": a gateway then refuses to start.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::off::Off;
use super::order::{Order, Switch};

mod file;

pub use file::{OrdersError, OrdersFile};

/// How many orders there may be at once; an operator who needs more uses patterns, or `[kill_switch]`.
const MAX_ORDERS: usize = 1_000;
/// Longest name and longest reason, in bytes.
const MAX_TEXT: usize = 1_024;
/// So many callers are remembered by name.
const MAX_SEEN: usize = 1_024;

/// All orders in force, for all endpoints of the gateway.
pub struct Orders {
    kept: ArcSwap<Kept>,
    /// Counts the changes of what is off, those of the configured lists included.
    flips: watch::Sender<u64>,
    /// One change after the other.
    keeping: Mutex<Keeping>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Kept {
    list: Vec<Order>,
    off: Off,
}

/// Callers whom an authenticator accepted, the newest last.
#[derive(Debug, Default)]
struct Seen {
    known: HashSet<Arc<str>>,
    in_order: VecDeque<Arc<str>>,
}

/// Where orders are kept.
#[derive(Debug, Default)]
struct Keeping {
    file: Option<OrdersFile>,
    /// In force, and not in the file, because it could not be written; the next change writes them, too.
    pending: Vec<Order>,
}

impl Default for Orders {
    fn default() -> Self {
        Self::with(Vec::new(), None)
    }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("list", &self.kept.load().list).finish_non_exhaustive()
    }
}

/// What is off by order, for as long as this is held.
pub(super) struct OffByOrder(Guard<Arc<Kept>>);

impl std::ops::Deref for OffByOrder {
    type Target = Off;

    fn deref(&self) -> &Off {
        &self.0.off
    }
}

impl Orders {
    /// The orders of a file, which may not be there yet.
    ///
    /// # Errors
    /// It cannot be read, so it is not known what is off.
    pub fn open(file: OrdersFile) -> Result<Arc<Self>, OrdersError> {
        let list = file.read()?;
        Ok(Arc::new(Self::with(list, Some(file))))
    }

    fn with(list: Vec<Order>, file: Option<OrdersFile>) -> Self {
        Self {
            kept: ArcSwap::from_pointee(Kept::of(list)),
            flips: watch::Sender::new(0),
            keeping: Mutex::new(Keeping { file, pending: Vec::new() }),
            seen: Mutex::default(),
        }
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Order> {
        self.kept.load().list.clone()
    }

    /// Switches something off: at once, and then in the file, which blocks for as long as the disk takes. Says whether it
    /// was on before. Who ordered it first, and why, stays.
    ///
    /// # Errors
    /// There are too many, or it is off now but not in the file.
    pub fn order(&self, order: &Order) -> Result<bool, OrdersError> {
        if order.what.name().len() > MAX_TEXT || order.why.len() > MAX_TEXT {
            return Err(OrdersError::TooLong { most: MAX_TEXT });
        }
        let mut keeping = self.keeping.lock();
        let mut list = self.list();
        let new = add(&mut list, order)?;
        if new {
            self.put(list);
        }
        let Keeping { file: Some(file), pending } = &mut *keeping else { return Ok(new) };
        if new {
            pending.push(order.clone());
        }
        let list = file.change(|list| {
            add(list, order)?;
            pending.iter().try_for_each(|order| add(list, order).map(drop))
        })?;
        pending.clear();
        self.put(list);
        Ok(new)
    }

    /// Takes an order back: in the file first, so that what is on now is on after a restart, too. None if there was no such
    /// order.
    ///
    /// # Errors
    /// The file cannot be written; the order stays in force.
    pub(crate) fn lift(&self, what: &Switch) -> Result<Option<Order>, OrdersError> {
        let mut keeping = self.keeping.lock();
        let known = self.kept.load().list.iter().find(|order| order.what == *what).cloned();
        let mut lifted = None;
        let mut take = |list: &mut Vec<Order>| {
            if let Some(place) = list.iter().position(|order| order.what == *what) {
                lifted = Some(list.remove(place));
            }
        };
        let Keeping { file, pending } = &mut *keeping;
        let mut list = match file {
            Some(file) => file.change(|list| {
                take(list);
                Ok(())
            })?,
            None => {
                let mut list = self.list();
                take(&mut list);
                list
            }
        };
        pending.retain(|order| order.what != *what);
        list.extend(pending.iter().cloned());
        self.put(list);
        // What another gateway has taken back already is taken back here.
        Ok(lifted.or(known))
    }

    /// Looks into the file again, for what other gateways of the same configuration were told.
    ///
    /// # Errors
    /// It cannot be read; what is off stays off.
    pub(crate) fn look_again(&self) -> Result<(), OrdersError> {
        let keeping = self.keeping.lock();
        if let Some(file) = &keeping.file {
            let mut list = file.read()?;
            list.extend(keeping.pending.iter().cloned());
            self.put(list);
        }
        Ok(())
    }

    /// An authenticator has accepted somebody. So a name that an order gives can be told from one that nobody has.
    pub(super) fn saw(&self, subject: &str) {
        let mut seen = self.seen.lock();
        if seen.known.contains(subject) {
            return;
        }
        if seen.in_order.len() >= MAX_SEEN
            && let Some(oldest) = seen.in_order.pop_front()
        {
            seen.known.remove(&oldest);
        }
        let subject: Arc<str> = subject.into();
        seen.known.insert(subject.clone());
        seen.in_order.push_back(subject);
    }

    /// The callers who were accepted since the start, as far as they are remembered.
    #[must_use]
    pub fn subjects(&self) -> Vec<Arc<str>> {
        self.seen.lock().in_order.iter().cloned().collect()
    }

    pub(super) fn off(&self) -> OffByOrder {
        OffByOrder(self.kept.load())
    }

    pub(super) fn flips(&self) -> watch::Receiver<u64> {
        self.flips.subscribe()
    }

    /// What is off has changed; calls under way look again.
    pub(super) fn flipped(&self) {
        self.flips.send_modify(|count| *count += 1);
    }

    fn put(&self, list: Vec<Order>) {
        if self.kept.load().list != list {
            self.kept.store(Arc::new(Kept::of(list)));
            self.flipped();
        }
    }
}

impl Kept {
    fn of(list: Vec<Order>) -> Self {
        let off = Off::ordered(&list);
        Self { list, off }
    }
}

/// Adds an order; false if it is there already. Everything can always be switched off.
fn add(list: &mut Vec<Order>, order: &Order) -> Result<bool, OrdersError> {
    if list.iter().any(|known| known.what == order.what) {
        return Ok(false);
    }
    if list.len() >= MAX_ORDERS && order.what != Switch::All {
        return Err(OrdersError::TooMany { most: MAX_ORDERS });
    }
    list.push(order.clone());
    Ok(true)
}

#[cfg(test)]
mod tests;
