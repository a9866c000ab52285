//! A message whose large strings are kept elsewhere: code that reads and edits messages sees a short JSON text with a
//! placeholder for each of them, and the strings are put back piece by piece when the message is written out. So a result
//! of any size passes through with the memory of a small one.
//!
//! The sender of a message cannot guess a placeholder. It means something only in the message it was cut from, and is
//! filled once.

use std::fmt::{self, Write as _};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::call::Share;

/// The beginning of every placeholder of this process.
static MARK: LazyLock<String> = LazyLock::new(|| {
    let mut secret = [0u8; 16];
    // Without randomness a sender could at worst have one string of its own message stand at another place of it.
    let _ = SystemRandom::new().fill(&mut secret);
    secret.iter().fold("hole:".to_owned(), |mut mark, byte| {
        let _ = write!(mark, "{byte:02x}");
        mark
    })
});

/// Digits of the serial number in a placeholder.
const SERIAL: usize = 16;

/// Where the strings that were cut out are kept.
pub trait Source: Send + Sync + fmt::Debug {
    /// Fills the buffer with the bytes that begin at `at`. Blocks as a read from a file does.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// Counts them to this caller, for as long as they are kept. The first caller counts.
    ///
    /// # Errors
    /// They are not there, or this caller keeps too many already.
    fn keep_for(&self, whose: Share) -> Result<(), Unkept>;
}

/// Why large strings are not kept for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// There was no room for them when they came.
    NoRoom,
    /// The caller keeps as much as is theirs.
    Share,
}

/// One string that was cut out: its JSON text without the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    serial: u64,
    /// Where it stands in the source, in bytes.
    pub span: Range<u64>,
}

impl Placeholder {
    /// A placeholder with a number that no other has.
    #[must_use]
    pub fn new(start: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { serial: NEXT.fetch_add(1, Ordering::Relaxed), span: start..start }
    }

    /// The text in the place of the string.
    #[must_use]
    pub(crate) fn placeholder(&self) -> String {
        format!("{}:{:016x}", *MARK, self.serial)
    }
}

#[derive(Debug)]
struct Holes {
    list: Vec<Placeholder>,
    source: Arc<dyn Source>,
    /// The longest text that may be made whole in memory, in bytes.
    limit: usize,
}

/// A JSON text and the strings that were cut out of it.
#[derive(Clone, Debug)]
pub struct Payload {
    text: Bytes,
    holes: Option<Arc<Holes>>,
}

/// A part of a message as it is written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// This range of the text.
    Text(Range<usize>),
    /// This range of the source.
    Placeholder(Range<u64>),
}

/// Why a message cannot be made whole in memory.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is longer than what is held in memory.
    #[error("the answer is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The strings that were cut out cannot be read.
    #[error("the rest of the answer cannot be read: {0}")]
    Source(#[from] io::Error),
}

impl From<Bytes> for Payload {
    fn from(text: Bytes) -> Self {
        Self { text, holes: None }
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl Payload {
    /// A text and the strings that were cut out of it. `limit`: see [`Self::whole`].
    #[must_use]
    pub fn new(text: Bytes, list: Vec<Placeholder>, source: Arc<dyn Source>, limit: usize) -> Self {
        let holes = (!list.is_empty()).then(|| Arc::new(Holes { list, source, limit }));
        Self { text, holes }
    }

    /// The text with placeholders.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The same as a JSON text; `null` if it is not UTF-8, which a parsed message always is.
    #[must_use]
    pub fn json(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or("null")
    }

    /// Another text around the same strings.
    #[must_use]
    pub(crate) fn reworded(&self, text: impl Into<Bytes>) -> Self {
        Self { text: text.into(), holes: self.holes.clone() }
    }

    /// Whether the text is all there is.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.holes.is_none()
    }

    /// The longest message that is made whole, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.holes.as_ref().map_or(usize::MAX, |holes| holes.limit)
    }

    /// Where the strings are.
    #[must_use]
    pub fn source(&self) -> Option<&Arc<dyn Source>> {
        self.holes.as_ref().map(|holes| &holes.source)
    }

    /// The message in the order it is written.
    #[must_use]
    pub(crate) fn segments(&self) -> Vec<Segment> {
        let Some(holes) = &self.holes else { return vec![Segment::Text(0..self.text.len())] };
        let mut open: Vec<&Placeholder> = holes.list.iter().collect();
        let (mut segments, mut written) = (Vec::with_capacity(open.len() * 2 + 1), 0);
        for at in Finder::new(MARK.as_bytes()).find_iter(&self.text) {
            let digits = at + MARK.len() + 1..at + MARK.len() + 1 + SERIAL;
            let serial = self.text.get(digits.clone()).and_then(|digits| std::str::from_utf8(digits).ok());
            let serial = serial.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let found = open.iter().position(|placeholder| Some(placeholder.serial) == serial);
            // A placeholder that was filled already, or belongs to another message, is text like any other.
            let Some(found) = found else { continue };
            segments.push(Segment::Text(written..at));
            segments.push(Segment::Placeholder(open.swap_remove(found).span.clone()));
            written = digits.end;
        }
        segments.push(Segment::Text(written..self.text.len()));
        segments
    }

    /// The length of the message in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        let length = |segment: &Segment| match segment {
            Segment::Text(range) => range.len() as u64,
            Segment::Placeholder(span) => span.end - span.start,
        };
        self.segments().iter().map(length).sum()
    }

    /// The message in memory, for code that must see all of it. Blocks as a read from a file does.
    ///
    /// # Errors
    /// [`PayloadError`]: it is too long, or cannot be read.
    pub fn whole(&self) -> Result<Bytes, PayloadError> {
        let Some(holes) = &self.holes else { return Ok(self.text.clone()) };
        let length = usize::try_from(self.length()).unwrap_or(usize::MAX);
        if length > holes.limit {
            return Err(PayloadError::TooLarge { limit: holes.limit });
        }
        let mut whole = Vec::with_capacity(length);
        for segment in self.segments() {
            match segment {
                Segment::Text(range) => whole.extend_from_slice(self.text.get(range).unwrap_or_default()),
                Segment::Placeholder(span) => {
                    let start = whole.len();
                    whole.resize(start + usize::try_from(span.end - span.start).unwrap_or(0), 0);
                    holes.source.read_at(whole.get_mut(start..).unwrap_or_default(), span.start)?;
                }
            }
        }
        Ok(whole.into())
    }
}
