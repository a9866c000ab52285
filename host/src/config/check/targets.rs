//! `[[upstreams]]` and `[[engines]]`: what answers the routes of the HTTP API.

use std::collections::BTreeMap;

use super::super::raw::{Raw, RawEngine, RawEngineInput, RawEngineMode, RawUpstream};
use super::super::rest::{Engine, EngineInput, EngineMode, Upstream};
use super::route::Proxy;
use super::{Checker, duration, is_name};

/// What engines call their errors, and the statuses that these mean, unless the file says otherwise.
const ERRORS: [(&str, u16); 4] =
    [("PIPELINE_ERROR", 502), ("NO_DATA", 404), ("INTERNAL_ERROR", 500), ("INVALID_INPUT", 400)];

impl Checker<'_> {
    /// All upstreams and engines that are complete.
    pub(super) fn targets(&mut self, raw: &Raw) -> (Vec<Upstream>, Vec<Engine>) {
        self.target_names(raw);
        let proxy = if raw.upstreams.is_empty() {
            Proxy::None
        } else {
            self.proxy("/gateway/proxy", &raw.gateway.proxy)
        };
        let upstreams = raw.upstreams.iter().enumerate();
        let upstreams = upstreams
            .filter_map(|(index, raw)| self.upstream(&format!("/upstreams/{index}"), raw, &proxy))
            .collect();
        let engines = raw.engines.iter().enumerate();
        let engines =
            engines.filter_map(|(index, raw)| self.engine(&format!("/engines/{index}"), raw)).collect();
        (upstreams, engines)
    }

    /// Rules name backends, upstreams and engines alike, so their names are unique together.
    fn target_names(&mut self, raw: &Raw) {
        let mut known: Vec<(&str, String)> = Vec::new();
        for (index, backend) in raw.backends.iter().enumerate() {
            known.extend(backend.name.as_deref().map(|name| (name, format!("backends[{index}]"))));
        }
        let upstreams = raw.upstreams.iter().map(|upstream| upstream.name.as_deref()).enumerate();
        let engines = raw.engines.iter().map(|engine| engine.name.as_deref()).enumerate();
        let all = upstreams.map(|(index, name)| ("upstreams", index, name));
        for (section, index, name) in all.chain(engines.map(|(index, name)| ("engines", index, name))) {
            let at = format!("/{section}/{index}/name");
            let Some(name) = name else {
                self.problem(&at, "it needs a name", format!("name = \"{}\"", section.trim_end_matches('s')));
                continue;
            };
            if !is_name(name) {
                let hint = "letters, digits, _ and -, at most 48";
                self.problem(&at, format!("{name:?} cannot be a name here"), hint);
            }
            if let Some((_, other)) = known.iter().find(|(known, _)| *known == name) {
                let message = format!("{other} is called {name:?} as well");
                self.problem(&at, message, "backends, upstreams and engines have names of their own");
            }
            known.push((name, format!("{section}[{index}]")));
        }
    }

    fn upstream(&mut self, at: &str, raw: &RawUpstream, proxy: &Proxy) -> Option<Upstream> {
        let headers = self.headers(&format!("{at}/headers"), &raw.headers);
        let url_at = format!("{at}/url");
        let Some(typed) = &raw.url else {
            self.problem(&url_at, "an upstream needs a url", "url = \"http://127.0.0.1:8080\"");
            return None;
        };
        if typed.contains(['?', '#']) {
            self.problem(
                &url_at,
                "the paths of routes stand behind it, so it has no query",
                "end it with the path",
            );
        }
        let url = self.url(&url_at, typed)?;
        let way = self.way(at, (raw.proxy.as_deref(), raw.tls.as_ref()), url.expose(), proxy);
        let mut pass_headers = Vec::new();
        for (index, name) in raw.pass_headers.iter().enumerate() {
            let at = format!("{at}/pass_headers/{index}");
            let lower = name.to_ascii_lowercase();
            if !sentinel_names::headers::is_name(&lower) {
                self.problem(&at, format!("{name:?} is not a header"), "such as \"x-tenant\"");
            } else if sentinel_names::headers::owner(&lower).is_some() || is_about_the_way(&lower) {
                self.problem(
                    &at,
                    format!("the gateway sets {name} itself, or never passes it on"),
                    "remove it",
                );
            }
            pass_headers.push(lower);
        }
        Some(Upstream {
            name: raw.name.clone()?,
            url,
            headers,
            way,
            timeout: duration(raw.timeout_secs),
            max_in_flight: raw.max_in_flight,
            retries: raw.retries,
            pass_headers,
            max_answer: raw.max_answer_bytes,
        })
    }

    fn engine(&mut self, at: &str, raw: &RawEngine) -> Option<Engine> {
        let env = self.environment(&format!("{at}/env"), &raw.env);
        let command = raw.command.clone().filter(|command| !command.is_empty());
        if command.is_none() {
            self.problem(&format!("{at}/command"), "an engine needs a command", "command = \"python3\"");
        }
        let mode = match raw.mode {
            RawEngineMode::Call => EngineMode::Call,
            RawEngineMode::Pool => EngineMode::Pool,
        };
        let input = match raw.input {
            RawEngineInput::Json => EngineInput::Json,
            RawEngineInput::File => EngineInput::File,
            RawEngineInput::None => EngineInput::None,
        };
        if mode == EngineMode::Pool && input != EngineInput::Json {
            let message = "a warm process gets its calls as lines of JSON";
            self.problem(&format!("{at}/input"), message, "remove it, or mode = \"call\"");
        }
        let sandbox = match &raw.sandbox {
            Some(sandbox) => Some(self.sandbox(&format!("{at}/sandbox"), sandbox)?),
            None => None,
        };
        let args = self.arguments(&format!("{at}/args"), &raw.args);
        let exits = self.exits(&format!("{at}/exits"), &raw.exits);
        let errors = self.errors(&format!("{at}/errors"), &raw.errors);
        Some(Engine {
            name: raw.name.clone()?,
            command: command?,
            args: args?,
            env,
            cwd: raw.cwd.as_ref().map(|cwd| self.path(cwd)),
            sandbox,
            mode,
            input,
            timeout: duration(raw.timeout_secs),
            max_in_flight: raw.max_in_flight,
            pool_size: raw.pool_size,
            max_uses: raw.max_uses,
            max_output: raw.max_output_bytes,
            exits,
            errors,
        })
    }

    fn exits(&mut self, at: &str, raw: &BTreeMap<String, u16>) -> Vec<(u8, u16)> {
        let mut exits = Vec::new();
        for (code, status) in raw {
            let at = format!("{at}/{code}");
            match code.parse::<u8>() {
                Ok(0) => self.problem(&at, "0 is the exit of a call that went well", "remove it"),
                Ok(code) => exits.push((code, *status)),
                Err(_) => self.problem(&at, format!("{code:?} is no exit code"), "a number from 1 to 255"),
            }
            self.status_of_failure(&at, *status);
        }
        exits
    }

    fn errors(&mut self, at: &str, raw: &BTreeMap<String, u16>) -> Vec<(String, u16)> {
        let mut errors: Vec<(String, u16)> =
            raw.iter().map(|(code, status)| (code.clone(), *status)).collect();
        for (code, status) in &errors {
            self.status_of_failure(&format!("{at}/{}", super::super::document::escape(code)), *status);
        }
        let known = |code: &str| raw.contains_key(code);
        errors.extend(
            ERRORS
                .iter()
                .filter(|(code, _)| !known(code))
                .map(|(code, status)| ((*code).to_owned(), *status)),
        );
        errors
    }

    fn status_of_failure(&mut self, at: &str, status: u16) {
        if !(400..600).contains(&status) {
            let message = format!("{status} is no status of a failure");
            self.problem(at, message, "one from 400 to 599");
        }
    }
}

/// Headers that say on which way a request came, which the gateway says itself.
fn is_about_the_way(name: &str) -> bool {
    name == "forwarded"
        || name == "via"
        || name.starts_with("x-forwarded-")
        || matches!(name, "authorization" | "cookie" | "x-api-key" | "x-real-ip" | "x-request-id")
}
