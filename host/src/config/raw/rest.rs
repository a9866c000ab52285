//! `[[routes]]`, `[[upstreams]]` and `[[engines]]` as they are typed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawEnv, RawSandbox, RawTls, Seconds};

/// How the callers of a route prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::config) enum RawRouteAuth {
    Jwt,
    ApiKey,
    None,
}

/// What becomes of `Idempotency-Key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawIdempotency {
    Off,
    Optional,
    Required,
}

/// A route of the HTTP API: a method and a path, who may call it, and what answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawRoute {
    /// What rules, the kill switch and the record know it by; by default its method and path in letters, digits and `_`.
    pub(in crate::config) id: Option<String>,
    /// The method: GET, POST, PUT, PATCH, DELETE, OPTIONS or HEAD. A route for GET answers HEAD as well.
    pub(in crate::config) method: Option<String>,
    /// The path, such as "/pets/{petId}". A name in braces stands for one whole segment, `{*rest}` at the end for all that
    /// follow.
    pub(in crate::config) path: Option<String>,
    /// One line about it, for /openapi.json.
    pub(in crate::config) summary: Option<String>,
    /// A text about it, for /openapi.json.
    pub(in crate::config) description: Option<String>,
    /// Groups it belongs to, for /openapi.json.
    pub(in crate::config) tags: Vec<String>,
    /// Whether callers should stop using it.
    pub(in crate::config) deprecated: bool,
    /// Since when they should, such as "2026-01-31": answers say so in the header `Deprecation` (RFC 9745). With it
    /// `deprecated` need not be written.
    pub(in crate::config) deprecated_since: Option<String>,
    /// When it ends, such as "2026-12-31": answers say so in the header `Sunset` (RFC 8594). Take the route out then; the
    /// gateway does not do that by itself.
    pub(in crate::config) sunset: Option<String>,
    /// Older paths at which it answers as well, under the same id and the same rules. Each answer there names the path of
    /// today (`Link`, rel "successor-version"), and says since when the old one should not be used.
    pub(in crate::config) legacy_paths: Vec<RawLegacyPath>,
    /// How callers prove who they are. "jwt": as callers of MCP do, by a token. "api_key": by the key of a program (see
    /// auth.api_keys). "none": not at all; everybody may call, credentials are not looked at, and the caller is known by the
    /// address.
    pub(in crate::config) auth: RawRouteAuth,
    /// Scopes that a caller's token must have.
    pub(in crate::config) scopes: Vec<String>,
    /// What answers: an upstream, or an engine.
    pub(in crate::config) target: RawTarget,
    /// The longest body of a request, in bytes; by default, and at most, gateway.max_message_bytes, unless `stream` is set.
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub(in crate::config) max_body_bytes: Option<u64>,
    /// How long the answer may take, in seconds; by default as long as its target may. With `stream` this is for the answer's
    /// head, and then for each part of its body.
    pub(in crate::config) timeout_secs: Option<Seconds>,
    /// Whether bodies go through while they arrive, both ways. Otherwise they are read whole, so that the call's outcome is
    /// on record before its answer is sent. Upstreams only.
    pub(in crate::config) stream: bool,
    /// Whether a request with the header `Idempotency-Key` is done once, and its answer given again to whoever repeats it.
    /// "required" refuses a request without one.
    pub(in crate::config) idempotency: RawIdempotency,
    /// What it takes besides the body. What is not named here is passed on as text.
    pub(in crate::config) parameters: Vec<RawParameter>,
    /// The body it takes. Without this a request with a body is refused, unless its method is POST, PUT or PATCH.
    pub(in crate::config) body: Option<RawBody>,
    /// What it answers, by status, for /openapi.json.
    pub(in crate::config) responses: BTreeMap<String, RawResponse>,
}

impl Default for RawRoute {
    fn default() -> Self {
        Self {
            id: None,
            method: None,
            path: None,
            summary: None,
            description: None,
            tags: Vec::new(),
            deprecated: false,
            deprecated_since: None,
            sunset: None,
            legacy_paths: Vec::new(),
            auth: RawRouteAuth::Jwt,
            scopes: Vec::new(),
            target: RawTarget::default(),
            max_body_bytes: None,
            timeout_secs: None,
            stream: false,
            idempotency: RawIdempotency::Off,
            parameters: Vec::new(),
            body: None,
            responses: BTreeMap::new(),
        }
    }
}

