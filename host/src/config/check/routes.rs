//! `[[routes]]`: every mistake of every route at once, and two routes that answer the same request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::raw::{Raw, RawBody, RawIdempotency, RawResponse, RawRoute, RawRouteAuth, RawTarget};
use super::super::rest::{
    Body, Described, Engine, EngineMode, Idempotency, Route, RouteAuth, Segment, Target, Template, Upstream,
};
use super::{Checker, duration};
use crate::config::problem::nearest;
use crate::mcp::schema::{ArgumentSchema, Notice, Room};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What routes are checked against.
struct Around<'a> {
    upstreams: &'a [Upstream],
    engines: &'a [Engine],
    /// A name may be missing because its section is wrong; that was said there.
    complete: bool,
    max_message: usize,
}

impl Checker<'_> {
    /// All routes that are complete.
    pub(super) fn routes(&mut self, raw: &Raw, upstreams: &[Upstream], engines: &[Engine]) -> Vec<Route> {
        let complete = upstreams.len() == raw.upstreams.len() && engines.len() == raw.engines.len();
        let around = Around { upstreams, engines, complete, max_message: raw.gateway.max_message_bytes };
        let mut routes = Vec::new();
        let mut ids: HashMap<String, usize> = HashMap::new();
        for (index, raw) in raw.routes.iter().enumerate() {
            let at = format!("/routes/{index}");
            let Some(route) = self.one_route(&at, raw, &around) else { continue };
            if let Some(other) = ids.insert(route.id.clone(), index) {
                let message = format!("routes[{other}] is called {:?} as well", route.id);
                self.problem(&format!("{at}/id"), message, "give each route an id of its own: id = \"…\"");
            }
            routes.push((index, route));
        }
        self.conflicts(&routes, raw);
        routes.into_iter().map(|(_, route)| route).collect()
    }

    /// Two routes with one meaning, and routes at paths that belong to something else.
    fn conflicts(&mut self, routes: &[(usize, Route)], raw: &Raw) {
        let mut shapes: HashMap<(Method, String), usize> = HashMap::new();
        let mut table = matchit::Router::new();
        let mut inserted: HashMap<String, usize> = HashMap::new();
        let paths = routes.iter().flat_map(|(index, route)| {
            let own = (format!("/routes/{index}/path"), *index, route, &route.path);
            let older = route.legacy.iter().enumerate().map(move |(number, legacy)| {
                (format!("/routes/{index}/legacy_paths/{number}/path"), *index, route, &legacy.path)
            });
            std::iter::once(own).chain(older)
        });
        for (at, index, route, path) in paths {
            let shape = path.shape();
            if let Some(other) = shapes.insert((route.method.clone(), shape.clone()), index) {
                let message = format!("{} {path} is answered by routes[{other}] already", route.method);
                self.problem(&at, message, "take one of them out: the names in braces make no difference");
            } else if let Entry::Vacant(free) = inserted.entry(shape) {
                if let Err(error) = table.insert(free.key().clone(), index) {
                    let message = format!("{path} is in the way of another route ({error})");
                    self.problem(&at, message, "a path that ends in {*rest} takes all that follow");
                }
                free.insert(index);
            }
            for taken in self.paths_of_mcp(raw) {
                if path.as_str() == taken {
                    let message = format!("{taken} is served by the gateway itself");
                    self.problem(&at, message, "give the route another path, or [http] path another one");
                }
            }
        }
        if let Some(expected) = raw.http.as_ref().and_then(|http| http.expected_routes)
            && expected != raw.routes.len()
        {
            let message = format!("there are {} routes, and {expected} are expected", raw.routes.len());
            self.problem("/http/expected_routes", message, "correct the number, or the routes");
        }
        if !raw.routes.is_empty() && raw.http.is_none() {
            let hint = "add the section [http], and [gateway] listen for the address";
            self.problem("/routes", "routes are served over HTTP, and that door is closed", hint);
        }
    }

    fn paths_of_mcp(&self, raw: &Raw) -> Vec<String> {
        let mut taken = vec!["/openapi.json".to_owned()];
        let mounts = raw.http.iter().flat_map(|http| http.mounts.iter().map(|mount| mount.path.as_str()));
        for path in raw.http.iter().map(|http| http.path.as_str()).chain(mounts) {
            taken.push(path.to_owned());
            taken.push(format!("{path}/"));
            taken.push(format!("{path}/health"));
        }
        taken
    }

    fn one_route(&mut self, at: &str, raw: &RawRoute, around: &Around<'_>) -> Option<Route> {
        let before = self.problems.len();
        let method = self.method(at, raw.method.as_deref());
        let path = self.template(&format!("{at}/path"), raw.path.as_deref());
        let target = self.target(at, raw, path.as_ref(), around);
        let parameters = self.parameters(at, &raw.parameters, path.as_ref());
        let deprecation = self.deprecation(at, raw);
        let legacy = self.legacy_paths(at, &raw.legacy_paths, path.as_ref());
        let body = raw.body.as_ref().map(|body| self.body(&format!("{at}/body"), body));
        let responses = self.responses(&format!("{at}/responses"), &raw.responses);
        let auth = match raw.auth {
            RawRouteAuth::Jwt => RouteAuth::Jwt,
            RawRouteAuth::ApiKey => RouteAuth::ApiKey,
            RawRouteAuth::None => RouteAuth::None,
        };
        if auth == RouteAuth::None && !raw.scopes.is_empty() {
            self.problem(
                &format!("{at}/scopes"),
                "a route for everybody asks for no scopes",
                "auth = \"jwt\"",
            );
        }
        for (index, scope) in raw.scopes.iter().enumerate() {
            // RFC 6749, section 3.3.
            if scope.is_empty() || !scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
                self.problem(
                    &format!("{at}/scopes/{index}"),
                    format!("{scope:?} is not a scope"),
                    "such as pets:read",
                );
            }
        }
        if raw.stream && raw.target.engine.is_some() {
            self.problem(
                &format!("{at}/stream"),
                "an engine gives one document, which is read whole",
                "remove it",
            );
        }
        if raw.stream && raw.idempotency != RawIdempotency::Off {
            let message = "an answer that is not read whole cannot be given again";
            self.problem(&format!("{at}/idempotency"), message, "stream = false");
        }
        let max_body = raw
            .max_body_bytes
            .map_or(around.max_message, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if !raw.stream && max_body > around.max_message {
            let message = format!(
                "a body that is read whole has at most gateway.max_message_bytes ({})",
                around.max_message
            );
            self.problem(&format!("{at}/max_body_bytes"), message, "raise that, or set stream = true");
        }
        if raw.stream && raw.body.as_ref().is_some_and(|body| body.schema.is_some()) {
            let message = "a body that goes through while it arrives cannot be checked";
            self.problem(&format!("{at}/body/schema"), message, "stream = false, or leave the schema out");
        }
        let (method, path) = (method?, path?);
        let id = raw.id.clone().unwrap_or_else(|| id_of(&method, &path));
        if id.is_empty()
            || id.len() > 128
            || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
        {
            self.problem(
                &format!("{at}/id"),
                format!("{id:?} cannot be an id"),
                "letters, digits and _-.: , at most 128",
            );
        }
        let (target, own) = target?;
        if self.problems.len() > before {
            return None;
        }
        Some(Route {
            id,
            method,
            path,
            summary: raw.summary.clone(),
            description: raw.description.clone(),
            tags: raw.tags.clone(),
            deprecated: raw.deprecated || raw.deprecated_since.is_some(),
            deprecation,
            legacy,
            auth,
            scopes: raw.scopes.clone(),
            target,
            parameters,
            body,
            responses,
            max_body,
            timeout: raw.timeout_secs.map_or(own, duration),
            stream: raw.stream,
            idempotency: match raw.idempotency {
                RawIdempotency::Off => Idempotency::Off,
                RawIdempotency::Optional => Idempotency::Optional,
                RawIdempotency::Required => Idempotency::Required,
            },
        })
    }

    fn method(&mut self, at: &str, typed: Option<&str>) -> Option<Method> {
        let at = format!("{at}/method");
        let Some(typed) = typed else {
            self.problem(&at, "a route needs a method", "method = \"GET\"");
            return None;
        };
        if METHODS.contains(&typed) {
            return typed.parse().ok();
        }
        let hint = nearest(typed, METHODS)
            .map_or_else(|| METHODS.join(", "), |near| format!("did you mean {near}?"));
        self.problem(&at, format!("{typed:?} is not a method that routes may have"), hint);
        None
    }

    pub(super) fn template(&mut self, at: &str, typed: Option<&str>) -> Option<Template> {
        let Some(typed) = typed else {
            self.problem(at, "a route needs a path", "path = \"/pets/{petId}\"");
            return None;
        };
        match Template::parse(typed) {
            Ok(template) => Some(template),
            Err(why) => {
                self.problem(at, why, "such as \"/pets/{petId}\" or \"/files/{*path}\"");
                None
            }
        }
    }

    /// What answers, and how long it may take where the route says nothing.
    fn target(
        &mut self,
        at: &str,
        raw: &RawRoute,
        path: Option<&Template>,
        around: &Around<'_>,
    ) -> Option<(Target, Duration)> {
        let RawTarget { upstream, path: other, engine, operation, args } = &raw.target;
        let at = format!("{at}/target");
        let unknown = |section: &str, name: &str, known: &[&str]| {
            let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean {near}?"));
            (
                format!("there is no {name:?} in [[{section}]]"),
                near.unwrap_or_else(|| format!("add [[{section}]]")),
            )
        };
        match (upstream, engine) {
            (Some(name), None) => {
                for (key, typed) in [("operation", operation.is_some()), ("args", !args.is_empty())] {
                    if typed {
                        self.problem(
                            &format!("{at}/{key}"),
                            format!("an upstream has no {key}"),
                            "remove it",
                        );
                    }
                }
                let other = match other {
                    Some(typed) => Some(self.template(&format!("{at}/path"), Some(typed))?),
                    None => None,
                };
                if let (Some(path), Some(other)) = (path, &other) {
                    let known: Vec<&str> = path.names().collect();
                    for name in other.names().filter(|name| !known.contains(name)) {
                        let message = format!("{{{name}}} is not in the route's path {path}");
                        self.problem(&format!("{at}/path"), message, "only its names have values");
                    }
                }
                let Some(found) = around.upstreams.iter().find(|upstream| upstream.name == *name) else {
                    let known: Vec<&str> =
                        around.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
                    if around.complete {
                        let (message, hint) = unknown("upstreams", name, &known);
                        self.problem(&format!("{at}/upstream"), message, hint);
                    }
                    return None;
                };
                Some((Target::Upstream { name: name.clone(), path: other }, found.timeout))
            }
            (None, Some(name)) => {
                if other.is_some() {
                    self.problem(&format!("{at}/path"), "an engine has no path", "remove it");
                }
                let Some(found) = around.engines.iter().find(|engine| engine.name == *name) else {
                    let known: Vec<&str> = around.engines.iter().map(|engine| engine.name.as_str()).collect();
                    if around.complete {
                        let (message, hint) = unknown("engines", name, &known);
                        self.problem(&format!("{at}/engine"), message, hint);
                    }
                    return None;
                };
                if found.mode == EngineMode::Pool && !args.is_empty() {
                    let message = "a warm process has its arguments before any call";
                    self.problem(
                        &format!("{at}/args"),
                        message,
                        "remove them, or mode = \"call\" at the engine",
                    );
                }
                self.placeholders(&format!("{at}/args"), args, path);
                let operation = operation.clone().or_else(|| raw.id.clone());
                if operation.is_none() {
                    let hint = "operation = \"analyze\", or an id of the route";
                    self.problem(&format!("{at}/operation"), "it is not said what the engine is to do", hint);
                }
                let target = Target::Engine { name: name.clone(), operation: operation?, args: args.clone() };
                Some((target, found.timeout))
            }
            (Some(_), Some(_)) => {
                self.problem(&at, "a route has one target", "take `upstream` or `engine` out");
                None
            }
            (None, None) => {
                let hint = "target = { upstream = \"…\" } or target = { engine = \"…\", operation = \"…\" }";
                self.problem(&at, "a route needs a target", hint);
                None
            }
        }
    }

    fn placeholders(&mut self, at: &str, args: &[String], path: Option<&Template>) {
        for (index, arg) in args.iter().enumerate() {
            let mut rest = arg.as_str();
            while let Some((_, after)) = rest.split_once('{') {
                let at = format!("{at}/{index}");
                let Some((name, after)) = after.split_once('}') else {
                    self.problem(&at, "a { without its }", "such as {path.id}, {query.limit}, {operation}");
                    break;
                };
                rest = after;
                let of_path = name.strip_prefix("path.");
                let known = matches!(name, "operation" | "input" | "subject" | "request_id")
                    || ["query.", "header."]
                        .iter()
                        .any(|start| name.len() > start.len() && name.starts_with(start))
                    || of_path
                        .is_some_and(|name| path.is_none_or(|path| path.names().any(|known| known == name)));
                if !known {
                    let hint = "{operation}, {path.NAME}, {query.NAME}, {header.NAME}, {input}, {subject}, {request_id}";
                    self.problem(&at, format!("{{{name}}} stands for nothing"), hint);
                }
            }
        }
    }

    fn body(&mut self, at: &str, raw: &RawBody) -> Body {
        let schema = self.schema(&format!("{at}/schema"), raw.schema.as_deref());
        if raw.content.is_empty() {
            self.problem(
                &format!("{at}/content"),
                "it is not said what it may be",
                "content = [\"application/json\"]",
            );
        }
        let content: Vec<String> = raw.content.iter().map(|media| media.to_ascii_lowercase()).collect();
        for (index, media) in content.iter().enumerate() {
            let known = media.split_once('/').is_some_and(|(kind, of)| !kind.is_empty() && !of.is_empty());
            if !known || media.contains([';', ' ', ',']) {
                let at = format!("{at}/content/{index}");
                self.problem(
                    &at,
                    format!("{media:?} is not a media type"),
                    "such as \"application/json\" or \"image/*\"",
                );
            }
        }
        Body { required: raw.required, content, schema }
    }

    fn responses(
        &mut self,
        at: &str,
        raw: &std::collections::BTreeMap<String, RawResponse>,
    ) -> Vec<Described> {
        let mut responses = Vec::new();
        for (status, raw) in raw {
            let at = format!("{at}/{status}");
            let known = status == "default"
                || status.len() == 3
                    && matches!(status.as_bytes(), [b'1'..=b'5', rest @ ..] if rest == b"XX" || rest.iter().all(u8::is_ascii_digit));
            if !known {
                self.problem(&at, format!("{status:?} is no status"), "such as 200, \"4XX\" or \"default\"");
            }
            responses.push(Described {
                status: status.clone(),
                description: raw.description.clone(),
                content: raw.content.clone(),
                schema: self.schema(&format!("{at}/schema"), raw.schema.as_deref()),
            });
        }
        responses
    }

    /// A JSON Schema that is one, and that refers to nothing outside of itself.
    pub(super) fn schema(&mut self, at: &str, typed: Option<&str>) -> Option<Value> {
        let typed = typed?;
        let schema: Value = match serde_json::from_str(typed) {
            Ok(schema) => schema,
            Err(error) => {
                self.problem(
                    at,
                    format!("it is not JSON: {error}"),
                    "a JSON Schema as text: '{\"type\": \"integer\"}'",
                );
                return None;
            }
        };
        let (_, notices) =
            ArgumentSchema::read(RawValue::from_string(typed.to_owned()).ok(), false, &mut Room::default());
        for notice in notices {
            match notice {
                Notice::Unusable(why) | Notice::Unchecked(why) => {
                    let hint = "JSON Schema 2020-12; what it refers to stands in its own $defs";
                    self.problem(at, format!("it cannot be used: {why}"), hint);
                }
                Notice::Flawed(flaws) => {
                    self.warn(
                        at,
                        format!("it has flaws, and the rest of it is checked: {flaws}"),
                        "correct it",
                    );
                }
                Notice::Heavy(why) => {
                    let message =
                        format!("judging by it may take long ({why}), so a process with limits does it");
                    self.warn(at, message, "a simpler schema is quicker");
                }
            }
        }
        Some(schema)
    }
}

/// What a route without an id is called: `GET_pets_petId`.
fn id_of(method: &Method, path: &Template) -> String {
    let mut id = method.as_str().to_owned();
    for segment in path.segments() {
        let (Segment::Text(text) | Segment::Name(text) | Segment::Rest(text)) = segment;
        if !text.is_empty() {
            id.push('_');
            id.extend(text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }));
        }
    }
    id
}
