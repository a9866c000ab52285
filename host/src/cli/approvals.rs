//! `approvals`: what waits for a person, what it would do, and the decision about it.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sentinel_gateway::control::{Answer, Command, Report, ShownApproval, Token, Vote};

use super::control::{Options, Order, answers, give};

const EXAMPLES: &str = "\
Examples:
  sentinel-gateway approvals list
  sentinel-gateway approvals show appr_0193…           what would run, every character of it
  sentinel-gateway approvals approve appr_0193…        shows it, and asks on the terminal
  sentinel-gateway approvals reject appr_0193… --digest 5f2a9c01be44 --reason \"not on a Friday\"

Who decides is the user who runs this command, or whoever the token names that SENTINEL_APPROVER_TOKEN or --token-file holds.
Nobody decides on a request of their own. What is approved runs once, as it was shown.";

/// The variable with the token of the person who decides.
const TOKEN: &str = "SENTINEL_APPROVER_TOKEN";
/// Longest token, in bytes.
const MAX_TOKEN: u64 = 16 << 10;
/// So many digits of the digest are typed on a terminal.
const TYPED: usize = 4;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Approvals {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What waits for a person, oldest first
    List(List),
    /// Everything about one request, and what exactly would run
    Show(Show),
    /// Let the call be made, once
    Approve(Decide),
    /// End the request; the call is not made
    Reject(Decide),
    /// Take a request back that is open, or an approval that was not used
    Cancel(Cancel),
}

#[derive(Debug, Args)]
struct List {
    /// Also those that have ended, the newest first
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u32,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Show {
    id: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Decide {
    id: String,
    /// The digest that `show` printed, at least its first 12 digits; without it, and to approve without a token, you are shown
    /// the request on the terminal and asked
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Why; it stands in the record, and whoever asked reads it
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Cancel {
    id: String,
    /// Why; it stands in the record, and whoever asked reads it
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Who {
    /// A file that holds the token of the person who decides; `-` for stdin
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Who {
    /// The token of this person; none for the user who runs the command.
    fn token(&self) -> anyhow::Result<Option<Token>> {
        let text = match &self.token_file {
            Some(path) if path.as_os_str() == "-" => {
                let mut text = String::new();
                std::io::stdin().take(MAX_TOKEN).read_to_string(&mut text).context("stdin")?;
                text
            }
            Some(path) => {
                let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
                let mut text = String::new();
                file.take(MAX_TOKEN).read_to_string(&mut text).with_context(|| path.display().to_string())?;
                text
            }
            None => match std::env::var(TOKEN) {
                Ok(text) => text,
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error @ std::env::VarError::NotUnicode(_)) => return Err(error).context(TOKEN),
            },
        };
        let text = text.trim();
        anyhow::ensure!(!text.is_empty(), "the token of the person who decides is empty");
        Ok(Some(Token(text.to_owned())))
    }
}

pub(crate) fn execute(path: &Path, approvals: Approvals) -> anyhow::Result<ExitCode> {
    match approvals.command {
        What::List(List { all, limit, who, options }) => {
            give(path, &one(Command::ApprovalsList { all, limit }, "", &who, &options)?)
        }
        What::Show(Show { id, who, options }) => {
            give(path, &one(Command::ApprovalsShow { id }, "", &who, &options)?)
        }
        What::Approve(decide) => review(path, decide, Vote::Approve),
        What::Reject(decide) => review(path, decide, Vote::Reject),
        What::Cancel(Cancel { id, reason, who, options }) => {
            let mut order = one(Command::ApprovalsCancel { id }, &reason, &who, &options)?;
            order.first_only = false;
            give(path, &order)
        }
    }
}

/// A command for one gateway, whichever it is: all of one file have the same approvals.
fn one(command: Command, reason: &str, who: &Who, options: &Options) -> anyhow::Result<Order> {
    let mut order = Order::new(command, reason, options);
    order.request.token = who.token()?;
    order.first_only = true;
    Ok(order)
}

fn review(path: &Path, decide: Decide, vote: Vote) -> anyhow::Result<ExitCode> {
    let Decide { id, digest, reason, who, options } = decide;
    // An agent that can start programs as this user could approve its own calls as well. It is no proof of a person that
    // there is a terminal, but a command line alone never approves anything, unless it has a token that agents do not have.
    let alone = vote == Vote::Reject || who.token()?.is_some();
    let digest = match digest {
        Some(digest) if alone => digest,
        seen => match ask(path, &id, vote, &who, &options)? {
            Some(digest) if seen.as_ref().is_none_or(|seen| is_of(&digest, seen)) => digest,
            Some(_) => {
                anyhow::bail!("what is shown has another digest than --digest says; nothing was decided")
            }
            None => return Ok(ExitCode::from(1)),
        },
    };
    // To all of them: the call waits in one, and it is told. A decision that is there already is not taken twice.
    let mut order = one(Command::ApprovalsReview { id, vote, digest }, &reason, &who, &options)?;
    order.first_only = false;
    give(path, &order)
}

/// Whether a digest begins so.
fn is_of(digest: &str, seen: &str) -> bool {
    let hex = |text: &str| text.trim().trim_start_matches("sha256:").to_ascii_lowercase();
    hex(digest).starts_with(&hex(seen))
}

/// Shows a request on the terminal and asks for the decision. Gives the digest of what was shown; none if the person did
/// not confirm it.
fn ask(path: &Path, id: &str, vote: Vote, who: &Who, options: &Options) -> anyhow::Result<Option<String>> {
    let token_on_stdin = who.token_file.as_ref().is_some_and(|file| file.as_os_str() == "-");
    anyhow::ensure!(
        std::io::stdin().is_terminal() && !options.json && !token_on_stdin,
        "there is no terminal to show it on and to ask: to approve it without one, come with a token ({TOKEN}, or --token-file \
         with a file) and with the digest that `approvals show {id}` printed (--digest); to reject it, the digest is enough"
    );
    let order = one(Command::ApprovalsShow { id: id.to_owned() }, "", who, options)?;
    let mut answers = answers(path, &order)?;
    let Some((_, answer)) = answers.pop() else { return Ok(None) };
    let shown: ShownApproval = match answer? {
        Answer::Ok(Report::Approval(shown)) => *shown,
        Answer::Error { message, .. } => anyhow::bail!("{message}"),
        Answer::Ok(_) => anyhow::bail!("the gateway answered something else"),
    };
    let last = &shown.digest[shown.digest.len().saturating_sub(TYPED)..];
    let deed = match vote {
        Vote::Approve => "approve",
        Vote::Reject => "reject",
    };
    super::say(&shown.text)?;
    super::say(&format!(
        "To {deed} it, type the last {TYPED} digits of its digest (anything else leaves it as it is):"
    ))?;
    let mut typed = String::new();
    std::io::stdin().lock().take(64).read_line(&mut typed)?;
    if typed.trim().eq_ignore_ascii_case(last) {
        return Ok(Some(shown.digest));
    }
    super::complain("nothing was decided");
    Ok(None)
}
