//! Cuts the large strings out of a JSON text while it arrives, in pieces cut anywhere, so that neither the pieces nor
//! the strings are ever together in memory.
//!
//! The text that stays is judged by the parser like any message. The strings that go are judged here (RFC 8259, section
//! 7: no control characters, known escapes, UTF-8), because no other code will look at them.

use std::sync::Arc;

use memchr::memchr2;

use super::payload::{Payload, Placeholder, Source};

/// A string longer than this goes, in bytes.
pub(crate) const LARGE: usize = 64 << 10;
/// A byte that no JSON text contains: it makes the parser refuse the message.
const SPOILED: u8 = 0x01;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between strings.
    Outside,
    /// In a string that began at this place of the text.
    Inside { start: usize },
    /// In a string, after a backslash.
    Escape { start: usize },
    /// In a string, so many digits of a `\u` are missing.
    Digits { start: usize, left: u8 },
}

/// Takes the large strings out of one message, piece by piece as it arrives.
#[derive(Debug)]
pub(crate) struct Cutter {
    text: Vec<u8>,
    state: State,
    /// The string being cut out.
    open: Option<Placeholder>,
    holes: Vec<Placeholder>,
    /// Cut bytes that have not been taken.
    cut: Vec<u8>,
    /// Of those, the ones that are known to be UTF-8.
    verified: usize,
    /// Cut bytes that have been taken.
    taken: u64,
    spoiled: bool,
}

impl Default for Cutter {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            state: State::Outside,
            open: None,
            holes: Vec::new(),
            cut: Vec::new(),
            verified: 0,
            taken: 0,
            spoiled: false,
        }
    }
}

impl Cutter {
    /// The bytes that stay, so far.
    #[must_use]
    pub(crate) fn kept(&self) -> usize {
        self.text.len()
    }

    /// The beginning of what stays.
    #[must_use]
    pub(crate) fn head(&self) -> &[u8] {
        &self.text
    }

    /// The bytes that were cut out, so far.
    #[must_use]
    pub(crate) fn cut(&self) -> u64 {
        self.taken + self.cut.len() as u64
    }

