//! What is kept of a state as bytes: records in batches, little-endian, each batch behind a checksum.
//!
//! A file begins with [`MAGIC`], whose last byte is the version of the layout. A batch is its length, a checksum of the
//! length, a checksum of the rest, a [`Mark`], and records: the name of a space, which holds for those that follow, a value
//! with its key and the time until which it counts, or a key that is gone. Of several records of one key the last counts.
//! Because the length has a checksum of its own, a batch that was cut off by a crash can be told from a damaged one.

use std::collections::HashMap;

use super::epoch::Mark;

/// How a file begins.
pub(super) const MAGIC: [u8; 8] = *b"SGSTATE\x01";

/// Length, and two checksums.
const HEAD: usize = 12;

const SPACE: u8 = 0x10;
const SET: u8 = 0x20;
const GONE: u8 = 0x30;

/// The kinds of state, as they are written down: never change a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Spent = 1,
    Window = 2,
    Gauge = 3,
    Cell = 4,
}

impl Kind {
    fn read(tag: u8) -> Option<Self> {
        [Self::Spent, Self::Window, Self::Gauge, Self::Cell].into_iter().find(|kind| *kind as u8 == tag & 0xf)
    }
}

/// A value that can be written down.
pub(super) trait Keep: Sized {
    const KIND: Kind;

    fn write(&self, out: &mut Vec<u8>);

    /// None if nothing can be like this at `now`, which is not before the time it was written at.
    fn read(from: &mut Reader<'_>, now: u64) -> Option<Self>;

    /// Of the values of one key from two gateways, each with the time until which it counts: the one that allows less, or
    /// what both together forbid.
    fn stricter(one: (Self, u64), other: (Self, u64), now: u64) -> (Self, u64);
}

/// Bytes that are read from the front.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Bytes behind their length.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.counted()?).ok()
    }
}

fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    // A key or a value of 4 GiB is beyond every quota.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A batch that is being put together.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// The space of the next record, and whether it has been named.
    space: String,
    named: bool,
    latest: u64,
}

impl Records {
    /// Begins another batch, in the memory of the last one unless that was unusually much.
    pub(super) fn begin(&mut self) {
        const USUAL: usize = 1 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(USUAL);
        self.bytes.resize(HEAD + Mark::LENGTH, 0);
        self.named = false;
        self.latest = 0;
    }

    /// Whose records follow.
    pub(super) fn space(&mut self, name: &str) {
        self.space.clear();
        self.space.push_str(name);
        self.named = false;
    }

    /// No time in what follows is later than this.
    pub(super) fn reached(&mut self, time: u64) {
        self.latest = self.latest.max(time);
    }

