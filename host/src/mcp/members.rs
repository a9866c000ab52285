//! The names that MCP gives to the members of its objects, level by level, and the rule that a name has one spelling: a
//! key that some reader would take for a name of the protocol (see [`super::spelling`]) must be spelled exactly so. The
//! keys of a tool's own arguments, of a form's content and of a vendor's objects are not the protocol's: there every
//! spelling is a key of its own.

use super::spelling::reads_like;

/// The names that the protocol has in one object.
#[derive(Debug)]
pub(super) struct Level {
    /// Its members, each with the names inside the value; for an array, the names inside each of its items.
    members: &'static [(&'static str, &'static Level)],
    /// The names inside the values of all other members.
    others: Option<&'static Level>,
}

impl Level {
    /// The names inside the value of a member.
    ///
    /// # Errors
    /// The name of the protocol that another reader could take this key for.
    pub(super) fn inside(&self, key: &str) -> Result<&'static Self, &'static str> {
        if let Some((_, level)) = self.members.iter().find(|(name, _)| *name == key) {
            return Ok(level);
        }
        match self.members.iter().find(|(name, _)| reads_like(key, name)) {
            Some((name, _)) => Err(name),
            None => Ok(self.others.unwrap_or(&FREE)),
        }
    }
}

const fn level(members: &'static [(&'static str, &'static Level)]) -> Level {
    Level { members, others: None }
}

/// An object whose keys are not the protocol's.
const fn each(others: &'static Level) -> Level {
    Level { members: &[], others: Some(others) }
}

/// An object without names of the protocol, at any depth.
pub(super) static FREE: Level = level(&[]);

/// A JSON-RPC message.
pub(super) static ENVELOPE: Level = level(&[
    ("jsonrpc", &FREE),
    ("id", &FREE),
    ("method", &FREE),
    ("params", &FREE),
    ("result", &FREE),
    ("error", &FREE),
]);

/// A JSON-RPC error.
pub(super) static ERROR: Level = level(&[("code", &FREE), ("message", &FREE), ("data", &FREE)]);

static META: Level = level(&[
    ("progressToken", &FREE),
    ("io.modelcontextprotocol/protocolVersion", &FREE),
    ("io.modelcontextprotocol/clientCapabilities", &CAPABILITIES),
    ("io.modelcontextprotocol/clientInfo", &IMPLEMENTATION),
    ("io.modelcontextprotocol/serverInfo", &IMPLEMENTATION),
    ("io.modelcontextprotocol/logLevel", &FREE),
    ("io.modelcontextprotocol/subscriptionId", &FREE),
    ("io.modelcontextprotocol/related-task", &TASK),
]);

static IMPLEMENTATION: Level = level(&[
    ("name", &FREE),
    ("title", &FREE),
    ("version", &FREE),
    ("description", &FREE),
    ("websiteUrl", &FREE),
    ("icons", &ICON),
]);

static ICON: Level = level(&[("src", &FREE), ("mimeType", &FREE), ("sizes", &FREE), ("theme", &FREE)]);

/// The capabilities of a client.
static CAPABILITIES: Level = level(&[
    ("experimental", &FREE),
    ("extensions", &FREE),
    ("roots", &level(&[("listChanged", &FREE)])),
    ("sampling", &level(&[("context", &FREE), ("tools", &FREE)])),
    ("elicitation", &level(&[("form", &FREE), ("url", &FREE)])),
    (
        "tasks",
        &level(&[
            ("list", &FREE),
            ("cancel", &FREE),
            (
                "requests",
                &level(&[
                    ("sampling", &level(&[("createMessage", &FREE)])),
                    ("elicitation", &level(&[("create", &FREE)])),
                ]),
            ),
        ]),
    ),
]);

// Of requests.

pub(super) static INITIALIZE: Level = level(&[
    ("protocolVersion", &FREE),
    ("capabilities", &CAPABILITIES),
    ("clientInfo", &IMPLEMENTATION),
    ("_meta", &META),
]);

/// Requests and notifications without params of their own.
pub(super) static BARE: Level = level(&[("_meta", &META)]);

pub(super) static LIST: Level = level(&[("cursor", &FREE), ("_meta", &META)]);

