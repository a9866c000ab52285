//! Who issues tokens: each issuer becomes an authenticator of its own, with its keys, its audience and its way of giving
//! roles. So no key of one issuer proves a token of another, and only those that fetch keys may send requests.

use std::collections::HashSet;

use serde_json::json;

use super::super::raw::{RawAlg, RawAuth, RawIssuer, RawNames, RawRbac, RawRoleRule};
use super::super::secret::Secret;
use super::Checker;
use super::plugins::Shipped;

/// The keys of [auth] that say which keys its own issuer has.
const KEYS: [&str; 5] = ["jwt_secret_env", "jwt_secret_file", "keys", "jwks_file", "jwks_url"];
/// Those that say something else about it.
const OTHERS: [&str; 11] = [
    "jwt_issuer",
    "jwt_audience",
    "audience_claims",
    "role_claims",
    "role_map",
    "default_role",
    "required_scopes",
    "leeway_secs",
    "jwks_ca_file",
    "jwks_max_age_secs",
    "jwks_refetch_secs",
];

/// Where an issuer stands in the file, and what its keys are called there.
struct Place {
    /// `/auth`, `/auth/issuers/0`.
    at: String,
    /// The same for people.
    section: String,
    issuer: &'static str,
    audience: &'static str,
    secret: &'static str,
    secret_file: &'static str,
}

impl Place {
    fn own() -> Self {
        let [issuer, audience] = ["jwt_issuer", "jwt_audience"];
        let [secret, secret_file] = ["jwt_secret_env", "jwt_secret_file"];
        Self { at: "/auth".to_owned(), section: "auth".to_owned(), issuer, audience, secret, secret_file }
    }

    fn further(index: usize) -> Self {
        let (at, section) = (format!("/auth/issuers/{index}"), format!("auth.issuers[{index}]"));
        let [secret, secret_file] = ["secret_env", "secret_file"];
        Self { at, section, issuer: "issuer", audience: "audience", secret, secret_file }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.at)
    }
}

/// The issuer that [auth] itself describes.
fn own(raw: &RawAuth) -> RawIssuer {
    RawIssuer {
        issuer: raw.jwt_issuer.clone(),
        audience: raw.jwt_audience.clone(),
        audience_claims: raw.audience_claims.clone(),
        role_claims: raw.role_claims.clone(),
        role_map: raw.role_map.clone(),
        default_role: raw.default_role.clone(),
        required_scopes: raw.required_scopes.clone(),
        leeway_secs: raw.leeway_secs,
        secret_env: raw.jwt_secret_env.clone(),
        secret_file: raw.jwt_secret_file.clone(),
        keys: raw.keys.clone(),
        jwks_file: raw.jwks_file.clone(),
        jwks_url: raw.jwks_url.clone(),
        jwks_ca_file: raw.jwks_ca_file.clone(),
        jwks_max_age_secs: raw.jwks_max_age_secs,
        jwks_refetch_secs: raw.jwks_refetch_secs,
        jwks_stale_secs: raw.jwks_stale_secs,
    }
}

fn has_keys(raw: &RawIssuer) -> bool {
    !raw.keys.is_empty() || raw.secret_file.is_some() || raw.jwks_file.is_some() || raw.jwks_url.is_some()
}

/// Scopes that a token of every issuer needs. What only some issuers ask for is left out, because a caller is told these
/// scopes before it is known which issuer the token will be from.
pub(super) fn required_scopes(raw: &RawAuth) -> Vec<String> {
    let own = own(raw);
    let named = has_keys(&own) || own.secret_env.is_some() || raw.issuers.is_empty();
    let mut all = named.then_some(&own).into_iter().chain(&raw.issuers);
    let Some(first) = all.next() else { return Vec::new() };
    let mut scopes = first.required_scopes.clone();
    all.for_each(|issuer| scopes.retain(|scope| issuer.required_scopes.contains(scope)));
    scopes
}

