//! The stderr of a child is always read, so that the child never blocks or dies on a closed pipe. It is kept in a ring
//! for the person who asks why the child failed, and logged at a capped rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::redact::{REDACTED, Redaction};
use crate::text;

/// Bytes of stderr kept per child.
const RING: usize = 64 * 1024;
/// A longer line is cut here.
const MAX_LINE: usize = 16 * 1024;
/// Log lines per second and child.
const LINES_PER_SECOND: u32 = 50;
/// The most of one line in an error message, in bytes.
const LAST_WORD: usize = 90;
/// The most lines of a private key.
const MAX_KEY_LINES: u32 = 200;

/// The last lines, at most 64 KiB of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    fn push(&self, line: String) {
        let mut ring = self.0.lock();
        ring.bytes += line.len() + 1;
        ring.lines.push_back(line);
        while ring.bytes > RING {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes -= oldest.len() + 1;
        }
    }

    pub(crate) fn text(&self) -> String {
        let ring = self.0.lock();
        let mut text = String::with_capacity(ring.bytes);
        for line in &ring.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The last lines that fit an error message, on one line.
    pub(crate) fn last_words(&self) -> String {
        let ring = self.0.lock();
        let mut words = String::new();
        for line in ring.lines.iter().rev().filter(|line| !line.trim().is_empty()).take(3) {
            let line = text::excerpt(line.as_bytes(), LAST_WORD);
            words = if words.is_empty() { line } else { format!("{line} | {words}") };
        }
        words
    }
}

/// Lets a number of log lines through per second and counts the rest.
#[derive(Debug)]
pub(crate) struct Cap {
    per_second: u32,
    second: Instant,
    used: u32,
    suppressed: u64,
}

impl Cap {
    pub(crate) fn new(now: Instant, per_second: u32) -> Self {
        Self { per_second, second: now, used: 0, suppressed: 0 }
    }

    /// `None`: say nothing. Otherwise speak, and mention how many lines were suppressed before.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.used = 0;
        }
        if self.used >= self.per_second {
            self.suppressed += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Reads until the end of the stream; it never waits for anybody who reads what it keeps.
pub(super) async fn drain(
    name: String,
    mut source: impl AsyncRead + Unpin,
    redaction: Redaction,
    tail: Tail,
) {
    let mut chunk = vec![0; 8 * 1024];
    let mut lines = Lines {
        line: Vec::new(),
        cut: false,
        key_lines: 0,
        cap: Cap::new(Instant::now(), LINES_PER_SECOND),
        name,
        redaction,
        tail,
    };
    loop {
        let read = match source.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let mut rest = chunk.get(..read).unwrap_or_default();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (part, later) = rest.split_at(end);
            rest = later.get(1..).unwrap_or_default();
            lines.hold(part);
            lines.keep();
        }
        lines.hold(rest);
    }
    if !lines.line.is_empty() {
        lines.keep();
    }
}

/// The line that is being read, and where lines go.
struct Lines {
    line: Vec<u8>,
    /// Something of the line did not fit.
    cut: bool,
    /// How many lines a private key may still have that was begun in a line before; 0 if none was.
    key_lines: u32,
    cap: Cap,
    name: String,
    redaction: Redaction,
    tail: Tail,
}

impl Lines {
    /// Adds to the line what fits.
    fn hold(&mut self, part: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
        self.cut |= part.len() > room;
    }

    fn keep(&mut self) {
        let text = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        let text = match std::mem::take(&mut self.cut) {
            _ if self.in_key(&text) => REDACTED.to_owned(),
            false => self.redaction.text(&text).into_owned(),
            true => format!("{}… [cut]", self.redaction.unsure(&text)),
        };
        if let Some(suppressed) = self.cap.admit(Instant::now()) {
            let line = text::Foreign(&text);
            tracing::debug!(backend = self.name, suppressed, "stderr: {line}");
        }
        self.tail.push(text);
    }

    /// Whether a line belongs to a private key that was begun in another.
    fn in_key(&mut self, text: &str) -> bool {
        let inside = self.key_lines > 0;
        self.key_lines = self.key_lines.saturating_sub(1);
        if text.contains("-----END") {
            self.key_lines = 0;
            return false;
        }
        if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
            self.key_lines = MAX_KEY_LINES;
        }
        inside
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::redact::Secrets;

    #[tokio::test]
    async fn lines_are_kept_redacted_and_bounded() {
        let values =
            ["hunter2", "hunter2-and-more", "BEGIN KEY\nabcdefgh\n}", ""].map(str::to_owned).to_vec();
        let redaction = Redaction::new(&Secrets { values, ..Secrets::default() });
        let tail = Tail::default();
        let mut text = b"pw hunter2-and-more, {hunter2}\nabcdefgh\n}\n\n".to_vec();
        // The cut falls inside a secret: no part of it may stay.
        text.extend(b"x ".iter().cycle().take(MAX_LINE - 4));
        text.extend_from_slice(b"hunter2 tail\nlast");
        drain("t".to_owned(), &text[..], redaction, tail.clone()).await;
        let kept = tail.text();
        assert!(kept.starts_with("pw [redacted], {[redacted]}\n[redacted]\n}\n\nx x"), "{kept:.80}");
        assert!(!kept.contains("hunt") && kept.ends_with("… [cut]\nlast\n"));
        assert!(tail.last_words().starts_with("} | x x") && tail.last_words().ends_with(" | last"));
    }

    #[tokio::test]
    async fn a_private_key_is_hidden_line_by_line() {
        let tail = Tail::default();
        let text =
            b"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\nAwEHoUQD\n-----END EC PRIVATE KEY-----\nafter\n";
        drain("t".to_owned(), &text[..], Redaction::default(), tail.clone()).await;
        let kept = tail.text();
        assert!(
            !kept.contains("MHcC") && !kept.contains("AwEH") && kept.ends_with("-----\nafter\n"),
            "{kept}"
        );
    }

    #[tokio::test]
    async fn the_ring_keeps_the_newest() {
        let tail = Tail::default();
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        drain("t".to_owned(), text.as_bytes(), Redaction::default(), tail.clone()).await;
        let kept = tail.text();
        assert!(kept.len() <= RING && kept.len() > RING - 32, "{}", kept.len());
        assert!(kept.ends_with("line 19999\n"));
    }

    #[test]
    fn the_cap_counts_what_it_hides() {
        let start = Instant::now();
        let mut cap = Cap::new(start, 50);
        let admitted = (0..80).filter(|_| cap.admit(start).is_some()).count();
        assert_eq!(admitted, 50);
        assert_eq!(cap.admit(start + Duration::from_secs(1)), Some(30));
        assert_eq!(cap.admit(start + Duration::from_secs(1)), Some(0));
    }
}
