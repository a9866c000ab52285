//! The HTTP API that the gateway serves beside MCP: routes, and what answers them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::{Route as Way, Sandbox, Secret};

/// One route: a method and a path, who may call it, and what answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// What rules, the kill switch and the record know it by; unique.
    pub id: String,
    /// The method it answers to.
    pub method: Method,
    /// The path it answers at.
    pub path: Template,
    /// One line for the OpenAPI document.
    pub summary: Option<String>,
    /// Text for the OpenAPI document.
    pub description: Option<String>,
    /// Groups in the OpenAPI document.
    pub tags: Vec<String>,
    /// Whether callers should stop using it.
    pub deprecated: bool,
    /// Since when they should, and when it ends.
    pub deprecation: Deprecation,
    /// Older paths at which it answers as well.
    pub legacy: Vec<LegacyPath>,
    /// How callers prove who they are.
    pub auth: RouteAuth,
    /// The scopes that a caller's token must have.
    pub scopes: Vec<String>,
    /// What answers.
    pub target: Target,
    /// What it takes besides the body.
    pub parameters: Vec<Parameter>,
    /// The body that it takes; without one a request must have none.
    pub body: Option<Body>,
    /// What it answers, for the OpenAPI document.
    pub responses: Vec<Described>,
    /// The longest body of a request, in bytes.
    pub max_body: usize,
    /// How long the answer may take; with `stream`, its head, and then each part of its body.
    pub timeout: Duration,
    /// Whether bodies go through while they arrive, instead of being read whole first.
    pub stream: bool,
    /// Whether a repeated request gets the first one's answer (`Idempotency-Key`).
    pub idempotency: Idempotency,
}

/// Since when callers should not use something, and when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deprecation {
    /// RFC 9745.
    pub since: Option<Timestamp>,
    /// RFC 8594.
    pub sunset: Option<Timestamp>,
}

/// An older path of a route, with the same names.
#[derive(Debug, Clone, PartialEq)]
pub struct LegacyPath {
    /// The path.
    pub path: Template,
    /// Since when it should not be used, and when it ends.
    pub deprecation: Deprecation,
}

impl Route {
    /// The route as it answers at one of its older paths. What is behind it hears of the path of today.
    #[must_use]
    pub(crate) fn at(&self, legacy: &LegacyPath) -> Self {
        let mut old = self.clone();
        old.path.clone_from(&legacy.path);
        old.deprecated = true;
        old.deprecation = legacy.deprecation;
        old.legacy = Vec::new();
        if let Target::Upstream { path, .. } = &mut old.target {
            path.get_or_insert_with(|| self.path.clone());
        }
        old
    }
}

/// A path with names for parts of it: `/pets/{petId}`, `/files/{*rest}`. Each name stands for one whole segment, but for one
/// with a star at the end, which stands for all that follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template(String);

/// A part of a [`Template`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    /// Text that a path has in this place.
    Text(&'a str),
    /// Any one segment.
    Name(&'a str),
    /// Any segments to the end, at least one.
    Rest(&'a str),
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = Self(text.to_owned());
        let Some(rest) = text.strip_prefix('/') else { return Err("a path begins with `/`".to_owned()) };
        let mut names = Vec::new();
        let mut segments = rest.split('/').peekable();
        while let Some(part) = segments.next() {
            let last = segments.peek().is_none();
            match segment(part) {
                Segment::Text("") if last => {}
                Segment::Text("") => {
                    return Err("`//`: no request with an empty segment is served".to_owned());
                }
                Segment::Text("." | "..") => {
                    return Err(format!("`{part}` as a segment: no request with one is served"));
                }
                Segment::Text(text) if !text.bytes().all(is_plain) => {
                    return Err(format!(
                        "{text:?}: write letters, digits and -._~!$&'()*+,=:@, or one whole segment in braces"
                    ));
                }
                Segment::Text(_) => {}
                Segment::Rest(_) if !last => {
                    return Err(format!("{part} stands for all that follows, so it must be last"));
                }
                Segment::Name(name) | Segment::Rest(name) => {
                    let fits = !name.is_empty()
                        && name.len() <= 64
                        && name
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
                    if !fits {
                        return Err(format!(
                            "{part}: a name has letters, digits, `_`, `-` and `.`, at most 64"
                        ));
                    }
                    if names.contains(&name) {
                        return Err(format!("the name {name} stands twice"));
                    }
                    names.push(name);
                }
            }
        }
        Ok(template)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments; a slash at the end is an empty text.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.0.get(1..).unwrap_or_default().split('/').map(segment)
    }

    /// The names in it, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments().filter_map(|segment| match segment {
            Segment::Name(name) | Segment::Rest(name) => Some(name),
            Segment::Text(_) => None,
        })
    }

    /// The same for another of the same shape: with numbers in place of names, as `matchit` takes it.
    #[must_use]
    pub fn shape(&self) -> String {
        let mut shape = String::with_capacity(self.0.len());
        for (index, segment) in self.segments().enumerate() {
            shape.push('/');
            match segment {
                Segment::Text(text) => shape.push_str(text),
                Segment::Name(_) => shape.push_str(&format!("{{p{index}}}")),
                Segment::Rest(_) => shape.push_str(&format!("{{*p{index}}}")),
            }
        }
        shape
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3986, `pchar`, without `;` (some servers cut a segment there) and without escapes.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn segment(part: &str) -> Segment<'_> {
    match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) => match name.strip_prefix('*') {
            Some(rest) => Segment::Rest(rest),
            None => Segment::Name(name),
        },
        None => Segment::Text(part),
    }
}

