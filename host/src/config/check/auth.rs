//! How callers prove who they are: the settings of the shipped authenticator.

use serde_json::{Value, json};

use super::super::raw::{RawAlg, RawAuth, RawHttp, RawKey, RawMode, RawRbac, RawRole};
use super::super::secret::Secret;
use super::super::{Auth, file};
use super::Checker;
use super::plugins::{AUTH_OPERATOR, OPERATOR, Shipped};
use crate::config::problem::nearest;

/// RFC 7518, 3.2: a key for HS256 has at least the size of the hash.
const MIN_SECRET: usize = 32;

/// The keys of [auth] about tokens of issuers.
const OF_TOKENS: [&str; 18] = [
    "jwt_secret_env",
    "jwt_secret_file",
    "jwt_issuer",
    "jwt_audience",
    "leeway_secs",
    "keys",
    "jwks_file",
    "jwks_url",
    "jwks_ca_file",
    "jwks_max_age_secs",
    "jwks_refetch_secs",
    "jwks_stale_secs",
    "required_scopes",
    "audience_claims",
    "role_claims",
    "role_map",
    "default_role",
    "issuers",
];

/// What knows the user who runs the gateway, where callers bring credentials of another kind.
fn operators_own(role: &str) -> Shipped {
    Shipped {
        name: AUTH_OPERATOR.to_owned(),
        ..Shipped::new("auth-local", "auth", json!({ "operator": role }))
    }
}

