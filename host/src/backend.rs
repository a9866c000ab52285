//! What stands behind the gateway: whatever does something once a call is permitted.
//!
//! [`Backend`] is a closed set, one variant and one file (or folder) for each kind, so that a new kind cannot be forgotten
//! anywhere and no call goes through a boxed future. A backend does nothing but what comes with a
//! [`crate::policy::Permitted`], and says of every [`Answer`] how the call ended, because it alone knows its protocol.

pub mod mcp;

mod answer;
mod body;
pub mod engine;
mod error;
pub mod exec;
mod fleet;
mod limit;
mod process;
mod spool;
pub mod target;
pub mod upstream;

use std::sync::Arc;

#[cfg(feature = "fuzz")]
pub use mcp::fuzz;
pub use mcp::{
    Common, Fixed, History, Lineup, ListChanged, Memory, Registry, START_PATIENCE, Server, ServerFleet,
};

pub use answer::{Answer, AnswerKind, HttpHead};
pub use body::{Body, Chunks};
pub use error::{BackendError, Status, tried_again};
pub use fleet::Fleet;
pub use process::keeper::serve_if_asked as serve_as_keeper_if_asked;
pub use process::kin::settle;
pub use spool::{Spool, whole};

use self::engine::Engine;
use self::target::Target;
use self::upstream::Upstream;
use crate::call::{Call, Denial, DenialKind, Json};
use crate::capability::Token;
use crate::mcp::client::Client;
use crate::mcp::payload::Payload;
use crate::policy::Permitted;

/// A handle to one backend of any kind; clones share what is behind it. What an operator asks of the gateway itself is not
/// among them: it has an answer of its own (`control::Report`), and no rewriter, kill switch or breaker stands before it.
#[derive(Clone, Debug)]
pub enum Backend {
    /// An MCP server.
    Mcp(Arc<Server>),
    /// An HTTP API behind routes.
    Http(Target<Upstream>),
    /// A program behind routes.
    Engine(Target<Engine>),
    /// Commands, which an executor runs.
    Exec(Arc<exec::Client>),
}

/// What is sent, as the rewriters left it.
#[derive(Debug)]
pub struct Request<'a> {
    /// The params; those of the call, if this is `None`.
    pub params: Option<&'a Json>,
    /// What rewriters set, and the trace context.
    pub headers: Vec<(String, String)>,
    /// What a command will run, as [`Backend::prepare`] found it.
    pub resolved: Option<&'a exec::Resolved>,
    /// Bytes that are not in the params.
    pub body: Option<&'a Body>,
    /// The way back to an MCP client while the call is under way.
    pub client: &'a Arc<dyn Client>,
    /// Whether somebody waits for an answer; false for a notification.
    pub answered: bool,
}

