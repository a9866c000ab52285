//! What a person has to approve before it may happen.
//!
//! A guard may answer a call with `ask`. Then the call, as the backend would get it, becomes an [`Action`]: a canonical text
//! with a digest. It is stored with what the guard wants ([`Need`]) as an [`Approval`], which people decide over a door of
//! their own. An approval is used up by one call, which runs what is stored and not what the caller sends the second time.
//!
//! ```text
//! pending ──▶ approved ──▶ consumed
//!    │  │          │
//!    │  └─▶ rejected, expired, cancelled
//!    └ one for all identical requests      └▶ expired, cancelled
//! ```
//!
//! [`machine`] holds the rules, without a clock and without files; [`store`] keeps the approvals in SQLite; [`Approvals`] is
//! what the rest of the gateway uses.

mod action;
mod desk;
mod display;
mod keeper;
mod machine;
mod need;
pub mod notes;
pub mod notify;
mod postgres;
mod store;
mod waiting;

#[cfg(test)]
mod tests;

pub(crate) use self::action::NAMED;
pub use self::action::{Action, Draft, MAX_ACTION, named};
pub(crate) use self::desk::unknown;
pub use self::desk::{Approvals, Asked, Shown, Stored};
pub(crate) use self::display::time;
pub use self::machine::{Approval, Person, Review, State, Vote};
pub use self::need::{Group, Need};
pub use self::store::Summary;
pub use self::waiting::Waiting;
pub use crate::plugin::Risk;

/// Why something about an approval is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// A stable word for programs: `self_approval`, `changed`, `consumed`, `expired`, `rejected`, `cancelled`,
    /// `stale_policy`, `not_reviewer`, `already_decided`, `unknown_approval`, `too_many_pending`, `too_large`, `not_exact`,
    /// `token_issued`, `approvals_unavailable`.
    pub reason: &'static str,
    /// One sentence for whom it concerns.
    pub message: String,
}

impl Refusal {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The store cannot be used; what it said is for the log only.
    fn unavailable(why: impl std::fmt::Display) -> Self {
        tracing::error!("approvals are refused, because their store cannot be used: {why}");
        Self::new(
            "approvals_unavailable",
            "nobody can be asked, because the gateway cannot use its store of approvals; its log says why",
        )
    }
}
