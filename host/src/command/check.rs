//! What is typed under `[[commands]]` together means: every mistake at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::raw::{RawCommand, RawSlot, RawSlotType, RawStdin};
use super::{Command, Kind, Limits, STDIN, Slot, Stdin, TOKEN, TOKENS, Token, examples, is_launcher};
use crate::text::is_harmful;

/// A mistake, at a place below the command: `/slots/unit/pattern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is.
    pub at: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

/// What a compiled pattern may take, in bytes.
const PATTERN: usize = 1 << 20;
/// The longest file of a path slot: by default, and at most.
const FILE: u64 = 16 << 20;
const LONGEST_FILE: u64 = 1 << 30;
/// The longest text of a slot, by default.
const TEXT: u64 = 256;

/// Variables that change what a program loads or runs, by how they begin.
const LOADING: [&str; 26] = [
    "LD_",
    "DYLD_",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "MALLOC_",
    "NLSPATH",
    "LOCPATH",
    "RESOLV_HOST_CONF",
    "HOSTALIASES",
    "IFS",
    "ENV",
    "BASH",
    "SHELLOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "GIT_",
    "PYTHON",
    "PERL",
    "RUBY",
    "NODE_",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "LUA_",
    "PAGER",
];

/// Whether a text can be the name of a command, an executor or a slot.
#[must_use]
pub(crate) fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.len() <= 48 && text.bytes().all(letter)
}

/// Makes a command of what was typed. `executor` is the one that runs it, if that is known.
///
/// # Errors
/// Every mistake.
pub fn check(raw: &RawCommand, executor: &str) -> Result<Command, Vec<Mistake>> {
    let mut checker = Checker { mistakes: Vec::new() };
    let command = checker.command(raw, executor);
    match command {
        Some(command) if checker.mistakes.is_empty() => {
            for (kind, index, message) in command.failing_examples() {
                let hint = "change the command, or the example";
                checker.mistake(format!("/examples/{kind}/{index}"), message, hint);
            }
            if checker.mistakes.is_empty() { Ok(command) } else { Err(checker.mistakes) }
        }
        _ => Err(checker.mistakes),
    }
}

struct Checker {
    mistakes: Vec<Mistake>,
}

impl Checker {
    fn mistake(&mut self, at: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.mistakes.push(Mistake { at: at.into(), message: message.into(), hint: hint.into() });
    }

