//! Checks the arguments of a call against the tool's JSON Schema before a backend sees them.
//!
//! The schema comes from a server and the arguments from a client, and either may be made so that judging never ends.
//! So every schema is read when it is listed, away from the threads that serve calls, and sorted by what judging can
//! cost:
//!
//! * light: it is compiled there and then, and judges where calls are served, as long as the arguments are not too large;
//! * heavy: it is judged in another process, with limits of time and memory ([`apart`]);
//! * unusable: it is no schema, or hopeless; calls of its tool are refused.
//!
//! Real schemas have flaws. What is wrong is read in its old meaning or left out, and said once ([`Flaws`]).

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::value::RawValue;

pub mod apart;
mod cost;
mod data;
mod find;
mod flaws;
mod graph;
mod judge;
mod keyword;
mod load;
mod lower;
mod node;
mod pattern;
mod raise;
#[cfg(test)]
mod tests;
mod weaken;

pub use flaws::Flaws;

use self::cost::{Class, Cost};
use self::judge::{Judge, bounded};

/// Longest schema that is read; a larger one is unusable.
const MAX_SCHEMA_BYTES: usize = 1 << 20;
/// Longest text of all schemas of one backend.
const MAX_TEXT: usize = 16 << 20;
/// Most memory for all compiled schemas of one backend, by a rough count that is rather too high; the schemas after that
/// are heavy.
const MAX_COMPILED: usize = 64 << 20;
/// Most steps of looking at the schemas of one backend; those after that are heavy.
const MAX_STEPS: usize = 20_000_000;
/// Longer arguments are looked at before they are read.
const LONG_ARGUMENTS: usize = 64 << 10;
/// Most values in arguments that are read where calls are served. Each takes up to a hundred bytes.
const MAX_VALUES: usize = 100_000;

/// A tool's `inputSchema`.
#[derive(Debug)]
pub struct ArgumentSchema {
    text: Option<Box<RawValue>>,
    kind: Kind,
    told: AtomicBool,
    /// How often arguments did not fit and were only logged; none where such arguments are refused.
    missed: Option<AtomicU64>,
    /// What the server itself asks for, where a rewriter shows clients another schema.
    own: Option<Arc<Self>>,
}

#[derive(Debug)]
enum Kind {
    /// No schema accepts everything.
    Open,
    Light(Box<(Judge, Cost)>),
    Heavy,
    Unusable(String),
}

/// Why arguments are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The arguments are wrong. `pointer` is relative to `arguments`; empty means the whole.
    #[error("{message}")]
    Mismatch { pointer: String, message: String },
    /// The schema itself cannot be used, so nothing can be said: the call is refused.
    #[error("the tool's inputSchema cannot be used: {0}")]
    Schema(String),
    /// Nothing is said yet: they are to be judged in another process.
    #[error("the arguments take long to judge, and nobody is there to do it")]
    Elsewhere,
}

/// The budget that is left for the schemas of one backend.
#[derive(Debug)]
pub struct Room {
    text: usize,
    compiled: usize,
    /// Steps of looking at them.
    steps: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { text: MAX_TEXT, compiled: MAX_COMPILED, steps: MAX_STEPS }
    }
}

/// What the operator should know of a schema.
#[derive(Debug)]
pub enum Notice {
    Flawed(Flaws),
    Heavy(String),
    /// It cannot be compiled, for no reason that is known here.
    Unchecked(String),
    Unusable(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flawed(flaws) => write!(f, "its inputSchema has flaws; the rest of it is checked: {flaws}"),
            Self::Heavy(reason) => write!(
                f,
                "its inputSchema may take long to judge by ({reason}); a process with limits does it, and calls that take longer are refused"
            ),
            Self::Unchecked(reason) => {
                write!(
                    f,
                    "its inputSchema cannot be compiled, so the arguments of its calls are not checked: {reason}"
                )
            }
            Self::Unusable(reason) => {
                write!(f, "its inputSchema cannot be used, so calls of this tool are refused: {reason}")
            }
        }
    }
}

impl ArgumentSchema {
    /// Reads a schema by itself, forgiving its flaws.
    #[must_use]
    pub fn new(text: Option<Box<RawValue>>) -> Self {
        Self::read(text, false, &mut Room::default()).0
    }

    /// A schema that was not read: all arguments are refused.
    #[must_use]
    pub fn unread() -> Self {
        Self::of(None, Kind::Unusable("it was not read when it was listed".to_owned()))
    }

    fn of(text: Option<Box<RawValue>>, kind: Kind) -> Self {
        // What is wrong with one that is unusable is said when it is listed.
        let told = AtomicBool::new(matches!(kind, Kind::Unusable(_)));
        Self { text, kind, told, missed: None, own: None }
    }

    /// A schema that is not applied.
    #[must_use]
    pub fn unchecked(text: Option<Box<RawValue>>) -> Self {
        Self::of(text, Kind::Open)
    }

    /// The same, but arguments that do not fit are only logged.
    #[must_use]
    pub fn advising(self) -> Self {
        Self { missed: Some(AtomicU64::new(0)), ..self }
    }

    /// The same, shown to clients in the place of the server's own.
    #[must_use]
    pub fn in_place_of(self, own: Arc<Self>) -> Self {
        Self { own: Some(own), ..self }
    }

