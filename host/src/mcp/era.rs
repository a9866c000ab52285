//! The two eras of MCP and what a message of one must become in the other.
//!
//! Handshake (2024-11-05 to 2025-11-25): `initialize` says everything once per connection. Stateless (2026-07-28):
//! every request says it in `_meta`, and every result says what kind it is. Only members of the protocol itself are
//! touched here; everything else is copied byte for byte.

use memchr::memmem::Finder;
use serde_json::value::RawValue;

use super::client_info::{self, ClientInfo};
use super::revision::{REVISIONS, STATELESS};
use super::seldom::Seldom;
use super::splice::{self, Edit};
use super::{code, message};

/// Pointers to the reserved members of `_meta` (2026-07-28, "Requests").
const VERSION: &str = "/_meta/io.modelcontextprotocol~1protocolVersion";
const CAPABILITIES: &str = "/_meta/io.modelcontextprotocol~1clientCapabilities";
const INFO: &str = "/_meta/io.modelcontextprotocol~1clientInfo";
const LOG_LEVEL: &str = "/_meta/io.modelcontextprotocol~1logLevel";
const SERVER_INFO: &str = "/_meta/io.modelcontextprotocol~1serverInfo";

/// What a stateless request says of its sender.
///
/// # Errors
/// The code and the text of what is wrong with it: a missing member, or a revision not spoken here.
pub fn read_meta(params: &str) -> Result<ClientInfo, (i64, String)> {
    let missing = |what: &str| {
        let text = format!("`params._meta` needs `io.modelcontextprotocol/{what}` (2026-07-28)");
        (code::INVALID_PARAMS, text)
    };
    let version: String = splice::get(params, VERSION)
        .and_then(|version| serde_json::from_str(version).ok())
        .ok_or_else(|| missing("protocolVersion"))?;
    if version != STATELESS {
        return Err((code::UNSUPPORTED_VERSION, version));
    }
    let capabilities = splice::get(params, CAPABILITIES)
        .filter(|capabilities| capabilities.starts_with('{'))
        .ok_or_else(|| missing("clientCapabilities"))?;
    let (info, level) = (splice::get(params, INFO), splice::get(params, LOG_LEVEL));
    if let Some((what, most)) = client_info::too_long(Some(capabilities), info, level) {
        let text = format!("`params._meta`: what it says of the client's {what} is longer than {most} bytes");
        return Err((code::INVALID_PARAMS, text));
    }
    let owned = |json: Option<&str>| json.map(|json| message::raw(json.to_owned()));
    Ok(ClientInfo {
        version: STATELESS,
        capabilities: message::raw(capabilities.to_owned()),
        info: owned(info).filter(|info| info.get().starts_with('{')),
        log_level: owned(level).filter(|level| level.get().starts_with('"')),
    })
}

/// Whether a request's params say that it is of the stateless era.
#[must_use]
pub fn is_stateless(params: Option<&str>) -> bool {
    static NAME: Seldom = Seldom::new(|| Finder::new("io.modelcontextprotocol/protocolVersion"));
    params.is_some_and(|params| !NAME.is_missing(params) && splice::get(params, VERSION).is_some())
}

/// How the gateway names itself.
#[must_use]
pub fn server_info() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{{\"name\":\"sentinel-gateway\",\"title\":\"Sentinel Gateway\",\"version\":\"{version}\"}}")
}

/// A request for a server of the stateless era, with what it must say of its sender.
#[must_use]
pub fn request_to_stateless(params: &str, client_info: &ClientInfo) -> String {
    let set = |pointer: &str, json: &str| Edit::Set { pointer: pointer.to_owned(), json: json.to_owned() };
    let own = server_info();
    let mut edits = vec![
        set(VERSION, &message::quoted(STATELESS)),
        set(INFO, client_info.info.as_ref().map_or(&*own, |info| info.get())),
        set(CAPABILITIES, client_info.capabilities.get()),
    ];
    if let Some(level) = &client_info.log_level {
        edits.push(set(LOG_LEVEL, level.get()));
    }
    if splice::get(params, "/_meta").is_none_or(|meta| !meta.starts_with('{')) {
        edits.insert(0, set("/_meta", "{}"));
    }
    splice::apply(params, &edits).unwrap_or_else(|_| params.to_owned())
}

