//! Commands, which an executor runs: a process of its own behind a Unix socket.
//!
//! The gateway judges what a caller gives for the slots of a command, has the executor say what that would run, and when the
//! call is permitted shows a capability token for just that. It never runs anything itself. Each question has a connection of
//! its own, and to close it ends the command.

mod link;
mod output;
mod said;
mod tokens;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use super::{Answer, BackendError, Request};
use crate::call::shares::{Full, Shares};
use crate::call::{Call, Denial, DenialKind, Json, Share};
use crate::command::frames::{self, Ended, Question, Reply, Stream};
use crate::command::{Command, Refused};
use crate::config;
use crate::mcp::catalog::{Offer, Offers};
use crate::mcp::payload::Payload;
use crate::mcp::splice;
use crate::policy::Permitted;
use crate::redact::Redaction;

use self::link::{Link, LinkError};
use self::output::Output;
use self::tokens::Brought;
use self::watch::Health;
pub use self::watch::Seen;

/// How long a token holds, in seconds: until its command is started, which is at once.
const TOKEN: u64 = 30;
/// How long the executor may take to open and read everything that a call is about.
const PREPARE: Duration = Duration::from_secs(30);
/// How long it may take beyond the time of a command, to kill what is left of it.
const AFTER: Duration = Duration::from_secs(10);

/// The commands of one executor.
#[derive(Clone, Debug)]
pub struct Client {
    name: Arc<str>,
    settings: config::Executor,
    redaction: Redaction,
    /// Calls under way, by caller.
    slots: Arc<Shares>,
    /// The token that the caller brought; otherwise one is made when it is needed.
    brought: Option<Brought>,
    /// Whether it is there.
    health: Arc<Health>,
}

/// What a call will run, as the executor found it before anybody was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Everything that decides what happens, in canonical JSON: the program and files with their digests, the command line,
    /// the folder, the environment, the limits.
    pub action: Arc<str>,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

