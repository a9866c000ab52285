//! `token`: makes and reads the tokens that `auth-jwt` accepts.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// Shortest HS256 secret (RFC 7518 §3.2).
const MIN_SECRET: usize = 32;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mint an HS256 token with the secret the gateway knows; prints the token and nothing else
    Mint {
        /// Who the token is for
        #[arg(long, value_name = "SUBJECT")]
        sub: String,
        /// The role under [rbac.roles] that it gives
        #[arg(long)]
        role: String,
        /// How long it is valid
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
        /// The environment variable that holds the secret [default: auth.jwt_secret_env, else JWT_SECRET_KEY]
        #[arg(long, value_name = "NAME")]
        secret_env: Option<String>,
        /// [default: auth.jwt_issuer, else sentinel-gateway]
        #[arg(long)]
        issuer: Option<String>,
        /// [default: auth.jwt_audience, else sentinel-api]
        #[arg(long)]
        audience: Option<String>,
        /// A further claim, such as tier=pro; may be given several times
        #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
        claims: Vec<(String, String)>,
    },
    /// Show what a token says (from stdin, or SENTINEL_TOKEN); its signature is NOT checked
    Inspect,
}

/// `NAME=VALUE`.
fn claim(typed: &str) -> Result<(String, String), String> {
    match typed.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE, such as tier=pro".to_owned()),
    }
}

pub(crate) fn execute(config: &Path, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Mint { sub, role, days, secret_env, issuer, audience, claims: more } => {
            let auth = auth_section(config);
            let (from, secret) = secret(config, &auth, secret_env)?;
            anyhow::ensure!(
                secret.len() >= MIN_SECRET,
                "{from} holds {} bytes; HS256 needs at least {MIN_SECRET} (RFC 7518): try `openssl rand -hex 32`",
                secret.len()
            );
            warn_of_role(config, &role);
            let now = jsonwebtoken::get_current_timestamp();
            let mut claims = json!({
                "sub": sub,
                "role": role,
                "iss": given_or_set(issuer, &auth, "jwt_issuer", "sentinel-gateway"),
                "aud": given_or_set(audience, &auth, "jwt_audience", "sentinel-api"),
                "jti": uuid::Uuid::now_v7().to_string(),
                "iat": now,
                "exp": now + days * 86_400,
            });
            for (name, value) in more {
                anyhow::ensure!(
                    claims.get(&name).is_none(),
                    "the claim {name} has an option of its own, or is given twice"
                );
                claims[name] = value.into();
            }
            // The secret's bytes as they are, not base64.
            let key = EncodingKey::from_secret(secret.as_bytes());
            super::say(&jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
        }
        Command::Inspect => {
            let token = match std::env::var("SENTINEL_TOKEN") {
                Ok(token) if std::io::IsTerminal::is_terminal(&std::io::stdin()) => token,
                _ => {
                    let mut token = String::new();
                    std::io::stdin().take(64 << 10).read_to_string(&mut token)?;
                    token
                }
            };
            super::say(&inspected(token.trim())?)
        }
    }
}

/// What was given, else what the file says under a key, else this. Of several names the first is the one to mint with.
fn given_or_set(given: Option<String>, auth: &toml::Table, key: &str, default: &str) -> String {
    let set = || {
        let typed = auth.get(key)?;
        let first = || typed.as_array()?.first()?.as_str();
        typed.as_str().or_else(first).map(str::to_owned)
    };
    given.or_else(set).unwrap_or_else(|| default.to_owned())
}

/// The secret to mint with, and where it was found: in the variable that was named, else where the file says.
fn secret(config: &Path, auth: &toml::Table, variable: Option<String>) -> anyhow::Result<(String, String)> {
    if let Some(file) = signing_file(config, auth).filter(|_| variable.is_none()) {
        let secret = super::place::read(&file)?;
        return Ok((file.display().to_string(), secret.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let name = given_or_set(variable, auth, "jwt_secret_env", "JWT_SECRET_KEY");
    let secret = std::env::var(&name).with_context(|| {
        format!("{name} is not set; it must hold the secret the gateway checks tokens with")
    })?;
    Ok((name, secret))
}

/// What a token says, for people.
fn inspected(token: &str) -> anyhow::Result<String> {
    let header = jsonwebtoken::decode_header(token).context("this is not a JWT")?;
    let claims: Value =
        jsonwebtoken::dangerous::insecure_decode::<Value>(token).context("this is not a JWT")?.claims;
    let key = header.kid.map_or(String::new(), |kid| format!(", key {kid}"));
    let mut text = format!("{:?}{key}\n", header.alg);
    text.push_str(&serde_json::to_string_pretty(&claims)?);
    if let Some(expires) = claims["exp"].as_i64() {
        let at =
            jiff::Timestamp::from_second(expires).map_or_else(|_| "never".to_owned(), |at| at.to_string());
        let past = expires <= i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap_or(i64::MAX);
        text.push_str(&format!("\n{} {at}", if past { "EXPIRED" } else { "valid until" }));
    }
    text.push_str("\nthe signature was not checked");
    Ok(text)
}

/// The file as it is typed. Minting must work before a token exists, so nothing is required of it.
fn table(path: &Path) -> toml::Table {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    toml::from_str(&text).unwrap_or_default()
}

fn auth_section(path: &Path) -> toml::Table {
    table(path).get("auth").and_then(toml::Value::as_table).cloned().unwrap_or_default()
}

/// The file with the secret, if the configuration keeps it in one.
fn signing_file(config: &Path, auth: &toml::Table) -> Option<PathBuf> {
    let typed = auth.get("jwt_secret_file")?.as_str()?;
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    Some(config.parent().unwrap_or(Path::new("/")).join(typed))
}

/// A role that the file does not define lets its holder in and lets them do nothing, which looks like a broken gateway.
fn warn_of_role(config: &Path, role: &str) {
    let table = table(config);
    let roles = table.get("rbac").and_then(|rbac| rbac.get("roles")?.as_table());
    let Some(roles) = roles.filter(|roles| !roles.contains_key(role)) else { return };
    let known = roles.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    super::complain(&format!(
        "warning: {} has no role {role:?}, so this token may do nothing; its roles are: {known}",
        config.display()
    ));
}