/// An older path of a route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawLegacyPath {
    /// The path, with the same names as the route's, in any order.
    pub(in crate::config) path: Option<String>,
    /// Since when callers should not use it, such as "2026-01-31" (header `Deprecation`).
    pub(in crate::config) since: Option<String>,
    /// When it ends, such as "2026-12-31" (header `Sunset`).
    pub(in crate::config) sunset: Option<String>,
}

/// What answers a route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawTarget {
    /// One of [[upstreams]].
    pub(in crate::config) upstream: Option<String>,
    /// upstream: the path there, with the same names; by default the route's.
    pub(in crate::config) path: Option<String>,
    /// One of [[engines]].
    pub(in crate::config) engine: Option<String>,
    /// engine: what it is asked to do; by default the route's id.
    pub(in crate::config) operation: Option<String>,
    /// engine: arguments behind its own, for a process that answers one call. `{operation}`, `{path.NAME}`, `{query.NAME}`,
    /// `{header.NAME}`, `{input}` (the file with the body), `{subject}` and `{request_id}` are replaced. No shell sees them,
    /// and a value that begins with `-` is refused at the start of an argument.
    pub(in crate::config) args: Vec<String>,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawPlace {
    Path,
    Query,
    Header,
    Cookie,
}

/// How a list or an object is written in a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(in crate::config) enum RawStyle {
    Simple,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
}

/// Something that a route takes besides the body.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawParameter {
    /// Its name.
    pub(in crate::config) name: Option<String>,
    /// Where it stands: in the path, the query, a header or a cookie.
    #[serde(rename = "in")]
    pub(in crate::config) place: Option<RawPlace>,
    /// Whether a request without it is refused. Those of the path always are.
    pub(in crate::config) required: bool,
    /// How a list or an object is written (OpenAPI, "Style Values"): by default "simple" in paths and headers, "form"
    /// elsewhere.
    pub(in crate::config) style: Option<RawStyle>,
    /// Whether each item of a list is written with the name; by default true for "form" and false elsewhere.
    pub(in crate::config) explode: Option<bool>,
    /// What it must fit: a JSON Schema (2020-12) as text.
    pub(in crate::config) schema: Option<String>,
    /// A text about it, for /openapi.json.
    pub(in crate::config) description: Option<String>,
}

/// The body that a route takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawBody {
    /// Whether a request without it is refused.
    pub(in crate::config) required: bool,
    /// Its media types, such as "application/json", "image/*" or "*/*".
    pub(in crate::config) content: Vec<String>,
    /// What a JSON body must fit: a JSON Schema (2020-12) as text.
    pub(in crate::config) schema: Option<String>,
}

impl Default for RawBody {
    fn default() -> Self {
        Self { required: true, content: vec!["application/json".to_owned()], schema: None }
    }
}

/// An answer of a route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawResponse {
    /// When it is given.
    pub(in crate::config) description: Option<String>,
    /// Its media type.
    pub(in crate::config) content: Option<String>,
    /// What it fits: a JSON Schema (2020-12) as text.
    pub(in crate::config) schema: Option<String>,
}