impl Client {
    /// The client of an executor. Nothing of what it says shows what `redaction` hides.
    #[must_use]
    pub fn new(settings: config::Executor, redaction: Redaction) -> Self {
        let (name, slots) = (settings.name.as_str().into(), Shares::new(settings.max_in_flight));
        Self { name, slots, settings, redaction, brought: None, health: Health::new() }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its commands as tools.
    #[must_use]
    pub fn offers(&self) -> Offers {
        let offer = |command: &Command| {
            // A JSON value is always a JSON text.
            let item = serde_json::value::to_raw_value(&command.tool()).ok()?;
            Some(Offer { name: command.name.clone(), upstream: command.name.clone(), item })
        };
        Offers { tools: self.settings.commands.iter().filter_map(offer).collect(), ..Offers::default() }
    }

    /// The text of a failed call without the secrets of the configuration; none if it holds none.
    pub(super) fn without_secrets(&self, failed: &Payload) -> Option<Payload> {
        self.redaction.without_known(failed.json()).map(|text| failed.reworded(text))
    }

    /// What a call would run. Nothing is run, and nobody was asked yet; `params` are those of the call as the rewriters left
    /// them.
    ///
    /// # Errors
    /// A slot does not take its value, a file is not there, or the executor is away.
    pub async fn prepare(&self, call: &Call, params: Option<&Json>) -> Result<Resolved, BackendError> {
        let asked = self.asked(call, params).map_err(BackendError::Refused)?;
        let permitted = match &self.brought {
            Some(brought) => Some(self.checked(brought, call, &asked.command)?),
            None => None,
        };
        let question = Question::Prepare(asked).encode();
        let reply = async {
            let link = Link::ask(&self.settings.socket, &question).await?;
            link.next().await
        };
        let reply = tokio::time::timeout(PREPARE, reply).await;
        if let Ok(Ok(Some(_))) = &reply {
            self.health.up();
        }
        match reply {
            // The token is used with the call; until then it has not lost anything.
            Ok(Ok(Some(Reply::Prepared { digest, .. })))
                if permitted.is_some_and(|known| known != digest) =>
            {
                let text = "what would run now is not what the capability token is for: the program, a file or an argument has \
                            changed";
                Err(BackendError::Refused(Box::new(Denial::new(DenialKind::Forbidden, "changed", text))))
            }
            Ok(Ok(Some(Reply::Prepared { digest, action }))) => {
                Ok(Resolved { action: action.into(), digest })
            }
            Ok(Ok(Some(Reply::Refused { reason, slot, message }))) => {
                Err(self.refused(&reason, &slot, &message))
            }
            Ok(Ok(_)) => Err(self.garbled()),
            Ok(Err(error)) => Err(self.away(&error)),
            Err(_) => Err(self.late(PREPARE)),
        }
    }

    /// Runs what was prepared and permitted. Dropping the future kills the command.
    ///
    /// # Errors
    /// It was not run, or its end is not known.
    pub(super) async fn call(
        &self,
        permitted: &Permitted,
        request: Request<'_>,
    ) -> Result<Answer, BackendError> {
        let call = permitted.call();
        let Some(resolved) = request.resolved else {
            let denial = Denial::new(DenialKind::Unavailable, "not_prepared", "the command was not prepared");
            return Err(BackendError::Refused(Box::new(denial)));
        };
        let share = if call.door == "stdio" { Share::SOLE } else { call.principal.share() };
        let place = self.slots.take(share, 1);
        let _place = place.map_err(|full| self.full(full))?;
        let asked = self.asked(call, request.params).map_err(BackendError::Refused)?;
        let Some(command) = self.settings.commands.find(&asked.command) else { return Err(self.garbled()) };
        let token = match &self.brought {
            Some(Brought { token, .. }) => token.clone(),
            None => self.mint(call, resolved, &call.id, TOKEN)?,
        };
        let question = Question::Run { call: asked, token: token.bytes().to_vec() }.encode();
        let most = command.timeout + AFTER;
        match tokio::time::timeout(most, self.run(command, &question)).await {
            Ok(done) => done,
            Err(_) => Err(self.late(most)),
        }
    }

    async fn run(&self, command: &Command, question: &[u8]) -> Result<Answer, BackendError> {
        let link = Link::ask(&self.settings.socket, question).await.map_err(|error| self.away(&error))?;
        let (mut stdout, mut stderr) = (Output::new(command.max_output), Output::new(command.max_output));
        loop {
            match link.next().await.map_err(|error| self.away(&error))? {
                Some(Reply::Output { stream: Stream::Stdout, bytes }) => stdout.take(&bytes),
                Some(Reply::Output { stream: Stream::Stderr, bytes }) => stderr.take(&bytes),
                Some(Reply::Ended(ended)) => return Ok(self.answer(command, &ended, &stdout, &stderr)),
                Some(Reply::Refused { reason, slot, message }) => {
                    return Err(self.refused(&reason, &slot, &message));
                }
                Some(Reply::Prepared { .. } | Reply::Healthy { .. }) | None => return Err(self.garbled()),
            }
        }
    }

    fn answer(&self, command: &Command, ended: &Ended, stdout: &Output, stderr: &Output) -> Answer {
        output::answer(&self.name, command, ended, stdout, stderr)
    }

    /// What the executor is asked for: the command and what fills its slots, which are judged here first.
    fn asked(&self, call: &Call, params: Option<&Json>) -> Result<frames::Call, Box<Denial>> {
        let params = params.unwrap_or(&call.params).get();
        let unknown =
            || Box::new(Denial::new(DenialKind::Forbidden, "unknown_command", "there is no such command"));
        let command = self.settings.commands.find(&call.target.upstream).ok_or_else(unknown)?;
        let filled = command.fill_arguments(splice::get(params, "/arguments"));
        let filled =
            filled.map_err(|Refused { slot, message }| Box::new(argument_refused(&slot, &message)))?;
        Ok(frames::Call {
            command: command.name.clone(),
            given: filled.given(command),
            stdin: filled.stdin().map(str::to_owned),
        })
    }

    /// A refusal of the executor's, as the caller hears it; an error, if it is not the caller's business.
    fn refused(&self, reason: &str, slot: &str, message: &str) -> BackendError {
        BackendError::Refused(Box::new(match reason {
            "argument_refused" => argument_refused(slot, message),
            "busy" => Denial::overloaded(format!("executor \"{}\": {message}", self.name)),
            "changed" | "consumed" | "expired" | "wrong_environment" | "token_refused" => {
                Denial::new(DenialKind::Forbidden, reason, format!("executor \"{}\": {message}", self.name))
            }
            _ => return self.unreachable(&format!("the executor refused: {message}"), true),
        }))
    }

    fn full(&self, full: Full) -> BackendError {
        let (backend, limit) = (self.name.clone(), self.settings.max_in_flight);
        if full.own {
            BackendError::Share { backend, what: "calls" }
        } else {
            BackendError::Busy { backend, limit }
        }
    }

    fn away(&self, error: &LinkError) -> BackendError {
        match error {
            LinkError::Away(error) => {
                let reason = format!(
                    "no executor listens on {} ({error}): start it with `sentinel-gateway executor run FILE`",
                    self.settings.socket.display()
                );
                tracing::warn!(executor = %self.name, "{reason}");
                self.health.away(self.redaction.words(&reason));
                self.unreachable(&reason, true)
            }
            LinkError::Lost(error) => {
                self.unreachable(&format!("the connection to the executor was lost: {error}"), true)
            }
            LinkError::Malformed(_) => self.garbled(),
        }
    }

    fn unreachable(&self, reason: &str, counts: bool) -> BackendError {
        BackendError::Unreachable {
            backend: self.name.clone(),
            reason: self.redaction.words(reason),
            counts,
            again: None,
        }
    }

    fn garbled(&self) -> BackendError {
        let reason = "it does not speak the protocol of executors".into();
        BackendError::Protocol { backend: self.name.clone(), reason }
    }

    fn late(&self, after: Duration) -> BackendError {
        BackendError::Timeout { backend: self.name.clone(), after, alive: false, endless: false }
    }
}

fn argument_refused(slot: &str, message: &str) -> Denial {
    let text = if slot.is_empty() { message.to_owned() } else { format!("`{slot}`: {message}") };
    let mut denial = Denial::new(
        DenialKind::InvalidArguments,
        "argument_refused",
        format!("the command was not run: {text}"),
    );
    if !slot.is_empty() {
        denial.details.push(("slot".to_owned(), slot.to_owned()));
    }
    denial
}