    pub(super) fn set<T: Keep>(&mut self, key: &str, expires: u64, value: &T) {
        self.tag(SET | T::KIND as u8);
        counted(key.as_bytes(), &mut self.bytes);
        self.bytes.extend_from_slice(&expires.to_le_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        value.write(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - at - 4).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    pub(super) fn gone<T: Keep>(&mut self, key: &str) {
        self.tag(GONE | T::KIND as u8);
        counted(key.as_bytes(), &mut self.bytes);
    }

    /// Records as they may stand in a file, whatever they are.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn append_raw(&mut self, records: &[u8]) {
        self.bytes.extend_from_slice(records);
    }

    fn tag(&mut self, tag: u8) {
        if !std::mem::replace(&mut self.named, true) {
            self.bytes.push(SPACE);
            counted(self.space.as_bytes(), &mut self.bytes);
        }
        self.bytes.push(tag);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() <= HEAD + Mark::LENGTH
    }

    /// The batch, made at this moment or at the latest time of its records, whichever is later.
    pub(super) fn finish(&mut self, mut mark: Mark) -> &[u8] {
        mark.now_ns = mark.now_ns.max(self.latest);
        let (head, body) = self.bytes.split_at_mut(HEAD);
        body[..Mark::LENGTH].copy_from_slice(&mark.to_bytes());
        head[..4].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        let of_length = crc32fast::hash(&head[..4]);
        head[4..8].copy_from_slice(&of_length.to_le_bytes());
        head[8..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        &self.bytes
    }
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// In the middle of a batch: a crash has cut it off.
    Torn,
    /// What follows cannot be read.
    Damaged(&'static str),
}

/// A value as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) expires: u64,
    pub(super) body: &'a [u8],
}

/// The content of a file, as far as it can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replay<'a> {
    /// The moment of its last batch.
    pub(super) mark: Option<Mark>,
    /// By space, kind and key.
    pub(super) values: HashMap<(&'a str, Kind, &'a str), Value<'a>>,
    /// Bytes that could be read.
    pub(super) sound: usize,
    pub(super) end: End,
}

/// Reads a file. Every batch before the first bad one counts.
pub(super) fn replay(bytes: &[u8]) -> Replay<'_> {
    let mut replay = Replay { mark: None, values: HashMap::new(), sound: 0, end: End::Whole };
    let Some(mut rest) = bytes.strip_prefix(&MAGIC) else {
        replay.end = if MAGIC.starts_with(bytes) {
            End::Torn
        } else if bytes.starts_with(&MAGIC[..7]) {
            End::Damaged("another version of the gateway wrote it")
        } else {
            End::Damaged("it is no file of this kind")
        };
        return replay;
    };
    while !rest.is_empty() {
        replay.sound = bytes.len() - rest.len();
        match batch(rest) {
            Ok((body, after)) => {
                let Some(mark) = replay.take(body) else {
                    replay.end = End::Damaged("a part of it is not understood");
                    return replay;
                };
                replay.mark = Some(mark);
                rest = after;
            }
            Err(end) => {
                replay.end = end;
                return replay;
            }
        }
    }
    replay.sound = bytes.len();
    replay
}

/// The first batch of these bytes, and what follows it.
fn batch(bytes: &[u8]) -> Result<(&[u8], &[u8]), End> {
    // Some file systems fill up with zeros what was not written before the power failed.
    let torn =
        || if bytes.iter().all(|byte| *byte == 0) { End::Torn } else { End::Damaged("a length is wrong") };
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Err(End::Torn) };
    let mut head = Reader::new(head);
    let (Some(length), Some(of_length), Some(of_body)) = (head.u32(), head.u32(), head.u32()) else {
        return Err(End::Torn);
    };
    if crc32fast::hash(&length.to_le_bytes()) != of_length {
        return Err(torn());
    }
    let Some((body, after)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
    else {
        return Err(End::Torn);
    };
    if crc32fast::hash(body) == of_body {
        Ok((body, after))
    } else if after.is_empty() {
        Err(End::Torn)
    } else {
        Err(End::Damaged("a checksum is wrong"))
    }
}

