//! Commands: programs that callers may have run on a machine, each with a fixed executable and typed places for arguments.
//!
//! A [`Command`] is what an operator wrote under `[[commands]]`. Its `argv` is a list of tokens, and a token may hold one
//! slot. Whatever a caller gives is judged slot by slot ([`Command::fill`]) and becomes part of one token; nothing is ever
//! split, expanded or handed to a shell. The gateway and the executor both judge by this module: the gateway to refuse early
//! and to show the command as a tool, the executor because it trusts nobody.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

mod argv;
mod check;
mod examples;
mod fill;
pub mod frames;
mod launcher;
mod line;
mod offer;
mod path;
mod raw;
pub mod socket;
#[cfg(test)]
mod tests;

pub use argv::Word;
pub use check::{Mistake, check, is_name};
pub use fill::{Filled, Given, Value};
pub use launcher::{DIRECTORIES as LAUNCHER_DIRECTORIES, NAMES as LAUNCHER_NAMES, is_launcher};
pub use path::{Unclean, clean};
pub use raw::{RawCommand, RawExamples, RawSlot, RawSlotType, RawStdin};

/// The longest token of a command line, in bytes; also the longest value of a slot.
pub const TOKEN: usize = 4_096;
/// The most tokens of a command line.
pub const TOKENS: usize = 256;
/// The longest text that a command may be given on its stdin, in bytes.
pub const STDIN: usize = 64 << 10;

/// A program that may be run, and how.
#[derive(Clone, Debug)]
pub struct Command {
    /// `[A-Za-z0-9_-]{1,48}`; what callers and rules know it by.
    pub name: String,
    /// What it does, for those who choose among tools.
    pub description: String,
    /// The executor that runs it.
    pub executor: String,
    /// The program: absolute, without links.
    pub executable: PathBuf,
    /// What the program's SHA-256 has to be.
    pub sha256: Option<[u8; 32]>,
    /// Its arguments, without the program's own name.
    pub(in crate::command) argv: Vec<Token>,
    /// Where a caller may say something; in the order of their first token.
    pub slots: Vec<Slot>,
    /// What it may be given on its stdin.
    pub stdin: Stdin,
    /// Its whole environment, sorted by name.
    pub env: Vec<(String, String)>,
    /// The folder it runs in.
    pub cwd: PathBuf,
    /// What it may read besides the system's files, its program and its operands.
    pub read: Vec<PathBuf>,
    /// What it may change.
    pub write: Vec<PathBuf>,
    /// How much of the machine it may use.
    pub limits: Limits,
    /// How long it may run.
    pub timeout: Duration,
    /// How much of each output is kept, in bytes. The digest is of all of it.
    pub max_output: usize,
    /// It changes nothing; what a client may show its user.
    pub read_only: bool,
    /// Lines that must be accepted.
    allow: Vec<Vec<String>>,
    /// Lines that must be refused.
    refuse: Vec<Vec<String>>,
}

/// How much of the machine one run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds of a processor.
    pub cpu_secs: u64,
    /// Bytes of addresses of each process.
    pub memory: Option<u64>,
    /// Bytes of the longest file that it may write.
    pub file_bytes: u64,
    /// Files that it may have open.
    pub open_files: u64,
    /// Processes and threads that its user may have more than the whole machine has when it starts.
    pub processes: u64,
}

/// One token of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::command) enum Token {
    /// Always the same.
    Fixed(String),
    /// The value of a slot with what stands around it, such as `--unit=` before.
    Slot {
        /// Its place in [`Command::slots`].
        slot: usize,
        /// What stands before it.
        before: String,
        /// What stands behind it.
        after: String,
    },
}

/// A place where a caller may say something.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What it is called in the arguments.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it takes.
    pub kind: Kind,
    /// Without it the call is refused; otherwise its tokens are left out.
    pub required: bool,
    /// How many values it may have; each makes a token of its own.
    pub most: usize,
    /// It stands behind `--`, so a value that begins with `-` is no option.
    pub behind_dashes: bool,
}

/// What a slot takes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One of these texts.
    Enum(Vec<String>),
    /// A whole number within these bounds, written in decimal.
    Int {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// A file below a folder. The program gets what the file held when it was looked at, by descriptor.
    Path {
        /// The folder.
        beneath: PathBuf,
        /// The longest file, in bytes.
        max_bytes: u64,
    },
    /// A text that a pattern describes as a whole.
    Text {
        /// The pattern, as it was typed.
        pattern: Arc<str>,
        /// The same, for a whole text.
        regex: Regex,
        /// The longest text, in bytes.
        max_bytes: usize,
    },
}

/// What a command may be given on its stdin.
#[derive(Clone, Debug)]
pub enum Stdin {
    /// Nothing: it is empty.
    Nothing,
    /// A text, as the argument `stdin`.
    Text {
        /// What the whole text has to be like, if that is restricted.
        pattern: Option<(Arc<str>, Regex)>,
        /// The longest text, in bytes.
        max_bytes: usize,
        /// Whether it has to be given.
        required: bool,
    },
}

/// Why a call of a command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The slot whose value does not fit; empty if it is about the whole.
    pub slot: String,
    /// What is wrong, in one sentence.
    pub message: String,
}

impl Refused {
    /// A value that a slot does not take.
    pub(crate) fn slot(slot: &str, message: impl Into<String>) -> Self {
        Self { slot: slot.to_owned(), message: message.into() }
    }

    /// Something about the whole of a call.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self { slot: String::new(), message: message.into() }
    }
}

/// The commands of one executor.
#[derive(Clone, Debug, Default)]
pub struct Commands(Vec<Command>);

impl Commands {
    /// These, whose names are unique.
    #[must_use]
    pub fn new(commands: Vec<Command>) -> Self {
        Self(commands)
    }

    /// The one of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Command> {
        self.0.iter().find(|command| command.name == name)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Command> {
        self.0.iter()
    }

    /// The command that a whole line is a call of, and what the line gives for its slots. The first word is the executable's
    /// path or the command's name; every other word has to be a token of `argv`, in its place. No part of a line is enough.
    ///
    /// # Errors
    /// There is no such command, or the line says something else than the command takes.
    pub fn recognise(&self, text: &str) -> Result<(&Command, Filled), Refused> {
        let words = line::split(text)?;
        let Some((first, words)) = words.split_first() else {
            return Err(Refused::whole("the line is empty"));
        };
        let meant = |command: &&Command| {
            command.name == *first || command.executable.to_str() == Some(first.as_str())
        };
        let mut refusal = None;
        for command in self.0.iter().filter(meant) {
            match command.recognise(words) {
                Ok(filled) => return Ok((command, filled)),
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        Err(refusal.unwrap_or_else(|| Refused::whole("no command begins like this")))
    }
}

impl<'a> IntoIterator for &'a Commands {
    type Item = &'a Command;
    type IntoIter = std::slice::Iter<'a, Command>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
