//! Where approvals are kept: in a file of this machine, or in a database that several machines share.

use super::postgres::Postgres;
use super::store::{Caps, Changed, Store, StoreError, Summary};
use super::{Action, Approval, Refusal};

/// One of the two.
#[derive(Debug)]
pub(super) enum Keeper {
    Sqlite(Store),
    Postgres(Postgres),
}

impl Keeper {
    /// See [`Store::ask`].
    pub(super) fn ask(
        &self,
        action: &Action,
        place: (&str, &str),
        caps: Caps,
        approval: Approval,
        now_ms: u64,
    ) -> Result<Result<Approval, Refusal>, StoreError> {
        match self {
            Self::Sqlite(store) => store.ask(action, place, caps, approval, now_ms),
            Self::Postgres(store) => store.ask(action, place, caps, &approval, now_ms),
        }
    }

    /// See [`Store::find`].
    pub(super) fn find(&self, id: &str, now_ms: u64) -> Result<Option<(Approval, String, u64)>, StoreError> {
        match self {
            Self::Sqlite(store) => store.find(id, now_ms),
            Self::Postgres(store) => store.find(id, now_ms),
        }
    }

    /// See [`Store::change`].
    pub(super) fn change<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Approval) -> Result<T, Refusal>,
    ) -> Result<Option<Changed<T>>, StoreError> {
        match self {
            Self::Sqlite(store) => store.change(id, change),
            Self::Postgres(store) => store.change(id, change),
        }
    }

    /// See [`Store::list`].
    pub(super) fn list(&self, all: bool, limit: u32, now_ms: u64) -> Result<Vec<Summary>, StoreError> {
        match self {
            Self::Sqlite(store) => store.list(all, limit, now_ms),
            Self::Postgres(store) => store.list(all, limit, now_ms),
        }
    }

    /// See [`Store::expire`].
    pub(super) fn expire(&self, now_ms: u64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.expire(now_ms),
            Self::Postgres(store) => store.expire(now_ms),
        }
    }

    /// See [`Store::ended`].
    pub(super) fn ended(&self) -> Vec<String> {
        match self {
            Self::Sqlite(store) => store.ended(),
            Self::Postgres(store) => store.ended(),
        }
    }

    /// See [`Store::forget`].
    pub(super) fn forget(&self, before_ms: u64) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(store) => store.forget(before_ms),
            Self::Postgres(store) => store.forget(before_ms),
        }
    }
}