impl<'a> Replay<'a> {
    /// Takes the records of a batch in.
    fn take(&mut self, body: &'a [u8]) -> Option<Mark> {
        let mut from = Reader::new(body);
        let mark = Mark::read(&mut from)?;
        let mut space = "";
        while let Some(tag) = from.u8() {
            if tag == SPACE {
                space = from.text()?;
                continue;
            }
            let kind = Kind::read(tag)?;
            let key = (space, kind, from.text()?);
            match tag & 0xf0 {
                SET => {
                    let value = Value { expires: from.u64()?, body: from.counted()? };
                    self.values.insert(key, value);
                }
                GONE => {
                    self.values.remove(&key);
                }
                _ => return None,
            }
        }
        Some(mark)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::epoch::Machine;
    use super::*;
    use proptest::prelude::*;

    const MARK: Mark = Mark { now_ns: 7, machine: Machine { boot: 1, boot_ns: 2, unix_ns: 3 } };

    /// A file of these batches: each sets a gauge of one of two spaces, or removes it.
    fn file(batches: &[(bool, u8, i64)]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (MAGIC.to_vec(), vec![MAGIC.len()]);
        let mut records = Records::default();
        for (space, key, number) in batches {
            records.begin();
            records.space(if *space { "one" } else { "other" });
            match number {
                0 => records.gone::<i64>(&key.to_string()),
                number => records.set(&key.to_string(), 9, number),
            }
            bytes.extend_from_slice(records.finish(MARK));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    proptest! {
        /// Cut off anywhere, a file says what its whole batches say, and that it was cut off.
        #[test]
        fn a_file_that_is_cut_off_says_what_was_whole(
            batches in proptest::collection::vec((any::<bool>(), 0u8..4, -2i64..3), 0..8),
        ) {
            let (bytes, ends) = file(&batches);
            for cut in 0..=bytes.len() {
                let read = replay(&bytes[..cut]);
                let whole = ends.iter().copied().filter(|end| *end <= cut).max();
                prop_assert_eq!(&read.values, &replay(&bytes[..whole.unwrap_or(0)]).values);
                let expected = if whole == Some(cut) { End::Whole } else { End::Torn };
                prop_assert_eq!(read.end, expected);
                prop_assert_eq!(read.sound, whole.unwrap_or(0).max(if cut < MAGIC.len() { 0 } else { MAGIC.len() }));
            }
        }

        /// A byte that is another one is found, and nothing that follows it is believed.
        #[test]
        fn a_damaged_byte_is_found(
            batches in proptest::collection::vec((any::<bool>(), 0u8..4, 1i64..3), 1..6), bit in 0u8..8,
        ) {
            let (bytes, ends) = file(&batches);
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let read = replay(&damaged);
                prop_assert_ne!(read.end, End::Whole);
                let before = ends.iter().copied().filter(|end| *end <= at).max().unwrap_or(0);
                prop_assert_eq!(&read.values, &replay(&bytes[..before]).values);
                // Only of the last batch it could be a write that was cut off.
                let last = ends[ends.len() - 2];
                if at < last {
                    prop_assert!(matches!(read.end, End::Damaged(_)), "byte {at}: {:?}", read.end);
                }
            }
        }

        /// No bytes make it panic.
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic: bool) {
            let mut all = if magic { MAGIC.to_vec() } else { Vec::new() };
            all.extend(&bytes);
            let _read = replay(&all);
            // Behind good checksums as well.
            let mut records = Records::default();
            records.begin();
            records.append_raw(&bytes);
            let mut all = MAGIC.to_vec();
            all.extend_from_slice(records.finish(MARK));
            let _read = replay(&all);
        }
    }

    #[test]
    fn the_last_record_of_a_key_counts() {
        let (bytes, _) = file(&[(true, 1, 5), (false, 1, 6), (true, 1, 7), (false, 1, 0), (false, 2, 0)]);
        let read = replay(&bytes);
        let body = 7i64.to_le_bytes();
        assert_eq!(
            read.values,
            HashMap::from([(("one", Kind::Gauge, "1"), Value { expires: 9, body: &body })])
        );
        assert_eq!((read.mark, read.end, read.sound), (Some(MARK), End::Whole, bytes.len()));
    }

    #[test]
    fn zeros_at_the_end_are_a_write_that_was_cut_off_and_other_files_are_not_read() {
        let (mut bytes, _) = file(&[(true, 1, 5)]);
        bytes.extend([0; 5_000]);
        assert_eq!((replay(&bytes).end, replay(&bytes).values.len()), (End::Torn, 1));
        bytes.push(1);
        assert_eq!(replay(&bytes).end, End::Damaged("a length is wrong"));
        assert_eq!(replay(b"SGSTATE\x02...").end, End::Damaged("another version of the gateway wrote it"));
        assert_eq!(replay(b"{\"format\": 1}").end, End::Damaged("it is no file of this kind"));
    }
}
