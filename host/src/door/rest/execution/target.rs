//! Which command of which executor a caller means, as the target of a call.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::super::refusal::Refusal;
use crate::call::{Denial, DenialKind, Target, TargetKind};
use crate::capability::Token;
use crate::mcp::catalog::List;
use crate::pipeline::{Backend, Destination, Failure, Generation, Grant, Locate};
use crate::route::problem::Problem;

/// What a caller means.
#[derive(Debug)]
pub(super) struct Meant {
    backend: Arc<str>,
    /// The command.
    pub(super) command: String,
    /// What clients call it.
    pub(super) name: Arc<str>,
    pub(super) arguments: Value,
}

/// A call of it.
#[derive(Debug)]
pub(super) struct Wanted<'m> {
    pub(super) meant: &'m Meant,
    pub(super) grant: Option<Grant>,
    /// The token that the caller brings, and the approval that they name.
    pub(super) brought: Option<(Token, Option<String>)>,
    pub(super) notes: Vec<(String, String)>,
}

impl Meant {
    /// Finds it in a generation: the executor by its environment, the command by a whole line, or by its name where the
    /// arguments come beside it.
    pub(super) fn find(
        generation: &Generation,
        environment: &str,
        line: &str,
        arguments: Option<&Value>,
    ) -> Result<Self, Box<Refusal>> {
        let mut refused = None;
        let mut known = false;
        for backend in generation.backends() {
            let Backend::Exec(client) = &backend else { continue };
            if client.environment() != environment {
                continue;
            }
            known = true;
            let (command, arguments) = match arguments {
                Some(arguments) if client.knows(line) => (line.to_owned(), arguments.clone()),
                Some(_) => continue,
                None => match client.recognise(line) {
                    Ok(recognised) => recognised,
                    Err(why) => {
                        refused = refused.or(Some(why));
                        continue;
                    }
                },
            };
            let name = shown(generation, backend.name(), &command);
            let name = name.unwrap_or_else(|| command.as_str().into());
            return Ok(Self { backend: backend.name().clone(), command, name, arguments });
        }
        if !known {
            let text = format!("no executor is for the environment {:?}", excerpt(environment));
            return Err(Refusal::new(Problem::new(StatusCode::FORBIDDEN, "wrong_environment", text)));
        }
        let mut problem = match &refused {
            Some(why) if why.slot.is_empty() => {
                Problem::new(StatusCode::BAD_REQUEST, "argument_refused", why.message.as_str())
            }
            Some(why) => {
                let text = format!("`{}`: {}", why.slot, why.message);
                Problem::new(StatusCode::BAD_REQUEST, "argument_refused", text)
            }
            None => {
                let text = "there is no command of this name in this environment";
                Problem::new(StatusCode::BAD_REQUEST, "argument_refused", text)
            }
        };
        if let Some(why) = refused.filter(|why| !why.slot.is_empty()) {
            problem.facts.insert("slot".to_owned(), why.slot.into());
        }
        Err(Refusal::new(problem))
    }
}

impl Meant {
    /// The command of this name; no two have the same.
    pub(super) fn named(
        generation: &Generation,
        command: &str,
        arguments: Map<String, Value>,
    ) -> Result<Self, Box<Refusal>> {
        let knows = |backend: &Backend| matches!(backend, Backend::Exec(client) if client.knows(command));
        let Some(backend) = generation.backends().find(knows) else {
            let text = "there is no command of this name";
            return Err(Refusal::new(Problem::new(StatusCode::NOT_FOUND, "not_found", text)));
        };
        let name = shown(generation, backend.name(), command).unwrap_or_else(|| command.into());
        let (backend, command) = (backend.name().clone(), command.to_owned());
        Ok(Self { backend, command, name, arguments: Value::Object(arguments) })
    }
}

impl Locate for Wanted<'_> {
    fn locate(&self, generation: &Generation) -> Result<Destination, Failure> {
        let Meant { backend, command, name, .. } = self.meant;
        let unknown = || Failure::Unknown { kind: TargetKind::Tool, name: name.to_string() };
        let Some(Backend::Exec(client)) = generation.find(backend) else { return Err(unknown()) };
        let catalog = generation.registry().catalog();
        let entry = catalog
            .list(List::Tools)
            .iter()
            .find(|entry| entry.backend == *backend && *entry.upstream == **command)
            .ok_or_else(unknown)?;
        if entry.name != *name {
            let text = "the configuration has changed while the request came in: send it once more";
            return Err(Denial::new(DenialKind::Unavailable, "route_changed", text).into());
        }
        let target = Target {
            kind: TargetKind::Tool,
            name: entry.name.clone(),
            backend: backend.clone(),
            upstream: entry.upstream.clone(),
        };
        let client = match &self.brought {
            Some((token, approval)) => Arc::new(client.bearing(token.clone(), approval.clone())),
            None => client,
        };
        Ok(Destination::new(target, Backend::Exec(client), None).described(entry.clone()))
    }

    fn grant(&self) -> Option<Grant> {
        self.grant
    }

    fn notes(&self) -> &[(String, String)] {
        &self.notes
    }
}

/// What clients call a command.
fn shown(generation: &Generation, backend: &Arc<str>, command: &str) -> Option<Arc<str>> {
    let catalog = generation.registry().catalog();
    let found = catalog
        .list(List::Tools)
        .iter()
        .find(|entry| entry.backend == *backend && *entry.upstream == *command);
    found.map(|entry| entry.name.clone())
}

/// The beginning of what a caller sent.
pub(super) fn excerpt(text: &str) -> String {
    crate::text::excerpt(text.as_bytes(), 64)
}