impl Checker<'_> {
    /// What the gateway itself needs, and the configuration of the authenticators; with one for its own user if commands reach
    /// it.
    pub(super) fn auth(
        &mut self,
        raw: &RawAuth,
        rbac: &RawRbac,
        http: Option<&RawHttp>,
        operator: bool,
    ) -> (Option<Auth>, Vec<Shipped>) {
        if rbac.roles.is_empty() {
            let hint = "add [rbac.roles.admin] with permissions = [\"*\"]";
            self.problem("/rbac/roles", "no role is defined, so nobody could do anything", hint);
        }
        // A key is told from a token by its beginning or its header, so it is asked for first.
        let mut shipped = Vec::from_iter(self.api_keys(raw, http));
        let operator = operator.then(|| self.operator(raw, rbac));
        let (auth, by_mode) = match raw.mode {
            RawMode::Local => (Some(Auth::Local), vec![self.local(raw, rbac, http, operator)]),
            RawMode::Plugins => {
                self.without_effect("plugins", "remove it, or set mode = \"jwt\"");
                self.idle(&["role", "subject"], "plugins", "the plugin says it");
                // Over HTTP every caller brings a credential of their own.
                let token = if http.is_some() { None } else { self.var(&raw.token_env).map(Secret::new) };
                (Some(Auth::Plugins { token }), operator.as_deref().map(operators_own).into_iter().collect())
            }
            RawMode::Jwt => {
                // Over HTTP every caller brings a token of their own.
                let auth = if http.is_some() { Some(Auth::Jwt { token: None }) } else { self.token(raw) };
                let mut all = self.issuers(raw, rbac);
                // Whoever runs the gateway has no token for it.
                all.extend(operator.as_deref().map(operators_own));
                (auth, all)
            }
        };
        shipped.extend(by_mode);
        (auth, shipped)
    }

    /// The role of whoever sends commands to the gateway.
    fn operator(&mut self, raw: &RawAuth, rbac: &RawRbac) -> String {
        let Some(role) = &raw.operator_role else { return OPERATOR.to_owned() };
        self.role("/auth/operator_role", role, rbac);
        let may = |rule: &RawRole| {
            let permitted = rule.permissions.iter().any(|word| word == "*" || word == "control");
            permitted || !rule.allowed_methods.is_empty()
        };
        if rbac.roles.get(role).is_some_and(|rule| !may(rule)) {
            let text = format!(
                "the role {role:?} lacks the permission \"control\", so every command will be refused"
            );
            self.warn(
                "/auth/operator_role",
                text,
                "add it to the permissions of the role, or leave operator_role out",
            );
        }
        role.clone()
    }

    /// Keys of programs, which the plugin checks itself.
    fn api_keys(&mut self, raw: &RawAuth, http: Option<&RawHttp>) -> Option<Shipped> {
        if raw.api_keys.is_empty() {
            return None;
        }
        let mut secrets: Vec<(String, Secret)> = Vec::new();
        let mut keys = Vec::new();
        for (index, key) in raw.api_keys.iter().enumerate() {
            let mut value = json!({ "id": key.id, "role": key.role });
            if let Some(name) = &key.secret_env {
                let at = format!("/auth/api_keys/{index}/secret_env");
                let found = self.needed(&at, name)?;
                secrets.push((name.clone(), Secret::new(found)));
                value["secret"] = name.as_str().into();
            }
            for (name, given) in
                [("subject", &key.subject), ("sha256", &key.sha256), ("expires", &key.expires)]
            {
                if let Some(given) = given {
                    value[name] = given.as_str().into();
                }
            }
            keys.push(value);
        }
        let header =
            http.and_then(|http| http.credential_headers.first()).map_or("x-api-key", String::as_str);
        let config = json!({ "keys": keys, "header": header });
        Some(Shipped { secrets, ..Shipped::new("auth-api-key", "auth", config) })
    }

    fn local(
        &mut self,
        raw: &RawAuth,
        rbac: &RawRbac,
        http: Option<&RawHttp>,
        operator: Option<String>,
    ) -> Shipped {
        self.without_effect("local", "remove it, or set mode = \"jwt\"");
        self.idle(&["token_env"], "local", "the user who starts the gateway is the caller");
        match &raw.role {
            None => {
                let hint = "name one of [rbac.roles]: role = \"admin\"";
                self.problem("/auth/role", "mode \"local\" needs the role of the caller", hint);
            }
            Some(role) => self.role("/auth/role", role, rbac),
        }
        if raw.subject.as_ref().is_some_and(String::is_empty) {
            self.problem("/auth/subject", "must not be empty", "leave it out for the name of the user");
        }
        let loopback = http.is_some_and(|http| http.allow_local);
        let mut config = json!({ "role": raw.role, "subject": raw.subject, "loopback": loopback });
        if let Some(operator) = operator {
            config["operator"] = operator.into();
        }
        Shipped::new("auth-local", "auth", config)
    }

    /// Warns of all that is about tokens of issuers, where nobody reads such.
    fn without_effect(&mut self, mode: &str, hint: &str) {
        for key in OF_TOKENS {
            let at = format!("/auth/{key}");
            if self.typed(&at) {
                self.warn(&at, format!("it has no effect in mode {mode:?}"), hint);
            }
        }
    }

    /// Warns of keys that are for another mode.
    fn idle(&mut self, keys: &[&str], mode: &str, why: &str) {
        for key in keys {
            let at = format!("/auth/{key}");
            if self.typed(&at) {
                self.warn(&at, format!("it has no effect in mode {mode:?}: {why}"), "remove it");
            }
        }
    }

    /// A role that is given must be one of the file.
    pub(super) fn role(&mut self, at: &str, role: &str, rbac: &RawRbac) {
        // That there are none at all was said.
        if rbac.roles.is_empty() || rbac.roles.contains_key(role) {
            return;
        }
        let known: Vec<&str> = rbac.roles.keys().map(String::as_str).collect();
        let near = nearest(role, known.iter().copied()).map(|near| format!("did you mean {near}?"));
        let hint = near.unwrap_or_else(|| format!("the roles are: {}", known.join(", ")));
        self.problem(at, format!("there is no role {role:?} in [rbac.roles]"), hint);
    }

    /// The token of the caller on stdio.
    fn token(&mut self, raw: &RawAuth) -> Option<Auth> {
        let name = &raw.token_env;
        let Some(token) = self.var(name) else {
            let hint = "mint one with `sentinel-gateway token mint --sub NAME --role ROLE`; \
                        or, for one person on one machine, set [auth] mode = \"local\" and role";
            self.problem(
                "/auth/token_env",
                format!("{name} is not set, so the caller on stdio is nobody"),
                hint,
            );
            return None;
        };
        Some(Auth::Jwt { token: Some(Secret::new(token)) })
    }

    /// Reads a signing secret out of a file; the plugin knows it by the name of its key.
    pub(super) fn signing_file(
        &mut self,
        at: &str,
        typed: &str,
        secrets: &mut Vec<(String, Secret)>,
    ) -> Option<Value> {
        let value = self.secret_file(at, typed)?;
        self.long_enough(at, typed, &value);
        let name = "secret_file";
        secrets.push((name.to_owned(), Secret::new(value)));
        Some(json!({ "alg": RawAlg::HS256, "secret": name }))
    }

    fn long_enough(&mut self, at: &str, name: &str, value: &str) {
        if value.len() < MIN_SECRET {
            let message =
                format!("{name} holds {} bytes, and a signing secret needs {MIN_SECRET}", value.len());
            self.problem(at, message, "make one with `openssl rand -hex 32`");
        }
    }

    /// Reads a signing secret out of the environment.
    pub(super) fn secret(&mut self, at: &str, name: &str, secrets: &mut Vec<(String, Secret)>) {
        let Some(value) = self.needed(at, name) else { return };
        self.long_enough(at, name, &value);
        if !secrets.iter().any(|(known, _)| known == name) {
            secrets.push((name.to_owned(), Secret::new(value)));
        }
    }

    /// One entry of `keys`, in the plugin's words.
    pub(super) fn key(
        &mut self,
        at: &str,
        key: &RawKey,
        secrets: &mut Vec<(String, Secret)>,
    ) -> Option<Value> {
        let Some(alg) = key.alg else {
            self.problem(&format!("{at}/alg"), "a key needs its algorithm", "HS256, RS256, ES256 or EdDSA");
            return None;
        };
        let symmetric = alg == RawAlg::HS256;
        let (needs, refuses) =
            if symmetric { ("secret_env", "pem_file") } else { ("pem_file", "secret_env") };
        if self.typed(&format!("{at}/{refuses}")) {
            // A public key used as an HMAC secret is the oldest attack on JWT.
            let message = format!("a key for {alg:?} has no {refuses}");
            self.problem(&format!("{at}/{refuses}"), message, format!("it has {needs}"));
        }
        let mut value = json!({ "alg": alg });
        if let Some(kid) = &key.kid {
            value["kid"] = kid.as_str().into();
        }
        match (symmetric, &key.secret_env, &key.pem_file) {
            (true, Some(name), _) => {
                self.secret(&format!("{at}/secret_env"), name, secrets);
                value["secret"] = name.as_str().into();
            }
            (false, _, Some(typed)) => value["pem"] = self.pem(&format!("{at}/pem_file"), typed)?.into(),
            _ => {
                self.problem(&format!("{at}/{needs}"), format!("a key for {alg:?} needs {needs}"), "add it");
                return None;
            }
        }
        Some(value)
    }

    fn pem(&mut self, at: &str, typed: &str) -> Option<String> {
        let text = self.read(at, typed)?;
        if text.contains("PRIVATE KEY") {
            let hint = "give the public key; with the private one anybody can make tokens";
            self.problem(at, format!("{typed} holds a private key"), hint);
            return None;
        }
        if !text.contains("-----BEGIN ") {
            self.problem(at, format!("{typed} is not PEM"), "it begins with -----BEGIN PUBLIC KEY-----");
            return None;
        }
        Some(text)
    }

    pub(super) fn jwks(&mut self, at: &str, typed: &str) -> Option<Value> {
        let text = self.read(at, typed)?;
        let set: Option<Value> = serde_json::from_str(&text).ok();
        let set = set.filter(|set| set.get("keys").is_some_and(Value::is_array));
        if set.is_none() {
            self.problem(at, format!("{typed} is not a JSON Web Key Set"), "it looks like {\"keys\": [...]}");
        }
        set
    }

    fn read(&mut self, at: &str, typed: &str) -> Option<String> {
        let path = self.path(typed);
        match file::read(&path, &self.trust) {
            Ok(text) => Some(text),
            Err(unread) => {
                self.unread(at, unread);
                None
            }
        }
    }
}
