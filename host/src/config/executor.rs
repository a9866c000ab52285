//! A process that runs commands, as the gateway knows it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Secret;
use crate::capability::Key;
use crate::command::Commands;

/// A process that runs commands for the gateway, with those commands.
#[derive(Debug, Clone)]
pub struct Executor {
    /// Its name: `[A-Za-z0-9_-]{1,48}`; tokens are for it alone.
    pub name: String,
    /// The environment that it is for.
    pub environment: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// The gateway's key.
    pub key: Arc<Key>,
    /// The same as text, which must not be shown.
    pub secret: Secret,
    /// Commands under way at once.
    pub max_in_flight: usize,
    /// What it runs.
    pub commands: Arc<Commands>,
    /// The SHA-256 of all of that, as it was typed.
    pub digest: [u8; 32],
}

impl PartialEq for Executor {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}
