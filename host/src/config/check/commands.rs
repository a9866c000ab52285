//! `[[executors]]` and `[[commands]]`: every command has its executor, and every executor is told by whom it is spoken to.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::file::{other_readers, read_secret};
use super::super::raw::{Raw, RawDefault, RawExecutor};
use super::super::{Executor, Secret};
use super::Checker;
use crate::capability::Key;
use crate::command::{self, Command, Commands};

impl Checker<'_> {
    /// All executors with their commands.
    pub(super) fn executors(&mut self, raw: &Raw) -> Vec<Executor> {
        let commands = self.commands(raw);
        let mut names: HashMap<&str, String> = HashMap::new();
        for (index, backend) in raw.backends.iter().enumerate() {
            names.extend(backend.name.as_deref().map(|name| (name, format!("backends[{index}]"))));
        }
        for (index, upstream) in raw.upstreams.iter().enumerate() {
            names.extend(upstream.name.as_deref().map(|name| (name, format!("upstreams[{index}]"))));
        }
        for (index, engine) in raw.engines.iter().enumerate() {
            names.extend(engine.name.as_deref().map(|name| (name, format!("engines[{index}]"))));
        }
        let mut executors = Vec::new();
        for (index, executor) in raw.executors.iter().enumerate() {
            let at = format!("/executors/{index}");
            if let Some(name) = executor.name.as_deref()
                && let Some(other) = names.insert(name, format!("executors[{index}]"))
            {
                let message = format!("{other} is called {name:?} as well");
                self.problem(&format!("{at}/name"), message, "names of backends and executors are unique");
            }
            let own: Vec<_> = commands
                .iter()
                .filter(|(_, command)| Some(command.executor.as_str()) == executor.name.as_deref())
                .cloned()
                .collect();
            executors.extend(self.executor(&at, executor, own));
        }
        executors
    }

    fn executor(
        &mut self,
        at: &str,
        raw: &RawExecutor,
        commands: Vec<(String, Command)>,
    ) -> Option<Executor> {
        let mut named = |key: &str, value: Option<&str>, hint: &str| match value {
            Some(value) if command::is_name(value) => Some(value.to_owned()),
            Some(value) => {
                let hint = "letters, digits, _ and -, at most 48";
                self.problem(
                    &format!("{at}/{key}"),
                    format!("{value:?} cannot be the {key} of an executor"),
                    hint,
                );
                None
            }
            None => {
                self.problem(&format!("{at}/{key}"), format!("an executor needs its {key}"), hint);
                None
            }
        };
        let name = named("name", raw.name.as_deref(), "name = \"exec\"");
        let environment = named("environment", raw.environment.as_deref(), "environment = \"dev\"");
        let socket = raw.socket.as_ref().map(|typed| self.path(typed));
        if socket.is_none() {
            let hint = "socket = \"/run/sentinel/exec.sock\", as in the executor's own file";
            self.problem(&format!("{at}/socket"), "an executor needs its socket", hint);
        }
        let key = self.signing_key(&format!("{at}/key_file"), raw.key_file.as_deref());
        if commands.is_empty() && raw.name.is_some() && !self.typed("/commands") {
            self.warn(at, "it has no commands, so it does nothing", "add [[commands]]");
        }
        let (key, secret) = key?;
        let mut settled = ring::digest::Context::new(&ring::digest::SHA256);
        for (typed, _) in &commands {
            settled.update(typed.as_bytes());
            settled.update(b"\0");
        }
        for part in [name.as_deref()?, environment.as_deref()?, socket.as_ref()?.to_str()?, secret.expose()] {
            settled.update(part.as_bytes());
            settled.update(b"\0");
        }
        settled.update(&raw.max_in_flight.to_be_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(settled.finish().as_ref());
        Some(Executor {
            name: name?,
            environment: environment?,
            socket: socket?,
            key: Arc::new(key),
            secret,
            max_in_flight: raw.max_in_flight,
            commands: Arc::new(Commands::new(commands.into_iter().map(|(_, command)| command).collect())),
            digest,
        })
    }

    fn signing_key(&mut self, at: &str, typed: Option<&str>) -> Option<(Key, Secret)> {
        let Some(typed) = typed else {
            let hint = "make one with `sentinel-gateway executor keys`, then key_file = \"capability.key\"";
            self.problem(at, "an executor takes only what this gateway has signed", hint);
            return None;
        };
        let path = self.path(typed);
        let text = match read_secret(&path, &self.trust) {
            Ok(text) => text,
            Err(unread) => {
                self.unread(at, unread);
                return None;
            }
        };
        if let Some(who) = other_readers(&path) {
            let message = format!("{who} may read {}", path.display());
            self.problem(at, message, format!("type: chmod 600 {}", path.display()));
        }
        match Key::from_pem(&text) {
            Ok(key) => {
                // The text of the key alone gives it away, too.
                let lines = text.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned);
                let hidden = std::iter::once(text.clone()).chain(lines).collect();
                Some((key, Secret::with_hidden(text, hidden)))
            }
            Err(error) => {
                self.problem(
                    at,
                    format!("{}: {error}", path.display()),
                    "it begins with -----BEGIN PRIVATE KEY-----",
                );
                None
            }
        }
    }

    /// The configuration of the plugin `command-policy`, where there are executors: commands are never run without it.
    pub(super) fn command_policy(&mut self, raw: &Raw) -> Option<Value> {
        let at = "/command_policy";
        if raw.executors.is_empty() {
            if self.typed(at) && !self.gone("/executors") {
                self.warn(
                    at,
                    "there is no executor, so this has no effect",
                    "remove it, or add [[executors]]",
                );
            }
            return None;
        }
        let policy = &raw.command_policy;
        let allowed = match (&policy.allowed_environments, self.var("ALLOWED_ENVIRONMENTS")) {
            (Some(typed), _) => typed.clone(),
            (None, Some(variable)) => variable.split(',').map(|name| name.trim().to_owned()).collect(),
            (None, None) => {
                let hint = "allowed_environments = [\"dev\"], or set the variable ALLOWED_ENVIRONMENTS";
                let message = "it must be said in which environments commands may be run";
                self.problem("/command_policy/allowed_environments", message, hint);
                Vec::new()
            }
        };
        if policy.default_decision == RawDefault::Allow {
            let hint = "\"ask\" or \"deny\" is the safe choice";
            self.warn("/command_policy/default_decision", "commands that no rule is about are run", hint);
        }
        let named = |executor: &RawExecutor| {
            Some((executor.name.clone()?, Value::from(executor.environment.clone()?)))
        };
        let executors: Map<String, Value> = raw.executors.iter().filter_map(named).collect();
        Some(json!({
            "executors": executors,
            "allowed_environments": allowed,
            "production": policy.production,
            "default_decision": policy.default_decision,
            "rules": policy.rules,
        }))
    }

    /// All commands that are in order, each with what was typed.
    fn commands(&mut self, raw: &Raw) -> Vec<(String, Command)> {
        let known: Vec<&str> = raw.executors.iter().filter_map(|executor| executor.name.as_deref()).collect();
        let mut first: HashMap<&str, usize> = HashMap::new();
        let mut commands = Vec::new();
        if !raw.commands.is_empty() && raw.executors.is_empty() && !self.gone("/executors") {
            let hint = "add [[executors]] with name, socket, environment and key_file; the process is started with \
                        `sentinel-gateway executor run FILE`";
            self.problem("/commands", "there is no executor, and the gateway runs no commands itself", hint);
        }
        for (index, typed) in raw.commands.iter().enumerate() {
            let at = format!("/commands/{index}");
            if let Some(name) = typed.name.as_deref()
                && let Some(other) = first.insert(name, index)
            {
                let message = format!("commands[{other}] is called {name:?} as well");
                self.problem(&format!("{at}/name"), message, "names of commands are unique");
            }
            let executor = match (typed.executor.as_deref(), known.as_slice()) {
                (Some(name), known) if known.contains(&name) => name,
                (Some(name), known) => {
                    if !known.is_empty() {
                        let hint = format!("one of: {}", known.join(", "));
                        self.problem(
                            &format!("{at}/executor"),
                            format!("there is no executor {name:?}"),
                            hint,
                        );
                    }
                    name
                }
                (None, [only]) => only,
                (None, []) => "",
                (None, several) => {
                    let hint = format!("executor = {:?}, or another", several[0]);
                    self.problem(&format!("{at}/executor"), "there are several executors", hint);
                    ""
                }
            };
            match command::check(typed, executor) {
                // What was typed is compared, so that a change of it is seen.
                Ok(command) => commands.push((serde_json::to_string(typed).unwrap_or_default(), command)),
                Err(mistakes) => {
                    for mistake in mistakes {
                        self.problem(&format!("{at}{}", mistake.at), mistake.message, mistake.hint);
                    }
                }
            }
        }
        commands
    }
}