    fn command(&mut self, raw: &RawCommand, executor: &str) -> Option<Command> {
        let name = match raw.name.as_deref() {
            Some(name) if is_name(name) => Some(name.to_owned()),
            Some(name) => {
                let hint = "letters, digits, _ and -, at most 48";
                self.mistake("/name", format!("{name:?} cannot be the name of a command"), hint);
                None
            }
            None => {
                self.mistake("/name", "a command needs a name", "name = \"restart\"");
                None
            }
        };
        let executable = match raw.executable.as_deref() {
            Some(typed) => self.absolute("/executable", typed),
            None => {
                let hint = "executable = \"/usr/bin/systemctl\"";
                self.mistake("/executable", "a command needs its program", hint);
                None
            }
        };
        let sha256 = raw.sha256.as_deref().and_then(|typed| self.digest(typed));
        let launcher = executable.as_deref().is_some_and(is_launcher);
        if launcher && raw.sha256.is_none() {
            let name = executable.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let message = format!("{name} runs other programs, or code that it is given");
            let hint =
                "name the program that it would run; or pin this one: sha256 = \"…\" (sha256sum tells it)";
            self.mistake("/executable", message, hint);
        }
        let mut slots: Vec<Slot> = Vec::new();
        let argv = self.argv(raw, &mut slots);
        for name in raw.slots.keys().filter(|name| !slots.iter().any(|slot| slot.name == **name)) {
            if !raw.argv.iter().any(|token| token.contains(&format!("{{{name}}}"))) {
                self.mistake(
                    format!("/slots/{name}"),
                    "no token of argv has this slot",
                    format!("write {{{name}}} into argv, or remove it"),
                );
            }
        }
        if launcher {
            for slot in slots.iter().filter(|slot| matches!(slot.kind, Kind::Text { .. })) {
                let message = "a program that runs others takes no text that the caller chooses freely";
                self.mistake(
                    format!("/slots/{}", slot.name),
                    message,
                    "use type \"enum\", \"int\" or \"path\"",
                );
            }
        }
        let stdin = self.stdin(raw.stdin.as_ref(), launcher);
        let env = self.env(raw);
        let cwd = self.absolute("/cwd", &raw.cwd);
        let read = self.folders("/read", &raw.read);
        let write = self.folders("/write", &raw.write);
        let lines = |checker: &mut Self, kind: &str, typed: &[super::raw::RawLine]| {
            let mut lines = Vec::new();
            for (index, typed) in typed.iter().enumerate() {
                match examples::tokens(typed) {
                    Ok(tokens) => lines.push(tokens),
                    // A line that cannot be read is refused, as it should be.
                    Err(_) if kind == "refuse" => {}
                    Err(message) => checker.mistake(
                        format!("/examples/{kind}/{index}"),
                        message,
                        "write a list of tokens",
                    ),
                }
            }
            lines
        };
        let allow = lines(self, "allow", &raw.examples.allow);
        let refuse = lines(self, "refuse", &raw.examples.refuse);
        Some(Command {
            name: name?,
            description: raw.description.clone(),
            executor: executor.to_owned(),
            executable: executable?,
            sha256,
            argv,
            slots,
            stdin: stdin?,
            env,
            cwd: cwd?,
            read,
            write,
            limits: Limits {
                cpu_secs: raw.cpu_secs,
                memory: raw.memory_mb.map(|mb| mb.saturating_mul(1 << 20)),
                file_bytes: raw.file_mb.saturating_mul(1 << 20),
                open_files: raw.open_files,
                processes: raw.processes,
            },
            timeout: Duration::from_secs(raw.timeout_secs),
            max_output: raw.max_output_bytes,
            read_only: raw.read_only,
            allow,
            refuse,
        })
    }

