//! `status`, `kill`, `revive`, `backend`, `config diff` and `config apply`: commands for gateways that run.
//!
//! Which gateways these are follows from the configuration file. Clients on stdio start one each, so there may be several.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use sentinel_gateway::control::socket::{self, SocketError};
use sentinel_gateway::control::{
    self, Answer, Command, ControlError, Deed, Report, Request, Switch, VERSION,
};
use sentinel_gateway::{app, config};
use serde_json::json;

/// How long a gateway may take for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// For what starts servers or compiles plugins.
const LONG_PATIENCE: Duration = Duration::from_secs(300);
/// How often is looked for gateways that have come meanwhile.
const ROUNDS: usize = 5;

const KILL_EXAMPLES: &str = "\
Examples:
  sentinel-gateway kill tool delete_file --reason \"deletes what it should not\"
  sentinel-gateway kill tool 'files/*'                every tool of the backend files
  sentinel-gateway kill subject svc-crawler           one caller, with all sessions
  sentinel-gateway kill all --reason INC-1234         every call of everybody

New calls are refused at once, and calls under way are ended. It holds for every gateway of the configuration file, stays
so after a restart, and no reload undoes it: `revive` does. `status` shows what is off, by whom and why.";

const REVIVE_EXAMPLES: &str = "\
Examples:
  sentinel-gateway revive tool delete_file            in the words of the `kill`
  sentinel-gateway revive all                         takes back `kill all`; other kills stay

What [kill_switch] of the configuration file switches off is taken out there.";

/// Which gateways, and how the answer is shown.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the gateway with this process id, if several run with the same configuration file
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// One JSON object a line for each gateway
    #[arg(long)]
    pub(super) json: bool,
}

/// What goes on record, and how the answer is shown.
#[derive(Debug, Args)]
pub(crate) struct Words {
    /// Why; it stands in the audit record and in `status`
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    /// One JSON object a line for each gateway
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    options: Options,
    /// Show times in UTC instead of by the local clock
    #[arg(long)]
    utc: bool,
}

#[derive(Debug, Args)]
#[command(after_help = KILL_EXAMPLES)]
pub(crate) struct Kill {
    #[command(subcommand)]
    what: KillWhat,
}

#[derive(Debug, Subcommand)]
enum KillWhat {
    /// A tool, by any of its names; `*` in it stands for anything, and `backend/tool` names the backend as well
    Tool(KillNamed),
    /// A backend, with all it offers; `*` in the name stands for anything
    Backend(KillNamed),
    /// A caller, by the subject that the audit record shows; `*` in it stands for anything
    Subject(KillNamed),
    /// Every call of everybody
    All(Words),
}

#[derive(Debug, Args)]
struct KillNamed {
    name: String,
    /// Also if nothing is known by that name: it may come later
    #[arg(long)]
    even_unknown: bool,
    #[command(flatten)]
    words: Words,
}

#[derive(Debug, Args)]
#[command(after_help = REVIVE_EXAMPLES)]
pub(crate) struct Revive {
    #[command(subcommand)]
    what: ReviveWhat,
}

#[derive(Debug, Subcommand)]
enum ReviveWhat {
    /// A tool that `kill tool` switched off
    Tool(Named),
    /// A backend that `kill backend` switched off
    Backend(Named),
    /// A caller that `kill subject` switched off
    Subject(Named),
    /// What `kill all` switched off
    All(Words),
}

