//! Server-sent events are how an MCP server over HTTP streams its messages; this parser takes them from chunks cut
//! anywhere, in bounded memory. Rules: WHATWG HTML, section 9.2.6 "Interpreting an event stream".

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memchr::{memchr, memchr2};

use crate::backend::spool::{Gather, Spool};

/// Bytes of a line beyond the limit on data: room for the field name.
const FIELD_ROOM: usize = 64;
/// A line of data longer than this is passed on before its end has come, to where the event's data is gathered.
const LONG_LINE: usize = 64 << 10;
/// A longer event id is ignored: it would have to travel back in a header.
const MAX_ID: usize = 1024;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What the parser found.
#[derive(Debug)]
pub(crate) enum Item {
    /// A complete event with data.
    Event {
        /// The event's type; `message` if the server named none.
        name: String,
        /// Its data, lines joined by a line feed.
        data: Bytes,
    },
    /// The same, its data too long to be in memory.
    Long {
        /// As for [`Item::Event`].
        name: String,
        /// To be finished.
        data: Box<Gather>,
    },
    /// An event over the limit was discarded; what follows it is parsed on.
    Oversized,
}

/// An incremental parser of one event stream, and of its resumption after [`restart`](Self::restart).
#[derive(Debug)]
pub(crate) struct Parser {
    limit: usize,
    spool: Option<Arc<Spool>>,
    /// A line whose end has not arrived.
    line: Vec<u8>,
    /// The line that is arriving is a long one of data.
    in_data: bool,
    data: Gather,
    /// Distinguishes one empty `data:` line from none.
    has_data: bool,
    name: String,
    /// The id as of the event being read; it counts once that event is complete.
    next_id: Option<String>,
    last_id: Option<String>,
    retry: Option<Duration>,
    /// A line feed directly after a carriage return ends no second line.
    after_cr: bool,
    /// The first line may begin with a byte order mark.
    at_start: bool,
    /// The event being read is over the limit.
    discarding: bool,
}

impl Parser {
    /// A parser that discards events whose data is over `limit` bytes, or over what the spool takes.
    #[must_use]
    pub(crate) fn new(limit: usize, spool: Option<Arc<Spool>>) -> Self {
        Self {
            limit,
            line: Vec::new(),
            in_data: false,
            data: Gather::new(spool.clone(), limit),
            spool,
            has_data: false,
            name: String::new(),
            next_id: None,
            last_id: None,
            retry: None,
            after_cr: false,
            at_start: true,
            discarding: false,
        }
    }

    /// The id of the last complete event: what `Last-Event-ID` must say to resume after it.
    #[must_use]
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long the server asked to wait before reconnecting.
    #[must_use]
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Begins a new stream that continues this one: an unfinished event is dropped, id and `retry` stay.
    pub(crate) fn restart(&mut self) {
        let (last_id, retry) = (self.last_id.take(), self.retry);
        *self = Self { next_id: last_id.clone(), last_id, retry, ..Self::new(self.limit, self.spool.take()) };
    }

    /// Forgets the position, when the server refused to resume at it.
    pub(crate) fn forget_position(&mut self) {
        self.last_id = None;
        self.next_id = None;
    }

    /// Moves what has arrived of a long event out of memory. To be called after every [`Self::push`].
    pub(crate) async fn settle(&mut self) {
        self.data.settle().await;
    }

