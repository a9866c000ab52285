//! What a command said, as the result of a tool.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Answer, AnswerKind};
use crate::call::Outcome;
use crate::command::Command;
use crate::command::frames::Ended;

/// As much of one output as is kept.
#[derive(Debug)]
pub(super) struct Output {
    kept: Vec<u8>,
    most: usize,
}

impl Output {
    pub(super) fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most }
    }

    /// Takes a piece. The executor sends no more than it may; this holds whatever it sends.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// As text; what is no UTF-8 is replaced, and the digest tells the bytes apart.
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.kept)
    }
}

/// The result: the text of both outputs for a reader, and everything in `structuredContent`.
pub(super) fn answer(
    executor: &Arc<str>,
    command: &Command,
    ended: &Ended,
    stdout: &Output,
    stderr: &Output,
) -> Answer {
    let well = ended.code == 0 && !ended.timed_out;
    let mut text = stdout.text().into_owned();
    if !stderr.kept.is_empty() {
        let _ = write!(text, "{}[stderr]\n{}", line_break(&text), stderr.text());
    }
    for (name, output, total) in [("stdout", stdout, ended.totals[0]), ("stderr", stderr, ended.totals[1])] {
        if total > output.kept.len() as u64 {
            let left = total - output.kept.len() as u64;
            let _ = write!(text, "{}[{left} more bytes of {name} are not shown]", line_break(&text));
        }
    }
    let timeout = command.timeout.as_secs();
    let how = match ended {
        Ended { timed_out: true, .. } => format!("[killed: it took longer than {timeout} s]"),
        Ended { signal, .. } if *signal != 0 => format!("[ended by signal {signal}]"),
        Ended { code, .. } if *code != 0 => format!("[exit code {code}]"),
        _ => String::new(),
    };
    if !how.is_empty() {
        let _ = write!(text, "{}{how}", line_break(&text));
    }
    let result = json!({
        "content": [{ "type": "text", "text": text }],
        "structuredContent": {
            "execution_id": ended.execution,
            "executor": **executor,
            "exit_code": ended.code,
            "signal": if ended.signal == 0 { Value::Null } else { ended.signal.into() },
            "timed_out": ended.timed_out,
            "duration_ms": ended.micros / 1_000,
            "stdout": stdout.text(),
            "stdout_bytes": ended.totals[0],
            "stdout_sha256": hex(&ended.digests[0]),
            "stderr": stderr.text(),
            "stderr_bytes": ended.totals[1],
            "stderr_sha256": hex(&ended.digests[1]),
        },
        "isError": !well,
    });
    let outcome = match ended {
        _ if well => Outcome::Success,
        Ended { timed_out: true, .. } => Outcome::Timeout,
        // The executor is well; what failed is this command.
        _ => Outcome::ToolError,
    };
    Answer { kind: AnswerKind::Result, outcome, payload: result.to_string().into() }
}

fn line_break(text: &str) -> &'static str {
    if text.is_empty() || text.ends_with('\n') { "" } else { "\n" }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
