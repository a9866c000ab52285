//! The vocabulary of the gateway: a call, its target, its caller, and how it can end.
//!
//! Everything else speaks in these words, so this module knows no runtime, no file and no plugin.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use sentinel_names::Names;

mod json;
#[cfg(test)]
pub(crate) mod sample;
pub mod shares;
mod told;

pub use json::Json;
pub use shares::Share;
pub use told::Told;

/// The kind of a call's target. The words are those of the plugin contract (`target-kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetKind {
    Tool,
    Resource,
    Prompt,
    /// A route of an HTTP API.
    Route,
    /// A command that is run on a machine.
    Command,
    /// An operator's action on the gateway itself.
    Control,
    Other,
}

impl TargetKind {
    /// The word for logs and the audit record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Route => "route",
            Self::Command => "command",
            Self::Control => "control",
            Self::Other => "other",
        }
    }
}

/// Where a call goes: a name the client used, and what the backend knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: TargetKind,
    /// What it is called among those of all backends: the tool, the prompt, the URI. A client may have used another of its
    /// names; for rules, the record and the metrics it is this one.
    pub name: Arc<str>,
    pub backend: Arc<str>,
    /// The name the backend knows the target by.
    pub upstream: Arc<str>,
}

impl Target {
    /// What rules know it by.
    #[must_use]
    pub fn names(&self) -> Names<'_> {
        Names { shown: &self.name, own: &self.upstream, backend: &self.backend }
    }
}

/// Who is calling, as an authenticator plugin established it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub subject: String,
    pub role: String,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    /// The token's own id (`jti`, RFC 7519 §4.1.7).
    pub token_id: Option<String>,
    /// Seconds since 1970.
    pub expires_at: Option<u64>,
    pub claims: Vec<(String, String)>,
}

/// Stands between the parts of an identity.
const BETWEEN: &str = "\u{1f}";

impl Principal {
    /// The identity to which sessions and the like belong: issuer, subject, and the application they use (RFC 9068
    /// `client_id`). Two applications of one person are two identities.
    #[must_use]
    pub fn identity(&self) -> String {
        self.parts().join(BETWEEN)
    }

    /// Whether this is who has that identity.
    #[must_use]
    pub fn is(&self, identity: &str) -> bool {
        let [issuer, client, subject] = self.parts();
        let rest = identity.strip_prefix(issuer).and_then(|rest| rest.strip_prefix(BETWEEN));
        let rest =
            rest.and_then(|rest| rest.strip_prefix(client)).and_then(|rest| rest.strip_prefix(BETWEEN));
        rest == Some(subject)
    }

    fn parts(&self) -> [&str; 3] {
        let claim =
            |name: &str| self.claims.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        // As issuers call it: the standard, OpenID Connect, Okta, Entra ID.
        let client = ["client_id", "azp", "cid", "appid"].into_iter().find_map(claim).unwrap_or("");
        [self.issuer.as_deref().unwrap_or(""), client, &self.subject]
    }
}

/// The credentials of a caller who is not known yet.
#[derive(Clone, Debug)]
pub struct Credential {
    /// `stdio` or `http`.
    pub door: &'static str,
    /// The bearer token without its scheme.
    pub bearer: Option<String>,
    /// Facts by dotted key: `peer.user`, `peer.uid`, `peer.ip`, `header.x-api-key`.
    pub attrs: Vec<(Cow<'static, str>, String)>,
}

impl Credential {
    /// How many credentials this is: a token, and each header that authenticators may read. What the gateway itself knows
    /// of the connection is none.
    #[must_use]
    pub fn count(&self) -> usize {
        let headers = self.attrs.iter().filter(|(name, _)| name.starts_with("header."));
        usize::from(self.bearer.is_some()) + headers.count()
    }

    /// A fact by its key.
    #[must_use]
    pub(crate) fn attr(&self, key: &str) -> Option<&str> {
        self.attrs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A header by name, in any case: of those the operator lets authenticators read, as the attribute
    /// `header.<name>` in lower case. None on stdio.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.attr(&format!("header.{}", name.to_ascii_lowercase()))
    }
}

/// One request by a known caller to a known target.
#[derive(Clone, Debug)]
pub struct Call {
    /// The gateway's own id of this call; the audit record carries it.
    pub id: String,
    /// The MCP method: `tools/call`.
    pub method: String,
    pub target: Target,
    pub principal: Arc<Principal>,
    /// The request's `params` as they were sent.
    pub params: Json,
    pub session: Arc<str>,
    pub door: &'static str,
    pub about: About,
}

/// What else is known of a call, where it is known.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The target as it stands in the list of its backend.
    pub definition: Option<Arc<dyn Definition>>,
    /// The address that the client called from; none on stdio.
    pub address: Option<Arc<str>>,
    /// Takes the headers that plugins want its answer to have; none at doors whose answers have no headers.
    pub told: Option<Arc<Told>>,
}

/// An entry of a list, as clients see it.
pub trait Definition: std::fmt::Debug + Send + Sync {
    /// The entry as JSON.
    fn json(&self) -> &str;
}

/// How a call ended. Which of these counts as a failure is the guards' decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    ToolError,
    InvalidRequest,
    Throttled,
    ServerError,
    Timeout,
    Unreachable,
    ProtocolError,
    Cancelled,
}

/// Which step of the pipeline refused; the door turns it into an error code (`door::mcp::respond`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialKind {
    Unauthenticated,
    Killed,
    RateLimited,
    Forbidden,
    InvalidArguments,
    CircuitOpen,
    /// The method is not MCP's, and to this caller it does not exist.
    UnknownMethod,
    /// A plugin, the audit record or a bound of the gateway itself could not answer: the gateway fails closed.
    Unavailable,
}

/// A refusal, in words the client may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub kind: DenialKind,
    /// A stable machine word; becomes `data.reason`.
    pub reason: String,
    pub message: String,
    pub retry_after: Option<Duration>,
    pub details: Vec<(String, String)>,
    /// The plugin that decided, for the record: its name, version and digest, and what it said. None if the gateway did.
    pub decided: Option<Box<str>>,
}

impl Denial {
    /// A refusal without further facts.
    #[must_use]
    pub fn new(kind: DenialKind, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            retry_after: None,
            details: Vec::new(),
            decided: None,
        }
    }

    /// The same, decided by a plugin; see [`Self::decided`].
    #[must_use]
    pub fn decided(self, by: String) -> Self {
        Self { decided: Some(by.into()), ..self }
    }

    /// A refusal because the caller's own share is used up, or because nothing is left for anybody.
    #[must_use]
    pub(crate) fn overloaded(message: impl Into<String>) -> Self {
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(DenialKind::RateLimited, "overloaded", message) }
    }

    /// The scopes a caller lacks who was refused for that (RFC 6750, section 3.1); empty if the policy names none.
    #[must_use]
    pub(crate) fn lacks_scopes(&self) -> Option<&str> {
        let scope = self.details.iter().find(|(name, _)| name == "scope").map(|(_, value)| value.as_str());
        (self.reason == "insufficient_scope").then(|| scope.unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_compared_without_being_made() {
        let words = ["", "a", "ab", BETWEEN];
        let mut principals = Vec::new();
        for issuer in words {
            for client in words {
                for subject in words {
                    principals.push(Principal {
                        issuer: (!issuer.is_empty()).then(|| issuer.to_owned()),
                        claims: vec![("client_id".to_owned(), client.to_owned())],
                        ..sample::principal(subject, "r")
                    });
                }
            }
        }
        for one in &principals {
            for other in &principals {
                assert_eq!(one.is(&other.identity()), one.identity() == other.identity());
            }
        }
    }
}
