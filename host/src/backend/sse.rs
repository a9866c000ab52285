//! Server-sent events are how an MCP server over HTTP streams its messages; this parser takes them from chunks cut
//! anywhere, in bounded memory. Rules: WHATWG HTML, section 9.2.6 "Interpreting an event stream".

use std::time::Duration;

use bytes::Bytes;

use super::wire::find;

/// Bytes of a line beyond the limit on data: room for the field name.
const FIELD_ROOM: usize = 64;
/// A longer event id is ignored: it would have to travel back in a header.
const MAX_ID: usize = 1024;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A complete event with data.
    Event {
        /// The event's type; `message` if the server named none.
        name: String,
        /// Its data, lines joined by a line feed.
        data: Bytes,
    },
    /// An event over the limit was discarded; what follows it is parsed on.
    Oversized,
}

/// An incremental parser of one event stream, and of its resumption after [`restart`](Self::restart).
#[derive(Debug)]
pub(crate) struct Parser {
    limit: usize,
    /// A line whose end has not arrived.
    line: Vec<u8>,
    data: Vec<u8>,
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
    /// A parser that discards events whose data is over `limit` bytes.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: Vec::new(),
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
        *self = Self { next_id: last_id.clone(), last_id, retry, ..Self::new(self.limit) };
    }

    /// Forgets the position, when the server refused to resume at it.
    pub(crate) fn forget_position(&mut self) {
        self.last_id = None;
        self.next_id = None;
    }

    /// Takes the next bytes and returns the events they completed, in order.
    pub(crate) fn push(&mut self, mut chunk: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
                chunk = chunk.get(1..).unwrap_or_default();
                continue;
            }
            let end = find(chunk, |byte| byte == b'\n' || byte == b'\r').unwrap_or(chunk.len());
            let (part, rest) = chunk.split_at(end);
            let Some((terminator, rest)) = rest.split_first() else {
                self.hold(part);
                break;
            };
            self.after_cr = *terminator == b'\r';
            chunk = rest;
            if self.line.is_empty() {
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
        let room = (self.limit + FIELD_ROOM + BOM.len() + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn line(&mut self, mut line: &[u8], items: &mut Vec<Item>) {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(items);
        }
        if line.len() > self.limit + FIELD_ROOM {
            self.discard();
            return;
        }
        let (field, value) = match find(line, |byte| byte == b':') {
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
            // Comments, and fields nobody defined.
            _ => {}
        }
    }

    fn data(&mut self, value: &[u8]) {
        if self.discarding {
            return;
        }
        if self.data.len() + value.len() + usize::from(self.has_data) > self.limit {
            self.discard();
            return;
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
    }

    fn discard(&mut self) {
        self.discarding = true;
        self.data = Vec::new();
        self.has_data = false;
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        self.last_id.clone_from(&self.next_id);
        let name = std::mem::take(&mut self.name);
        self.has_data = false;
        if std::mem::take(&mut self.discarding) {
            items.push(Item::Oversized);
            return;
        }
        let data = std::mem::take(&mut self.data);
        // Empty data carries only an id or a retry: the way a server marks a position before it hangs up.
        if !data.is_empty() {
            let name = if name.is_empty() { "message".to_owned() } else { name };
            items.push(Item::Event { name, data: data.into() });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: &str) -> Item {
        Item::Event { name: name.to_owned(), data: Bytes::copy_from_slice(data.as_bytes()) }
    }

    #[test]
    fn every_field_and_every_line_end() {
        let mut parser = Parser::new(100);
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
            let mut parser = Parser::new(10);
            let mut items = Vec::new();
            for byte in format!("{big}{fits}").as_bytes() {
                items.extend(parser.push(std::slice::from_ref(byte)));
                assert!(parser.line.len() <= 10 + FIELD_ROOM + BOM.len() + 1 && parser.data.len() <= 10);
            }
            assert_eq!(items, [Item::Oversized, event("message", "xxxxxxxxxx")], "{big:.20}");
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
            let mut whole = Parser::new(40);
            let expected = whole.push(&text);
            let mut split = Parser::new(40);
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
            prop_assert_eq!(Parser::new(1000).push(text.as_bytes()), expected);
        }
    }
}
