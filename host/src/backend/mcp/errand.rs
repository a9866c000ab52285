//! Why a request is sent to a server: because a call was permitted, or because the gateway itself wants to know something.
//! There is no third reason, so no request can be made of anything else.

use crate::mcp::catalog::List;
use crate::policy::Permitted;

/// What a request is for; it says its method.
#[derive(Clone, Copy, Debug)]
pub(super) enum Errand<'a> {
    /// A call that passed every decision.
    Call(&'a Permitted),
    /// The gateway's own.
    Own(Own),
}

/// What the gateway asks by itself. None of it acts on anything at the server but on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Initialize,
    Discover,
    Ping,
    List(List),
    SetLevel,
    Subscribe,
    Unsubscribe,
    Listen,
}

impl Errand<'_> {
    pub(super) fn method(&self) -> &str {
        match self {
            Self::Call(permitted) => &permitted.call().method,
            Self::Own(own) => own.method(),
        }
    }
}

impl Own {
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Discover => "server/discover",
            Self::Ping => "ping",
            Self::List(list) => list.wire().0,
            Self::SetLevel => "logging/setLevel",
            Self::Subscribe => "resources/subscribe",
            Self::Unsubscribe => "resources/unsubscribe",
            Self::Listen => "subscriptions/listen",
        }
    }
}