    /// Takes the next bytes and returns the events they completed, in order.
    pub(crate) fn push(&mut self, mut chunk: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
                chunk = chunk.get(1..).unwrap_or_default();
                continue;
            }
            let end = memchr2(b'\n', b'\r', chunk).unwrap_or(chunk.len());
            let (part, rest) = chunk.split_at(end);
            let Some((terminator, rest)) = rest.split_first() else {
                self.hold(part);
                break;
            };
            self.after_cr = *terminator == b'\r';
            chunk = rest;
            if std::mem::take(&mut self.in_data) {
                self.data.push(part);
            } else if self.line.is_empty() {
                self.line(part, &mut items);
            } else {
                self.hold(part);
                let line = std::mem::take(&mut self.line);
                self.line(&line, &mut items);
                // Keep the buffer for the next split line, unless it grew large.
                if line.capacity() <= 64 * 1024 {
                    self.line = line;
                    self.line.clear();
                }
            }
        }
        items
    }

    /// Keeps a part of a line; past the limit only so much that its length still shows that it is over.
    fn hold(&mut self, part: &[u8]) {
        if self.in_data {
            return self.data.push(part);
        }
        let room = (self.limit + FIELD_ROOM + BOM.len() + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
        if self.line.len() > LONG_LINE.min(self.limit)
            && let Some(value) = self.spooled_data(&self.line)
        {
            let value = value.to_vec();
            self.line.clear();
            self.at_start = false;
            self.data(&value);
            self.in_data = true;
            self.data.push(part.get(room..).unwrap_or_default());
        }
    }

    /// The value of a line of data that need not fit into memory.
    fn spooled_data<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let value = line.strip_prefix(b"data:").filter(|_| self.spool.is_some() && !self.discarding)?;
        Some(value.strip_prefix(b" ").unwrap_or(value))
    }

    fn line(&mut self, mut line: &[u8], items: &mut Vec<Item>) {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(items);
        }
        if line.len() > self.limit + FIELD_ROOM {
            return match self.spooled_data(line) {
                Some(value) => self.data(value),
                None => self.discard(),
            };
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => line.split_at(colon),
            None => (line, &b":"[..]),
        };
        let value = value.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.data(value),
            b"event" => {
                self.name = String::from_utf8_lossy(value.get(..MAX_ID).unwrap_or(value)).into_owned()
            }
            b"id" if value.len() <= MAX_ID && !value.contains(&0) => {
                self.next_id = Some(String::from_utf8_lossy(value).into_owned()).filter(|id| !id.is_empty());
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let digits = str::from_utf8(value).ok();
                self.retry = digits.and_then(|text| text.parse().ok()).map(Duration::from_millis);
            }
            // Comments, and fields that are not defined.
            _ => {}
        }
    }

    fn data(&mut self, value: &[u8]) {
        if self.discarding {
            return;
        }
        if self.has_data {
            self.data.push(b"\n");
        }
        self.has_data = true;
        self.data.push(value);
    }

    fn discard(&mut self) {
        self.discarding = true;
        self.has_data = false;
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        self.last_id.clone_from(&self.next_id);
        let name = std::mem::take(&mut self.name);
        self.has_data = false;
        let name = if name.is_empty() { "message".to_owned() } else { name };
        let data = std::mem::replace(&mut self.data, Gather::new(self.spool.clone(), self.limit));
        if std::mem::take(&mut self.discarding) {
            items.push(Item::Oversized);
            return;
        }
        items.extend(match data.in_memory() {
            // Empty data carries only an id or a retry: the way a server marks a position before it hangs up.
            Ok(data) => (!data.is_empty()).then_some(Item::Event { name, data }),
            Err(long) if long.has_failed() => Some(Item::Oversized),
            Err(long) => Some(Item::Long { name, data: long }),
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl PartialEq for Item {
        fn eq(&self, other: &Self) -> bool {
            match (self, other) {
                (Self::Event { name, data }, Self::Event { name: other, data: others }) => {
                    name == other && data == others
                }
                (Self::Oversized, Self::Oversized) => true,
                _ => false,
            }
        }
    }

    fn event(name: &str, data: &str) -> Item {
        Item::Event { name: name.to_owned(), data: Bytes::copy_from_slice(data.as_bytes()) }
    }

    #[test]
    fn every_field_and_every_line_end() {
        let mut parser = Parser::new(100, None);
        let text = "\u{feff}data: a\r\n\r\n: comment\nevent: endpoint\rdata:b\rdata: c\r\rid: 7\nretry: 250\n\ndata\n\n";
        assert_eq!(parser.push(text.as_bytes()), [event("message", "a"), event("endpoint", "b\nc")]);
        assert_eq!((parser.last_id(), parser.retry()), (Some("7"), Some(Duration::from_millis(250))));
        // A bad id and a bad retry change nothing; an unfinished event is not delivered.
        assert_eq!(parser.push(b"id: a\0b\nretry: 1s\n\nid: 8\ndata: half"), []);
        assert_eq!((parser.last_id(), parser.retry()), (Some("7"), Some(Duration::from_millis(250))));
        parser.restart();
        assert_eq!(parser.push(b"\xef\xbb\xbfdata: fresh\n\n"), [event("message", "fresh")]);
        assert_eq!(parser.last_id(), Some("7"));
        parser.forget_position();
        assert_eq!(parser.push(b"data: x\n\n"), [event("message", "x")]);
        assert_eq!(parser.last_id(), None);
    }

    #[test]
    fn an_event_over_the_limit_is_discarded_and_the_next_one_read() {
        let fits = format!("data: {}\n\n", "x".repeat(10));
        for big in [
            "data: aaaaaaaaaaa\n\n".to_owned(),
            "data: aaaaaa\ndata: bbbbbb\ndata: c\n\n".to_owned(),
            format!("data: {}\n\n", "x".repeat(9000)),
            format!(": {}\n\n", "x".repeat(9000)),
        ] {
            let mut parser = Parser::new(10, None);
            let mut items = Vec::new();
            for byte in format!("{big}{fits}").as_bytes() {
                items.extend(parser.push(std::slice::from_ref(byte)));
                assert!(
                    parser.line.len() <= 10 + FIELD_ROOM + BOM.len() + 1 && parser.data.head().len() <= 10
                );
            }
            assert_eq!(items, [Item::Oversized, event("message", "xxxxxxxxxx")], "{big:.20}");
        }
    }

    #[tokio::test]
    async fn a_long_event_is_never_together_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let data = format!("{{\"id\":1,\"jsonrpc\":\"2.0\",\"result\":\"{}\"}}", "x".repeat(5 << 20));
        let text = format!("event: message\ndata: {data}\nid: 4\n\ndata: next\n\n");
        for piece in [7_001, 16 << 10, 3 << 20] {
            let spool = Spool::new(folder.path().to_owned(), 16 << 20);
            let mut parser = Parser::new(4 << 20, Some(spool));
            let mut items = Vec::new();
            for part in text.as_bytes().chunks(piece) {
                items.extend(parser.push(part));
                parser.settle().await;
                assert!(parser.line.len() <= LONG_LINE.max(piece) + FIELD_ROOM);
            }
            assert_eq!(items.pop().unwrap(), event("message", "next"));
            let Some(Item::Long { data: long, .. }) = items.pop() else { panic!("a long event") };
            let payload = long.finish().await.unwrap();
            assert!(payload.text().len() < 200 && payload.length() == data.len() as u64);
            assert_eq!(parser.last_id(), Some("4"));
        }
    }

    fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
        let piece = prop::sample::select(vec![
            "data",
            "id",
            "event",
            "retry",
            ":",
            ": ",
            " ",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "\u{feff}",
            "{}",
            "7",
            "é",
            "\0",
            "data: {\"a\":1}\n\n",
            "id: 4\n",
            "data:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ]);
        prop::collection::vec(piece, 0..60)
    }

    proptest! {
        #[test]
        fn any_split_yields_the_same_events(pieces in pieces(), cuts in prop::collection::vec(1_usize..9, 1..9)) {
            let text = pieces.concat().into_bytes();
            let mut whole = Parser::new(40, None);
            let expected = whole.push(&text);
            let mut split = Parser::new(40, None);
            let (mut found, mut rest) = (Vec::new(), &text[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                found.extend(split.push(now));
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(expected, found);
            prop_assert_eq!(whole.last_id(), split.last_id());
            prop_assert_eq!(whole.retry(), split.retry());
        }

        #[test]
        fn what_is_written_is_read(messages in prop::collection::vec("[^\r\n\0]{1,30}", 0..9)) {
            let mut text = String::new();
            for (index, data) in messages.iter().enumerate() {
                text.push_str(&format!("id: {index}\r\ndata: {data}\r\n\r\n"));
            }
            let expected: Vec<Item> = messages.iter().map(|data| event("message", data)).collect();
            prop_assert_eq!(Parser::new(1000, None).push(text.as_bytes()), expected);
        }
    }
}
