//! Opens connections to servers, and holds what all connections need besides a backend's own settings.

use std::sync::Arc;
use std::time::Duration;

use super::memory::{Memory, Remembered};
use super::settings::Settings;
use super::stdio::StdioSpec;
pub(super) use super::transport::OpenError;
use super::transport::{Transport, TransportError};
use super::{PeerError, http, stdio};
use crate::backend::limit::MessageLimit;
use crate::backend::spool::Spool;
use crate::config::{self, TransportSettings};
use crate::redact::{Redaction, Words};

/// Bounds and the redaction that hold for all backends.
#[derive(Clone, Debug)]
pub struct Common {
    /// Longest message of a backend in memory, in bytes.
    pub max_message: usize,
    /// Where longer answers go; `None`: there are none.
    pub spool: Option<Arc<Spool>>,
    /// What takes secrets out of everything that is said by a backend and about it.
    pub redaction: Redaction,
    /// Names of tools and prompts in characters that every client takes.
    pub safe_names: bool,
    /// What is known of servers from earlier starts.
    pub memory: Arc<Memory>,
    /// How long after the start the first lists wait for servers.
    pub first_lists: Duration,
}

impl From<OpenError> for PeerError {
    fn from(error: OpenError) -> Self {
        error.error.into()
    }
}

/// Makes connections; one for all backends, because HTTP servers share clients.
#[derive(Debug)]
pub(super) struct Opener {
    common: Common,
    limit: MessageLimit,
    http: http::Clients,
}

impl Opener {
    pub(super) fn new(common: Common) -> Self {
        Self { limit: common.max_message.into(), common, http: http::Clients::default() }
    }

    /// Whether servers that are opened with these bounds are opened as by this one, but for how long messages may be.
    pub(super) fn opens_as(&self, common: &Common) -> bool {
        let Common { max_message: _, spool, redaction: _, safe_names: _, memory, first_lists: _ } = common;
        let own = &self.common;
        let spools = match (&own.spool, spool) {
            (Some(own), Some(other)) => own.is_at(other),
            (own, other) => own.is_none() && other.is_none(),
        };
        spools && own.memory.is_at(memory)
    }

    /// From now on messages of all its servers may be so long, over the connections that there are.
    pub(super) fn bound(&self, common: &Common) {
        self.limit.set(common.max_message);
        if let (Some(own), Some(other)) = (&self.common.spool, &common.spool) {
            own.keep_as(other);
        }
    }

    pub(super) fn common(&self) -> &Common {
        &self.common
    }

    pub(super) fn redaction(&self) -> &Redaction {
        &self.common.redaction
    }

    /// What is known of a backend from earlier starts.
    pub(super) fn remembered(&self, backend: &config::Backend) -> Remembered {
        self.common.memory.of(backend)
    }

    /// What was said by a backend or about one, so that it can be shown.
    pub(super) fn words(&self, said: &str) -> Words {
        self.common.redaction.words(said)
    }

    /// Starts the process, or prepares the HTTP exchange. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The program cannot be started, or no HTTP client be made.
    pub(super) async fn open(&self, settings: &Settings) -> Result<Transport, OpenError> {
        let backend = settings.load_full();
        if let Some(lacking) = &backend.absent {
            let error =
                TransportError::Unreachable(format!("{lacking}, and the gateway was started without it"));
            return Err(OpenError { error, lasting: true });
        }
        match &backend.transport {
            TransportSettings::Stdio { command, args, env, cwd, sandbox } => {
                let env: Vec<_> =
                    env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
                stdio::open(&StdioSpec {
                    name: backend.name.clone(),
                    command: command.clone(),
                    args: args.iter().map(|arg| arg.expose().to_owned()).collect(),
                    redaction: self.common.redaction.clone(),
                    env,
                    cwd: cwd.clone(),
                    sandbox: sandbox.clone(),
                    max_line: self.limit.clone(),
                    spool: self.common.spool.clone(),
                })
                .await
            }
            TransportSettings::Http { url, headers, route } => {
                let headers = headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
                let spec = http::HttpSpec {
                    name: backend.name.clone(),
                    url: url.expose().to_owned(),
                    headers: headers.collect(),
                    route: route.clone(),
                    max_body: self.limit.clone(),
                    redaction: self.common.redaction.clone(),
                    spool: self.common.spool.clone(),
                    times: settings.times().clone(),
                };
                Ok(http::open(&spec, self.http.of(route)?))
            }
        }
    }
}
