//! Answers one question: who asks, what would run, may it, and then runs it.

use std::os::fd::{AsFd, OwnedFd};

use serde_json::{Map, Value, json};

use super::nonces::Spent;
use super::resolve::{Resolved, refuse, resolve};
use super::service::Service;
use super::wire::{receive, tell};
use super::{hex, now, run};
use crate::capability::{Claims, Token};
use crate::command::frames::{Call, Ended, Question, Reply};

/// Serves one connection, of a user who may connect.
pub(super) fn serve(service: &Service, client: &OwnedFd, working: usize) {
    let question = match receive(client) {
        Ok(Some(bytes)) => Question::decode(&bytes),
        Ok(None) => return,
        Err(error) => {
            tracing::warn!("a connection said nothing that can be read: {error}");
            let _ =
                tell(client, &refuse("malformed", "", "the message is too long, or did not come in time"));
            return;
        }
    };
    let settings = &service.settings;
    let reply = match question {
        Err(malformed) => {
            tracing::warn!("a message was refused: {malformed}");
            refuse("malformed", "", malformed.to_string())
        }
        Ok(Question::Health) => Reply::Healthy {
            audience: settings.name.clone(),
            environment: settings.environment.clone(),
            commands: u32::try_from(settings.commands.iter().count()).unwrap_or(u32::MAX),
            working: u32::try_from(working).unwrap_or(u32::MAX),
        },
        Ok(Question::Prepare(call)) => match service.resolved(call) {
            Ok(Resolved { action, digest, .. }) => Reply::Prepared { digest, action },
            Err(refused) => *refused,
        },
        Ok(Question::Run { call, token }) => perform(service, client, call, &Token::from_bytes(token)),
    };
    if tell(client, &reply).is_err() {
        tracing::warn!("nobody waits for the answer any more");
    }
}

/// Runs a command, and says how it ended; or why it was not run, which is put on record as well.
fn perform(service: &Service, client: &OwnedFd, call: Call, token: &Token) -> Reply {
    let command = call.command.clone();
    let mut facts = Map::new();
    facts.insert("command".to_owned(), crate::text::excerpt(command.as_bytes(), 64).into());
    facts.insert("token".to_owned(), hex(&token.digest()).into());
    match permitted(service, call, token, &mut facts) {
        Ok((resolved, execution)) => {
            let reply = ran(service, client, &resolved, &execution);
            let mut facts = Map::new();
            facts.insert("execution".to_owned(), execution.into());
            facts.extend(outcome(&reply));
            if let Err(error) = service.record.append("outcome", facts) {
                // It has run; what is said of it must not be lost, and nothing else is run before this can be written.
                tracing::error!("the end of a command cannot be put on record: {error}");
            }
            reply
        }
        Err(refused) => {
            if let Reply::Refused { reason, slot, message } = &*refused {
                facts.insert("reason".to_owned(), reason.as_str().into());
                facts.insert("slot".to_owned(), slot.as_str().into());
                facts.insert("message".to_owned(), message.as_str().into());
            }
            if let Err(error) = service.record.append("refused", facts) {
                tracing::error!("a refusal cannot be put on record: {error}");
            }
            *refused
        }
    }
}

/// Everything that has to be true before a command is run. The intent is on record then, and the token used.
fn permitted<'a>(
    service: &'a Service,
    call: Call,
    token: &Token,
    facts: &mut Map<String, Value>,
) -> Result<(Resolved<'a>, String), Box<Reply>> {
    let settings = &service.settings;
    let claims = token
        .verify(&settings.keys, &settings.name, &settings.environment, now())
        .map_err(|error| Box::new(refuse(error.reason(), "", error.to_string())))?;
    let Claims { command, subject, call: id, digest, .. } = &claims;
    facts.insert("subject".to_owned(), subject.as_str().into());
    facts.insert("call".to_owned(), id.as_str().into());
    if *command != call.command {
        let error = crate::capability::TokenError::Command;
        return Err(Box::new(refuse(error.reason(), "", error.to_string())));
    }
    let resolved = service.resolved(call)?;
    if resolved.digest != *digest {
        let message = "what would run now is not what was permitted: the program, a file, an argument or the executor's \
                       configuration has changed";
        return Err(Box::new(refuse("changed", "", message)));
    }
    service.nonces.consume(&claims).map_err(|spent| {
        Box::new(match spent {
            Spent::Used => refuse("consumed", "", "the capability token was used before"),
            Spent::Old => refuse("expired", "", "the capability token is too old"),
            Spent::Unknown(error) => {
                tracing::error!("which tokens were used cannot be written down: {error}");
                refuse("unavailable", "", "the executor cannot write down that the token is used")
            }
        })
    })?;
    let execution = uuid::Uuid::now_v7().to_string();
    facts.insert("execution".to_owned(), execution.as_str().into());
    facts.insert("environment".to_owned(), settings.environment.as_str().into());
    facts.insert("digest".to_owned(), hex(&resolved.digest).into());
    let action = serde_json::from_str(&resolved.action).unwrap_or(Value::Null);
    facts.insert("action".to_owned(), action);
    service.record.append("intent", facts.clone()).map_err(|error| {
        tracing::error!("the intent cannot be put on record, so nothing is run: {error}");
        Box::new(refuse("unavailable", "", "the executor cannot write its record"))
    })?;
    Ok((resolved, execution))
}

fn ran(service: &Service, client: &OwnedFd, resolved: &Resolved<'_>, execution: &str) -> Reply {
    let running = match run::start(resolved) {
        Ok(running) => running,
        Err(error) => {
            tracing::error!(command = resolved.command.name, "{error}");
            return refuse("not_started", "", error.to_string());
        }
    };
    match running.wait(resolved, client.as_fd()) {
        Ok(ended) => Reply::Ended(Ended { execution: execution.to_owned(), ..ended }),
        Err(error) => {
            tracing::error!(command = resolved.command.name, "{error}");
            let name = &service.settings.name;
            refuse("lost", "", format!("executor {name} lost the command, and killed it: {error}"))
        }
    }
}

fn outcome(reply: &Reply) -> Map<String, Value> {
    let value = match reply {
        Reply::Ended(Ended { code, signal, timed_out, micros, totals, digests, .. }) => json!({
            "exit_code": code,
            "signal": signal,
            "timed_out": timed_out,
            "duration_us": micros,
            "stdout_bytes": totals[0],
            "stdout_sha256": hex(&digests[0]),
            "stderr_bytes": totals[1],
            "stderr_sha256": hex(&digests[1]),
        }),
        Reply::Refused { reason, message, .. } => json!({ "reason": reason, "message": message }),
        Reply::Prepared { .. } | Reply::Output { .. } | Reply::Healthy { .. } => json!({}),
    };
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

impl Service {
    /// What a call would run, with everything opened.
    fn resolved(&self, call: Call) -> Result<Resolved<'_>, Box<Reply>> {
        resolve(&self.settings, &self.cleared, call)
    }
}