/// A request of the stateless era for a server that shook hands.
#[must_use]
pub fn request_to_handshake(params: &str) -> String {
    let remove = |pointer: &str| Edit::Remove { pointer: pointer.to_owned() };
    let mut edits = vec![remove(VERSION), remove(CAPABILITIES), remove(INFO), remove(LOG_LEVEL)];
    edits.extend([remove("/requestState"), remove("/inputResponses")]);
    without_empty(splice::apply(params, &edits).unwrap_or_else(|_| params.to_owned()), "/_meta")
}

/// Takes the object at a pointer out if nothing is left in it: a `_meta` that held only what was taken off.
#[must_use]
pub fn without_empty(json: String, pointer: &str) -> String {
    if splice::get(&json, pointer).is_none_or(|held| !held.trim_matches(['{', '}', ' ']).is_empty()) {
        return json;
    }
    splice::apply(&json, &[Edit::Remove { pointer: pointer.to_owned() }]).unwrap_or(json)
}

/// The members of a result about caching (2026-07-28, "Caching"): by default a result must not be cached.
const UNCACHED: [(&str, &str); 2] = [("/ttlMs", "0"), ("/cacheScope", "\"private\"")];

/// A result of a server that shook hands, for a stateless client.
#[must_use]
pub fn result_to_stateless(method: &str, result: &str, server: &str) -> String {
    let default =
        |pointer: &str, json: &str| Edit::Default { pointer: pointer.to_owned(), json: json.to_owned() };
    let mut edits = vec![default("/resultType", "\"complete\"")];
    if is_cacheable(method) {
        edits.extend(UNCACHED.map(|(pointer, json)| default(pointer, json)));
    }
    if splice::get(result, "/_meta").is_none_or(|meta| meta.starts_with('{')) {
        edits.push(default(SERVER_INFO, server));
    }
    splice::apply(result, &edits).unwrap_or_else(|_| result.to_owned())
}

/// Whether results of a method carry `ttlMs` and `cacheScope`.
#[must_use]
pub fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// A complete result of a stateless server, for a client that shook hands.
#[must_use]
pub fn result_to_handshake(result: &str) -> String {
    let edits = ["/resultType", "/ttlMs", "/cacheScope", SERVER_INFO]
        .map(|pointer| Edit::Remove { pointer: pointer.to_owned() });
    let bare = splice::apply(result, &edits).unwrap_or_else(|_| result.to_owned());
    // An empty `_meta` stays if the server sent it so; one that held only the server's name goes.
    if splice::get(result, SERVER_INFO).is_some() { without_empty(bare, "/_meta") } else { bare }
}

/// An error object of a server that shook hands, for a stateless client: its codes were given out anew.
#[must_use]
pub fn error_to_stateless(error: &str, params: &str) -> String {
    match code_of(error) {
        Some(code::RESOURCE_NOT_FOUND) => {
            let code = Edit::Set { pointer: "/code".to_owned(), json: code::INVALID_PARAMS.to_string() };
            let mut edits = vec![code];
            if let Some(uri) = splice::get(params, "/uri") {
                let empty = splice::get(error, "/data").is_none_or(|data| !data.starts_with('{'));
                if empty {
                    edits.push(Edit::Set { pointer: "/data".to_owned(), json: "{}".to_owned() });
                }
                edits.push(Edit::Default { pointer: "/data/uri".to_owned(), json: uri.to_owned() });
            }
            splice::apply(error, &edits).unwrap_or_else(|_| error.to_owned())
        }
        _ => error.to_owned(),
    }
}

/// The question for a stateless client when a server of the handshake era refuses with -32042: to visit URLs and to
/// repeat the request (2025-11-25, "URL Elicitation Required"). `None` for any other error.
#[must_use]
pub fn url_elicitation(error: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Elicitation<'a> {
        #[serde(borrow)]
        url: &'a RawValue,
        #[serde(borrow, default)]
        message: Option<&'a RawValue>,
    }
    if code_of(error) != Some(code::URL_ELICITATION_REQUIRED) {
        return None;
    }
    let wanted: Vec<Elicitation<'_>> = serde_json::from_str(splice::get(error, "/data/elicitations")?)
        .ok()
        .filter(|all: &Vec<_>| !all.is_empty())?;
    let asked: Vec<String> = wanted
        .iter()
        .enumerate()
        .map(|(index, wanted)| {
            let message = wanted.message.map_or("\"\"", RawValue::get);
            let url = wanted.url.get();
            format!(
                "\"url{index}\":{{\"method\":\"elicitation/create\",\"params\":{{\"mode\":\"url\",\"url\":{url},\"message\":{message}}}}}"
            )
        })
        .collect();
    Some(format!("{{\"resultType\":\"input_required\",\"inputRequests\":{{{}}}}}", asked.join(",")))
}

