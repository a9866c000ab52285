//! `[[commands]]` as it is typed, in the gateway's file and in an executor's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A program that callers may have run, with typed places for what they say.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawCommand {
    /// What callers and rules know it by: letters, digits, `_` and `-`. It is the name of a tool.
    pub name: Option<String>,
    /// What it does, for those who choose among tools.
    pub description: String,
    /// The executor that runs it, by its name in [[executors]]; may be left out if there is only one.
    pub executor: Option<String>,
    /// The program: an absolute path on which no link lies. Shells, interpreters and programs that start others (`sh`,
    /// `env`, `python`, `find`, `tar`, `git`, …) are refused unless `sha256` is given.
    pub executable: Option<String>,
    /// The SHA-256 of the program, 64 hex digits: no other is run.
    pub sha256: Option<String>,
    /// Its arguments, each one token. `{slot}` stands for what the caller gives for that slot, within one token:
    /// `["restart", "--no-block", "--", "{unit}"]`. A text that the caller chooses freely needs `--` before it, or something
    /// in its own token before it (`--message={message}`).
    pub argv: Vec<String>,
    /// What the caller may give, by name. Each slot stands in one token of `argv`.
    pub slots: BTreeMap<String, RawSlot>,
    /// What it may be given on its stdin; by default nothing.
    pub stdin: Option<RawStdin>,
    /// Its whole environment; `PATH` is `/usr/bin:/bin` and `LANG` is `C.UTF-8` unless given. Variables that change what a
    /// program loads or runs (`LD_*`, `GIT_*`, `BASH_ENV`, `PYTHONPATH`, …) are refused.
    pub env: BTreeMap<String, String>,
    /// The folder it runs in, absolute, without links.
    pub cwd: String,
    /// Files and folders that it may read, besides the system's programs and libraries, itself and its operands.
    pub read: Vec<String>,
    /// Files and folders that it may change.
    pub write: Vec<String>,
    /// How long it may run, in seconds; then it is killed with all it started.
    #[schemars(range(min = 1, max = 3_600))]
    pub timeout_secs: u64,
    /// How much of its stdout, and of its stderr, is given back, in bytes. The rest is counted, and the digest is of all.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub max_output_bytes: usize,
    /// Seconds of a processor that it may use.
    #[schemars(range(min = 1, max = 3_600))]
    pub cpu_secs: u64,
    /// MiB of addresses that each of its processes may have; by default no limit.
    #[schemars(range(min = 16, max = 1_000_000_000))]
    pub memory_mb: Option<u64>,
    /// MiB of the longest file that it may write.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub file_mb: u64,
    /// Files it may have open.
    #[schemars(range(min = 16, max = 1_000_000))]
    pub open_files: u64,
    /// How many more processes and threads its user may have than the whole machine has when it starts.
    #[schemars(range(min = 1, max = 100_000))]
    pub processes: u64,
    /// Whether it changes nothing. Clients may show it; it allows nothing.
    pub read_only: bool,
    /// Lines that `check` tries.
    pub examples: RawExamples,
}

impl Default for RawCommand {
    fn default() -> Self {
        Self {
            name: None,
            description: String::new(),
            executor: None,
            executable: None,
            sha256: None,
            argv: Vec::new(),
            slots: BTreeMap::new(),
            stdin: None,
            env: BTreeMap::new(),
            cwd: "/".to_owned(),
            read: Vec::new(),
            write: Vec::new(),
            timeout_secs: 30,
            max_output_bytes: 65_536,
            cpu_secs: 60,
            memory_mb: None,
            file_mb: 64,
            open_files: 256,
            processes: 64,
            read_only: false,
            examples: RawExamples::default(),
        }
    }
}

/// What a slot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RawSlotType {
    Enum,
    Int,
    Path,
    Text,
}

/// A place where a caller may say something.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawSlot {
    /// "enum": one of `values`. "int": a whole number from `min` to `max`. "path": a file below `beneath`; its content is
    /// part of what is approved, and the program gets it by descriptor. "text": what `pattern` describes as a whole.
    #[serde(rename = "type")]
    pub kind: Option<RawSlotType>,
    /// What it is for.
    pub description: Option<String>,
    /// For "enum": the words.
    pub values: Vec<String>,
    /// For "int": the least.
    pub min: Option<i64>,
    /// For "int": the most.
    pub max: Option<i64>,
    /// For "path": the folder, absolute, without links.
    pub beneath: Option<String>,
    /// For "text": a regular expression (without look-around) for the whole text.
    pub pattern: Option<String>,
    /// The longest text (by default 256 bytes), or the longest file (by default 16 MiB).
    pub max_bytes: Option<u64>,
    /// Whether the token is left out if nothing is given.
    pub optional: bool,
    /// How many values may be given, as a list; each makes a token of its own.
    #[schemars(range(min = 1, max = 64))]
    pub repeat: Option<usize>,
}

/// What a command may be given on its stdin, as the argument `stdin`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawStdin {
    /// A regular expression for the whole text; by default any text.
    pub pattern: Option<String>,
    /// The longest text, in bytes.
    #[schemars(range(min = 1, max = 65_536))]
    pub max_bytes: Option<usize>,
    /// Whether it may be left out.
    pub optional: bool,
}

/// Lines that `check` tries, so that a mistake in a pattern is found before it is used.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawExamples {
    /// Lines that the command must take, without the program's name: `"restart --no-block -- web"`, or a list of tokens.
    pub allow: Vec<RawLine>,
    /// Lines that it must refuse.
    pub refuse: Vec<RawLine>,
}

/// A command line without the program's name.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum RawLine {
    /// Words that are separated by single spaces.
    Words(String),
    /// The tokens one by one.
    Tokens(Vec<String>),
}
