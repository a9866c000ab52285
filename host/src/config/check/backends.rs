//! The servers behind the gateway.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sentinel_names::headers::{self, Owner};

use super::super::document::escape;
use super::super::raw::{RawArgumentCheck, RawArguments, RawBackend, RawEnv, RawEra, RawType};
use super::super::secret::Secret;
use super::super::{Backend, BackendEra, TransportSettings, file};
use super::address::{host_of, is_loopback};
use super::route::Proxy;
use super::tools::arguments;
use super::{Checker, duration, is_name};
use crate::redact::names_a_secret;

/// The header that carries `BACKEND_SHARED_SECRET`.
const SHARED_SECRET_HEADER: &str = "X-Sentinel-Auth";

/// Variables whose values are no secrets, though they come from the environment: hiding `/home/ann`
/// in every record would make the records useless.
const PUBLIC_VARIABLES: [&str; 14] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TMPDIR", "TZ", "PWD",
    "HOSTNAME", "DISPLAY", "NODE_ENV",
];

/// How long a server may take to answer while it starts, unless it is said: a process may have to be downloaded first.
const START_OF_PROCESS: Duration = Duration::from_secs(600);
const START_OF_HTTP: Duration = Duration::from_secs(60);

impl Checker<'_> {
    /// All backends that are complete.
    pub(super) fn backends(&mut self, raw: &[RawBackend], proxy: &str) -> Vec<Backend> {
        let proxy = self.proxy("/gateway/proxy", proxy);
        let mut first: HashMap<&str, usize> = HashMap::new();
        let mut backends = Vec::new();
        for (index, backend) in raw.iter().enumerate() {
            let at = format!("/backends/{index}");
            if let Some(name) = &backend.name
                && let Some(other) = first.insert(name, index)
            {
                let message = format!("backends[{other}] is called {name:?} as well");
                self.problem(&format!("{at}/name"), message, "names of backends are unique");
            }
            backends.extend(self.backend(&at, backend, &proxy));
        }
        self.unused_proxy(&backends);
        if raw.is_empty() && !self.typed("/backends") && !self.typed("/routes") {
            self.warn("/backends", "there is no backend, so there are no tools", "add [[backends]]");
        }
        backends
    }

    fn backend(&mut self, at: &str, raw: &RawBackend, proxy: &Proxy) -> Option<Backend> {
        let name_at = format!("{at}/name");
        let name = raw.name.clone();
        match &name {
            None => self.problem(&name_at, "a backend needs a name", "name = \"files\""),
            Some(name) if !is_name(name) => {
                let hint = "letters, digits, _ and -, at most 48";
                self.problem(&name_at, format!("{name:?} cannot be the name of a backend"), hint);
            }
            Some(_) => {}
        }
        let (transport, absent) = self.transport_if_there(at, raw, proxy);
        let longest = self.longest(at, duration(raw.timeout_secs), raw.max_timeout_secs);
        let tools = self.tools(at, raw);
        if raw.argument_check == RawArgumentCheck::Strict && raw.arguments != RawArguments::Refuse {
            let message = "it has no effect where arguments are not refused";
            self.warn(&format!("{at}/argument_check"), message, "remove it, or arguments = \"refuse\"");
        }
        let timeout = duration(raw.timeout_secs);
        let start_timeout = raw.start_timeout_secs.map(duration);
        let start_timeout = start_timeout.unwrap_or_else(|| match &transport {
            Some(TransportSettings::Http { .. }) => timeout.max(START_OF_HTTP),
            Some(TransportSettings::Stdio { .. }) | None => START_OF_PROCESS,
        });
        Some(Backend {
            absent,
            name: name?,
            transport: transport?,
            timeout,
            start_timeout,
            longest,
            arguments: arguments(raw.arguments),
            tools,
            errors_count: raw.circuit_breaker_count_errors,
            retries: raw.retries,
            restart_on_exit: raw.restart_on_exit.unwrap_or(true),
            max_restarts: raw.max_restarts.unwrap_or(10),
            health_interval: duration(raw.health_interval_secs),
            max_in_flight: raw.max_in_flight,
            always_prefix: raw.prefix,
            era: match raw.era {
                RawEra::Auto => BackendEra::Auto,
                RawEra::Handshake => BackendEra::Handshake,
                RawEra::Stateless => BackendEra::Stateless,
            },
            strict_schemas: raw.argument_check == RawArgumentCheck::Strict,
            max_connections: raw.max_connections,
            idle_timeout: duration(raw.idle_timeout_secs),
            required: raw.required,
        })
    }

    /// How a backend is reached, and what keeps an optional one from being started: what that lacks is noted, not reported as
    /// a mistake.
    fn transport_if_there(
        &mut self,
        at: &str,
        raw: &RawBackend,
        proxy: &Proxy,
    ) -> (Option<TransportSettings>, Option<String>) {
        self.lacking = raw.optional.then(Vec::new);
        let transport = self.transport(at, raw, proxy);
        let lacking = self.lacking.take().unwrap_or_default();
        if lacking.is_empty() {
            return (transport, None);
        }
        let why = lacking.join("; ");
        if let Some(name) = &raw.name {
            let text = format!("{why}, so {name} is left out (optional = true)");
            self.warn(&format!("{at}/name"), text, "set it where the gateway is started");
        }
        // It is never opened, and keeps its place among the others.
        let nothing = || TransportSettings::Stdio {
            command: raw.command.clone().unwrap_or_default(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            sandbox: None,
        };
        (transport.or_else(|| Some(nothing())), Some(why))
    }

    fn transport(&mut self, at: &str, raw: &RawBackend, proxy: &Proxy) -> Option<TransportSettings> {
        let kind = match (raw.kind, &raw.url, &raw.command) {
            (Some(kind), ..) => kind,
            (None, Some(_), None) => RawType::Http,
            (None, None, Some(_)) => RawType::Stdio,
            (None, ..) => {
                let hint = "type = \"http\" with url, or type = \"stdio\" with command";
                self.problem(&format!("{at}/type"), "a backend needs a type", hint);
                return None;
            }
        };
        let own = if kind == RawType::Http { "http" } else { "stdio" };
        let foreign = match kind {
            RawType::Http => vec![
                ("command", raw.command.is_some()),
                ("args", !raw.args.is_empty()),
                ("env", !raw.env.is_empty()),
                ("cwd", raw.cwd.is_some()),
                ("sandbox", raw.sandbox.is_some()),
            ],
            RawType::Stdio => vec![
                ("url", raw.url.is_some()),
                ("headers", !raw.headers.is_empty()),
                ("proxy", raw.proxy.is_some()),
                ("tls", raw.tls.is_some()),
            ],
        };
        for (key, _) in foreign.into_iter().filter(|(_, typed)| *typed) {
            let hint = "remove it, or change the type";
            self.problem(&format!("{at}/{key}"), format!("a backend of type {own:?} has no {key}"), hint);
        }
        match kind {
            RawType::Http => self.http(at, raw, proxy),
            RawType::Stdio => self.stdio(at, raw),
        }
    }

    fn stdio(&mut self, at: &str, raw: &RawBackend) -> Option<TransportSettings> {
        let env = self.environment(&format!("{at}/env"), &raw.env);
        let command = raw.command.clone().filter(|command| !command.is_empty());
        if command.is_none() {
            self.problem(&format!("{at}/command"), "a stdio backend needs a command", "command = \"npx\"");
        }
        let cwd = raw.cwd.as_ref().map(|cwd| self.path(cwd));
        let sandbox = match &raw.sandbox {
            Some(sandbox) => Some(self.sandbox(&format!("{at}/sandbox"), sandbox)?),
            None => None,
        };
        let args = self.arguments(&format!("{at}/args"), &raw.args);
        Some(TransportSettings::Stdio { command: command?, args: args?, env, cwd, sandbox })
    }

    fn http(&mut self, at: &str, raw: &RawBackend, proxy: &Proxy) -> Option<TransportSettings> {
        for (key, typed) in
            [("restart_on_exit", raw.restart_on_exit.is_some()), ("max_restarts", raw.max_restarts.is_some())]
        {
            if typed {
                self.warn(&format!("{at}/{key}"), "it has no effect on an http backend", "remove it");
            }
        }
        let mut headers = self.headers(&format!("{at}/headers"), &raw.headers);
        let own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(SHARED_SECRET_HEADER));
        if let Some(secret) = self.var("BACKEND_SHARED_SECRET").filter(|_| !own) {
            if is_header_value(&secret) {
                headers.push((SHARED_SECRET_HEADER.to_owned(), Secret::new(secret)));
            } else {
                self.problem(at, "BACKEND_SHARED_SECRET cannot be sent in a header", "use printable ASCII");
            }
        }
        let url_at = format!("{at}/url");
        let Some(typed) = &raw.url else {
            self.problem(&url_at, "an http backend needs a url", "url = \"http://127.0.0.1:8080/mcp\"");
            return None;
        };
        let url = self.url(&url_at, typed)?;
        let route = self.way(at, (raw.proxy.as_deref(), raw.tls.as_ref()), url.expose(), proxy);
        Some(TransportSettings::Http { url, headers, route })
    }

    /// A url with the values of its variables. Messages show it as it was typed.
    pub(super) fn url(&mut self, at: &str, typed: &str) -> Option<Secret> {
        let url = self.interpolate(at, "", typed)?;
        let text = url.expose();
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (http, https) = (scheme.eq_ignore_ascii_case("http"), scheme.eq_ignore_ascii_case("https"));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host_of(authority);
        if !(http || https) || host.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            let hint = "it looks like http://127.0.0.1:8080/mcp or https://example.org/mcp";
            self.problem(at, format!("{typed:?} is not the url of an http server"), hint);
        } else if authority.contains('@') {
            let hint = "send it as a header: headers = { Authorization = \"Bearer ${NAME}\" }";
            self.problem(at, "a url must not carry a password", hint);
        } else if http && !is_loopback(host) {
            // The host may come from a variable, and then it is not repeated.
            let host = if typed.contains(host) { host } else { "that host" };
            let message = format!("what is sent to {host} can be read and changed on the way");
            self.warn(at, message, "use https, or a tunnel to 127.0.0.1");
        }
        let query = typed.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let literal: Vec<&str> =
            pairs.filter(|(name, value)| is_literal_secret(name, value)).map(|(_, value)| value).collect();
        Some(self.with_literals(at, url, &literal))
    }

    /// The arguments of a program with what their variables stand for.
    pub(super) fn arguments(&mut self, at: &str, typed: &[String]) -> Option<Vec<Secret>> {
        let (mut args, mut complete, mut flag) = (Vec::new(), true, "");
        for (index, typed) in typed.iter().enumerate() {
            let at = format!("{at}/{index}");
            let value = self.interpolate(&at, "", typed);
            complete &= value.is_some();
            let literal = match typed.split_once('=') {
                Some((name, value)) if name.starts_with('-') && is_literal_secret(name, value) => Some(value),
                _ if !typed.starts_with('-') && is_literal_secret(flag, typed) => Some(typed.as_str()),
                _ => None,
            };
            args.extend(value.map(|value| self.with_literals(&at, value, literal.as_slice())));
            flag = if typed.starts_with('-') && !typed.contains('=') { typed } else { "" };
        }
        complete.then_some(args)
    }

    /// The same value, which also hides literals whose names say that they are secrets.
    fn with_literals(&mut self, at: &str, value: Secret, literal: &[&str]) -> Secret {
        if literal.is_empty() {
            return value;
        }
        let hint = "name an environment variable or a file instead: \"${NAME}\", \"${file:PATH}\"";
        self.warn(at, "this looks like a secret written into the file", hint);
        let mut hidden = value.hidden().to_vec();
        hidden.extend(literal.iter().map(|literal| (*literal).to_owned()));
        Secret::with_hidden(value.expose().to_owned(), hidden)
    }

    pub(super) fn headers(&mut self, at: &str, raw: &BTreeMap<String, String>) -> Vec<(String, Secret)> {
        let mut sent: Vec<(String, Secret)> = Vec::new();
        for (name, typed) in raw {
            let at = format!("{at}/{}", escape(name));
            let owner = headers::owner(name);
            if !headers::is_name(name) || owner == Some(Owner::Connection) {
                self.problem(&at, format!("{name:?} cannot be set as a header"), "remove it");
            } else if owner == Some(Owner::Transport) {
                let message =
                    format!("the gateway sets {name:?} for each message itself; this value is not used");
                self.warn(&at, message, "remove it");
            }
            if sent.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                self.problem(&at, "the header is there in another spelling", "keep one of them");
            }
            let Some(value) = self.interpolate(&at, name, typed) else { continue };
            if !is_header_value(value.expose()) {
                self.problem(&at, "the value cannot be sent in a header", "use printable ASCII");
            }
            sent.push((name.clone(), value));
        }
        sent
    }

    pub(super) fn environment(&mut self, at: &str, raw: &RawEnv) -> Vec<(String, Secret)> {
        let mut env = Vec::new();
        match raw {
            RawEnv::Table(table) => {
                for (name, typed) in table {
                    let at = format!("{at}/{}", escape(name));
                    if name.is_empty() || name.contains(['=', '\0']) || typed.contains('\0') {
                        self.problem(
                            &at,
                            "this cannot be an environment variable",
                            "no = in the name, no NUL anywhere",
                        );
                    }
                    let Some(value) = self.interpolate(&at, name, typed) else { continue };
                    if value.expose().contains('\0') && !typed.contains('\0') {
                        self.problem(&at, "the value holds a NUL", "no environment variable can");
                    }
                    env.push((name.clone(), value));
                }
            }
            RawEnv::Names(names) => {
                for (index, name) in names.iter().enumerate() {
                    let at = format!("{at}/{index}");
                    if name.contains('=') {
                        let hint = "values go into a table: env = { NAME = \"value\" }";
                        self.problem(&at, "this is a list of names, without values", hint);
                    } else if let Some(value) = self.needed(&at, name) {
                        let hidden = if is_public(name) { Vec::new() } else { vec![value.clone()] };
                        env.push((name.clone(), Secret::with_hidden(value, hidden)));
                    }
                }
            }
        }
        env
    }

    /// A secret out of a file; relative paths start at the folder of the configuration.
    pub(super) fn secret_file(&mut self, at: &str, typed: &str) -> Option<String> {
        let path = self.path(typed);
        match file::read_secret(&path, &self.trust) {
            Ok(secret) => {
                if let Some(who) = file::other_readers(&path) {
                    let hint = format!("chmod go-r {}", path.display());
                    self.warn(at, format!("{who} may read {}", path.display()), hint);
                }
                Some(secret)
            }
            // A file that is there and open to others is a mistake even for an optional server.
            Err(unread) => match &mut self.lacking {
                Some(lacking) if !path.exists() => {
                    lacking.extend(unread.into_iter().map(|(message, _)| message));
                    None
                }
                _ => {
                    self.unread(at, unread);
                    None
                }
            },
        }
    }

    /// Replaces `${NAME}` by that environment variable, `${NAME:-DEFAULT}` by the default if it is not set, and
    /// `${file:PATH}` by the content of that file; `$${` stands for `${`.
    pub(super) fn interpolate(&mut self, at: &str, key: &str, typed: &str) -> Option<Secret> {
        let (mut value, mut hidden) = (String::new(), Vec::new());
        let mut complete = true;
        // A default in place of a variable is as public as the file.
        let mut named = false;
        let mut rest = typed;
        while let Some(start) = rest.find("${") {
            let before = &rest[..start];
            if let Some(before) = before.strip_suffix('$') {
                value.push_str(before);
                value.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            value.push_str(before);
            let Some((name, after)) = rest[start + 2..].split_once('}') else {
                let hint = "write ${NAME} or ${file:PATH}, or $${ for the characters themselves";
                self.problem(at, "a ${ without its }", hint);
                return None;
            };
            let (found, secret) = match (name.strip_prefix("file:"), name.split_once(":-")) {
                (Some(path), _) => (self.secret_file(at, path), true),
                (None, _) if name.starts_with("env:") => {
                    // As other programs spell it.
                    let plain = name.trim_start_matches("env:");
                    let text = format!("${{{name}}} is not how a variable is written here");
                    self.problem(at, text, format!("write ${{{plain}}}"));
                    (None, false)
                }
                (None, Some((name, default))) => match self.var(name) {
                    Some(found) => (Some(found), !is_public(name)),
                    None => {
                        named = true;
                        (Some(default.to_owned()), false)
                    }
                },
                (None, None) => (self.needed(at, name), !is_public(name)),
            };
            match found {
                Some(found) => {
                    value.push_str(&found);
                    if secret {
                        hidden.push(found);
                    }
                }
                None => complete = false,
            }
            rest = after;
        }
        value.push_str(rest);
        if hidden.is_empty() && complete && !named && names_a_secret(key) && !value.is_empty() {
            let hint = "name an environment variable or a file instead: \"${NAME}\", \"${file:PATH}\"";
            self.warn(at, "this looks like a secret written into the file", hint);
            hidden.push(value.clone());
        }
        complete.then(|| Secret::with_hidden(value, hidden))
    }
}

/// Whether a value is one in clear, under a name for secrets.
fn is_literal_secret(name: &str, value: &str) -> bool {
    !value.is_empty() && !value.contains("${") && names_a_secret(name)
}

fn is_public(variable: &str) -> bool {
    PUBLIC_VARIABLES.contains(&variable) || variable.starts_with("LC_") || variable.starts_with("XDG_")
}

/// RFC 9110, 5.6.2: the characters of a header's name.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}
