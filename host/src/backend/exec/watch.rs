//! Whether an executor is there: it is asked now and then, and every call shows it as well.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::Status;
use super::Client;
use super::link::Link;
use crate::command::frames::{Question, Reply};
use crate::redact::{Redaction, Words};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of an executor.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether it answers.
    pub status: Status,
    /// Since when it is so.
    pub since: Instant,
    /// How often it came up.
    pub starts: u64,
    /// Why it was away last, and when that was found.
    pub last_error: Option<(Words, Instant)>,
}

/// The same, kept.
#[derive(Debug)]
pub(super) struct Health(Mutex<Seen>);

impl Health {
    pub(super) fn new() -> Arc<Self> {
        let seen = Seen { status: Status::Starting, since: Instant::now(), starts: 0, last_error: None };
        Arc::new(Self(Mutex::new(seen)))
    }

    pub(super) fn seen(&self) -> Seen {
        self.0.lock().clone()
    }

    /// It answered. True if it did not before.
    pub(super) fn up(&self) -> bool {
        let mut seen = self.0.lock();
        let new = seen.status != Status::Ready;
        if new {
            (seen.status, seen.since) = (Status::Ready, Instant::now());
            seen.starts += 1;
        }
        new
    }

    /// It did not, for this reason. True if it did before, or was not asked yet.
    pub(super) fn away(&self, reason: Words) -> bool {
        let mut seen = self.0.lock();
        let new = !matches!(seen.status, Status::Down { .. });
        if new {
            seen.since = Instant::now();
        }
        seen.last_error = Some((reason.clone(), Instant::now()));
        seen.status = Status::Down { reason, again: None };
        new
    }
}

/// What asking takes. It does not hold the client, which ends with the generations that have it.
struct Probe {
    name: Arc<str>,
    socket: PathBuf,
    environment: String,
    redaction: Redaction,
    health: Weak<Health>,
}

impl Client {
    /// What is known of the executor.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.health.seen()
    }

    /// Calls under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.taken()
    }

    /// Asks the executor how it is, now and then, for as long as there is this client.
    pub fn watch(&self) {
        let probe = Probe {
            name: self.name.clone(),
            socket: self.settings.socket.clone(),
            environment: self.settings.environment.clone(),
            redaction: self.redaction.clone(),
            health: Arc::downgrade(&self.health),
        };
        tokio::spawn(async move {
            while probe.health.strong_count() > 0 {
                let found = tokio::time::timeout(PATIENCE, probe.ask()).await;
                let found = found.unwrap_or_else(|_| Err("it does not answer".to_owned()));
                let Some(health) = probe.health.upgrade() else { return };
                match found {
                    Ok(()) if health.up() => tracing::info!(executor = %probe.name, "the executor answers"),
                    Ok(()) => {}
                    Err(reason) => {
                        let reason = probe.redaction.words(&reason);
                        if health.away(reason.clone()) {
                            tracing::warn!(executor = %probe.name, "the executor is away: {reason}");
                        }
                    }
                }
                drop(health);
                tokio::time::sleep(EVERY).await;
            }
        });
    }
}

impl Probe {
    async fn ask(&self) -> Result<(), String> {
        let link = Link::ask(&self.socket, &Question::Health.encode()).await;
        let reply = match link {
            Ok(link) => link.next().await,
            Err(error) => Err(error),
        };
        match reply {
            Ok(Some(Reply::Healthy { environment, .. })) if environment == self.environment => Ok(()),
            Ok(Some(Reply::Healthy { environment, .. })) => {
                Err(format!("it is for the environment {environment:?}, not for {:?}", self.environment))
            }
            Ok(Some(Reply::Refused { message, .. })) => Err(format!("it refuses: {message}")),
            Ok(_) => Err("it does not speak the protocol of executors".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
