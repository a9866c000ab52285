//! How a gateway is reached, and which environment variables it needs when it is started: read from its configuration.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use sentinel_gateway::app;
use sentinel_gateway::config::{self, Auth, Config, Http};

/// How a client gets to a gateway.
#[derive(Debug)]
pub(super) enum Reach {
    /// It starts it.
    Command {
        /// Variables of the environment that the gateway reads.
        variables: Vec<String>,
        /// Variables that hold keys which tokens are signed with, or keys of others. They are nobody's but the gateway's.
        withheld: Vec<String>,
    },
    /// It listens already.
    Url {
        url: String,
        /// The variable with what the caller shows; none if the gateway knows them without, or sends them to sign in.
        token: Option<String>,
        /// Where a caller gets a token.
        sign_in: bool,
    },
}

/// Asks a configuration. Variables that are not set here are no mistake: it is the client that will set them.
///
/// # Errors
/// Everything else that is wrong with the file.
pub(super) fn of(path: &Path) -> anyhow::Result<Reach> {
    let (table, asked) = (table(path), RefCell::new(BTreeSet::new()));
    let config = config::load(path, &|name| {
        let real = app::environment(name).filter(|value| !value.is_empty());
        if real.is_some() {
            asked.borrow_mut().insert(name.to_owned());
        }
        real.or_else(|| stand_in(&table, name))
    })?;
    if let Some(http) = &config.http {
        return Ok(over_http(&config, http, &table));
    }
    let missing = missing(path);
    let signing = signing(&config, &table);
    let mut variables: BTreeSet<String> = asked.into_inner();
    variables.extend(missing);
    let withheld = variables.iter().filter(|name| signing.contains(name)).cloned().collect();
    // A client gives its servers these anyway.
    variables.retain(|name| !signing.contains(name) && name != "HOME" && !name.starts_with("XDG_"));
    Ok(Reach::Command { variables: variables.into_iter().collect(), withheld })
}

fn table(path: &Path) -> toml::Table {
    std::fs::read_to_string(path).ok().and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
}

fn text<'t>(table: &'t toml::Table, section: &str, key: &str) -> Option<&'t str> {
    table.get(section)?.get(key)?.as_str()
}

/// A value for what is not set, long enough for every rule about secrets. Nothing is started with it.
fn stand_in(table: &toml::Table, name: &str) -> Option<String> {
    let database = text(table, "postgres", "url_env").unwrap_or("DATABASE_URL");
    let optional = [database, "HEALTH_TOKEN", "BACKEND_SHARED_SECRET", "HOME"];
    (!optional.contains(&name) && !name.starts_with("XDG_")).then(|| "unset-".repeat(8))
}

/// The variables without which the gateway would not start.
fn missing(path: &Path) -> Vec<String> {
    let asked = RefCell::new(BTreeSet::new());
    let loaded = config::load(path, &|name| {
        asked.borrow_mut().insert(name.to_owned());
        app::environment(name)
    });
    let said: Vec<String> = match loaded {
        Ok(config) => config.warnings.iter().map(|warning| warning.message.clone()).collect(),
        Err(problems) => problems.iter().map(|problem| problem.message.clone()).collect(),
    };
    // An optional backend says all that it lacks in one sentence.
    let said: Vec<&str> = said.iter().flat_map(|said| said.split("; ")).collect();
    let missing = |name: &String| said.iter().any(|said| said.starts_with(&format!("{name} is not set")));
    asked.into_inner().into_iter().filter(missing).collect()
}

/// The variables whose values would let their holder act as anybody: keys that sign tokens, and keys of other callers.
fn signing(config: &Config, table: &toml::Table) -> Vec<String> {
    if !matches!(config.auth, Auth::Jwt { .. }) {
        return Vec::new();
    }
    let auth = table.get("auth").and_then(toml::Value::as_table);
    let named = auth.and_then(|auth| auth.get("jwt_secret_env")?.as_str()).unwrap_or("JWT_SECRET_KEY");
    let lists = ["keys", "api_keys"].into_iter().filter_map(|key| auth?.get(key)?.as_array());
    let of_keys = lists.flatten().filter_map(|key| key.get("secret_env")?.as_str());
    std::iter::once(named).chain(of_keys).map(str::to_owned).collect()
}

fn over_http(config: &Config, http: &Http, table: &toml::Table) -> Reach {
    let listen = config.gateway.listen;
    let sign_in = http.oauth.is_some();
    let url = match (&http.oauth, http.allowed_hosts.first()) {
        (Some(oauth), _) => oauth.resource.clone(),
        (None, Some(host)) if listen.ip().is_unspecified() => {
            let port = if host.contains(':') { String::new() } else { format!(":{}", listen.port()) };
            format!("http://{host}{port}{}", http.path)
        }
        _ => format!("http://{listen}{}", http.path),
    };
    let known = http.allow_local && matches!(config.auth, Auth::Local);
    let token = text(table, "auth", "token_env").unwrap_or("SENTINEL_TOKEN").to_owned();
    Reach::Url { url, token: (!known && !sign_in).then_some(token), sign_in }
}
