//! Starting other programs: each is shown before it runs, and its exit code is kept for our own.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;

use anyhow::Context as _;

/// A program that was started and did not succeed.
#[derive(Debug)]
struct Failed {
    command: String,
    /// None if a signal ended it.
    code: Option<i32>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "`{}` failed with exit code {code}", self.command),
            None => write!(f, "`{}` was killed by a signal", self.command),
        }
    }
}

impl std::error::Error for Failed {}

/// The exit code of the program that failed, if that is what went wrong; 1 otherwise.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    let code = error.downcast_ref::<Failed>().and_then(|failed| failed.code);
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Runs a program to its end, with our own input and output.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    check(command, status)
}

/// Runs a program to its end without a word, and returns what it wrote to its output.
///
/// # Errors
/// If it cannot be started, does not succeed (its error output is part of the error), or writes no UTF-8.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    check(command, output.status)
        .with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` wrote no UTF-8", shown(command)))
}

/// Whether a program can be started and succeeds; what it writes is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs a program to its end and shows its first `head` and last `tail` lines, each cut at 400 characters:
/// a test that floods its output must not flood the log of the build.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub(crate) fn run_bounded(command: &mut Command, head: usize, tail: usize) -> anyhow::Result<()> {
    eprintln!("$ {}", shown(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let (sender, lines) = mpsc::sync_channel(1_024);
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward(stderr, sender);
    }
    let mut seen = 0;
    let mut last = VecDeque::with_capacity(tail);
    for line in lines {
        seen += 1;
        if seen <= head {
            eprintln!("{line}");
        } else {
            if last.len() == tail {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    let hidden = seen.saturating_sub(head).saturating_sub(last.len());
    if hidden > 0 {
        eprintln!("[{hidden} lines left out]");
    }
    for line in last {
        eprintln!("{line}");
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{}`", shown(command)))?;
    check(command, status)
}

/// Becomes another program; returns only if that fails.
pub(crate) fn replace(program: &Path, args: &[impl AsRef<OsStr>]) -> anyhow::Error {
    let error = Command::new(program).args(args).exec();
    anyhow::Error::new(error).context(format!("cannot start {}", program.display()))
}

fn check(command: &Command, status: std::process::ExitStatus) -> anyhow::Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Failed { command: shown(command), code: status.code() }.into())
}

/// Reads lines of any encoding on a thread of its own, so that neither pipe can block the other.
fn forward(stream: impl Read + Send + 'static, lines: mpsc::SyncSender<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text: String = String::from_utf8_lossy(&line).trim_end().chars().take(400).collect();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// The command as a person would type it, without quoting.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_the_failed_program_is_ours() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(exit_code(&error.context("more")), ExitCode::from(7));
        assert_eq!(exit_code(&anyhow::anyhow!("no program")), ExitCode::FAILURE);
    }

    #[test]
    fn both_outputs_are_read_to_their_end() {
        // More than a pipe holds, on both sides: a reader that takes one after the other hangs here.
        let script = "seq 1 60000; seq 1 60000 >&2; exit 3";
        let error = run_bounded(Command::new("sh").args(["-c", script]), 1, 1).unwrap_err();
        assert!(error.to_string().contains("exit code 3"), "{error}");
    }

    #[test]
    fn the_error_output_is_part_of_the_error() {
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 1"])).unwrap_err();
        assert!(format!("{error:#}").contains("because"), "{error:#}");
    }
}
