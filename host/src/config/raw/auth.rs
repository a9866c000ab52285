//! Who issues tokens and which roles they give, as it is typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RawKey;

/// One name or several.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(in crate::config) enum RawNames {
    /// One.
    One(String),
    /// Several, of which each will do.
    Many(Vec<String>),
}

impl RawNames {
    pub(in crate::config) fn one(name: &str) -> Self {
        Self::One(name.to_owned())
    }

    pub(in crate::config) fn list(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// A rule that gives a role. It looks at exactly one thing: `claim` with `value`, `scope`, `group`, `subject` or `client`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawRoleRule {
    /// A JSON pointer to a claim, such as "/realm_access/roles"; with `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) claim: Option<String>,
    /// The value that the claim must have, or must contain if it is a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) value: Option<String>,
    /// A scope that was granted, in `scope` or `scp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) scope: Option<String>,
    /// A group, in `groups` or `cognito:groups`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) group: Option<String>,
    /// A caller, as in `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) subject: Option<String>,
    /// An application, as in `client_id`, `azp`, `cid` or `appid`: the first of these that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) client: Option<String>,
    /// The role that is given: one of [rbac.roles].
    pub(in crate::config) role: String,
}

/// One issuer of tokens. Nothing of [auth] holds for it, but `mode` and `token_env`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawIssuer {
    /// The issuer (`iss`) that its tokens name; a list if it spells itself in several ways.
    pub(in crate::config) issuer: RawNames,
    /// The audience (`aud`) that its tokens name: one of these.
    pub(in crate::config) audience: RawNames,
    /// JSON pointers to the claim that says for whom a token is, the first that is there. Amazon Cognito's access tokens
    /// have no `aud`: ["/aud", "/client_id"].
    pub(in crate::config) audience_claims: Vec<String>,
    /// JSON pointers to claims that hold a role of [rbac.roles] or a list: the first that is there, and of a list the first
    /// that is such a role.
    pub(in crate::config) role_claims: Vec<String>,
    /// Rules that give roles, asked before `role_claims`; the first that fits.
    pub(in crate::config) role_map: Vec<RawRoleRule>,
    /// The role of callers whom these give none; by default their tokens are refused.
    pub(in crate::config) default_role: Option<String>,
    /// Scopes that every one of its tokens must have.
    pub(in crate::config) required_scopes: Vec<String>,
    /// How far its clock and the gateway's may differ, in seconds.
    #[schemars(range(max = 60))]
    pub(in crate::config) leeway_secs: u64,
    /// The environment variable with its HS256 secret, at least 32 bytes.
    pub(in crate::config) secret_env: Option<String>,
    /// A file with that secret, instead: what stands in it, without the line break at its end.
    pub(in crate::config) secret_file: Option<String>,
    /// Its keys, one by one.
    pub(in crate::config) keys: Vec<RawKey>,
    /// A file with its public keys, as a JSON Web Key Set.
    pub(in crate::config) jwks_file: Option<String>,
    /// Where it publishes its public keys, as a JSON Web Key Set: https, or http on this machine.
    #[schemars(length(min = 1))]
    pub(in crate::config) jwks_url: Option<String>,
    /// A file with certificates (PEM) to trust for `jwks_url` besides the system's.
    pub(in crate::config) jwks_ca_file: Option<String>,
    /// How old fetched keys may get before they are fetched again, in seconds; less if the server says so.
    #[schemars(range(min = 60, max = 86_400))]
    pub(in crate::config) jwks_max_age_secs: u64,
    /// The least time between two fetches, in seconds.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) jwks_refetch_secs: u64,
    /// How long the last keys are used past their age while they cannot be fetched, in seconds.
    #[schemars(range(max = 86_400))]
    pub(in crate::config) jwks_stale_secs: u64,
}

impl Default for RawIssuer {
    fn default() -> Self {
        Self {
            issuer: RawNames::Many(Vec::new()),
            audience: RawNames::Many(Vec::new()),
            audience_claims: vec!["/aud".to_owned()],
            role_claims: vec!["/role".to_owned()],
            role_map: Vec::new(),
            default_role: None,
            required_scopes: Vec::new(),
            leeway_secs: 30,
            secret_env: None,
            secret_file: None,
            keys: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_max_age_secs: 600,
            jwks_refetch_secs: 30,
            jwks_stale_secs: 3600,
        }
    }
}
