//! What every worker of an executor works with.

use super::nonces::Nonces;
use super::record::Record;
use super::settings::Settings;

/// An executor's settings, its record, and what it knows of tokens and programs.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) settings: Settings,
    pub(super) record: Record,
    pub(super) nonces: Nonces,
    /// The programs that were looked at when it started, and that start no others by themselves.
    pub(super) cleared: Vec<[u8; 32]>,
}
