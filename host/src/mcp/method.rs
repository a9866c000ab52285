//! The methods of MCP, of all revisions together: which side may send each, and which names the protocol has in its
//! params.

use super::catalog::List;
use super::members::{self, Level};
use super::spelling::reads_like;

/// Every request, of clients and of servers, with its params.
static REQUESTS: [(&str, &Level); 23] = [
    ("completion/complete", &members::COMPLETION),
    ("elicitation/create", &members::ELICITATION),
    ("initialize", &members::INITIALIZE),
    ("logging/setLevel", &members::SET_LEVEL),
    ("ping", &members::BARE),
    ("prompts/get", &members::PROMPT),
    ("prompts/list", &members::LIST),
    ("resources/list", &members::LIST),
    ("resources/read", &members::RESOURCE),
    ("resources/subscribe", &members::RESOURCE),
    ("resources/templates/list", &members::LIST),
    ("resources/unsubscribe", &members::RESOURCE),
    ("roots/list", &members::BARE),
    ("sampling/createMessage", &members::SAMPLING),
    ("server/discover", &members::BARE),
    ("subscriptions/listen", &members::LISTEN),
    ("tasks/cancel", &members::TASK_REQUEST),
    ("tasks/get", &members::TASK_REQUEST),
    ("tasks/list", &members::LIST),
    ("tasks/result", &members::TASK_REQUEST),
    ("tasks/update", &members::TASK_REQUEST),
    ("tools/call", &members::CALL),
    ("tools/list", &members::LIST),
];

/// Every notification, of clients and of servers, with its params.
static NOTIFICATIONS: [(&str, &Level); 13] = [
    (CANCELLED, &members::CANCELLED),
    ("notifications/elicitation/complete", &members::ELICITED),
    (INITIALIZED, &members::BARE),
    ("notifications/message", &members::LOG),
    (PROGRESS, &members::PROGRESS),
    ("notifications/prompts/list_changed", &members::BARE),
    ("notifications/resources/list_changed", &members::BARE),
    ("notifications/resources/updated", &members::UPDATED),
    (ROOTS_CHANGED, &members::BARE),
    ("notifications/subscriptions/acknowledged", &members::LISTEN),
    ("notifications/tasks", &members::TASK),
    (TASK_STATUS, &members::TASK),
    ("notifications/tools/list_changed", &members::BARE),
];

pub(crate) const CANCELLED: &str = "notifications/cancelled";
pub(crate) const INITIALIZED: &str = "notifications/initialized";
pub(crate) const PROGRESS: &str = "notifications/progress";
pub(crate) const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
pub(crate) const TASK_STATUS: &str = "notifications/tasks/status";

/// The kinds of notifications that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The handshake is over.
    Initialized,
    /// A request is not wanted any more.
    Cancelled,
    /// How far the client is with a question of a server.
    Progress,
    /// The client's roots have changed.
    RootsChanged,
    /// The state of a task that the client began for a server.
    TaskStatus,
    /// The method is a request's, or one that only servers send.
    NotForClients,
    /// Not MCP's.
    Custom,
}

impl Notice {
    #[must_use]
    pub fn of(method: &str) -> Self {
        match method {
            INITIALIZED => Self::Initialized,
            CANCELLED => Self::Cancelled,
            PROGRESS => Self::Progress,
            ROOTS_CHANGED => Self::RootsChanged,
            TASK_STATUS => Self::TaskStatus,
            _ if is_custom(method) => Self::Custom,
            _ => Self::NotForClients,
        }
    }
}

/// Whether a request's method is one of MCP's, of any revision and from either side, or reads like one. JSON-RPC keeps
/// `rpc.` for itself, and what begins with `notifications/` is no request.
#[must_use]
pub(crate) fn is_of_protocol(method: &str) -> bool {
    let begins = |with: &str| method.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    !is_custom(method) || begins("notifications/")
}

/// Whether a method is not MCP's and could not be taken for one of MCP's either, by a server that ignores case, say.
#[must_use]
pub(crate) fn is_custom(method: &str) -> bool {
    // Nearly every method is one of these.
    if REQUESTS.iter().any(|(name, _)| *name == method) {
        return false;
    }
    let reserved = method.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("rpc."));
    let known = || REQUESTS.iter().chain(&NOTIFICATIONS).any(|(name, _)| reads_like(method, name));
    let odd = |character: char| character.is_control() || character.is_whitespace();
    !method.is_empty() && !reserved && !method.contains(odd) && !known()
}

/// The names that the protocol has in the params of a request or a notification.
#[must_use]
pub(super) fn params(method: &str) -> &'static Level {
    let known = REQUESTS.iter().chain(&NOTIFICATIONS).find(|(name, _)| *name == method);
    known.map_or(&members::CUSTOM, |(_, level)| level)
}

/// The names that the protocol has in the result of a request that servers send.
#[must_use]
pub(super) fn answer(method: &str) -> &'static Level {
    match method {
        "sampling/createMessage" => &members::SAMPLED,
        "elicitation/create" => &members::FORM,
        "roots/list" => &members::ROOTS,
        "tasks/get" | "tasks/cancel" => &members::TASK,
        _ => &members::RESPONSE,
    }
}

/// The names that the protocol has in the items of a list.
#[must_use]
pub(super) fn item(list: List) -> &'static Level {
    match list {
        List::Tools => &members::TOOL,
        List::Resources | List::Templates => &members::OFFERED_RESOURCE,
        List::Prompts => &members::OFFERED_PROMPT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_may_say_by_itself_is_a_short_list() {
        for (method, notice) in [
            ("notifications/initialized", Notice::Initialized),
            ("notifications/cancelled", Notice::Cancelled),
            ("notifications/progress", Notice::Progress),
            ("notifications/roots/list_changed", Notice::RootsChanged),
            ("notifications/tasks/status", Notice::TaskStatus),
            ("notifications/vendor/ready", Notice::Custom),
            ("acme/wipe", Notice::Custom),
        ] {
            assert_eq!(Notice::of(method), notice, "{method}");
        }
        let others = REQUESTS.iter().chain(&NOTIFICATIONS).map(|(name, _)| *name);
        for method in
            others.chain(["", "rpc.x", "RPC.x", "Tools/Call", "tools/call\0", "tool\u{17f}/call", "a b"])
        {
            assert!(!is_custom(method), "{method:?}");
        }
        assert_eq!(Notice::of("Notifications/Cancelled"), Notice::NotForClients);
        assert_eq!(Notice::of("tools/call"), Notice::NotForClients);
    }

    #[test]
    fn a_request_of_another_name_is_one_that_nobody_could_take_for_mcps() {
        for method in ["acme/run", "tools/destroy", "notification/x"] {
            assert!(!is_of_protocol(method), "{method}");
        }
        for method in ["tools/call", "TOOLS/CALL", "notifications/x", "Notifications/x", "rpc.discover", ""] {
            assert!(is_of_protocol(method), "{method}");
        }
    }
}