/// How the callers of a route prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteAuth {
    /// By a token, as callers of MCP do.
    Jwt,
    /// By the key of a program.
    ApiKey,
    /// Not at all: everybody may call, and is known by the address.
    None,
}

/// What answers a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An HTTP API.
    Upstream {
        /// The name of the upstream.
        name: String,
        /// Its path, if it is another than the route's.
        path: Option<Template>,
    },
    /// A program.
    Engine {
        /// The name of the engine.
        name: String,
        /// What it is asked to do.
        operation: String,
        /// Arguments for this route, behind those of the engine.
        args: Vec<String>,
    },
}

impl Target {
    /// The name of the upstream or engine: for rules, the kill switch and the breaker it is the backend.
    #[must_use]
    pub fn backend(&self) -> &str {
        match self {
            Self::Upstream { name, .. } | Self::Engine { name, .. } => name,
        }
    }
}

/// Something that a route takes besides the body (OpenAPI 3.1, "Parameter Object").
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name; of a header in lower case.
    pub name: String,
    /// Where it stands in the request.
    pub place: Place,
    /// Whether a request without it is refused.
    pub required: bool,
    /// How a list or an object is written.
    pub style: Style,
    /// Whether each item of a list is written with the name.
    pub explode: bool,
    /// What it must fit; JSON Schema 2020-12.
    pub schema: Option<Value>,
    /// Text for the OpenAPI document.
    pub description: Option<String>,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// In a header.
    Header,
    /// In the header `Cookie`.
    Cookie,
}

impl Place {
    /// The word of OpenAPI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

/// How a list or an object is written in a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `a,b`: of the path and of headers.
    Simple,
    /// `name=a&name=b`, or `name=a,b`.
    Form,
    /// `name=a%20b`.
    SpaceDelimited,
    /// `name=a|b`.
    PipeDelimited,
    /// `name[key]=a`.
    DeepObject,
}

/// The body that a route takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// Whether a request without it is refused.
    pub required: bool,
    /// Its media types, in lower case; `type/*` for all of a kind.
    pub content: Vec<String>,
    /// What a JSON body must fit; JSON Schema 2020-12.
    pub schema: Option<Value>,
}

/// An answer of a route, for the OpenAPI document.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// `200`, `4XX` or `default`.
    pub status: String,
    /// When it is given.
    pub description: Option<String>,
    /// Its media type.
    pub content: Option<String>,
    /// What it fits.
    pub schema: Option<Value>,
}

/// What becomes of `Idempotency-Key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idempotency {
    /// It means nothing here.
    #[default]
    Off,
    /// A request with one is done once.
    Optional,
    /// A request without one is refused.
    Required,
}

/// An HTTP API behind routes.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name: unique among backends, upstreams and engines.
    pub name: String,
    /// Where it is; paths of routes stand behind it.
    pub url: Secret,
    /// Headers of every request.
    pub headers: Vec<(String, Secret)>,
    /// How it is reached.
    pub way: Way,
    /// How long an answer may take where the route says nothing.
    pub timeout: Duration,
    /// Requests under way at once.
    pub max_in_flight: usize,
    /// How often a request may be sent again.
    pub retries: u32,
    /// Request headers that are passed on besides the usual, in lower case.
    pub pass_headers: Vec<String>,
    /// The longest answer that is read whole, in bytes.
    pub max_answer: usize,
}

/// A program that answers routes.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// Its name: unique among backends, upstreams and engines.
    pub name: String,
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<Secret>,
    /// Its variables, besides those every child gets.
    pub env: Vec<(String, Secret)>,
    /// The folder it runs in.
    pub cwd: Option<PathBuf>,
    /// What it may reach.
    pub sandbox: Option<Sandbox>,
    /// Whether its processes answer one call or many.
    pub mode: EngineMode,
    /// How a call is given to it.
    pub input: EngineInput,
    /// How long a call may take where the route says nothing.
    pub timeout: Duration,
    /// Calls at once.
    pub max_in_flight: usize,
    /// Warm processes.
    pub pool_size: usize,
    /// Calls that one warm process answers.
    pub max_uses: u64,
    /// The longest answer, in bytes.
    pub max_output: usize,
    /// Statuses by exit code.
    pub exits: Vec<(u8, u16)>,
    /// Statuses by the code of an error.
    pub errors: Vec<(String, u16)>,
}

/// Whether an engine's processes answer one call or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineMode {
    /// One.
    Call,
    /// Many: they wait for lines.
    Pool,
}

/// How a call is given to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineInput {
    /// As one JSON document on its standard input.
    Json,
    /// The body in a file, whose path is among the arguments.
    File,
    /// In the arguments alone.
    None,
}