#[derive(Debug, Args)]
struct Named {
    name: String,
    #[command(flatten)]
    words: Words,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Backend {
    /// End a backend's process or connection, and start it anew
    Restart(OfBackend),
    /// End it, and refuse its calls until `start`; no call and no reload brings it back. A restart of the gateway does
    Stop(OfBackend),
    /// Start it: after `stop`, or before the gateway tries it again by itself
    Start(OfBackend),
}

#[derive(Debug, Args)]
pub(crate) struct OfBackend {
    /// Its name in the configuration file
    name: String,
    /// Why; it stands in the audit record
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Why; it stands in the audit record
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    options: Options,
}

/// A command, to whom it goes, and how its answer is shown.
pub(super) struct Order {
    pub(super) request: Request,
    pid: Option<u32>,
    json: bool,
    zone: TimeZone,
    /// It is about all gateways of the file, also those that come while it is given.
    about_all: bool,
    /// One gateway's answer is enough, because all would say the same.
    pub(super) first_only: bool,
}

/// What one gateway answered; nothing if there is none any more.
type Answered = Result<Option<Answer>, SocketError>;

impl Order {
    pub(super) fn new(command: Command, reason: &str, options: &Options) -> Self {
        let request = Request { version: VERSION, command, reason: reason.to_owned(), token: None };
        let zone = TimeZone::system();
        Self { request, pid: options.pid, json: options.json, zone, about_all: false, first_only: false }
    }

    fn about_all(command: Command, words: &Words) -> Self {
        let options = Options { pid: None, json: words.json };
        Self { about_all: true, ..Self::new(command, &words.reason, &options) }
    }

