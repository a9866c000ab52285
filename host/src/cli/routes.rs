//! `routes`: which routes there are, and with `--check`, what a gateway that runs answers at each of them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use sentinel_gateway::config::rest::{Place, Route, RouteAuth, Target};
use sentinel_gateway::config::{self, Config};
use sentinel_gateway::text::line;
use sentinel_gateway::{app, openapi, outbound};
use serde_json::Value;

/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most of an answer that is read.
const MOST: usize = 64 << 10;
/// A media type that no route takes: such a request is judged, and refused before anything is done for it.
const NO_MEDIA: &str = "application/x-sentinel-check";
/// Values that parameters are tried with, until one fits.
const SAMPLES: [&str; 6] = ["1", "sample", "a", "00000000-0000-4000-8000-000000000000", "2026-01-01", "ab12"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Ask a gateway that runs: each route without a token, and with the one in SENTINEL_TOKEN. Routes that may change something are
    /// asked with a body of a type that none takes, so that nothing is done
    #[arg(long)]
    check: bool,
    /// Where that gateway is, instead of gateway.listen
    #[arg(long, value_name = "URL", requires = "check")]
    url: Option<String>,
    /// Print the routes as an OpenAPI document, as GET /openapi.json answers it
    #[arg(long, conflicts_with = "check")]
    openapi: bool,
}

pub(crate) fn execute(path: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let config = config::load(path, &app::environment)?;
    if options.openapi {
        let served = openapi::served(&config);
        let document: Value = serde_json::from_slice(&served.bytes)?;
        return super::say_json(&serde_json::to_string_pretty(&document)?);
    }
    if config.routes.is_empty() {
        return super::say(&format!("{} has no [[routes]]", path.display()));
    }
    if options.check {
        return super::runtime()?.block_on(check(&config, options));
    }
    let width = config.routes.iter().map(|route| route.path.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for route in &config.routes {
        let target = match &route.target {
            Target::Upstream { name, .. } => format!("upstream {name}"),
            Target::Engine { name, operation, .. } => format!("engine {name} {operation}"),
        };
        let path = route.path.as_str();
        let _ = writeln!(
            text,
            "{:<7} {path:<width$}  {:<7}  {:<24}  {target}",
            route.method.as_str(),
            auth(route.auth),
            route.id
        );
        for legacy in &route.legacy {
            let until =
                legacy.deprecation.sunset.map(|sunset| format!(", until {sunset}")).unwrap_or_default();
            let _ = writeln!(text, "        {}  the same at an older path{until}", legacy.path);
        }
    }
    let _ = writeln!(
        text,
        "{} routes, {} of them need no credentials",
        config.routes.len(),
        config.routes.iter().filter(|route| route.auth == RouteAuth::None).count()
    );
    super::say(&text)
}

fn auth(auth: RouteAuth) -> &'static str {
    match auth {
        RouteAuth::Jwt => "jwt",
        RouteAuth::ApiKey => "api_key",
        RouteAuth::None => "none",
    }
}

/// What came back.
struct Answer {
    status: u16,
    reason: String,
    took: Duration,
}

