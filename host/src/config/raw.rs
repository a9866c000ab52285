//! What was typed: the file's keys, their types, bounds and defaults, and nothing about their meaning.
//!
//! The JSON Schema of the file is generated from these types, comments included, and every key has a
//! default: what the schema refuses is taken out, and the rest can still be read and checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::command::RawCommand;

mod approvals;
mod auth;
mod backend;
mod command;
mod http;
mod plugin;
mod rest;
mod state;
mod telemetry;

pub(super) use approvals::{RawApprovalStore, RawApprovals, RawTelegram, RawWebhook};
pub(super) use auth::{RawIssuer, RawNames, RawRoleRule};
pub(super) use backend::{
    RawArgumentCheck, RawArguments, RawBackend, RawEnv, RawEra, RawNetwork, RawReach, RawSandbox, RawTls,
    RawTool, RawType,
};
pub(super) use command::{RawCommandPolicy, RawDefault, RawExecutor};
pub(super) use http::{RawClientAddress, RawClientCertificates, RawHttp, RawHttpTls, RawOauth};
pub(super) use plugin::{RawHttpGrant, RawIsolation, RawLimits, RawOnFailure, RawPlugin, RawStage};
pub(super) use rest::{
    RawBody, RawEngine, RawEngineInput, RawEngineMode, RawIdempotency, RawLegacyPath, RawParameter, RawPlace,
    RawResponse, RawRoute, RawRouteAuth, RawStyle, RawTarget, RawUpstream,
};
pub(super) use state::RawState;
pub(super) use telemetry::{RawOtlp, RawTelemetry};

/// The configuration of Sentinel Gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    /// The gateway itself: where it listens, and its limits.
    pub(super) gateway: RawGateway,
    /// The HTTP door, at `gateway.listen`. Without this section the gateway serves the client that started it, on
    /// stdio.
    pub(super) http: Option<RawHttp>,
    /// Who may call.
    pub(super) auth: RawAuth,
    /// The record of every call.
    pub(super) audit: RawAudit,
    /// The audit database, if it is not the embedded one.
    pub(super) postgres: Option<RawPostgres>,
    /// What guards know of earlier calls: limits that are used up, circuits that are open.
    pub(super) state: RawState,
    /// What people are asked before a call may go on.
    pub(super) approvals: RawApprovals,
    /// What is told to systems that watch over the gateway.
    pub(super) telemetry: RawTelemetry,
    /// The servers behind the gateway.
    pub(super) backends: Vec<RawBackend>,
    /// The routes of an HTTP API, served beside MCP by the same policies.
    pub(super) routes: Vec<RawRoute>,
    /// HTTP APIs that answer routes.
    pub(super) upstreams: Vec<RawUpstream>,
    /// Programs that answer routes.
    pub(super) engines: Vec<RawEngine>,
    /// The processes that run commands.
    pub(super) executors: Vec<RawExecutor>,
    /// Programs that callers may have run, with typed places for what they say.
    pub(super) commands: Vec<RawCommand>,
    /// Which commands are run at once, which are refused, and about which a person is asked first.
    pub(super) command_policy: RawCommandPolicy,
    /// What the callers' roles may do.
    pub(super) rbac: RawRbac,
    /// How often a caller may call.
    pub(super) rate_limits: RawRateLimits,
    /// What is switched off.
    pub(super) kill_switch: RawKillSwitch,
    /// Settings of shipped plugins, and plugins of your own.
    pub(super) plugins: Vec<RawPlugin>,
}

/// A duration in seconds; fractions are allowed.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[schemars(inline, extend("exclusiveMinimum" = 0, "maximum" = 31_536_000))]
pub(super) struct Seconds(pub(super) f64);