    /// The bytes waiting to be taken.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.cut.len()
    }

    /// The next bytes of the message.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        while let Some(first) = piece.first() {
            match self.state {
                State::Outside => {
                    let end = memchr::memchr(b'"', piece).map_or(piece.len(), |quote| quote + 1);
                    let (run, rest) = piece.split_at(end);
                    self.text.extend_from_slice(run);
                    if run.last() == Some(&b'"') {
                        self.state = State::Inside { start: self.text.len() };
                    }
                    piece = rest;
                }
                State::Inside { start } => {
                    let end = memchr2(b'"', b'\\', piece).unwrap_or(piece.len());
                    let (run, rest) = piece.split_at(end);
                    self.string(run, start);
                    match rest.first() {
                        Some(b'"') => self.close(),
                        Some(_) => {
                            self.string(b"\\", start);
                            self.state = State::Escape { start };
                        }
                        None => {}
                    }
                    piece = rest.get(1..).unwrap_or_default();
                }
                State::Escape { start } => {
                    self.spoiled |= !b"\"\\/bfnrtu".contains(first);
                    self.string(&[*first], start);
                    self.state = if *first == b'u' {
                        State::Digits { start, left: 4 }
                    } else {
                        State::Inside { start }
                    };
                    piece = &piece[1..];
                }
                State::Digits { start, left } => {
                    self.spoiled |= !first.is_ascii_hexdigit();
                    self.string(&[*first], start);
                    self.state = if left > 1 {
                        State::Digits { start, left: left - 1 }
                    } else {
                        State::Inside { start }
                    };
                    piece = &piece[1..];
                }
            }
        }
    }

    /// A part of a string; once the string is large, it goes from its beginning.
    fn string(&mut self, run: &[u8], start: usize) {
        if self.open.is_some() {
            self.cut.extend_from_slice(run);
        } else {
            self.text.extend_from_slice(run);
            if self.text.len() - start > LARGE {
                self.open = Some(Placeholder::new(self.cut()));
                self.cut.extend_from_slice(&self.text[start..]);
                self.text.truncate(start);
            }
        }
    }

    fn close(&mut self) {
        if let Some(mut placeholder) = self.open.take() {
            self.verify();
            self.spoiled |= self.verified < self.cut.len();
            self.verified = self.cut.len();
            placeholder.span.end = self.cut();
            self.text.extend_from_slice(placeholder.placeholder().as_bytes());
            self.holes.push(placeholder);
        }
        self.text.push(b'"');
        self.state = State::Outside;
    }

    /// Checks the UTF-8 of what was cut, up to a character whose end is missing.
    fn verify(&mut self) {
        let fresh = self.cut.get(self.verified..).unwrap_or_default();
        self.spoiled |= fresh.iter().fold(false, |found, byte| found | (*byte < 0x20));
        match std::str::from_utf8(fresh) {
            Ok(_) => self.verified = self.cut.len(),
            Err(error) if error.error_len().is_none() => self.verified += error.valid_up_to(),
            Err(_) => {
                self.spoiled = true;
                self.verified = self.cut.len();
            }
        }
    }

    /// Takes what was cut, to be put behind what was taken before.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.verify();
        let rest = self.cut.split_off(self.verified);
        self.verified = 0;
        self.taken += self.cut.len() as u64;
        std::mem::replace(&mut self.cut, rest)
    }

    /// The message; everything that was cut must have been taken. `limit`: see [`Payload::whole`].
    #[must_use]
    pub(crate) fn finish(mut self, source: Arc<dyn Source>, limit: usize) -> Payload {
        if self.spoiled || self.open.is_some() || !self.cut.is_empty() {
            self.text.push(SPOILED);
        }
        Payload::new(self.text.into(), self.holes, source, limit)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io;

    use proptest::prelude::*;

    use super::*;
    use crate::mcp::splice;

    #[derive(Debug)]
    struct Memory(Vec<u8>);

    impl Source for Memory {
        fn keep_for(&self, _: crate::call::Share) -> Result<(), crate::mcp::payload::Unkept> {
            Ok(())
        }

        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            let found = self.0.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(found);
            Ok(())
        }
    }

    /// The message after cutting, its pieces this long.
    fn cut(message: &[u8], piece: usize) -> (Payload, usize) {
        let (mut cutter, mut kept) = (Cutter::default(), Vec::new());
        let mut most = 0;
        for part in message.chunks(piece) {
            cutter.push(part);
            most = most.max(cutter.waiting());
            kept.extend(cutter.take());
        }
        kept.extend(cutter.take());
        (cutter.finish(Arc::new(Memory(kept)), usize::MAX), most)
    }

    fn large(seed: &str) -> String {
        seed.repeat(LARGE / seed.len() + 1)
    }

    #[test]
    fn large_strings_go_and_come_back_byte_for_byte() {
        let (text, blob) = (large("a\\u00e9\\n\\\"é"), large("QUJD"));
        let message = format!(r#"{{"id":1, "result":{{"small":"s\"","text":"{text}","x":[1,"{blob}"]}}}}"#);
        for piece in [1, 7, 4096, message.len()] {
            let (payload, _) = cut(message.as_bytes(), piece);
            assert!(payload.text().len() < 300, "{}", payload.json());
            assert!(serde_json::from_slice::<serde_json::Value>(payload.text()).is_ok());
            assert_eq!(payload.length(), message.len() as u64);
            assert!(payload.whole().unwrap() == message.as_bytes(), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_edited_around_them_stays_edited() {
        let message = format!(r#"{{"result":{{"content":"{}"}},"id":1}}"#, large("x"));
        let (payload, _) = cut(message.as_bytes(), 1000);
        let edit = splice::Edit::Set { pointer: "/result/more".to_owned(), json: "true".to_owned() };
        let edited = payload.reworded(splice::apply(payload.json(), &[edit]).unwrap());
        let whole = String::from_utf8(edited.whole().unwrap().to_vec()).unwrap();
        assert_eq!(whole, message.replace("\"},\"id", "\",\"more\":true},\"id"));
    }

    #[test]
    fn a_placeholder_is_filled_once_and_only_in_its_own_message() {
        let (one, _) = cut(format!("[\"{}\"]", large("x")).as_bytes(), 512);
        let (other, _) = cut(format!("[\"{}\"]", large("y")).as_bytes(), 512);
        let twice = one.reworded([&one.text()[..], &one.text()[..], &other.text()[..]].concat());
        let length = one.length() + one.text().len() as u64 + other.text().len() as u64;
        assert_eq!(twice.length(), length);
    }

    #[test]
    fn what_is_no_json_inside_a_large_string_is_no_message() {
        for bad in [&b"\x00"[..], b"\n", b"\\q", b"\\u00g0", b"\xff", b"\xc3"] {
            for lead in [0, LARGE * 2] {
                let mut message = b"{\"a\":\"".to_vec();
                message.extend(std::iter::repeat_n(b'x', lead));
                message.extend_from_slice(bad);
                message.extend(std::iter::repeat_n(b'x', LARGE));
                message.extend_from_slice(b"\"}");
                let (payload, _) = cut(&message, 1000);
                assert!(serde_json::from_slice::<serde_json::Value>(payload.text()).is_err(), "{bad:?}");
            }
        }
    }

    #[test]
    fn a_message_that_breaks_off_is_none_and_nothing_piles_up() {
        let mut message = b"{\"a\":\"\xff".to_vec();
        message.extend(std::iter::repeat_n(b'x', LARGE * 8));
        let (payload, most) = cut(&message, 1000);
        assert!(serde_json::from_slice::<serde_json::Value>(payload.text()).is_err());
        assert!(most <= LARGE + 2000, "{most} bytes waited at once");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_the_message_it_comes_back(
            texts in proptest::collection::vec((".{0,40}", 1usize..4000), 1..4),
            piece in 1usize..9000,
        ) {
            let values: Vec<String> = texts.iter().map(|(seed, times)| seed.repeat(*times)).collect();
            let message = serde_json::to_vec(&values).unwrap();
            let (payload, _) = cut(&message, piece);
            let left: usize = values.iter().map(|value| value.len().min(LARGE * 2)).sum();
            prop_assert!(payload.text().len() <= left * 6 + 300);
            prop_assert!(payload.whole().unwrap() == message);
        }
    }
}
