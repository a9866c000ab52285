//! A program that answers routes: JSON in, JSON out, in a process of its own that is looked after as servers on stdio are.

pub(crate) mod ask;
pub(crate) mod judge;
mod once;
mod pool;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

pub(crate) use self::ask::{ArgError, Ask};
pub(crate) use self::judge::Judged;
use self::pool::Pool;
use super::process::ChildSpec;
use crate::config::rest;
use crate::config::rest::EngineMode;
use crate::redact::Redaction;

/// An engine that runs.
#[derive(Debug)]
pub struct Engine {
    name: Arc<str>,
    settings: rest::Engine,
    redaction: Redaction,
    /// Calls that may be under way, those that wait for a warm process included.
    places: Semaphore,
    /// Warm processes that may work.
    warm: Semaphore,
    pool: Pool,
}

/// Why an engine gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// All places are taken.
    #[error("the engine works on as many calls as it may")]
    Busy,
    /// The program cannot be started.
    #[error("it cannot be started: {0}")]
    Start(String),
    /// Its time is over. The process was killed with all that it started.
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    /// A value cannot be an argument.
    #[error("{0}")]
    Argument(ArgError),
}

impl Engine {
    /// One without processes so far.
    #[must_use]
    pub fn new(settings: rest::Engine, redaction: Redaction) -> Self {
        Self {
            name: settings.name.as_str().into(),
            places: Semaphore::new(settings.max_in_flight),
            warm: Semaphore::new(settings.pool_size),
            settings,
            redaction,
            pool: Pool::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &rest::Engine {
        &self.settings
    }

    /// What takes secrets out of what it says.
    pub(crate) fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// Ends the processes that wait. Those that work end with their calls.
    pub fn stop(&self) {
        self.pool.clear();
    }

    /// Asks it. Dropped, it kills the process that works on the call, with all that this started.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn ask(
        &self,
        ask: Ask<'_>,
        args: &[String],
        body: Option<&Bytes>,
        timeout: Duration,
    ) -> Result<Judged, EngineError> {
        let _place = self.places.try_acquire().map_err(|_| EngineError::Busy)?;
        let work = async {
            match self.settings.mode {
                EngineMode::Call => once::ask(&self.settings, self.spec(), args, ask, body).await,
                EngineMode::Pool => {
                    let _warm = self.warm.acquire().await.map_err(|_| EngineError::Busy)?;
                    self.pool.ask(&self.settings, self.spec(), ask).await
                }
            }
        };
        tokio::time::timeout(timeout, work).await.unwrap_or(Err(EngineError::Timeout(timeout)))
    }

    fn spec(&self) -> ChildSpec {
        let rest::Engine { name, command, args, env, cwd, sandbox, .. } = &self.settings;
        ChildSpec {
            name: name.clone(),
            command: command.clone(),
            args: args.iter().map(|arg| arg.expose().to_owned()).collect(),
            env: env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
            cwd: cwd.clone(),
            sandbox: sandbox.clone(),
            redaction: self.redaction.clone(),
        }
    }
}