/// The gateway itself: where it listens, and its limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGateway {
    /// Address and port of the HTTP door.
    pub(super) listen: String,
    /// Address and port of `/health`, `/ready` and `/metrics`; "off" for none. `/metrics`, and the reasons of
    /// `/ready`, ask for the bearer token in the environment variable `HEALTH_TOKEN`; without that they are closed.
    /// Requests have to name this address, or one of `allowed_hosts` of [http].
    pub(super) health_listen: String,
    /// off, error, warn, info, debug or trace; or filters such as `info,sentinel_gateway::backend=debug`.
    pub(super) log_level: String,
    /// Whether calls are recorded.
    pub(super) audit_enabled: bool,
    /// The folder of the shipped plugins; by default the one that was installed with the gateway.
    pub(super) plugin_dir: Option<String>,
    /// Folders that nobody else can reach, whatever their mode and owner say, such as the volumes of a container: they
    /// and what is above them are not judged, what lies in them is. The gateway refuses files that others may change,
    /// and folders in which others may exchange them.
    pub(super) trusted_folders: Vec<String>,
    /// The longest message taken from a client or a backend, in bytes, as far as it is in memory.
    #[schemars(range(min = 1_024, max = 1_073_741_824))]
    pub(super) max_message_bytes: usize,
    /// The longest answer taken from a backend, in bytes. Of one that is longer than a MiB, the large strings (texts,
    /// images, files) wait on the disk for the client, never in memory; all that wait may take eight times as much.
    /// Not above `max_message_bytes`: no answer is longer than that.
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub(super) max_result_bytes: u64,
    /// The folder for them, by default `spool` in audit.dir. Its files have no names and end with the answer.
    pub(super) spool_dir: Option<String>,
    /// The folder in which the gateway remembers what it learnt of its servers (how they speak, what they list), so that
    /// the next start is quicker; by default `servers` in audit.dir. "off": nothing is remembered.
    pub(super) memory_dir: Option<String>,
    /// The folder of the sockets over which `sentinel-gateway status`, `kill` and their like reach this gateway, and of the
    /// kills that were ordered over them; by default `control` in audit.dir. Only the user who runs the gateway can open
    /// them. "off": no commands, and no kills but those of this file.
    pub(super) control_dir: Option<String>,
    /// How long after the start the first lists wait for servers that are starting and of which nothing is remembered, in
    /// seconds; the answer to `initialize` waits half as long. Clients give up on a server that does not answer: the OpenAI
    /// Agents SDK and Google's ADK after 5 s for each request, Codex once after 10 s for both, others after 30 s and more.
    /// Most clients never ask for a list again, so what is not in it is not used.
    #[schemars(range(max = 600.0))]
    pub(super) first_list_wait_secs: Seconds,
    /// How many calls may be under way at once. Over HTTP one caller alone may have half of them; the more are under way,
    /// the fewer one caller may have.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_in_flight: usize,
    /// How plugins are kept within their memory. "guarded": guard pages; each instance reserves 4 GiB of addresses, which
    /// is no memory, and an access outside traps. "checked": the compiled code checks bounds, which is slower, for machines
    /// that limit address space (`ulimit -v`, small processors).
    pub(super) plugin_bounds: RawBounds,
    /// How long compiling one plugin may take, in seconds. It is done once, by a process of its own.
    #[schemars(range(min = 1.0, max = 3_600.0))]
    pub(super) plugin_compile_secs: Seconds,
    /// How much memory that process may use, in bytes.
    #[schemars(range(min = 67_108_864, max = 68_719_476_736_u64))]
    pub(super) plugin_compile_memory_bytes: u64,
    /// How long calls may take to finish at shutdown.
    pub(super) shutdown_grace_secs: Seconds,
    /// Show names of tools and prompts in characters that every client takes (letters, digits, `_` and `-`, at most
    /// 64), whatever the backend calls them.
    pub(super) safe_names: bool,
    /// How http backends are reached: "none" for directly; through a proxy, by its URL (`http`, `https`, `socks5` or
    /// `socks5h`; `${NAME}` is replaced); or "environment", which means what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
    /// NO_PROXY say. Requests to this machine never go through a proxy.
    pub(super) proxy: String,
}

impl Default for RawGateway {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9200".to_owned(),
            health_listen: "127.0.0.1:9201".to_owned(),
            log_level: "info".to_owned(),
            audit_enabled: true,
            plugin_dir: None,
            trusted_folders: Vec::new(),
            max_message_bytes: 4 << 20,
            max_result_bytes: 256 << 20,
            spool_dir: None,
            memory_dir: None,
            control_dir: None,
            first_list_wait_secs: Seconds(8.0),
            max_in_flight: 1_024,
            plugin_bounds: RawBounds::Guarded,
            plugin_compile_secs: Seconds(20.0),
            plugin_compile_memory_bytes: 1 << 30,
            shutdown_grace_secs: Seconds(10.0),
            safe_names: true,
            proxy: "none".to_owned(),
        }
    }
}

/// How callers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum RawMode {
    Jwt,
    Local,
    Plugins,
}

/// A key of a program.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawApiKey {
    /// Its name in the record.
    pub(super) id: String,
    /// What its holder may do: one of [rbac.roles].
    pub(super) role: String,
    /// Who its holder is; by default the id.
    pub(super) subject: Option<String>,
    /// The SHA-256 of the key, 64 hex digits: `printf %s "$KEY" | sha256sum`.
    pub(super) sha256: Option<String>,
    /// Instead of `sha256`: the environment variable with the key.
    pub(super) secret_env: Option<String>,
    /// When it ends: a date or a date and time (RFC 3339).
    pub(super) expires: Option<String>,
}