/// An HTTP API behind routes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawUpstream {
    /// Its name, which no backend and no engine has: letters, digits, `_` and `-`, at most 48. For rules, the kill switch
    /// and the circuit breaker it is a backend.
    pub(in crate::config) name: Option<String>,
    /// Where it is, such as "https://api.example.org/v1": the paths of routes stand behind it. `${NAME}` is replaced by that
    /// environment variable, and `${file:PATH}` by the content of that file.
    pub(in crate::config) url: Option<String>,
    /// Headers of every request; variables and files are replaced as in `url`. The caller's credentials are never passed on.
    pub(in crate::config) headers: BTreeMap<String, String>,
    /// The proxy that requests to it go through, instead of what [gateway] says: "none", "environment", or its URL.
    pub(in crate::config) proxy: Option<String>,
    /// How to check its certificate, and the gateway's own certificate, if `url` begins with https.
    pub(in crate::config) tls: Option<RawTls>,
    /// How long an answer may take, in seconds, from the request to the last byte.
    pub(in crate::config) timeout_secs: Seconds,
    /// How many requests it may have under way at once; further ones hear 503.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) max_in_flight: usize,
    /// How often a request may be sent again that it certainly did not look at, or, for GET, HEAD and OPTIONS, that broke
    /// off or got 502, 503 or 504; and no more than a fifth of all requests.
    #[schemars(range(max = 5))]
    pub(in crate::config) retries: u32,
    /// Headers of requests that are passed on besides `Accept`, `Accept-Language`, `Content-Type`, `Content-Language`,
    /// `If-*`, `Range`, `User-Agent`, `Prefer` and those that routes name as parameters.
    pub(in crate::config) pass_headers: Vec<String>,
    /// The longest answer that is read whole, in bytes; longer ones need `stream` at the route. It is held in memory until its
    /// client has taken it, so http.max_connections times this is what clients that take their time can hold together.
    #[schemars(range(min = 1_024, max = 1_073_741_824))]
    pub(in crate::config) max_answer_bytes: usize,
}

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            name: None,
            url: None,
            headers: BTreeMap::new(),
            proxy: None,
            tls: None,
            timeout_secs: Seconds(30.0),
            max_in_flight: 256,
            retries: 2,
            pass_headers: Vec::new(),
            max_answer_bytes: 16 << 20,
        }
    }
}

/// Whether an engine's processes answer one call or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawEngineMode {
    Call,
    Pool,
}

/// How a call is given to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawEngineInput {
    Json,
    File,
    None,
}

/// A program that answers routes: it gets one JSON document and gives one back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawEngine {
    /// Its name, which no backend and no upstream has: letters, digits, `_` and `-`, at most 48. For rules, the kill switch
    /// and the circuit breaker it is a backend.
    pub(in crate::config) name: Option<String>,
    /// The program; looked up in PATH if it has no slash.
    pub(in crate::config) command: Option<String>,
    /// Its arguments; `${NAME}` is replaced by that environment variable, and `${file:PATH}` by the content of that file.
    pub(in crate::config) args: Vec<String>,
    /// A table of variables for it, as for backends, or a list of the gateway's variables to pass on.
    pub(in crate::config) env: RawEnv,
    /// The folder it runs in; relative to this file.
    pub(in crate::config) cwd: Option<String>,
    /// Confines it, and all it starts, to what is given here.
    pub(in crate::config) sandbox: Option<RawSandbox>,
    /// "call": a process for each call. "pool": processes that wait, and answer a line of JSON with a line of JSON that has
    /// the same `id`.
    pub(in crate::config) mode: RawEngineMode,
    /// How a call is given to a process that answers one: "json", as one document on its standard input; "file", the body in
    /// a file whose path stands for `{input}` in the arguments; "none", by the arguments alone.
    pub(in crate::config) input: RawEngineInput,
    /// How long a call may take, in seconds; then the process and all it started are killed.
    pub(in crate::config) timeout_secs: Seconds,
    /// How many calls may be under way at once; further ones hear 503.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) max_in_flight: usize,
    /// How many warm processes there are at most; calls wait for one, no longer than their time-out.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) pool_size: usize,
    /// How many calls a warm process answers before another takes its place.
    #[schemars(range(min = 1))]
    pub(in crate::config) max_uses: u64,
    /// The longest answer, in bytes.
    #[schemars(range(min = 1_024, max = 1_073_741_824))]
    pub(in crate::config) max_output_bytes: usize,
    /// The status of an answer by the exit code of a process that failed without saying why, such as { 3 = 404 }; 502 for
    /// all others.
    pub(in crate::config) exits: BTreeMap<String, u16>,
    /// The status of an answer by the code of the error that the process gave, besides PIPELINE_ERROR (502), NO_DATA (404),
    /// INTERNAL_ERROR (500) and INVALID_INPUT (400); 502 for all others.
    pub(in crate::config) errors: BTreeMap<String, u16>,
}

impl Default for RawEngine {
    fn default() -> Self {
        Self {
            name: None,
            command: None,
            args: Vec::new(),
            env: RawEnv::Table(BTreeMap::new()),
            cwd: None,
            sandbox: None,
            mode: RawEngineMode::Call,
            input: RawEngineInput::Json,
            timeout_secs: Seconds(30.0),
            max_in_flight: 64,
            pool_size: 4,
            max_uses: 10_000,
            max_output_bytes: 4 << 20,
            exits: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }
}