    fn patience(&self) -> Duration {
        match self.request.command {
            Command::Backend { .. } | Command::ConfigApply | Command::ConfigDiff => LONG_PATIENCE,
            Command::Status
            | Command::Kill { .. }
            | Command::Revive { .. }
            | Command::ApprovalsList { .. }
            | Command::ApprovalsShow { .. }
            | Command::ApprovalsOwn { .. }
            | Command::ApprovalsReview { .. }
            | Command::ApprovalsCancel { .. } => PATIENCE,
        }
    }
}

pub(crate) fn status(path: &Path, status: &Status) -> anyhow::Result<ExitCode> {
    let mut order = Order::new(Command::Status, "", &status.options);
    if status.utc {
        order.zone = TimeZone::UTC;
    }
    give(path, &order)
}

pub(crate) fn kill(path: &Path, kill: Kill) -> anyhow::Result<ExitCode> {
    let named = |make: fn(String) -> Switch, KillNamed { name, even_unknown, words }: KillNamed| {
        Order::about_all(Command::Kill { what: make(name), even_unknown }, &words)
    };
    let order = match kill.what {
        KillWhat::Tool(kill) => named(Switch::Tool, kill),
        KillWhat::Backend(kill) => named(Switch::Backend, kill),
        KillWhat::Subject(kill) => named(Switch::Subject, kill),
        KillWhat::All(words) => {
            Order::about_all(Command::Kill { what: Switch::All, even_unknown: false }, &words)
        }
    };
    give(path, &order)
}

pub(crate) fn revive(path: &Path, revive: Revive) -> anyhow::Result<ExitCode> {
    let named = |make: fn(String) -> Switch, Named { name, words }: Named| {
        Order::about_all(Command::Revive { what: make(name) }, &words)
    };
    let order = match revive.what {
        ReviveWhat::Tool(revive) => named(Switch::Tool, revive),
        ReviveWhat::Backend(revive) => named(Switch::Backend, revive),
        ReviveWhat::Subject(revive) => named(Switch::Subject, revive),
        ReviveWhat::All(words) => Order::about_all(Command::Revive { what: Switch::All }, &words),
    };
    give(path, &order)
}

pub(crate) fn backend(path: &Path, backend: Backend) -> anyhow::Result<ExitCode> {
    let (deed, OfBackend { name, reason, options }) = match backend {
        Backend::Restart(of) => (Deed::Restart, of),
        Backend::Stop(of) => (Deed::Stop, of),
        Backend::Start(of) => (Deed::Start, of),
    };
    give(path, &Order::new(Command::Backend { name, deed }, &reason, &options))
}

pub(crate) fn diff(path: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    give(path, &Order::new(Command::ConfigDiff, "", options))
}

pub(crate) fn apply(path: &Path, apply: &Apply) -> anyhow::Result<ExitCode> {
    give(path, &Order::new(Command::ConfigApply, &apply.reason, &apply.options))
}

/// Gives a command to the gateways of the file, and says what each answered.
pub(super) fn give(path: &Path, order: &Order) -> anyhow::Result<ExitCode> {
    let answers = answers(path, order)?;
    let several = answers.len() > 1;
    let mut failed = false;
    for (pid, answered) in answers {
        let answer = answered.unwrap_or_else(|error| {
            let error = ControlError::Failed(error.to_string());
            Answer::Error { reason: error.word().to_owned(), message: error.to_string() }
        });
        failed |= matches!(answer, Answer::Error { .. });
        if order.json {
            super::say_json(&json!({ "pid": pid, "answer": answer }).to_string())?;
            continue;
        }
        let whose = if several { format!("gateway {pid}: ") } else { String::new() };
        match answer {
            Answer::Ok(Report::Status(status)) => {
                super::say(&control::status_text(&status, &order.zone))?;
                if several {
                    super::say("")?;
                }
            }
            Answer::Ok(Report::Done(text)) => drop(super::say(&format!("{whose}{text}"))?),
            Answer::Ok(Report::Changes(changes)) => {
                let text = control::changes_text(&changes);
                super::say(&if several { format!("{whose}\n{text}") } else { text })?;
            }
            Answer::Ok(Report::Approvals(list)) => {
                super::say(&control::approvals_text(&list, control::Time::now()))?;
            }
            Answer::Ok(Report::Approval(shown)) => drop(super::say(&shown.text)?),
            Answer::Error { message, .. } => super::complain(&format!("{whose}{message}")),
        }
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What each gateway of the file answers; at least one does.
pub(super) fn answers(path: &Path, order: &Order) -> anyhow::Result<Vec<(u32, Result<Answer, SocketError>)>> {
    let folder = config::control_folder(path, &app::environment).map_err(anyhow::Error::msg)?;
    super::runtime()?.block_on(ask_all(&folder, order))
}

/// All at once. What is about all gateways is also told to those that were being started meanwhile: they read the orders of
/// the file after their socket is there, so whoever is not found in the last look has read them.
async fn ask_all(folder: &Path, order: &Order) -> anyhow::Result<Vec<(u32, Result<Answer, SocketError>)>> {
    let mut answers: Vec<(u32, Answered)> = Vec::new();
    for _ in 0..ROUNDS {
        let wanted = |(pid, _): &(u32, PathBuf)| {
            order.pid.is_none_or(|only| only == *pid) && !answers.iter().any(|(asked, _)| asked == pid)
        };
        let found = socket::found(folder).map_err(|error| unreadable(folder, &error))?;
        let found: Vec<(u32, PathBuf)> = found.into_iter().filter(wanted).collect();
        if found.is_empty() {
            break;
        }
        if order.first_only {
            // One after the other, because one that was killed leaves a socket on which nobody listens.
            for (pid, path) in found {
                let answered = socket::ask(&path, &order.request, order.patience()).await;
                let done = matches!(answered, Ok(Some(_)));
                answers.push((pid, answered));
                if done {
                    break;
                }
            }
            break;
        }
        let asking = found
            .iter()
            .map(|(pid, path)| async { (*pid, socket::ask(path, &order.request, order.patience()).await) });
        answers.extend(futures_util::future::join_all(asking).await);
        if !order.about_all {
            break;
        }
    }
    // Those that nobody listens on any more are of gateways that were killed.
    let answers: Vec<_> =
        answers.into_iter().filter_map(|(pid, answered)| Some((pid, answered.transpose()?))).collect();
    if answers.is_empty() {
        let whom = order.pid.map_or_else(String::new, |pid| format!(" with the process id {pid}"));
        anyhow::bail!(
            "no gateway{whom} runs with this configuration file as this user; sockets of such would be in {}",
            folder.display()
        );
    }
    Ok(answers)
}

fn unreadable(folder: &Path, error: &std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return anyhow::anyhow!(
            "{}: {error}; only the user who runs the gateway may send it commands: run this as that user",
            folder.display()
        );
    }
    anyhow::anyhow!("{}: {error}", folder.display())
}