/// Who may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuth {
    /// "jwt": callers present a signed token. "local": everybody who can start the gateway may use it, for
    /// one person on one machine.
    pub(super) mode: RawMode,
    /// The environment variable with the HS256 secret, at least 32 bytes, used as it stands. Unless
    /// `keys`, `jwks_file` or `jwks_url` say otherwise it is `JWT_SECRET_KEY`.
    pub(super) jwt_secret_env: Option<String>,
    /// A file with the HS256 secret, instead of a variable: its content, without the line break at its end. Relative
    /// to this file.
    pub(super) jwt_secret_file: Option<String>,
    /// The issuer (`iss`) a token must name; a list if it spells itself in several ways.
    pub(super) jwt_issuer: RawNames,
    /// The audience (`aud`) a token must name: one of these.
    pub(super) jwt_audience: RawNames,
    /// JSON pointers to the claim that says for whom a token is, the first that is there. Amazon Cognito's access tokens
    /// have no `aud`: ["/aud", "/client_id"].
    pub(super) audience_claims: Vec<String>,
    /// JSON pointers (RFC 6901) to claims that hold a role of [rbac.roles] or a list: the first that is there, and of a
    /// list the first that is such a role. Such as "/realm_access/roles", or "/https:~1~1example.com~1role" for a claim
    /// that is called https://example.com/role.
    pub(super) role_claims: Vec<String>,
    /// Rules that give roles by a claim's value, a scope, a group, a subject or a client, asked before `role_claims`; the
    /// first that fits.
    pub(super) role_map: Vec<RawRoleRule>,
    /// The role of callers whom these give none; by default their tokens are refused.
    pub(super) default_role: Option<String>,
    /// The environment variable with the token of the caller on stdio.
    #[schemars(length(min = 1))]
    pub(super) token_env: String,
    /// How far the clocks of issuer and gateway may differ, in seconds.
    #[schemars(range(max = 60))]
    pub(super) leeway_secs: u64,
    /// Scopes that every token must have; a caller who has fewer is told which to get.
    pub(super) required_scopes: Vec<String>,
    /// More keys that tokens may be signed with.
    pub(super) keys: Vec<RawKey>,
    /// A file with public keys, as a JSON Web Key Set.
    pub(super) jwks_file: Option<String>,
    /// Where an identity provider publishes its public keys, as a JSON Web Key Set: https, or http on this
    /// machine. They are fetched when they are needed, and again before they are too old.
    #[schemars(length(min = 1))]
    pub(super) jwks_url: Option<String>,
    /// A file with certificates (PEM) to trust for `jwks_url` besides the system's.
    pub(super) jwks_ca_file: Option<String>,
    /// How old fetched keys may get before they are fetched again, in seconds; less if the server says so.
    #[schemars(range(min = 60, max = 86_400))]
    pub(super) jwks_max_age_secs: u64,
    /// The least time between two fetches, in seconds, however many tokens name unknown keys.
    #[schemars(range(min = 1, max = 3_600))]
    pub(super) jwks_refetch_secs: u64,
    /// How long the last keys are used past their age while they cannot be fetched, in seconds.
    #[schemars(range(max = 86_400))]
    pub(super) jwks_stale_secs: u64,
    /// Further issuers of tokens, each with its keys, its audience and its way of giving roles. If no key is named above
    /// (`jwt_secret_env`, `keys`, `jwks_file`, `jwks_url`), these are all.
    pub(super) issuers: Vec<RawIssuer>,
    /// Keys of programs, sent as `X-API-Key` or as a bearer token that begins with `sk-`.
    pub(super) api_keys: Vec<RawApiKey>,
    /// The role of the user who runs the gateway, for the commands that they send to it (`sentinel-gateway kill` and its
    /// like), in every mode. It needs the permission `control`. By default a role that has this permission, through the
    /// control socket only, and no other: whoever runs the gateway can end it, replace it and change this file anyway.
    pub(super) operator_role: Option<String>,
    /// Mode "local": the role of the caller.
    pub(super) role: Option<String>,
    /// Mode "local": the caller's name; by default the user name of the operating system.
    pub(super) subject: Option<String>,
}