pub(super) static CALL: Level = level(&[
    ("name", &FREE),
    ("arguments", &FREE),
    ("task", &level(&[("ttl", &FREE)])),
    ("inputResponses", &each(&RESPONSE)),
    ("requestState", &FREE),
    ("_meta", &META),
]);

pub(super) static PROMPT: Level = level(&[
    ("name", &FREE),
    ("arguments", &FREE),
    ("inputResponses", &each(&RESPONSE)),
    ("requestState", &FREE),
    ("_meta", &META),
]);

pub(super) static RESOURCE: Level =
    level(&[("uri", &FREE), ("inputResponses", &each(&RESPONSE)), ("requestState", &FREE), ("_meta", &META)]);

static REF: Level = level(&[("type", &FREE), ("name", &FREE), ("title", &FREE), ("uri", &FREE)]);

pub(super) static COMPLETION: Level = level(&[
    ("ref", &REF),
    ("argument", &level(&[("name", &FREE), ("value", &FREE)])),
    ("context", &level(&[("arguments", &FREE)])),
    ("_meta", &META),
]);

pub(super) static SET_LEVEL: Level = level(&[("level", &FREE), ("_meta", &META)]);

pub(super) static LISTEN: Level = level(&[
    (
        "notifications",
        &level(&[
            ("toolsListChanged", &FREE),
            ("promptsListChanged", &FREE),
            ("resourcesListChanged", &FREE),
            ("resourceSubscriptions", &FREE),
            ("taskIds", &FREE),
        ]),
    ),
    ("_meta", &META),
]);

pub(super) static TASK_REQUEST: Level =
    level(&[("taskId", &FREE), ("inputResponses", &each(&RESPONSE)), ("_meta", &META)]);

/// The names by which a method that is not MCP's may name a target as one of MCP's would.
pub(super) static CUSTOM: Level = level(&[
    ("name", &FREE),
    ("uri", &FREE),
    ("ref", &REF),
    ("arguments", &FREE),
    ("task", &level(&[("ttl", &FREE)])),
    ("taskId", &FREE),
    ("inputResponses", &each(&RESPONSE)),
    ("requestState", &FREE),
    ("_meta", &META),
]);

// Of notifications.

pub(super) static CANCELLED: Level = level(&[("requestId", &FREE), ("reason", &FREE), ("_meta", &META)]);

pub(super) static PROGRESS: Level = level(&[
    ("progressToken", &FREE),
    ("progress", &FREE),
    ("total", &FREE),
    ("message", &FREE),
    ("_meta", &META),
]);

pub(super) static LOG: Level =
    level(&[("level", &FREE), ("logger", &FREE), ("data", &FREE), ("_meta", &META)]);

pub(super) static UPDATED: Level = level(&[("uri", &FREE), ("_meta", &META)]);

pub(super) static ELICITED: Level = level(&[("elicitationId", &FREE), ("_meta", &META)]);

/// A task, as a notification or a result tells of it.
pub(super) static TASK: Level = level(&[
    ("taskId", &FREE),
    ("status", &FREE),
    ("statusMessage", &FREE),
    ("createdAt", &FREE),
    ("lastUpdatedAt", &FREE),
    ("ttl", &FREE),
    ("pollInterval", &FREE),
    ("_meta", &META),
]);

// Of the questions of servers, and their answers.

static MESSAGE: Level = level(&[("role", &FREE), ("content", &CONTENT), ("_meta", &META)]);

/// A block of content, of any kind.
static CONTENT: Level = level(&[
    ("type", &FREE),
    ("text", &FREE),
    ("data", &FREE),
    ("mimeType", &FREE),
    ("uri", &FREE),
    ("name", &FREE),
    ("title", &FREE),
    ("description", &FREE),
    ("size", &FREE),
    ("icons", &ICON),
    ("annotations", &ANNOTATIONS),
    (
        "resource",
        &level(&[("uri", &FREE), ("mimeType", &FREE), ("text", &FREE), ("blob", &FREE), ("_meta", &META)]),
    ),
    ("id", &FREE),
    ("input", &FREE),
    ("toolUseId", &FREE),
    ("content", &CONTENT),
    ("structuredContent", &FREE),
    ("isError", &FREE),
    ("_meta", &META),
]);

