//! Our end of the pipes: a question out, an answer in, and a deadline on both.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// An answer begins with this byte if the work was done …
pub(super) const DONE: u8 = 0;
/// … and with this one, if the work says no; the rest is why.
pub(super) const REFUSED: u8 = 1;
/// Read at once.
const PIECE: usize = 64 << 10;
/// How much of the child's stderr is kept.
const WORDS: usize = 2 << 10;

/// Why an exchange ended without an answer.
#[derive(Debug)]
pub(super) enum Broken {
    Time,
    Answer,
    /// The child closed a pipe, which it does by ending.
    Ended,
    Io(io::Error),
}

#[derive(Debug)]
pub(super) struct Pipes {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    words: Vec<u8>,
}

/// An answer on its way: a byte for how it went, four for the length, and the answer.
#[derive(Debug)]
struct Incoming {
    bytes: Vec<u8>,
    most: usize,
}

impl Incoming {
    const HEAD: usize = 5;

    /// How long it will be, once that is known.
    fn length(&self) -> Option<usize> {
        let length = self.bytes.get(1..Self::HEAD)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(length)).ok()
    }

    fn is_whole(&self) -> bool {
        self.length().is_some_and(|length| self.bytes.len() >= Self::HEAD + length)
    }

    fn finish(mut self) -> Result<Result<Vec<u8>, String>, Broken> {
        let (tag, length) = (self.bytes.first().copied(), self.length().unwrap_or_default());
        if self.bytes.len() != Self::HEAD + length {
            return Err(Broken::Io(io::Error::other("it answered more than it was asked")));
        }
        self.bytes.drain(..Self::HEAD);
        match tag {
            Some(DONE) => Ok(Ok(self.bytes)),
            Some(REFUSED) => Ok(Err(String::from_utf8_lossy(&self.bytes).into_owned())),
            _ => Err(Broken::Io(io::Error::other("it does not speak our frames"))),
        }
    }
}

impl Pipes {
    pub(super) fn of(child: &mut Child) -> io::Result<Self> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("its pipes are missing"));
        };
        // Only our ends: the child waits in its own.
        for end in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        Ok(Self { stdin, stdout, stderr: Some(stderr), words: Vec::new() })
    }

    /// One question and its answer. It reads while it writes, so that neither side can wait for the other for ever.
    pub(super) fn exchange(
        &mut self,
        question: &[u8],
        most: usize,
        until: Instant,
    ) -> Result<Result<Vec<u8>, String>, Broken> {
        let length =
            u32::try_from(question.len()).map_err(|_| Broken::Io(io::ErrorKind::InvalidInput.into()))?;
        let head = length.to_le_bytes();
        let mut incoming = Incoming { bytes: Vec::new(), most };
        let mut sent = 0;
        while !incoming.is_whole() {
            let sending = sent < head.len() + question.len();
            self.wait(sending, until)?;
            if sending {
                let rest = head.get(sent..).filter(|rest| !rest.is_empty());
                let rest = rest.unwrap_or_else(|| question.get(sent - head.len()..).unwrap_or_default());
                sent += some(self.stdin.write(rest))?.unwrap_or_default();
            }
            self.listen();
            self.receive(&mut incoming)?;
        }
        incoming.finish()
    }

    /// Until the child can be written to or read from.
    fn wait(&self, sending: bool, until: Instant) -> Result<(), Broken> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Broken::Time);
        }
        let timeout = Timespec::try_from(left).map_err(|_| Broken::Time)?;
        let mut ends = vec![PollFd::new(&self.stdout, PollFlags::IN)];
        ends.extend(self.stderr.as_ref().map(|stderr| PollFd::new(stderr, PollFlags::IN)));
        if sending {
            ends.push(PollFd::new(&self.stdin, PollFlags::OUT));
        }
        match poll(&mut ends, Some(&timeout)) {
            Ok(0) => Err(Broken::Time),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Broken::Io(error.into())),
        }
    }

    fn receive(&mut self, incoming: &mut Incoming) -> Result<(), Broken> {
        let mut piece = [0; PIECE];
        while !incoming.is_whole() {
            match some(self.stdout.read(&mut piece))? {
                None => return Ok(()),
                Some(0) => return Err(Broken::Ended),
                Some(count) => incoming.bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
            }
            if incoming.length().unwrap_or_default() > incoming.most {
                return Err(Broken::Answer);
            }
        }
        Ok(())
    }

    /// Reads its stderr, so that it never waits there, and keeps the last part.
    fn listen(&mut self) {
        let mut piece = [0; WORDS];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut piece) {
                Ok(0) => self.stderr = None,
                Ok(count) => {
                    self.words.extend_from_slice(piece.get(..count).unwrap_or_default());
                    let excess = self.words.len().saturating_sub(WORDS);
                    self.words.drain(..excess);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing more for now, or never.
                Err(_) => return,
            }
        }
    }

    /// What it said last; to be asked once it is dead.
    pub(super) fn last_words(mut self) -> String {
        self.listen();
        String::from_utf8_lossy(&self.words).into_owned()
    }
}

/// How many bytes went through; none if it must be waited for.
fn some(result: io::Result<usize>) -> Result<Option<usize>, Broken> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Broken::Ended),
        Err(error) => Err(Broken::Io(error)),
    }
}