impl Default for RawAuth {
    fn default() -> Self {
        Self {
            mode: RawMode::Jwt,
            jwt_secret_env: None,
            jwt_secret_file: None,
            jwt_issuer: RawNames::one("sentinel-gateway"),
            jwt_audience: RawNames::one("sentinel-api"),
            audience_claims: vec!["/aud".to_owned()],
            role_claims: vec!["/role".to_owned()],
            role_map: Vec::new(),
            default_role: None,
            token_env: "SENTINEL_TOKEN".to_owned(),
            leeway_secs: 30,
            required_scopes: Vec::new(),
            keys: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_max_age_secs: 600,
            jwks_refetch_secs: 30,
            jwks_stale_secs: 3600,
            issuers: Vec::new(),
            api_keys: Vec::new(),
            operator_role: None,
            role: None,
            subject: None,
        }
    }
}

/// The algorithm of a key; it is never taken from the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) enum RawAlg {
    HS256,
    RS256,
    ES256,
    EdDSA,
}

/// A key that tokens may be signed with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKey {
    /// The algorithm of the key; it is never taken from the token.
    pub(super) alg: Option<RawAlg>,
    /// The id that tokens name it by.
    pub(super) kid: Option<String>,
    /// A file with the public key in PEM; for RS256, ES256 and EdDSA.
    pub(super) pem_file: Option<String>,
    /// The environment variable with the secret; for HS256.
    pub(super) secret_env: Option<String>,
}

/// What a record is safe from when the gateway says that it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum RawAuditMode {
    Process,
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum RawBounds {
    Guarded,
    Checked,
}

/// The record of every call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAudit {
    /// "process": a record survives the death of the gateway. "strict": also that of the machine, for
    /// the price of a disk write before each call.
    pub(super) mode: RawAuditMode,
    /// The folder of the journal; by default `sentinel-gateway` in `XDG_STATE_HOME`.
    pub(super) dir: Option<String>,
    /// The embedded database; by default `audit.db` in that folder.
    pub(super) sqlite_path: Option<String>,
    /// Further argument keys whose values are never recorded or logged, besides password, token and their like.
    pub(super) redact_keys: Vec<String>,
    /// Argument keys whose values are no secrets although they are called so, such as "signature": whole keys, in any case
    /// and with any punctuation. Known secret values are replaced in them nevertheless.
    pub(super) keep_keys: Vec<String>,
    /// Of longer arguments, in bytes, the record keeps the beginning, the length and the BLAKE3 digest. Few people read more of
    /// a call, and with all of it a record of busy hours takes many gigabytes; up to 16777216 if yours has to be whole.
    #[schemars(range(min = 256, max = 16_777_216))]
    pub(super) max_arguments_bytes: usize,
    /// The same for calls that are refused, in bytes. Those that are refused for being too many, or because nobody knows
    /// who calls, are recorded without arguments, and of each caller ten a minute with a row of their own.
    #[schemars(range(min = 256, max = 16_777_216))]
    pub(super) max_refused_arguments_bytes: usize,
    /// How large the journal may grow while the database cannot take it; then calls wait.
    #[schemars(range(min = 1_048_576))]
    pub(super) max_journal_bytes: u64,
    /// Rows older than so many days leave the database; by default none does.
    #[schemars(range(min = 1, max = 36_500))]
    pub(super) keep_days: Option<u32>,
    /// When the record takes more bytes in the database, the oldest rows leave it; by default none does.
    #[schemars(range(min = 1_048_576))]
    pub(super) max_bytes: Option<u64>,
    /// What becomes of rows that are too old or too many. "archive": they go into files of JSON lines, in the folder
    /// `archive` in audit.dir. "delete": they are gone.
    pub(super) when_full: RawWhenFull,
    /// With fewer bytes free on the disk of the journal or of the embedded database, calls are refused until there is
    /// room again; by default 268435456 (256 MiB), or a hundredth of the disk if that is less. 0: never.
    pub(super) min_free_bytes: Option<u64>,
}

/// What becomes of rows that are too old or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum RawWhenFull {
    Archive,
    Delete,
}

impl Default for RawAudit {
    fn default() -> Self {
        Self {
            mode: RawAuditMode::Process,
            dir: None,
            sqlite_path: None,
            redact_keys: Vec::new(),
            keep_keys: Vec::new(),
            max_arguments_bytes: 4 << 10,
            max_refused_arguments_bytes: 1 << 10,
            max_journal_bytes: 1 << 30,
            keep_days: None,
            max_bytes: None,
            when_full: RawWhenFull::Archive,
            min_free_bytes: None,
        }
    }
}