/// An error object of a stateless server, for a client that shook hands and does not know its codes.
#[must_use]
pub fn error_to_handshake(error: &str) -> String {
    let known = match code_of(error) {
        Some(code::HEADER_MISMATCH | code::UNSUPPORTED_VERSION) => code::INTERNAL_ERROR,
        Some(code::MISSING_CAPABILITY) => code::INVALID_REQUEST,
        _ => return error.to_owned(),
    };
    let code = Edit::Set { pointer: "/code".to_owned(), json: known.to_string() };
    splice::apply(error, &[code]).unwrap_or_else(|_| error.to_owned())
}

/// The code of an error object.
#[must_use]
pub fn code_of(error: &str) -> Option<i64> {
    splice::get(error, "/code")?.parse().ok()
}

/// The kind of a stateless result; absent means complete (2026-07-28, "Results").
#[must_use]
pub fn result_type(result: &str) -> &str {
    splice::get(result, "/resultType").map_or("complete", |kind| kind.trim_matches('"'))
}

/// All revisions the gateway speaks, newest first.
#[must_use]
pub fn all_revisions() -> Vec<&'static str> {
    std::iter::once(STATELESS).chain(REVISIONS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn client_info() -> ClientInfo {
        ClientInfo {
            version: "2025-11-25",
            capabilities: message::raw(r#"{"roots":{}}"#.to_owned()),
            info: Some(message::raw(r#"{"name":"c","version":"1"}"#.to_owned())),
            log_level: None,
        }
    }

    #[test]
    fn a_request_goes_to_the_other_era_and_comes_back_unchanged() {
        for params in
            ["{}", r#"{"name":"t","arguments":{"n":1.0}}"#, r#"{"_meta":{"progressToken":7},"x":1e400}"#]
        {
            let dressed = request_to_stateless(params, &client_info());
            let read = read_meta(&dressed).unwrap();
            assert_eq!(read.capabilities.get(), r#"{"roots":{}}"#);
            assert_eq!(read.info.unwrap().get(), r#"{"name":"c","version":"1"}"#);
            assert_eq!(request_to_handshake(&dressed), params);
        }
    }

    #[test]
    fn what_a_stateless_request_must_say() {
        let code = |params| read_meta(params).unwrap_err().0;
        assert_eq!(code("{}"), code::INVALID_PARAMS);
        assert_eq!(
            code(r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#),
            code::INVALID_PARAMS
        );
        assert_eq!(
            code(r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"1999-01-01"}}"#),
            code::UNSUPPORTED_VERSION
        );
    }

    #[test]
    fn results_gain_and_lose_what_the_era_has() {
        let result = r#"{"contents":[],"_meta":{"a":1.0}}"#;
        let dressed = result_to_stateless("resources/read", result, r#"{"name":"s"}"#);
        assert_eq!(
            dressed,
            r#"{"contents":[],"_meta":{"a":1.0,"io.modelcontextprotocol/serverInfo":{"name":"s"}},"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#
        );
        assert_eq!(result_to_handshake(&dressed), result);
        assert!(!result_to_stateless("tools/call", "{}", "{}").contains("ttlMs"));
        assert_eq!(result_to_handshake(&result_to_stateless("tools/call", "{}", "{}")), "{}");
    }

    #[test]
    fn errors_change_their_code() {
        let error = error_to_stateless(r#"{"code":-32002,"message":"m"}"#, r#"{"uri":"a://b"}"#);
        assert_eq!(error, r#"{"code":-32602,"message":"m","data":{"uri":"a://b"}}"#);
        assert_eq!(
            error_to_handshake(r#"{"code":-32021,"message":"m"}"#),
            r#"{"code":-32600,"message":"m"}"#
        );
        assert_eq!(error_to_handshake(r#"{"code":-5,"message":"m"}"#), r#"{"code":-5,"message":"m"}"#);
    }
}
