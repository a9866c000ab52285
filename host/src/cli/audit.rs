//! `audit`: reads the record, of this gateway and of all others that share its store.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use sentinel_gateway::audit::StoreSettings;
use sentinel_gateway::audit::query::{self, Cursor, Query, Row};
use sentinel_gateway::{app, config};

/// How often `tail` looks for new rows.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The newest calls, oldest first
    List(Options),
    /// The newest calls, then every further one as it is recorded (until Ctrl-C)
    Tail(Options),
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// At most this many rows
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only calls since then: 2026-11-21T08:00:00Z, or a span such as 15m, 2h, 3d
    #[arg(long, value_parser = since)]
    since: Option<jiff::Timestamp>,
    /// Only calls of this tool
    #[arg(long)]
    tool: Option<String>,
    /// Only calls that ended so: success, error, killed, rate_limited, denied, invalid_args, circuit_open,
    /// unauthenticated, cancelled, pending, unknown
    #[arg(long)]
    status: Option<String>,
}

pub(crate) fn execute(path: &Path, command: Command) -> anyhow::Result<ExitCode> {
    let store = app::audit_store(&config(path)?);
    if let StoreSettings::Sqlite { path } = &store
        && !path.exists()
    {
        super::complain(&format!("no calls yet: {} comes with the first run", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    super::runtime()?.block_on(async {
        let (options, follow) = match command {
            Command::List(options) => (options, false),
            Command::Tail(options) => (options, true),
        };
        if !follow {
            let query = Query {
                limit: options.limit,
                since: options.since,
                tool: options.tool,
                status: options.status,
            };
            let rows = query::list(&store, &query).await?;
            return show(&rows, options.json);
        }
        let mut cursor = Cursor::new(options.limit);
        loop {
            let mut rows = query::after(&store, &mut cursor).await?;
            rows.retain(|row| {
                options.tool.as_ref().is_none_or(|tool| *tool == row.tool)
                    && options.status.as_ref().is_none_or(|status| *status == row.status)
            });
            if !rows.is_empty() {
                show(&rows, options.json)?;
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            }
        }
    })
}

fn show(rows: &[Row], json: bool) -> anyhow::Result<ExitCode> {
    if !json {
        return super::say(&query::render(rows));
    }
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    if text.is_empty() { Ok(ExitCode::SUCCESS) } else { super::say_json(&text) }
}

/// The configuration for a reader: it needs the store, not the secrets of the callers, which may be unset here.
fn config(path: &Path) -> Result<config::Config, config::Problems> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let url_env = table.get("postgres").and_then(|postgres| postgres.get("url_env")?.as_str());
    let url_env = url_env.unwrap_or("DATABASE_URL").to_owned();
    config::load(path, &move |name| {
        let real = app::environment(name);
        let optional = name == url_env || name == "HOME" || name.starts_with("XDG_");
        // Long enough for every rule about secrets; nothing is checked with it, nothing is started.
        real.or_else(|| (!optional).then(|| "unset-".repeat(8)))
    })
}

fn since(text: &str) -> Result<jiff::Timestamp, String> {
    let wrong = || format!("`{text}` is neither a time (2026-11-21T08:00:00Z) nor a span (15m, 2h, 3d)");
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let span = jiff::SignedDuration::from_secs(number.checked_mul(seconds).ok_or_else(wrong)?);
    jiff::Timestamp::now().checked_sub(span).map_err(|_| wrong())
}
