//! What the gateway and the executor say to each other: one message of a seqpacket socket each, with fixed fields in a fixed
//! order. There is no text to be parsed and no field that could be left out.

use super::fill::Given;
use super::{TOKEN, TOKENS};

/// The longest message, in bytes.
pub const FRAME: usize = 128 << 10;
/// The longest piece of output in one message, in bytes.
pub(crate) const PIECE: usize = 32 << 10;
/// What every message begins with: the protocol and its version.
const MAGIC: [u8; 4] = *b"SGX1";

/// A message that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is not of the protocol of executors, version 1")]
pub struct Malformed;

/// A command with what is given for its slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The command's name.
    pub command: String,
    /// What is given, by the names of slots.
    pub given: Vec<(String, Given)>,
    /// What goes to its stdin.
    pub stdin: Option<String>,
}

/// What the gateway asks; one question on each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What would run? Nothing is run.
    Prepare(Call),
    /// Run it.
    Run {
        /// What was prepared.
        call: Call,
        /// The capability: a token as bytes.
        token: Vec<u8>,
    },
    /// How are you?
    Health,
}

/// Which output a piece is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The executor's own name of this run, as it stands in its record.
    pub execution: String,
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// How long it ran, in microseconds.
    pub micros: u64,
    /// All bytes of stdout and of stderr, whether they were passed on or not.
    pub totals: [u64; 2],
    /// The SHA-256 of all of stdout and of all of stderr.
    pub digests: [[u8; 32]; 2],
}

/// What the executor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What would run: a text in canonical JSON, and its SHA-256.
    Prepared {
        /// The SHA-256 of `action`.
        digest: [u8; 32],
        /// What would run.
        action: String,
    },
    /// Nothing was run.
    Refused {
        /// A stable machine word: `argument_refused`, `changed`, `consumed`, `expired`, …
        reason: String,
        /// The slot it is about, or empty.
        slot: String,
        /// One sentence for a person.
        message: String,
    },
    /// A piece of output.
    Output {
        /// Of which output.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// It has ended; the last message.
    Ended(Ended),
    /// The executor is there.
    Healthy {
        /// What tokens call it.
        audience: String,
        /// The environment that it is for.
        environment: String,
        /// How many commands it knows.
        commands: u32,
        /// How many questions it works on, this one among them.
        working: u32,
    },
}

impl Question {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Prepare(call) => Writer::new(1).call(call).done(),
            Self::Run { call, token } => Writer::new(2).call(call).bytes(token).done(),
            Self::Health => Writer::new(3).done(),
        }
    }

    /// Reads a message, all of it.
    ///
    /// # Errors
    /// It is none of these.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message)?;
        let question = match reader.byte()? {
            1 => Self::Prepare(reader.call()?),
            2 => Self::Run { call: reader.call()?, token: reader.bytes()?.to_vec() },
            3 => Self::Health,
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(question)
    }
}

impl Reply {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Prepared { digest, action } => {
                Writer::new(129).fixed(digest).bytes(action.as_bytes()).done()
            }
            Self::Refused { reason, slot, message } => Writer::new(130)
                .bytes(reason.as_bytes())
                .bytes(slot.as_bytes())
                .bytes(message.as_bytes())
                .done(),
            Self::Output { stream, bytes } => {
                let stream = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                Writer::new(131).fixed(&[stream]).bytes(bytes).done()
            }
            Self::Ended(ended) => {
                let Ended { execution, code, signal, timed_out, micros, totals, digests } = ended;
                let mut writer = Writer::new(132)
                    .bytes(execution.as_bytes())
                    .fixed(&code.to_be_bytes())
                    .fixed(&signal.to_be_bytes())
                    .fixed(&[u8::from(*timed_out)])
                    .fixed(&micros.to_be_bytes());
                for (total, digest) in totals.iter().zip(digests) {
                    writer = writer.fixed(&total.to_be_bytes()).fixed(digest);
                }
                writer.done()
            }
            Self::Healthy { audience, environment, commands, working } => Writer::new(133)
                .bytes(audience.as_bytes())
                .bytes(environment.as_bytes())
                .fixed(&commands.to_be_bytes())
                .fixed(&working.to_be_bytes())
                .done(),
        }
    }

    /// Reads a message, all of it.
    ///
    /// # Errors
    /// It is none of these.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message)?;
        let reply = match reader.byte()? {
            129 => Self::Prepared { digest: reader.fixed()?, action: reader.text()? },
            130 => Self::Refused { reason: reader.text()?, slot: reader.text()?, message: reader.text()? },
            131 => {
                let stream = match reader.byte()? {
                    1 => Stream::Stdout,
                    2 => Stream::Stderr,
                    _ => return Err(Malformed),
                };
                Self::Output { stream, bytes: reader.bytes()?.to_vec() }
            }
            132 => {
                let (execution, code, signal) = (
                    reader.text()?,
                    i32::from_be_bytes(reader.fixed()?),
                    i32::from_be_bytes(reader.fixed()?),
                );
                let (timed_out, micros) = (reader.flag()?, u64::from_be_bytes(reader.fixed()?));
                let (mut totals, mut digests) = ([0; 2], [[0; 32]; 2]);
                for (total, digest) in totals.iter_mut().zip(&mut digests) {
                    *total = u64::from_be_bytes(reader.fixed()?);
                    *digest = reader.fixed()?;
                }
                Self::Ended(Ended { execution, code, signal, timed_out, micros, totals, digests })
            }
            133 => Self::Healthy {
                audience: reader.text()?,
                environment: reader.text()?,
                commands: u32::from_be_bytes(reader.fixed()?),
                working: u32::from_be_bytes(reader.fixed()?),
            },
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(reply)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u8) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.push(kind);
        Self(bytes)
    }

    fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        // What is longer than a message is refused when it is sent, so the length always fits.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn call(self, call: &Call) -> Self {
        let count = u32::try_from(call.given.len()).unwrap_or(u32::MAX);
        let mut writer = self.bytes(call.command.as_bytes()).fixed(&count.to_be_bytes());
        for (name, given) in &call.given {
            writer = writer.bytes(name.as_bytes());
            writer = match given {
                Given::Int(number) => writer.fixed(&[1]).fixed(&number.to_be_bytes()),
                Given::Text(text) => writer.fixed(&[2]).bytes(text.as_bytes()),
            };
        }
        match &call.stdin {
            None => writer.fixed(&[0]),
            Some(text) => writer.fixed(&[1]).bytes(text.as_bytes()),
        }
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(message: &'a [u8]) -> Result<Self, Malformed> {
        match message.strip_prefix(&MAGIC) {
            Some(rest) if message.len() <= FRAME => Ok(Self(rest)),
            _ => Err(Malformed),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Malformed> {
        self.take(LENGTH)?.try_into().map_err(|_| Malformed)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = u32::from_be_bytes(self.fixed()?);
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| Malformed)
    }

    fn call(&mut self) -> Result<Call, Malformed> {
        let command = self.text()?;
        let count = u32::from_be_bytes(self.fixed()?);
        // Each makes a token of its own.
        if count as usize > TOKENS {
            return Err(Malformed);
        }
        let mut given = Vec::new();
        for _ in 0..count {
            let name = self.text()?;
            let value = match self.byte()? {
                1 => Given::Int(i64::from_be_bytes(self.fixed()?)),
                2 => Given::Text(self.text()?),
                _ => return Err(Malformed),
            };
            if name.len() > TOKEN {
                return Err(Malformed);
            }
            given.push((name, value));
        }
        let stdin = if self.flag()? { Some(self.text()?) } else { None };
        Ok(Call { command, given, stdin })
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
