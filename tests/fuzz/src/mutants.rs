//! Inputs made from the corpus by chance: the same from the same seed, without knowing what they reach.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest input.
const MAX: usize = 1 << 14;

/// Bytes that mean something to one reader or another.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"1e400",
    b"-0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"18446744073709551616",
    b"__proto__",
    b"jsonrpc",
    b"method",
    b"params",
    b"id",
    b"_meta",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"data: ",
    b"$ref",
    b"#/",
    b"..",
    b"~1",
    b"/0",
];

/// A small generator (xorshift64*): enough for choices, and the same everywhere.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or(0) % end.max(1)
    }
}

/// The inputs in a folder, in the order of their names.
///
/// # Panics
/// The folder cannot be read, or is empty.
#[must_use]
pub fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One input changed in a few places, some of it from another one.
#[must_use]
pub fn mutant(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let until = (at + dice.below(32)).min(bytes.len());
        match dice.below(7) {
            0 => bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied()).for_each(drop),
            1 => drop(bytes.drain(at..until)),
            2 => {
                let piece = bytes[at..until].to_vec();
                let times = 1 + dice.below(8);
                bytes.splice(at..at, piece.repeat(times)).for_each(drop);
            }
            3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            4 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(dice.below(256)).unwrap_or(0);
                }
            }
            5 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(64)).min(other.len());
                bytes.splice(at..until, other[from..to].iter().copied()).for_each(drop);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(MAX);
    bytes
}

/// Tries the corpus once and mutants of it until the time is over; how many inputs there were.
pub fn campaign(target: fn(&[u8]), corpus: &[Vec<u8>], seed: u64, lasts: Duration) -> u64 {
    let began = Instant::now();
    let mut tried = 0;
    for input in corpus {
        attempt(target, input);
        tried += 1;
    }
    let mut dice = Dice::new(seed);
    while began.elapsed() < lasts {
        attempt(target, &mutant(corpus, &mut dice));
        tried += 1;
    }
    tried
}

/// Shows the input that failed before it lets the panic go on.
fn attempt(target: fn(&[u8]), input: &[u8]) {
    let done = std::panic::catch_unwind(|| target(input));
    if let Err(panic) = done {
        let _ = writeln!(std::io::stderr(), "this input fails: b\"{}\"", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}
