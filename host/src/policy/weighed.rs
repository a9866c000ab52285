//! What the guards made of a call that none of them refused.

use std::sync::Arc;

use super::permit::{Permits, Permitted};
use crate::call::Call;
use crate::plugin::{ApprovalRequest, Plugin};

/// Whether a call may go on now, with what was made ready for it, or once people have approved it.
#[derive(Debug)]
pub enum Decision<T> {
    Permitted(Permitted, T),
    Ask(Box<Pending>),
}

/// What one guard wants a person to be asked.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) request: Box<ApprovalRequest>,
}

/// A call that all guards let pass, some of them only if people approve it. No backend takes it: what makes a
/// [`Permitted`] of it is [`super::Policy::release`].
#[derive(Debug)]
pub struct Pending {
    pub(super) permits: Permits,
    pub(super) others: Vec<Permits>,
    /// Never empty.
    pub(super) asks: Vec<Ask>,
}

impl Pending {
    /// The call.
    #[must_use]
    pub fn call(&self) -> &Arc<Call> {
        self.permits.call()
    }

    /// What people are to be asked: all of it has to be approved.
    pub(crate) fn asks(&self) -> &[Ask] {
        &self.asks
    }
}
