//! Newline-delimited messages with a limit: a line that is too long costs its sender an error, not the session.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much of an oversized line is kept, to find the id it asks under.
const KEPT_HEAD: usize = 4096;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Message(Bytes),
    /// Over the limit; its beginning.
    TooLong(Bytes),
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no newline.
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(input: R, limit: usize) -> Self {
        Self { input, buffer: BytesMut::with_capacity(16 << 10), searched: 0, limit }
    }

    /// From now on lines may be so long.
    pub(super) fn bound(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether more has come than the lines so far.
    pub(super) fn more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next line without its end; none at the end of the input. Empty lines are skipped. Cancel-safe.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        let mut head: Option<Bytes> = None;
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.searched..]);
            if let Some(at) = found.map(|at| at + self.searched) {
                let mut line = self.buffer.split_to(at + 1);
                self.searched = 0;
                line.truncate(at);
                match head {
                    Some(head) => return Ok(Some(Line::TooLong(head))),
                    None if line.len() > self.limit => {
                        line.truncate(KEPT_HEAD);
                        return Ok(Some(Line::TooLong(line.freeze())));
                    }
                    None if line.iter().all(u8::is_ascii_whitespace) => continue,
                    None => return Ok(Some(Line::Message(line.freeze()))),
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                let start = self.buffer.split();
                self.searched = 0;
                head.get_or_insert_with(|| start.freeze().slice(..KEPT_HEAD.min(self.limit)));
            }
            self.buffer.reserve(16 << 10);
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                // What is left without a newline was never finished by its sender.
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_line_is_skipped_and_the_next_one_read() {
        let long = format!("{{\"id\":7,{}\n{{\"b\":2}}\n\n  \nx", "y".repeat(100_000));
        let mut lines = Lines::new(long.as_bytes(), 1000);
        assert!(
            matches!(lines.next().await.unwrap(), Some(Line::TooLong(head)) if head.starts_with(b"{\"id\":7,"))
        );
        assert_eq!(lines.next().await.unwrap(), Some(Line::Message(Bytes::from_static(b"{\"b\":2}"))));
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_of_exactly_the_limit_passes() {
        let text = format!("{}\n", "z".repeat(1000));
        let mut lines = Lines::new(text.as_bytes(), 1000);
        assert!(matches!(lines.next().await.unwrap(), Some(Line::Message(line)) if line.len() == 1000));
    }
}