pub(super) static SAMPLING: Level = level(&[
    ("messages", &MESSAGE),
    (
        "modelPreferences",
        &level(&[
            ("hints", &level(&[("name", &FREE)])),
            ("costPriority", &FREE),
            ("speedPriority", &FREE),
            ("intelligencePriority", &FREE),
        ]),
    ),
    ("systemPrompt", &FREE),
    ("includeContext", &FREE),
    ("temperature", &FREE),
    ("maxTokens", &FREE),
    ("stopSequences", &FREE),
    ("metadata", &FREE),
    ("tools", &TOOL),
    ("toolChoice", &level(&[("mode", &FREE)])),
    ("task", &level(&[("ttl", &FREE)])),
    ("_meta", &META),
]);

pub(super) static ELICITATION: Level = level(&[
    ("mode", &FREE),
    ("message", &FREE),
    (
        "requestedSchema",
        &level(&[("$schema", &FREE), ("type", &FREE), ("properties", &FREE), ("required", &FREE)]),
    ),
    ("elicitationId", &FREE),
    ("url", &FREE),
    ("task", &level(&[("ttl", &FREE)])),
    ("_meta", &META),
]);

pub(super) static SAMPLED: Level = level(&[
    ("role", &FREE),
    ("content", &CONTENT),
    ("model", &FREE),
    ("stopReason", &FREE),
    ("task", &TASK),
    ("_meta", &META),
]);

/// The content of a form has the keys of the form.
pub(super) static FORM: Level =
    level(&[("action", &FREE), ("content", &FREE), ("task", &TASK), ("_meta", &META)]);

pub(super) static ROOTS: Level = level(&[("roots", &ROOT), ("_meta", &META)]);

static ROOT: Level = level(&[("uri", &FREE), ("name", &FREE), ("_meta", &META)]);

/// An answer to a question that is not known here.
pub(super) static RESPONSE: Level = level(&[
    ("action", &FREE),
    ("content", &FREE),
    ("role", &FREE),
    ("model", &FREE),
    ("stopReason", &FREE),
    ("roots", &ROOT),
    ("task", &TASK),
    ("taskId", &FREE),
    ("_meta", &META),
]);

// Of the lists of servers.

static ANNOTATIONS: Level = level(&[("audience", &FREE), ("priority", &FREE), ("lastModified", &FREE)]);

/// A tool. The keys inside its schemas are the tool's own.
pub(super) static TOOL: Level = level(&[
    ("name", &FREE),
    ("title", &FREE),
    ("description", &FREE),
    ("inputSchema", &FREE),
    ("outputSchema", &FREE),
    (
        "annotations",
        &level(&[
            ("title", &FREE),
            ("readOnlyHint", &FREE),
            ("destructiveHint", &FREE),
            ("idempotentHint", &FREE),
            ("openWorldHint", &FREE),
        ]),
    ),
    ("execution", &level(&[("taskSupport", &FREE)])),
    ("icons", &ICON),
    ("_meta", &META),
]);

/// A resource, and a template of resources.
pub(super) static OFFERED_RESOURCE: Level = level(&[
    ("uri", &FREE),
    ("uriTemplate", &FREE),
    ("name", &FREE),
    ("title", &FREE),
    ("description", &FREE),
    ("mimeType", &FREE),
    ("size", &FREE),
    ("annotations", &ANNOTATIONS),
    ("icons", &ICON),
    ("_meta", &META),
]);

pub(super) static OFFERED_PROMPT: Level = level(&[
    ("name", &FREE),
    ("title", &FREE),
    ("description", &FREE),
    ("arguments", &level(&[("name", &FREE), ("title", &FREE), ("description", &FREE), ("required", &FREE)])),
    ("icons", &ICON),
    ("_meta", &META),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_is_refused_where_the_protocol_has_names_and_free_elsewhere() {
        assert_eq!(CALL.inside("Name").err(), Some("name"));
        assert_eq!(CALL.inside("_Meta").err(), Some("_meta"));
        assert!(CALL.inside("vendor").is_ok() && CALL.inside("name").is_ok());
        let arguments = CALL.inside("arguments");
        assert!(arguments.is_ok_and(|level| level.inside("Name").is_ok()));
        let answer = CALL.inside("inputResponses").and_then(|level| level.inside("Any"));
        assert_eq!(answer.and_then(|level| level.inside("Action")).err(), Some("action"));
    }
}
