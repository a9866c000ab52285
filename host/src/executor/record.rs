//! The executor's own record: lines of JSON that are only appended, each with the digest of the one before.
//!
//! Several workers write it; a lock on the file lets one at a time read the end and append. A line that a dying machine left
//! half is ended, and the next line says so.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value};

use super::hex;

/// What the first line names as the one before.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The longest line, in bytes: an action with all its tokens, escaped.
const LINE: u64 = 8 << 20;
/// How a line ends: its own digest, which is of everything before.
const HASH: &str = ",\"hash\":\"";

/// The record of one executor.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
}

/// What a look at a whole record found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How many lines are in order.
    pub lines: u64,
    /// How many were left half when a machine died, and are named by the line behind them.
    pub torn: u64,
    /// Runs that were begun and of which no end is on record.
    pub unfinished: Vec<String>,
    /// The first line that is not as it was written, if there is one.
    pub broken: Option<u64>,
}

impl Record {
    /// The record in `dir`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let record = Self { path: dir.join("record.jsonl") };
        record.file()?;
        Ok(record)
    }

    fn file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)
    }

    /// Appends what happened, and returns when it is on the disk.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn append(&self, event: &str, facts: Map<String, Value>) -> io::Result<()> {
        let mut file = self.file()?;
        flock(&file, FlockOperation::LockExclusive)?;
        let end = last(&mut file)?;
        let (mut sequence, mut previous, mut text) = (end.sequence, end.hash, String::new());
        if end.torn {
            text.push('\n');
            let mut facts = Map::new();
            facts.insert("what".to_owned(), "the line before was left half".into());
            let (line, hash) = line(sequence, "torn", &previous, facts);
            text += &line;
            (sequence, previous) = (sequence + 1, hash);
        }
        text += &line(sequence, event, &previous, facts).0;
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }
}

fn line(sequence: u64, event: &str, previous: &str, facts: Map<String, Value>) -> (String, String) {
    let mut members = Map::new();
    members.insert("seq".to_owned(), sequence.into());
    members.insert("at".to_owned(), jiff::Timestamp::now().to_string().into());
    members.insert("event".to_owned(), event.into());
    members.extend(facts);
    members.insert("prev".to_owned(), previous.into());
    let text = Value::Object(members).to_string();
    let hash = hex(digest(&SHA256, text.as_bytes()).as_ref());
    let open = &text[..text.len() - 1];
    (format!("{open}{HASH}{hash}\"}}\n"), hash)
}

struct End {
    sequence: u64,
    hash: String,
    torn: bool,
}

/// The last whole line, and whether something half stands behind it.
fn last(file: &mut File) -> io::Result<End> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(2 * LINE);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(2 * LINE).read_to_end(&mut tail)?;
    let torn = tail.last().is_some_and(|byte| *byte != b'\n');
    let whole = if torn {
        &tail[..tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)]
    } else {
        &tail
    };
    for text in whole.split(|byte| *byte == b'\n').rev() {
        if let Some((sequence, _, hash, _)) = read(text) {
            return Ok(End { sequence: sequence + 1, hash, torn });
        }
    }
    if whole.is_empty() && start == 0 {
        return Ok(End { sequence: 1, hash: NOTHING.to_owned(), torn });
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the end of the record is damaged; move it away to begin another",
    ))
}

/// The number of a line that is as it was written, the digest it names, its own, and all of it.
fn read(text: &[u8]) -> Option<(u64, String, String, Value)> {
    let text = std::str::from_utf8(text).ok()?;
    let (open, rest) = text.rsplit_once(HASH)?;
    let hash = rest.strip_suffix("\"}")?;
    let whole = format!("{open}}}");
    if hex(digest(&SHA256, whole.as_bytes()).as_ref()) != hash {
        return None;
    }
    let value: Value = serde_json::from_str(&whole).ok()?;
    let previous = value["prev"].as_str()?.to_owned();
    Some((value["seq"].as_u64()?, previous, hash.to_owned(), value))
}