    /// Whether clients are shown another schema than the server's.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        self.own.is_some()
    }

    /// What the server itself asks for.
    #[must_use]
    pub fn of_server(&self) -> &Self {
        self.own.as_deref().unwrap_or(self)
    }

    /// Counts arguments that do not fit and are passed on: how often that was, this time included. `None` where such
    /// arguments are refused.
    #[must_use]
    pub fn misses(&self) -> Option<u64> {
        self.missed.as_ref().map(|missed| missed.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Reads a schema that a backend lists. This may take a while and a deep stack; it is not for the threads that serve
    /// calls.
    #[must_use]
    pub fn read(text: Option<Box<RawValue>>, strict: bool, room: &mut Room) -> (Self, Vec<Notice>) {
        let Some(text) = text else { return (Self::of(None, Kind::Open), Vec::new()) };
        let mut notices = Vec::new();
        // A panic of ours while reading a schema costs that schema only.
        let sorting = AssertUnwindSafe(|| sorted(text.get(), strict, room, &mut notices));
        let kind = std::panic::catch_unwind(sorting).unwrap_or_else(|_| {
            Kind::Unusable("it cannot be read: this is a defect of the gateway".to_owned())
        });
        if let Kind::Unusable(reason) = &kind {
            notices.push(Notice::Unusable(reason.clone()));
        }
        room.take(text.get().len(), &kind);
        (Self::of(Some(text), kind), notices)
    }

    /// The same schema listed once more: it takes its room again.
    #[must_use]
    pub fn is(&self, text: Option<&str>, room: &mut Room) -> bool {
        let same = self.text.as_deref().map(RawValue::get) == text;
        let fits = text.is_none_or(|text| text.len() <= room.text)
            && match &self.kind {
                Kind::Light(light) => light.1.memory <= room.compiled,
                Kind::Open | Kind::Heavy | Kind::Unusable(_) => true,
            };
        if same && fits {
            room.take(text.map_or(0, str::len), &self.kind);
        }
        same && fits
    }

    /// Checks a call's `arguments`; missing arguments count as `{}` (MCP "Calling Tools").
    ///
    /// # Errors
    /// The first mismatch with its place, why the schema is unusable, or that it must be done [`apart`].
    pub fn check(&self, arguments: Option<&str>) -> Result<(), ArgumentError> {
        let light = match &self.kind {
            Kind::Open => return Ok(()),
            Kind::Light(light) => light,
            Kind::Heavy => return Err(ArgumentError::Elsewhere),
            Kind::Unusable(reason) => return Err(ArgumentError::Schema(reason.clone())),
        };
        let text = arguments.unwrap_or("{}");
        // Every value and key stands at the beginning or after one of these.
        let many = || memchr::memchr3_iter(b',', b'[', b'{', text.as_bytes()).count() > MAX_VALUES;
        if text.len() > LONG_ARGUMENTS && many() {
            return Err(ArgumentError::Elsewhere);
        }
        let (judge, cost) = &**light;
        judge.judge(text, Some(cost))
    }

    /// The schema as it was listed.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.as_deref().map_or("{}", RawValue::get)
    }

    /// Whether judging by it failed for the first time.
    #[must_use]
    pub fn fails_first(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

/// Why validators of clients refuse to compile a schema, if they do. Some of them refuse a whole list for it.
#[must_use]
pub fn refused_by_clients(text: &str) -> Option<String> {
    match lower::lower(text) {
        Ok(lowered) => lowered.flaws.refused().map(str::to_owned),
        // Clients can read numbers that no Rust type holds.
        Err(_) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => None,
        Err(reason) => Some(bounded(&reason)),
    }
}

impl Room {
    fn take(&mut self, text: usize, kind: &Kind) {
        self.text = self.text.saturating_sub(text);
        if let Kind::Light(light) = kind {
            self.compiled = self.compiled.saturating_sub(light.1.memory);
        }
    }
}

/// Reads and sorts a schema.
fn sorted(text: &str, strict: bool, room: &mut Room, notices: &mut Vec<Notice>) -> Kind {
    if text.len() > MAX_SCHEMA_BYTES {
        return Kind::Unusable(format!("it is {} bytes long, the limit is {MAX_SCHEMA_BYTES}", text.len()));
    }
    if text.len() > room.text {
        return Kind::Unusable(format!(
            "the schemas of its backend are longer than {MAX_TEXT} bytes together"
        ));
    }
    let mut lowered = match lower::lower(text) {
        Ok(lowered) => lowered,
        Err(reason) => return Kind::Unusable(bounded(&reason)),
    };
    if !lowered.flaws.is_empty() {
        if strict {
            return Kind::Unusable(format!(
                "it has flaws, and `argument_check` is \"strict\": {}",
                lowered.flaws
            ));
        }
        notices.push(Notice::Flawed(lowered.flaws.clone()));
    }
    weaken::weaken(&mut lowered.nodes);
    let heavy = match cost::class(&lowered, &mut room.steps) {
        Class::Unusable(reason) => return Kind::Unusable(reason),
        Class::Heavy(reason) => reason,
        Class::Light(cost) if cost.memory <= room.compiled => {
            return match Judge::new(lowered) {
                Ok(judge) => Kind::Light(Box::new((judge, cost))),
                Err(reason) if strict => Kind::Unusable(reason),
                Err(reason) => {
                    notices.push(Notice::Unchecked(reason));
                    Kind::Open
                }
            };
        }
        Class::Light(_) => {
            format!("the schemas of its backend take more than {} MiB of memory together", MAX_COMPILED >> 20)
        }
    };
    notices.push(Notice::Heavy(heavy));
    Kind::Heavy
}
