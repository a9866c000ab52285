//! The steps of a server's start, and what comes of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::server_info::ServerInfo;
use crate::mcp::Era;
use crate::mcp::catalog::List;

/// What the client of the gateway declared; `None` before its `initialize`.
pub(super) type ClientCapabilities = watch::Receiver<Option<Arc<str>>>;

/// The first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Discover,
    Initialize,
}

impl First {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Discover => Self::Initialize,
            Self::Initialize => Self::Discover,
        }
    }
}

impl From<Era> for First {
    fn from(era: Era) -> Self {
        match era {
            Era::Handshake => Self::Initialize,
            Era::Stateless => Self::Discover,
        }
    }
}

/// A server that can be spoken to.
#[derive(Debug)]
pub(super) struct Negotiated {
    pub(super) info: ServerInfo,
    /// How it is best addressed the next time.
    pub(super) learnt: Era,
    /// The client's capabilities, if it was told them.
    pub(super) declared: Option<Arc<str>>,
}

/// The step of a start that is being waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// The process, or nothing yet.
    #[default]
    Opening,
    /// The gateway's own client, which has not said yet what it can do.
    Client,
    /// An answer to `server/discover`.
    Discover,
    /// An answer to `initialize`, with `server/discover` unanswered.
    Both,
    /// An answer to `initialize`.
    Initialize,
    /// A list.
    Listing(List),
    /// Nothing: it is up.
    Up,
}

impl Stage {
    /// The step that is being waited for, in words; `None` if the server is up.
    pub(super) fn waited_for(self) -> Option<&'static str> {
        Some(match self {
            Self::Opening => "its process to be started",
            Self::Client => "the client's `initialize`",
            Self::Discover => "its answer to `server/discover`",
            Self::Both => "its answer to `server/discover` or `initialize`",
            Self::Initialize => "its answer to `initialize`",
            Self::Listing(List::Tools) => "its list of tools",
            Self::Listing(List::Prompts) => "its list of prompts",
            Self::Listing(List::Resources) => "its list of resources",
            Self::Listing(List::Templates) => "its list of resource templates",
            Self::Up => return None,
        })
    }
}

/// How far a server has come: the negotiation writes it, the report of a failed start reads it.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Stage>);

impl Progress {
    pub(super) fn is_at(&self, stage: Stage) {
        *self.0.lock() = stage;
    }

    pub(super) fn stage(&self) -> Stage {
        *self.0.lock()
    }
}
