//! What a child writes to stderr is read always, so that it never blocks or dies on a closed pipe; kept in a ring
//! for the person who asks why it failed; and logged at a capped rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::wire::excerpt;

/// Bytes of stderr kept per child.
const RING: usize = 64 * 1024;
/// A longer line is cut here.
const MAX_LINE: usize = 16 * 1024;
/// Lines of a multi-line secret shorter than this are not secrets by themselves (`}` is not).
const MIN_SECRET_LINE: usize = 6;
/// Log lines per second and child.
const LINES_PER_SECOND: u32 = 50;

/// Replaces secrets by `[redacted]`.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Arc<[String]>);

// Its content is what must not be shown.
impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.0.len())
    }
}

impl Redactor {
    pub(crate) fn new(secrets: &[String]) -> Self {
        let mut all = Vec::new();
        for secret in secrets.iter().map(|secret| secret.trim()).filter(|secret| !secret.is_empty()) {
            all.push(secret.to_owned());
            // A child prints a key file line by line.
            let lines = secret.lines().map(str::trim).filter(|line| line.len() >= MIN_SECRET_LINE);
            all.extend(lines.map(str::to_owned));
        }
        // The longest first: a secret that contains another must not leave its rest behind.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        Self(all.into())
    }

    pub(crate) fn apply(&self, mut text: String) -> String {
        for secret in self.0.iter() {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "[redacted]");
            }
        }
        text
    }

    /// Redacts a text that was cut at its end, where the beginning of a secret may be left.
    fn apply_cut(&self, text: String) -> String {
        let longest = self.0.first().map_or(0, String::len);
        let mut text = self.apply(text);
        text.truncate(text.floor_char_boundary(text.len().saturating_sub(longest)));
        text.push_str("… [cut]");
        text
    }
}

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
            let line = excerpt(line.as_bytes());
            words = if words.is_empty() { line } else { format!("{line} | {words}") };
        }
        words
    }
}

/// Lets a number of log lines through per second and counts the rest.
#[derive(Debug)]
pub(crate) struct Cap {
    second: Instant,
    used: u32,
    suppressed: u64,
}

impl Cap {
    pub(crate) fn new(now: Instant) -> Self {
        Self { second: now, used: 0, suppressed: 0 }
    }

    /// `None`: say nothing. Otherwise speak, and mention how many lines were suppressed before.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.used = 0;
        }
        if self.used >= LINES_PER_SECOND {
            self.suppressed += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Reads until the end of the stream; it never waits for anybody who reads what it keeps.
pub(super) async fn drain(name: String, mut source: impl AsyncRead + Unpin, redactor: Redactor, tail: Tail) {
    let mut chunk = vec![0; 8 * 1024];
    let mut line = Vec::new();
    let mut cut = false;
    let mut cap = Cap::new(Instant::now());
    loop {
        let read = match source.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let mut rest = chunk.get(..read).unwrap_or_default();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (part, later) = rest.split_at(end);
            rest = later.get(1..).unwrap_or_default();
            cut |= hold(&mut line, part);
            keep(&name, &mut line, std::mem::take(&mut cut), &redactor, &tail, &mut cap);
        }
        cut |= hold(&mut line, rest);
    }
    if !line.is_empty() {
        keep(&name, &mut line, cut, &redactor, &tail, &mut cap);
    }
}

/// Adds to the line what fits; true if something did not.
fn hold(line: &mut Vec<u8>, part: &[u8]) -> bool {
    let room = MAX_LINE.saturating_sub(line.len());
    line.extend_from_slice(part.get(..room).unwrap_or(part));
    part.len() > room
}

fn keep(name: &str, line: &mut Vec<u8>, cut: bool, redactor: &Redactor, tail: &Tail, cap: &mut Cap) {
    let text = String::from_utf8_lossy(line).trim_end().to_owned();
    line.clear();
    let text = if cut { redactor.apply_cut(text) } else { redactor.apply(text) };
    if let Some(suppressed) = cap.admit(Instant::now()) {
        tracing::debug!(backend = name, suppressed, "stderr: {}", excerpt(text.as_bytes()));
    }
    tail.push(text);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_kept_redacted_and_bounded() {
        let secrets = [
            "hunter2".to_owned(),
            "hunter2-and-more".to_owned(),
            "BEGIN KEY\nabcdefgh\n}".to_owned(),
            String::new(),
        ];
        let tail = Tail::default();
        let mut text = b"pw=hunter2-and-more, {hunter2}\nabcdefgh\n}\n\n".to_vec();
        // The cut falls inside a secret: no part of it may stay.
        text.extend_from_slice(&vec![b'x'; MAX_LINE - 5]);
        text.extend_from_slice(b"hunter2 tail\nlast");
        drain("t".to_owned(), &text[..], Redactor::new(&secrets), tail.clone()).await;
        let kept = tail.text();
        assert!(kept.starts_with("pw=[redacted], {[redacted]}\n[redacted]\n}\n\nxxx"), "{kept:.80}");
        assert!(!kept.contains("hunt") && kept.ends_with("… [cut]\nlast\n"));
        assert!(tail.last_words().starts_with("} | xxx") && tail.last_words().ends_with(" | last"));
    }

    #[tokio::test]
    async fn the_ring_keeps_the_newest() {
        let tail = Tail::default();
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        drain("t".to_owned(), text.as_bytes(), Redactor::default(), tail.clone()).await;
        let kept = tail.text();
        assert!(kept.len() <= RING && kept.len() > RING - 32, "{}", kept.len());
        assert!(kept.ends_with("line 19999\n"));
    }

    #[test]
    fn the_cap_counts_what_it_hides() {
        let start = Instant::now();
        let mut cap = Cap::new(start);
        let admitted = (0..80).filter(|_| cap.admit(start).is_some()).count();
        assert_eq!(admitted, 50);
        assert_eq!(cap.admit(start + Duration::from_secs(1)), Some(30));
        assert_eq!(cap.admit(start + Duration::from_secs(1)), Some(0));
    }
}