async fn check(config: &Config, options: &Options) -> anyhow::Result<ExitCode> {
    let base = options.url.clone().unwrap_or_else(|| format!("http://{}", config.gateway.listen));
    let base = base.trim_end_matches('/');
    let token = app::environment("SENTINEL_TOKEN").filter(|token| !token.is_empty());
    // What is asked is the gateway itself: never through a proxy, and never somewhere else than was named.
    let client = outbound::builder().timeout(PATIENCE).build().context("no client for HTTP can be made")?;
    let width = config.routes.iter().map(|route| route.path.as_str().len()).max().unwrap_or(0);
    super::say(&format!(
        "{:<7} {:<width$}  {:<7}  {:<12} {:<16}",
        "method", "endpoint", "auth", "no token", "with a token"
    ))?;
    let (mut wrong, mut slowest) = (Vec::new(), Duration::ZERO);
    for route in &config.routes {
        let bare = ask(&client, base, route, None).await?;
        slowest = slowest.max(bare.took);
        let with = match &token {
            Some(token) => Some(ask(&client, base, route, Some(token)).await?),
            None => None,
        };
        let label = format!("{} {}", route.method, route.path);
        wrong.extend(mistakes(route, &bare, with.as_ref()).into_iter().map(|why| format!("{label}: {why}")));
        let said = with
            .as_ref()
            .map_or_else(|| "not tried".to_owned(), |with| format!("{} {}", with.status, line(&with.reason)));
        let path = route.path.as_str();
        super::say(&format!(
            "{:<7} {path:<width$}  {:<7}  {:<12} {said}",
            route.method.as_str(),
            auth(route.auth),
            bare.status
        ))?;
    }
    let mut text = format!(
        "{} routes; the slowest answer without a token took {} ms\n",
        config.routes.len(),
        slowest.as_millis()
    );
    if token.is_none() {
        text.push_str("SENTINEL_TOKEN is not set, so nothing was asked with a token\n");
    }
    for why in &wrong {
        let _ = writeln!(text, "wrong: {}", line(why));
    }
    super::complain(&text);
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Where the answers are not what the route's own settings say.
fn mistakes(route: &Route, bare: &Answer, with: Option<&Answer>) -> Vec<String> {
    let mut found = Vec::new();
    match (route.auth, bare.status) {
        (RouteAuth::None, 401) => found.push("it needs no credentials, and asks for some".to_owned()),
        (RouteAuth::None, _) | (RouteAuth::Jwt | RouteAuth::ApiKey, 401) => {}
        (RouteAuth::Jwt | RouteAuth::ApiKey, status) => {
            found.push(format!("without a token it answers {status}, not 401"))
        }
    }
    match with.map(|with| (with.status, with.reason.as_str())) {
        Some((401, _)) if route.auth == RouteAuth::Jwt => found.push("the token is not accepted".to_owned()),
        Some((403, _)) => found.push("the token's role may not call it".to_owned()),
        Some((404 | 405, reason @ ("no_route" | "not_found" | "method_not_allowed"))) => {
            found.push(format!("the gateway that answers does not know it ({reason})"));
        }
        Some((500..=599, reason)) => found.push(format!("it fails ({reason})")),
        _ => {}
    }
    found
}

async fn ask(
    client: &reqwest::Client,
    base: &str,
    route: &Route,
    token: Option<&str>,
) -> anyhow::Result<Answer> {
    let safe = matches!(route.method.as_str(), "GET" | "HEAD" | "OPTIONS");
    let mut request = client.request(route.method.clone(), format!("{base}{}", sampled(route)));
    for parameter in
        route.parameters.iter().filter(|parameter| parameter.required && parameter.place == Place::Header)
    {
        request = request.header(&parameter.name, sample(parameter.schema.as_ref()));
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if !safe {
        request = request.header("content-type", NO_MEDIA).body("{}");
    }
    let began = Instant::now();
    let response =
        request.send().await.with_context(|| format!("{base} does not answer: is the gateway running?"))?;
    let took = began.elapsed();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap_or_default();
    let problem: Value =
        if body.len() <= MOST { serde_json::from_slice(&body).unwrap_or_default() } else { Value::Null };
    let reason = problem.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Answer { status, reason, took })
}

/// The path with values in the place of its names, and the query that is required.
fn sampled(route: &Route) -> String {
    let schema = |place: Place, name: &str| {
        let found =
            route.parameters.iter().find(|parameter| parameter.place == place && parameter.name == name);
        found.and_then(|parameter| parameter.schema.as_ref())
    };
    let mut path = route.path.as_str().to_owned();
    for name in route.path.names() {
        let value = sample(schema(Place::Path, name));
        path = path.replace(&format!("{{{name}}}"), &value).replace(&format!("{{*{name}}}"), &value);
    }
    let query =
        route.parameters.iter().filter(|parameter| parameter.required && parameter.place == Place::Query);
    for (index, parameter) in query.enumerate() {
        let sign = if index == 0 { '?' } else { '&' };
        let _ = write!(path, "{sign}{}={}", parameter.name, sample(parameter.schema.as_ref()));
    }
    path
}

/// A value that fits a schema, as far as guessing goes.
fn sample(schema: Option<&Value>) -> String {
    let Some(schema) = schema else { return "1".to_owned() };
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let named = ["const", "default"].iter().find_map(|key| schema.get(*key));
    if let Some(value) = named.or_else(|| schema.get("enum")?.as_array()?.first()) {
        return plain(value);
    }
    let judge = jsonschema::validator_for(schema).ok();
    let fits = |text: &&str| {
        let number = text.parse::<i64>().map_or(Value::Null, Value::from);
        judge.as_ref().is_none_or(|judge| judge.is_valid(&Value::from(*text)) || judge.is_valid(&number))
    };
    SAMPLES.iter().find(|text| fits(text)).map_or_else(|| "1".to_owned(), |text| (*text).to_owned())
}