impl Backend {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Mcp(server) => server.name(),
            Self::Http(upstream) => upstream.it().name(),
            Self::Engine(engine) => engine.it().name(),
            Self::Exec(client) => client.name(),
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Mcp(server) => server.status(),
            // Whether it is well shows in its calls.
            Self::Http(_) | Self::Engine(_) => Status::Ready,
            // Its process is the operator's; it is asked now and then.
            Self::Exec(client) => client.seen().status,
        }
    }

    /// What it does while it starts.
    #[must_use]
    pub fn starting(&self) -> String {
        match self {
            Self::Mcp(server) => server.starting(),
            Self::Http(_) | Self::Engine(_) => String::new(),
            Self::Exec(_) => "it has not been asked yet".to_owned(),
        }
    }

    /// Whether the gateway is said not to be ready without it.
    #[must_use]
    pub fn required(&self) -> bool {
        match self {
            Self::Mcp(server) => server.required(),
            Self::Http(_) | Self::Engine(_) => false,
            Self::Exec(_) => false,
        }
    }

    /// The host and the port where it is reached; none if it is a process of ours.
    #[must_use]
    pub fn reached(&self) -> Option<(&str, Option<u16>)> {
        match self {
            Self::Mcp(server) => server.reached(),
            Self::Http(upstream) => upstream.it().reached(),
            Self::Engine(_) => None,
            Self::Exec(_) => None,
        }
    }

    /// The text of a failed call without the secrets of the configuration; `None` if it holds none. Many servers repeat the
    /// key they were given.
    #[must_use]
    pub(crate) fn without_secrets(&self, failed: &Payload) -> Option<Payload> {
        match self {
            Self::Mcp(server) => server.without_secrets(failed),
            // A body may be of any type, so what it holds of ours cannot be found in it; the upstream is trusted with it.
            Self::Http(_) => None,
            // What it says of a failure was cleaned when it was worded.
            Self::Engine(_) => None,
            Self::Exec(client) => client.without_secrets(failed),
        }
    }

    /// Whether both are handles to the very same backend.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mcp(one), Self::Mcp(other)) => Arc::ptr_eq(one, other),
            (Self::Http(one), Self::Http(other)) => one.is(other),
            (Self::Engine(one), Self::Engine(other)) => one.is(other),
            (Self::Exec(one), Self::Exec(other)) => Arc::ptr_eq(one, other),
            (Self::Mcp(_) | Self::Http(_) | Self::Engine(_) | Self::Exec(_), _) => false,
        }
    }

    /// What a call will run, found out before anybody is asked about it and before anything is on record; `params` are those
    /// of the call as the rewriters left them. Nothing for backends whose calls say all about it themselves.
    ///
    /// # Errors
    /// It cannot be run as it is, or its backend is away.
    pub async fn prepare(
        &self,
        call: &Call,
        params: Option<&Json>,
    ) -> Result<Option<exec::Resolved>, BackendError> {
        match self {
            Self::Mcp(_) | Self::Http(_) | Self::Engine(_) => Ok(None),
            Self::Exec(client) => Box::pin(client.prepare(call, params)).await.map(Some),
        }
    }

    /// Makes a capability token for what was prepared, which holds for so many seconds; `of` is the approval or the call that it
    /// belongs to.
    ///
    /// # Errors
    /// It is nothing that a token could permit.
    pub(crate) fn mint(
        &self,
        call: &Call,
        resolved: &exec::Resolved,
        of: &str,
        seconds: u64,
    ) -> Result<Token, BackendError> {
        match self {
            Self::Exec(client) => client.mint(call, resolved, of, seconds),
            Self::Mcp(_) | Self::Http(_) | Self::Engine(_) => {
                let text = "there are capability tokens for commands only";
                let denial = Denial::new(DenialKind::InvalidArguments, "not_a_command", text);
                Err(BackendError::Refused(Box::new(denial)))
            }
        }
    }

    /// Whether it judges the arguments of its calls itself.
    #[must_use]
    pub fn judges_arguments(&self) -> bool {
        match self {
            Self::Mcp(_) | Self::Http(_) | Self::Engine(_) => false,
            // Slot by slot, and it names the slot.
            Self::Exec(_) => true,
        }
    }

    /// Whether it has to say what a call would do before the call is done; see [`Self::prepare`].
    #[must_use]
    pub fn prepares(&self) -> bool {
        match self {
            Self::Mcp(_) | Self::Http(_) | Self::Engine(_) => false,
            Self::Exec(_) => true,
        }
    }

    /// Does what was permitted. Dropping the future cancels it.
    ///
    /// # Errors
    /// There is no answer; an error that the backend answered with is one.
    pub async fn call(&self, permitted: &Permitted, request: Request<'_>) -> Result<Answer, BackendError> {
        match self {
            Self::Mcp(server) => server.call(permitted, request).await,
            Self::Http(upstream) => Box::pin(upstream.call(permitted, request)).await,
            Self::Engine(engine) => Box::pin(engine.call(permitted, request)).await,
            Self::Exec(client) => Box::pin(client.call(permitted, request)).await,
        }
    }

    /// Ends it in order. MCP servers are ended by their own fleet, which knows which generations have them.
    pub(crate) async fn stop(&self) {
        match self {
            Self::Mcp(_) | Self::Http(_) | Self::Exec(_) => {}
            Self::Engine(engine) => engine.it().stop(),
        }
    }

    /// How many handles there are.
    fn holders(&self) -> usize {
        match self {
            Self::Mcp(server) => Arc::strong_count(server),
            Self::Http(upstream) => upstream.holders(),
            Self::Engine(engine) => engine.holders(),
            Self::Exec(client) => Arc::strong_count(client),
        }
    }
}