/// Looks at a whole record: every line has to be as it was written, and name the one before.
///
/// # Errors
/// It cannot be read.
pub fn verify(path: &Path) -> io::Result<Verdict> {
    let mut verdict = Verdict { lines: 0, torn: 0, unfinished: Vec::new(), broken: None };
    let (mut previous, mut number, mut half) = (NOTHING.to_owned(), 0_u64, false);
    let mut reader = BufReader::new(File::open(path)?);
    loop {
        let mut text = Vec::new();
        if reader.by_ref().take(LINE + 1).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        number += 1;
        let whole = text.pop_if(|byte| *byte == b'\n').is_some();
        let line = read(&text).filter(|_| whole);
        match line {
            Some((sequence, before, hash, value)) if before == previous && sequence == verdict.lines + 1 => {
                if half != (value["event"] == "torn") {
                    break_at(&mut verdict, number);
                    break;
                }
                (half, previous) = (false, hash);
                verdict.lines += 1;
                let execution = value["execution"].as_str().unwrap_or_default().to_owned();
                match value["event"].as_str() {
                    Some("intent") => verdict.unfinished.push(execution),
                    Some("outcome") => verdict.unfinished.retain(|open| *open != execution),
                    _ => {}
                }
            }
            None if !half => {
                half = true;
                verdict.torn += 1;
            }
            _ => {
                break_at(&mut verdict, number);
                break;
            }
        }
    }
    // Nothing says of a half line at the end that it was left so; the next line will.
    Ok(verdict)
}

fn break_at(verdict: &mut Verdict, number: u64) {
    verdict.broken = Some(number);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn facts(execution: &str) -> Map<String, Value> {
        let mut facts = Map::new();
        facts.insert("execution".to_owned(), execution.into());
        facts
    }

    #[test]
    fn every_change_of_a_record_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::open(dir.path()).unwrap();
        for execution in ["a", "b", "c"] {
            record.append("intent", facts(execution)).unwrap();
            if execution != "b" {
                record.append("outcome", facts(execution)).unwrap();
            }
        }
        let path = dir.path().join("record.jsonl");
        let good = std::fs::read_to_string(&path).unwrap();
        let whole = Verdict { lines: 5, torn: 0, unfinished: vec!["b".to_owned()], broken: None };
        assert_eq!(verify(&path).unwrap(), whole);
        let lines: Vec<&str> = good.lines().collect();
        let mut without = lines.clone();
        without.remove(2);
        let mut exchanged = lines.clone();
        exchanged.swap(1, 2);
        let mut twice = lines.clone();
        twice.insert(1, lines[0]);
        for changed in [
            good.replace("\"execution\":\"b\"", "\"execution\":\"x\""),
            without.join("\n") + "\n",
            exchanged.join("\n") + "\n",
            twice.join("\n") + "\n",
            lines[1..].join("\n") + "\n",
        ] {
            std::fs::write(&path, changed).unwrap();
            let verdict = verify(&path).unwrap();
            assert!(verdict.broken.is_some() || verdict.torn > 0, "{verdict:?}");
        }
    }

    #[test]
    fn a_line_that_was_left_half_is_named_and_the_chain_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::open(dir.path()).unwrap();
        record.append("intent", facts("a")).unwrap();
        let path = dir.path().join("record.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":2,\"at\":\"20").unwrap();
        record.append("outcome", facts("a")).unwrap();
        let verdict = verify(&path).unwrap();
        assert_eq!(verdict, Verdict { lines: 3, torn: 1, unfinished: Vec::new(), broken: None });
    }

    #[test]
    fn many_writers_make_one_chain() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let dir = dir.path();
                scope.spawn(move || {
                    let record = Record::open(dir).unwrap();
                    for _ in 0..10 {
                        record.append("refused", facts(&writer.to_string())).unwrap();
                    }
                });
            }
        });
        let verdict = verify(&dir.path().join("record.jsonl")).unwrap();
        assert_eq!((verdict.lines, verdict.torn, verdict.broken), (80, 0, None));
    }
}
