//! Writes a message out piece by piece. The parts that are not in memory are read from the disk while the client takes
//! them, so a slow client of a long answer costs the memory of one piece.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use memchr::memchr2;
use tokio::task::spawn_blocking;

use crate::mcp::payload::{Payload, Segment};

/// Bytes that are read at once.
const PIECE: u64 = 128 << 10;

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Pour {
    payload: Payload,
    segments: std::vec::IntoIter<Segment>,
    /// What is left of the segment that is being read.
    rest: Range<u64>,
    one_line: bool,
}

impl Pour {
    /// The message as it stands, or on one line: a line end between its tokens becomes a space.
    pub(super) fn new(payload: Payload, one_line: bool) -> Self {
        let segments = payload.segments().into_iter();
        Self { payload, segments, rest: 0..0, one_line }
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// The rest cannot be read: the message stays unfinished.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.rest.is_empty() {
            match self.segments.next()? {
                Segment::Text(range) => return Some(Ok(self.text(range))),
                Segment::Placeholder(span) => self.rest = span,
            }
        }
        let source = self.payload.source()?.clone();
        let start = self.rest.start;
        let end = self.rest.end.min(start + PIECE);
        self.rest.start = end;
        let read = spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(end - start).unwrap_or(0)];
            source.read_at(&mut piece, start).map(|()| Bytes::from(piece))
        });
        Some(read.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())))
    }

    fn text(&self, range: Range<usize>) -> Bytes {
        let text = self.payload.text().slice(range);
        if self.one_line && memchr2(b'\n', b'\r', &text).is_some() {
            return text.iter().map(|byte| if breaks(*byte) { b' ' } else { *byte }).collect();
        }
        text
    }
}

/// Ends a line, on stdio and in an event.
fn breaks(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}
