//! `audit`: reads the record, of this gateway and of all others that share its store.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sentinel_gateway::audit::StoreSettings;
use sentinel_gateway::audit::query::{self, Cursor, Look, Query, Row, STATUSES};
use sentinel_gateway::{app, config, telemetry};

/// How often `tail` looks for new rows.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The newest calls, oldest first
    List(List),
    /// The newest calls that have ended, then every further one as it is recorded (until Ctrl-C)
    Tail(Options),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    options: Options,
    /// Only calls before then, written as for --since
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<When>,
    /// Only calls that have not ended yet: the same as --status pending
    #[arg(long, conflicts_with = "status")]
    pending: bool,
}

// What both commands know. No comment of the documentation: it would be the help of the commands.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One JSON object a line; times in it are always UTC
    #[arg(long)]
    json: bool,
    /// At most this many rows
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only calls since then: 2026-11-21T08:00:00Z, "2026-11-21 08:00" and 08:00 by the local clock, or a span such as 15m, 2h, 3d
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// Only calls of this tool, or of those that fit: "get_*"
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Only calls of this backend, or of those that fit
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Only calls of this caller, or of those that fit; "" for callers who were not known
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Only calls of callers in this role, or in those that fit
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Only calls that ended so; several with commas between them
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(STATUSES))]
    status: Vec<String>,
    /// Show and read times in UTC instead of by the local clock
    #[arg(long)]
    utc: bool,
}

impl Options {
    fn zone(&self) -> TimeZone {
        if self.utc { TimeZone::UTC } else { TimeZone::system() }
    }

    fn look(&self, heading: bool) -> Look {
        Look { zone: self.zone(), colour: telemetry::shows_colours(&std::io::stdout()), heading }
    }

    fn query(&self) -> anyhow::Result<Query> {
        let pattern = |name: &Option<String>| name.clone().map(query::Pattern::from);
        Ok(Query {
            limit: self.limit,
            since: self.since.map(|when| when.at(&self.zone())).transpose()?,
            until: None,
            tool: pattern(&self.tool),
            backend: pattern(&self.backend),
            subject: pattern(&self.subject),
            role: pattern(&self.role),
            statuses: self.status.clone(),
        })
    }
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
        match command {
            Command::List(options) => list(&store, &options).await,
            Command::Tail(options) => tail(&store, &options).await,
        }
    })
}

async fn list(store: &StoreSettings, options: &List) -> anyhow::Result<ExitCode> {
    let List { options, until, pending } = options;
    let mut query = options.query()?;
    query.until = until.map(|when| when.at(&options.zone())).transpose()?;
    if *pending {
        query.statuses = vec!["pending".to_owned()];
    }
    let rows = query::list(store, &query).await?;
    let everything = Query { limit: query.limit, ..Query::default() };
    if rows.is_empty() && query != everything {
        super::complain("no call on record is one of those that were asked for");
    }
    show(&rows, options, true)
}

async fn tail(store: &StoreSettings, options: &Options) -> anyhow::Result<ExitCode> {
    if options.status.iter().any(|status| status == "pending") {
        anyhow::bail!(
            "`audit tail` shows calls once they have ended; those that have not are in `audit list --pending`"
        );
    }
    let mut cursor = Cursor::new(options.query()?);
    let mut first = true;
    loop {
        let rows = query::after(store, &mut cursor).await?;
        if !rows.is_empty() {
            show(&rows, options, std::mem::take(&mut first))?;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn show(rows: &[Row], options: &Options, heading: bool) -> anyhow::Result<ExitCode> {
    if !options.json {
        // What stands in the rows has been made harmless; the colours are ours.
        return super::say_as_it_is(&query::render(rows, &options.look(heading)));
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

/// A time as somebody types it.
#[derive(Clone, Copy, Debug)]
enum When {
    At(Timestamp),
    /// By a clock that hangs somewhere.
    Clock(civil::DateTime),
    /// Today.
    Hour(civil::Time),
    Ago(SignedDuration),
}

impl When {
    fn at(self, zone: &TimeZone) -> anyhow::Result<Timestamp> {
        let now = Timestamp::now();
        Ok(match self {
            Self::At(time) => time,
            Self::Clock(time) => zone.to_zoned(time)?.timestamp(),
            Self::Hour(time) => {
                zone.to_zoned(now.to_zoned(zone.clone()).date().to_datetime(time))?.timestamp()
            }
            Self::Ago(span) => now.checked_sub(span)?,
        })
    }
}

fn when(text: &str) -> Result<When, String> {
    let wrong = || {
        format!(
            "`{text}` is neither a time (2026-11-21T08:00:00Z, \"2026-11-21 08:00\", 2026-11-21, 08:00) nor a span (15m, 2h, 3d)"
        )
    };
    if let Ok(at) = text.parse() {
        return Ok(When::At(at));
    }
    if let Ok(time) = text.parse() {
        return Ok(When::Clock(time));
    }
    if text.contains(':')
        && let Ok(time) = text.parse()
    {
        return Ok(When::Hour(time));
    }
    let (number, unit) = text.split_at(text.char_indices().next_back().map_or(0, |(at, _)| at));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(When::Ago(SignedDuration::from_secs(i64::from(number) * seconds)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_the_clock_that_is_meant() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = |text: &str| when(text).unwrap().at(&zone).unwrap().to_string();
        assert_eq!(at("2026-11-21T08:00:00Z"), "2026-11-21T08:00:00Z");
        assert_eq!(at("2026-11-21T08:00:00+01:00"), "2026-11-21T07:00:00Z");
        assert_eq!(at("2026-11-21 08:00"), "2026-11-21T06:00:00Z");
        assert_eq!(at("2026-11-21T08:00"), "2026-11-21T06:00:00Z");
        assert_eq!(at("2026-11-21"), "2026-11-20T22:00:00Z");
        assert!(at("08:30").ends_with("T06:30:00Z"));
        for span in ["0s", "15m", "2h", "3d", "1w"] {
            assert!(when(span).unwrap().at(&zone).unwrap() <= Timestamp::now());
        }
        for wrong in ["", "x", "5", "5y", "yesterday", "-5m", "1.5h", "99:99", "5\u{202e}", "99999999999d"] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
        assert!(when("4000000000w").unwrap().at(&zone).is_err(), "an error, and no panic");
    }
}