    /// The tokens, and the slots in the order in which they stand in them.
    fn argv(&mut self, raw: &RawCommand, slots: &mut Vec<Slot>) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut dashes = false;
        if raw.argv.len() > TOKENS {
            self.mistake("/argv", format!("it has more than {TOKENS} tokens"), "");
        }
        for (index, text) in raw.argv.iter().enumerate() {
            let at = format!("/argv/{index}");
            if text.len() > TOKEN || text.chars().any(is_harmful) {
                self.mistake(&at, "it is too long, or holds a character that cannot be seen", "");
                continue;
            }
            match self.token(&at, text, raw, slots, dashes) {
                Some(Token::Fixed(text)) => {
                    dashes |= text == "--";
                    tokens.push(Token::Fixed(text));
                }
                Some(token @ Token::Slot { .. }) => tokens.push(token),
                None => {}
            }
        }
        tokens
    }

    fn token(
        &mut self,
        at: &str,
        text: &str,
        raw: &RawCommand,
        slots: &mut Vec<Slot>,
        dashes: bool,
    ) -> Option<Token> {
        let Some(open) = text.find('{') else {
            if text.contains('}') {
                self.mistake(at, "a } without a {", "a token holds {slot}, or neither brace");
                return None;
            }
            return Some(Token::Fixed(text.to_owned()));
        };
        let (before, rest) = text.split_at(open);
        let Some((name, after)) = rest[1..].split_once('}') else {
            self.mistake(at, "a { without a }", "a token holds {slot}, or neither brace");
            return None;
        };
        if after.contains(['{', '}']) || before.contains('}') {
            self.mistake(at, "a token holds one slot at most", "use two tokens, or one slot");
            return None;
        }
        let Some(typed) = raw.slots.get(name) else {
            let hint = format!("add [commands.slots.{name}] with its type");
            self.mistake(at, format!("there is no slot {name:?}"), hint);
            return None;
        };
        if slots.iter().any(|slot| slot.name == name) {
            self.mistake(
                at,
                format!("the slot {name:?} stands in an earlier token as well"),
                "each slot stands in one token",
            );
            return None;
        }
        let kind = self.slot(&format!("/slots/{name}"), name, typed)?;
        let free = before.is_empty() && !dashes;
        if free && matches!(kind, Kind::Text { .. }) {
            let hint = format!(
                "put the token \"--\" before it, or write it as one with its option: \"--option={{{name}}}\""
            );
            self.mistake(at, "a text that the caller chooses freely may be taken for an option", hint);
        }
        if free && matches!(kind, Kind::Int { min, .. } if min < 0) {
            let hint = "put the token \"--\" before it, or min = 0";
            self.mistake(at, "a negative number may be taken for an option", hint);
        }
        slots.push(Slot {
            name: name.to_owned(),
            description: typed.description.clone(),
            kind,
            required: !typed.optional,
            most: typed.repeat.unwrap_or(1).clamp(1, TOKENS),
            behind_dashes: dashes || !before.is_empty(),
        });
        Some(Token::Slot { slot: slots.len() - 1, before: before.to_owned(), after: after.to_owned() })
    }

    fn slot(&mut self, at: &str, name: &str, raw: &RawSlot) -> Option<Kind> {
        if !is_name(name) || name == super::fill::STDIN_NAME {
            self.mistake(
                at,
                format!("{name:?} cannot be the name of a slot"),
                "letters, digits, _ and -; and not stdin",
            );
            return None;
        }
        let Some(kind) = raw.kind else {
            self.mistake(
                format!("{at}/type"),
                "a slot needs a type",
                "type = \"enum\", \"int\", \"path\" or \"text\"",
            );
            return None;
        };
        self.foreign(at, kind, raw);
        match kind {
            RawSlotType::Enum => {
                if raw.values.is_empty() {
                    self.mistake(
                        format!("{at}/values"),
                        "an enum needs its words",
                        "values = [\"web\", \"worker\"]",
                    );
                }
                for (index, word) in raw.values.iter().enumerate() {
                    if word.is_empty() || word.len() > TOKEN || word.chars().any(is_harmful) {
                        let at = format!("{at}/values/{index}");
                        self.mistake(
                            at,
                            "it is empty, too long, or holds a character that cannot be seen",
                            "",
                        );
                    }
                }
                Some(Kind::Enum(raw.values.clone()))
            }
            RawSlotType::Int => {
                let (Some(min), Some(max)) = (raw.min, raw.max) else {
                    self.mistake(at, "a whole number needs its bounds", "min = 0, max = 100");
                    return None;
                };
                if min > max {
                    self.mistake(format!("{at}/min"), "min is above max", "exchange them");
                }
                Some(Kind::Int { min, max })
            }
            RawSlotType::Path => {
                let Some(typed) = raw.beneath.as_deref() else {
                    self.mistake(
                        format!("{at}/beneath"),
                        "a path needs the folder it lies in",
                        "beneath = \"/srv/app\"",
                    );
                    return None;
                };
                let beneath = self.absolute(&format!("{at}/beneath"), typed)?;
                let max_bytes = raw.max_bytes.unwrap_or(FILE);
                if max_bytes > LONGEST_FILE {
                    self.mistake(
                        format!("{at}/max_bytes"),
                        format!("it is above {LONGEST_FILE}"),
                        "its content is read for every call",
                    );
                }
                Some(Kind::Path { beneath, max_bytes })
            }
            RawSlotType::Text => {
                let Some(pattern) = raw.pattern.as_deref() else {
                    self.mistake(
                        format!("{at}/pattern"),
                        "a text needs its pattern",
                        "pattern = \"[A-Za-z0-9._-]+\"",
                    );
                    return None;
                };
                let regex = self.pattern(&format!("{at}/pattern"), pattern)?;
                let max_bytes = raw.max_bytes.unwrap_or(TEXT);
                if max_bytes > TOKEN as u64 {
                    self.mistake(format!("{at}/max_bytes"), format!("a token has {TOKEN} bytes at most"), "");
                }
                Some(Kind::Text {
                    pattern: pattern.into(),
                    regex,
                    max_bytes: usize::try_from(max_bytes).unwrap_or(TOKEN),
                })
            }
        }
    }

    /// Keys of a slot that have nothing to do with its type.
    fn foreign(&mut self, at: &str, kind: RawSlotType, raw: &RawSlot) {
        let typed = [
            ("values", !raw.values.is_empty(), kind == RawSlotType::Enum),
            ("min", raw.min.is_some(), kind == RawSlotType::Int),
            ("max", raw.max.is_some(), kind == RawSlotType::Int),
            ("beneath", raw.beneath.is_some(), kind == RawSlotType::Path),
            ("pattern", raw.pattern.is_some(), kind == RawSlotType::Text),
            ("max_bytes", raw.max_bytes.is_some(), matches!(kind, RawSlotType::Path | RawSlotType::Text)),
        ];
        for (key, _, _) in typed.into_iter().filter(|(_, there, fits)| *there && !fits) {
            self.mistake(format!("{at}/{key}"), "a slot of this type has no such key", "remove it");
        }
    }

    fn pattern(&mut self, at: &str, pattern: &str) -> Option<Regex> {
        match whole(pattern) {
            Ok(regex) => Some(regex),
            Err(error) => {
                self.mistake(
                    at,
                    format!("it is no regular expression: {error}"),
                    "see the documentation of the crate regex",
                );
                None
            }
        }
    }

    fn stdin(&mut self, raw: Option<&RawStdin>, launcher: bool) -> Option<Stdin> {
        let Some(raw) = raw else { return Some(Stdin::Nothing) };
        if launcher {
            self.mistake("/stdin", "a program that runs others takes no stdin from a caller", "remove it");
        }
        let pattern = match raw.pattern.as_deref() {
            Some(pattern) => Some((Arc::from(pattern), self.pattern("/stdin/pattern", pattern)?)),
            None => None,
        };
        Some(Stdin::Text { pattern, max_bytes: raw.max_bytes.unwrap_or(STDIN), required: !raw.optional })
    }

    fn env(&mut self, raw: &RawCommand) -> Vec<(String, String)> {
        let mut env = raw.env.clone();
        for (name, value) in &raw.env {
            let at = format!("/env/{name}");
            let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            if name.is_empty() || !name.bytes().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
                self.mistake(&at, "it cannot be the name of a variable", "capital letters, digits and _");
            }
            if LOADING.iter().any(|start| name.starts_with(start)) {
                self.mistake(&at, "this variable changes what programs load or run", "remove it");
            }
            if value.contains('\0') {
                self.mistake(&at, "its value holds a NUL character", "");
            }
        }
        env.entry("PATH".to_owned()).or_insert_with(|| "/usr/bin:/bin".to_owned());
        env.entry("LANG".to_owned()).or_insert_with(|| "C.UTF-8".to_owned());
        env.into_iter().collect()
    }

    fn folders(&mut self, at: &str, typed: &[String]) -> Vec<PathBuf> {
        typed
            .iter()
            .enumerate()
            .filter_map(|(index, typed)| self.absolute(&format!("{at}/{index}"), typed))
            .collect()
    }

    /// A path that can be read in one way only.
    fn absolute(&mut self, at: &str, typed: &str) -> Option<PathBuf> {
        let clean = |step: &str| !matches!(step, "" | "." | "..");
        let ok = typed == "/" || typed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(clean));
        if !ok || typed.chars().any(is_harmful) {
            let hint = "from / on, without `.`, `..`, `//` and without a / at the end";
            self.mistake(at, format!("{typed:?} is not an absolute path in its simplest form"), hint);
            return None;
        }
        Some(PathBuf::from(typed))
    }

    fn digest(&mut self, typed: &str) -> Option<[u8; 32]> {
        let digest = from_hex(typed);
        if digest.is_none() {
            self.mistake("/sha256", "it is no SHA-256", "64 hex digits, as sha256sum prints them");
        }
        digest
    }
}

/// A pattern for a whole text.
fn whole(pattern: &str) -> Result<Regex, String> {
    // By itself first: `a)|(b` is no pattern, though it is one in brackets.
    RegexBuilder::new(pattern).size_limit(PATTERN).build().map_err(|error| error.to_string())?;
    let whole = format!(r"\A(?:{pattern})\z");
    RegexBuilder::new(&whole).size_limit(PATTERN).build().map_err(|error| error.to_string())
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digest)
}