/// The audit database, if it is not the embedded one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPostgres {
    /// The environment variable with the URL. While it is not set, the embedded database is used.
    #[schemars(length(min = 1))]
    pub(super) url_env: String,
    /// How many connections may be open at once.
    #[schemars(range(min = 1, max = 1_000))]
    pub(super) max_connections: u32,
}

impl Default for RawPostgres {
    fn default() -> Self {
        Self { url_env: "DATABASE_URL".to_owned(), max_connections: 10 }
    }
}

/// What the callers' roles may do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRbac {
    /// The roles by the name that tokens give. A role that is not here may do nothing.
    pub(super) roles: BTreeMap<String, RawRole>,
    /// Scopes that a caller's token must have for some tools, whatever the role.
    pub(super) scopes: Vec<RawScope>,
    /// Tools that are done only after a person has approved the call. The first rule that fits a call counts.
    pub(super) approvals: Vec<RawAsking>,
}

/// Tools that are done only after a person has approved the call, with `sentinel-gateway approvals`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAsking {
    /// The tools, by any of their names, as in `denied_tools`; also routes and commands.
    pub(super) tools: Vec<String>,
    /// The roles whose calls it is about; by default those of every role.
    pub(super) roles: Vec<String>,
    /// How much harm the wrong call does. A request with a high risk is open for a shorter time (`approvals.decide_high_secs`).
    pub(super) risk: RawRisk,
    /// The sentence that the person reads; by default who wants to use what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) summary: String,
    /// The roles whose members may approve; by default `approvals.approvers`. Whoever made the call never may.
    pub(super) approvers: Vec<String>,
    /// So many of them have to approve it; by default `approvals.approve`, or 1 where `approvers` or `deny` is given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub(super) approve: Option<u32>,
    /// So many of them end it by rejecting it; by default `approvals.deny`, or 1 where `approvers` or `approve` is given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub(super) deny: Option<u32>,
}

/// How much harm is done if the wrong thing is approved.
#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum RawRisk {
    Low,
    #[default]
    Medium,
    High,
}

/// A scope, and the tools it is needed for.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawScope {
    /// The tools, by any of their names, as in `denied_tools`.
    pub(super) tools: Vec<String>,
    /// The scope.
    pub(super) scope: String,
}

/// What one role may do.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRole {
    /// `tools.read`, `tools.execute` (implies read), `resources.read`, `prompts.read`, `routes.call`, `commands.execute`,
    /// `control` (what an operator does to the gateway itself, such as switching a tool off), `approvals.read` (see what waits for
    /// a person), `approvals.decide` (approve and reject it; implies read); `*` is all of them.
    pub(super) permissions: Vec<String>,
    /// Tools it may not call, even with `*`, by any name a tool has: the one that lists show, the server's own, or
    /// `backend/own-name`. A `*` in a name stands for anything.
    pub(super) denied_tools: Vec<String>,
    /// If given, the only tools it may call, by the name that lists show or as `backend/own-name`. A plain name means the
    /// tool of the first backend of the file that has it, never another's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allowed_tools: Option<Vec<String>>,
    /// Methods that are not MCP's and that it may use, such as `acme/*`; no permission includes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) allowed_methods: Vec<String>,
}

/// How often a caller may call.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRateLimits {
    /// Calls a minute for each caller and tool; 0 for never.
    pub(super) default_rpm: u32,
    /// Calls at once; by default as many as a minute allows.
    pub(super) burst: Option<u32>,
    /// Other limits by tool, by any of its names, as in `denied_tools`: calls a minute, or a table of `rpm` and `burst`. Of
    /// several that mean a tool the most specific counts: a name before a pattern, one with its backend before one without,
    /// the shown name before the server's own; of patterns the one with more letters, and then the lower limit.
    pub(super) per_tool: BTreeMap<String, RawRate>,
}

impl Default for RawRateLimits {
    fn default() -> Self {
        Self { default_rpm: 1_000, burst: None, per_tool: BTreeMap::new() }
    }
}

/// The limit of one tool.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum RawRate {
    /// Calls a minute.
    Rpm(u32),
    /// Calls a minute, and at once.
    Full(RawFullRate),
}

/// Calls a minute, and at once.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFullRate {
    /// Calls a minute.
    pub(super) rpm: u32,
    /// Calls at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) burst: Option<u32>,
}

/// What is switched off.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawKillSwitch {
    /// Tools nobody may call, by any of their names, as in `denied_tools`.
    pub(super) disabled_tools: Vec<String>,
    /// Backends nobody may call; a `*` in a name stands for anything.
    pub(super) disabled_backends: Vec<String>,
}

/// A table whose keys belong to a plugin.
pub(super) type Free = Map<String, Value>;