impl Checker<'_> {
    /// An authenticator for each issuer.
    pub(super) fn issuers(&mut self, raw: &RawAuth, rbac: &RawRbac) -> Vec<Shipped> {
        for key in ["role", "subject"] {
            let at = format!("/auth/{key}");
            if self.typed(&at) {
                let text = "it has no effect in mode \"jwt\": the token says it";
                self.warn(&at, text, "remove it, or set mode = \"local\"");
            }
        }
        let mut own = own(raw);
        let named = KEYS.iter().any(|key| self.typed(&format!("/auth/{key}")));
        let mut all = Vec::new();
        if named || raw.issuers.is_empty() {
            // If the keys could not be read, that is the problem, and not the missing default.
            if own.secret_env.is_none() && !has_keys(&own) && !self.gone_keys(&Place::own()) {
                own.secret_env = Some("JWT_SECRET_KEY".to_owned());
            }
            all.push((Place::own(), &own));
        } else {
            for key in OTHERS.iter().map(|key| format!("/auth/{key}")) {
                if self.typed(&key) {
                    let text =
                        "it has no effect: [auth] names no keys of its own, and [[auth.issuers]] say theirs";
                    self.warn(&key, text, "write it into the issuer it is for");
                }
            }
        }
        all.extend(raw.issuers.iter().enumerate().map(|(index, issuer)| (Place::further(index), issuer)));
        self.differ(&all);
        let names: Vec<&[String]> = all.iter().map(|(_, raw)| raw.issuer.list()).collect();
        let mut used: HashSet<String> = HashSet::new();
        let mut shipped = Vec::new();
        for (index, (place, issuer)) in all.iter().enumerate() {
            let others = names.iter().enumerate().filter(|(other, _)| *other != index);
            let others: Vec<&String> = others.flat_map(|(_, names)| names.iter()).collect();
            let mut one = self.issuer(place, issuer, rbac);
            if !others.is_empty() {
                one.config["others"] = json!(others);
            }
            if !used.insert(one.name.clone()) {
                one.name = format!("{}-{}", one.artifact, index + 1);
                used.insert(one.name.clone());
            }
            shipped.push(one);
        }
        shipped
    }

    /// A token is judged by the issuer that it names, so no two issuers may have the same name.
    fn differ(&mut self, all: &[(Place, &RawIssuer)]) {
        let mut known: HashSet<&str> = HashSet::new();
        for (place, raw) in all {
            let names: HashSet<&str> = raw.issuer.list().iter().map(String::as_str).collect();
            if let Some(name) = names.iter().find(|name| known.contains(**name)) {
                let text = format!("the issuer {name:?} is there already");
                self.problem(&place.key(place.issuer), text, "say all its keys and audiences in one place");
            }
            known.extend(names);
        }
    }

    fn issuer(&mut self, place: &Place, raw: &RawIssuer, rbac: &RawRbac) -> Shipped {
        self.names(&place.key(place.issuer), &raw.issuer, "https://login.example.org/");
        self.names(&place.key(place.audience), &raw.audience, "https://mcp.example.org/mcp");
        self.roles(place, raw, rbac);
        let mut keys = Vec::new();
        let mut secrets: Vec<(String, Secret)> = Vec::new();
        if let Some(name) = &raw.secret_env {
            self.secret(&place.key(place.secret), name, &mut secrets);
            keys.push(json!({ "alg": RawAlg::HS256, "secret": name }));
        } else if !has_keys(raw) && !self.gone_keys(place) {
            let hint = "jwks_url = \"https://login.example.org/.well-known/jwks.json\"; or jwks_file, keys, secret_env, secret_file";
            self.problem(
                &place.at,
                "an issuer needs its keys, or no token of it could ever be accepted",
                hint,
            );
        }
        if let Some(typed) = &raw.secret_file {
            keys.extend(self.signing_file(&place.key(place.secret_file), typed, &mut secrets));
        }
        for (index, key) in raw.keys.iter().enumerate() {
            keys.extend(self.key(&place.key(&format!("keys/{index}")), key, &mut secrets));
        }
        let mut config = json!({
            "issuer": raw.issuer.list(),
            "audience": raw.audience.list(),
            "audience_claims": raw.audience_claims,
            "role_claims": raw.role_claims,
            "role_map": raw.role_map,
            "roles": rbac.roles.keys().collect::<Vec<_>>(),
            "leeway_s": raw.leeway_secs,
            "keys": keys,
        });
        if let Some(role) = &raw.default_role {
            config["default_role"] = role.as_str().into();
        }
        if !raw.required_scopes.is_empty() {
            config["required_scopes"] = json!(raw.required_scopes);
        }
        let set = raw.jwks_file.as_ref().and_then(|typed| self.jwks(&place.key("jwks_file"), typed));
        if let Some(set) = set {
            config["jwks"] = set;
        }
        let shipped = |artifact, config| Shipped::new(artifact, &place.section, config);
        let Some(url) = &raw.jwks_url else {
            for key in ["jwks_ca_file", "jwks_max_age_secs", "jwks_refetch_secs", "jwks_stale_secs"] {
                if self.typed(&place.key(key)) {
                    self.warn(&place.key(key), "it has no effect without jwks_url", "remove it");
                }
            }
            return Shipped { secrets, ..shipped("auth-jwt", config) };
        };
        config["jwks_url"] = url.as_str().into();
        config["jwks_max_age_secs"] = raw.jwks_max_age_secs.into();
        config["jwks_refetch_secs"] = raw.jwks_refetch_secs.into();
        config["jwks_stale_secs"] = raw.jwks_stale_secs.into();
        let http = self.jwks_grant(&place.at, raw, url);
        // Only this one may send requests; where none are needed, the authenticator stays pure.
        Shipped { secrets, http, ..shipped("auth-jwks", config) }
    }

    /// Whether keys were typed that could not be read, which was said.
    fn gone_keys(&self, place: &Place) -> bool {
        [place.secret, place.secret_file, "keys", "jwks_file", "jwks_url"]
            .iter()
            .any(|key| self.gone(&place.key(key)))
    }

    fn names(&mut self, at: &str, names: &RawNames, hint: &str) {
        if names.list().is_empty() || names.list().iter().any(String::is_empty) {
            self.problem(at, "must not be empty", format!("such as {hint:?}"));
        }
    }

    /// Where roles come from. Which pointers and rules can be read, the plugin says, too; whether the roles exist can only
    /// be said here.
    fn roles(&mut self, place: &Place, raw: &RawIssuer, rbac: &RawRbac) {
        for (key, list) in [("role_claims", &raw.role_claims), ("audience_claims", &raw.audience_claims)] {
            for (index, text) in list.iter().enumerate() {
                self.pointer(&place.key(&format!("{key}/{index}")), text);
            }
        }
        if raw.audience_claims.is_empty() {
            let text = "must not be empty: tokens for anybody would be taken";
            self.problem(&place.key("audience_claims"), text, "[\"/aud\"]");
        }
        for (index, rule) in raw.role_map.iter().enumerate() {
            let at = place.key(&format!("role_map/{index}"));
            self.role_rule(&at, rule);
            if rule.role.is_empty() {
                self.problem(
                    &format!("{at}/role"),
                    "a rule needs the role that it gives",
                    "role = \"reader\"",
                );
            } else {
                self.role(&format!("{at}/role"), &rule.role, rbac);
            }
        }
        if let Some(role) = &raw.default_role {
            self.role(&place.key("default_role"), role, rbac);
        }
    }

    fn role_rule(&mut self, at: &str, rule: &RawRoleRule) {
        let RawRoleRule { claim, value, scope, group, subject, client, role: _ } = rule;
        let tests = [claim, scope, group, subject, client];
        if tests.iter().filter(|test| test.is_some()).count() != 1 || claim.is_some() != value.is_some() {
            let text = "a rule looks at exactly one of: claim with value, scope, group, subject, client";
            self.problem(at, text, "{ group = \"admins\", role = \"admin\" }");
        } else if let Some(claim) = claim {
            self.pointer(&format!("{at}/claim"), claim);
        }
    }

    /// RFC 6901. People write a claim's bare name; the pointer that they meant is the hint.
    fn pointer(&mut self, at: &str, text: &str) {
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if text.len() > 1 && text.starts_with('/') && escapes {
            return;
        }
        let meant = format!("/{}", text.replace('~', "~0").replace('/', "~1"));
        self.problem(at, format!("{text:?} is not a JSON pointer (RFC 6901)"), format!("{meant:?}"));
    }
}
