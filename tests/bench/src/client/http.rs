//! A caller over streamable HTTP: one session, and for each call under way a connection that is kept.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use std::io::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::pacer::Pacer;
use super::wire::{self, Chunks, Length};
use crate::call::{Calls, Verdict, shown};
use crate::load::{BEHIND, GRACE, Load, Pace, Schedule, Tally};

/// The most connections of an open load.
const OPEN_CONNECTIONS: usize = 128;
/// So many calls a second have a connection: an answer takes less than that, and a connection that rests for seconds is one
/// that a gateway in need of places may close.
const CALLS_PER_CONNECTION: usize = 4;

/// Where the other side is, and what every request says.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// The token of another caller.
    pub(crate) other: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Http {
    door: Door,
    /// The head of every request up to the length of its body.
    head: Rc<[u8]>,
    /// For what is asked outside of a load.
    connection: Option<Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// What was read and not used yet.
    raw: Vec<u8>,
    body: Vec<u8>,
    out: Vec<u8>,
}

/// What an exchange brought.
#[derive(Debug)]
struct Answer {
    status: u16,
    session: Option<String>,
    events: bool,
    /// When the last of the body was there.
    at: Instant,
    /// The connection can be used again.
    keeps: bool,
}

impl Http {
    pub(crate) fn new(door: Door) -> Self {
        let head = head(&door, None).into();
        Self { door, head, connection: None, next: 1 }
    }

    pub(super) async fn notify(&mut self, method: &str) -> anyhow::Result<()> {
        let message = super::message(None, method, &serde_json::json!({}));
        let (answer, _) = self.exchange(&message).await?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} was answered with status {}", answer.status);
        }
        Ok(())
    }

    pub(super) async fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let id = self.number();
        let (answer, messages) = self.exchange(&super::message(Some(id), method, params)).await?;
        if answer.status != 200 {
            let said = messages.first().map(|message| shown(message)).unwrap_or_default();
            bail!("{method} was answered with status {}: {said}", answer.status);
        }
        if method == "initialize" {
            self.head = head(&self.door, Some(answer.session.as_deref())).into();
        }
        for message in &messages {
            let value: Value = serde_json::from_slice(message).with_context(|| shown(message))?;
            if value["id"] == id && value.get("method").is_none() {
                return Ok(value);
            }
        }
        bail!("{method} was not answered")
    }

    pub(super) async fn call(&mut self, calls: &Calls) -> anyhow::Result<()> {
        let number = self.number();
        let mut request = Vec::new();
        calls.request(number, &mut request);
        let (answer, messages) = self.exchange(&request).await?;
        judge(calls, number, answer.status, &messages)
    }

    /// One request on the connection for such things, made anew if the other side closed it.
    async fn exchange(&mut self, body: &[u8]) -> anyhow::Result<(Answer, Vec<Vec<u8>>)> {
        let mut connection = match self.connection.take() {
            Some(connection) if connection.idle() => connection,
            _ => Connection::open(&self.door.address).await?,
        };
        let head = self.head.clone();
        let answer = connection.exchange(&head, |out| out.extend_from_slice(body)).await?;
        let messages = connection.messages(&answer);
        if answer.keeps {
            self.connection = Some(connection);
        }
        Ok((answer, messages))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(super) async fn drive(&mut self, load: &Load, calls: &Calls) -> Tally {
        let count = match load.pace {
            Pace::Closed(at_once) => at_once,
            Pace::Open(per_second) => {
                (per_second as usize).div_ceil(CALLS_PER_CONNECTION).min(OPEN_CONNECTIONS)
            }
        };
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            match Connection::open(&self.door.address).await {
                Ok(connection) => connections.push(connection),
                Err(error) => return Tally::void(format!("{error:#}")),
            }
        }
        let start = Instant::now();
        let rate = if let Pace::Open(per_second) = load.pace { per_second } else { 1 };
        let shared = Rc::new(Shared {
            address: self.door.address.clone(),
            head: self.head.clone(),
            calls: calls.clone(),
            first: self.next,
            next: Cell::new(self.next),
            end: start + load.lasts,
            open: matches!(load.pace, Pace::Open(_)),
            schedule: Schedule::new(start, rate, load.lasts),
            index: Cell::new(0),
            due: Semaphore::new(0),
            last: Cell::new(start),
            tally: RefCell::new(Tally::new()),
        });
        let local = tokio::task::LocalSet::new();
        let mut tasks = tokio::task::JoinSet::new();
        for connection in connections {
            tasks.spawn_local_on(work(shared.clone(), connection), &local);
        }
        if shared.open {
            tasks.spawn_local_on(pace(shared.clone(), count), &local);
        }
        let all = local.run_until(async { while tasks.join_next().await.is_some() {} });
        if tokio::time::timeout(load.lasts + GRACE, all).await.is_err() {
            shared
                .tally
                .borrow_mut()
                .spoil(|| format!("calls without an answer after {} s", GRACE.as_secs()));
        }
        drop((tasks, local));
        self.next = shared.next.get();
        let mut tally = shared.tally.replace(Tally::new());
        tally.elapsed = shared.last.get().saturating_duration_since(start);
        tally
    }
}

/// What the connections of a load share.
#[derive(Debug)]
struct Shared {
    address: String,
    head: Rc<[u8]>,
    calls: Calls,
    first: u64,
    next: Cell<u64>,
    end: Instant,
    open: bool,
    schedule: Schedule,
    /// The next call of the schedule.
    index: Cell<u64>,
    /// A permit for each call that is due.
    due: Semaphore,
    last: Cell<Instant>,
    tally: RefCell<Tally>,
}

impl Shared {
    /// When the next call begins; none at the end.
    async fn begin(&self) -> Option<Instant> {
        if !self.open {
            let now = Instant::now();
            // One call at least, also where the machine stood still for the whole of the time.
            return (now < self.end || self.next.get() == self.first).then_some(now);
        }
        self.due.acquire().await.ok()?.forget();
        let index = self.index.replace(self.index.get() + 1);
        if index >= self.schedule.count() {
            return None;
        }
        if Instant::now() > self.end + BEHIND {
            self.tally.borrow_mut().behind = true;
            return None;
        }
        Some(self.schedule.due(index))
    }
}

/// Makes calls on one connection until the load ends or is void.
async fn work(shared: Rc<Shared>, mut connection: Connection) {
    while shared.tally.borrow().void.is_none() {
        let Some(began) = shared.begin().await else { return };
        let number = shared.next.replace(shared.next.get() + 1);
        let done = async {
            let answer = connection.exchange(&shared.head, |out| shared.calls.request(number, out)).await?;
            let keeps = answer.keeps;
            if answer.events || answer.status != 200 {
                judge(&shared.calls, number, answer.status, &connection.messages(&answer))?;
            } else if let Verdict::Wrong(why) = right(shared.calls.judge(&connection.body), number) {
                bail!(why);
            }
            if !keeps {
                connection = Connection::open(&shared.address).await?;
            }
            anyhow::Ok(answer.at)
        };
        match done.await {
            Ok(at) => {
                shared.tally.borrow_mut().good(at.saturating_duration_since(began));
                shared.last.set(shared.last.get().max(at));
            }
            Err(error) => shared.tally.borrow_mut().spoil(|| format!("{error:#}")),
        }
    }
}

/// Says when calls of the schedule are due, and lets everybody go at the end.
async fn pace(shared: Rc<Shared>, workers: usize) {
    let told = async {
        let mut pacer = Pacer::new(shared.schedule)?;
        while let Some(due) = pacer.next().await? {
            shared.due.add_permits(usize::try_from(due.end - due.start)?);
        }
        anyhow::Ok(())
    };
    if let Err(error) = told.await {
        shared.tally.borrow_mut().spoil(|| format!("{error:#}"));
    }
    shared.due.add_permits(workers);
}

/// The verdict, wrong if it is about another call.
fn right(verdict: Verdict, number: u64) -> Verdict {
    match verdict {
        Verdict::Good(answered) if answered == number => verdict,
        Verdict::Good(answered) => {
            Verdict::Wrong(format!("the answer to call {answered} instead of {number}"))
        }
        Verdict::Aside => Verdict::Wrong("a notification instead of an answer".to_owned()),
        Verdict::Wrong(_) => verdict,
    }
}

/// Whether the messages of a response hold the answer to this call.
fn judge(calls: &Calls, number: u64, status: u16, messages: &[Vec<u8>]) -> anyhow::Result<()> {
    if status != 200 {
        let said = messages.first().map(|message| shown(message)).unwrap_or_default();
        bail!("status {status}: {said}");
    }
    for message in messages {
        match calls.judge(message) {
            Verdict::Aside => {}
            verdict => match right(verdict, number) {
                Verdict::Wrong(why) => bail!(why),
                Verdict::Good(_) | Verdict::Aside => return Ok(()),
            },
        }
    }
    bail!("no answer among {} messages", messages.len())
}

/// The head of every request, without the length. `session` is none before the handshake.
fn head(door: &Door, session: Option<Option<&str>>) -> Vec<u8> {
    let Door { address, path, token, other: _ } = door;
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n"
    );
    if let Some(token) = token {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    if let Some(id) = session {
        head += &format!("MCP-Protocol-Version: {}\r\n", super::REVISION);
        if let Some(id) = id {
            head += &format!("Mcp-Session-Id: {id}\r\n");
        }
    }
    head += "Content-Length: ";
    head.into_bytes()
}

impl Connection {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, raw: Vec::with_capacity(1 << 14), body: Vec::new(), out: Vec::new() })
    }

    /// Open, with nothing to read.
    fn idle(&self) -> bool {
        let nothing = self.stream.try_read(&mut [0]);
        nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// One request and its response; the body stays in `self.body`.
    async fn exchange(&mut self, head: &[u8], body: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<Answer> {
        // The length stands before the body that it is the length of.
        self.body.clear();
        body(&mut self.body);
        self.out.clear();
        self.out.extend_from_slice(head);
        write!(self.out, "{}\r\n\r\n", self.body.len())?;
        self.out.extend_from_slice(&self.body);
        self.stream.write_all(&self.out).await.context("cannot write")?;
        self.body.clear();
        self.raw.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.raw).await.context("cannot read")? == 0 {
                bail!("the connection was closed before the answer");
            }
            if let Some(head) = wire::response(&self.raw)? {
                break head;
            }
        };
        let mut at = Instant::now();
        self.raw.drain(..head.bytes);
        let mut keeps = true;
        match head.length {
            Length::Bytes(length) => {
                std::mem::swap(&mut self.raw, &mut self.body);
                self.body.reserve(length.saturating_sub(self.body.len()));
                while self.body.len() < length {
                    if self.stream.read_buf(&mut self.body).await.context("cannot read")? == 0 {
                        bail!("the connection was closed within the answer");
                    }
                    at = Instant::now();
                }
            }
            Length::Chunked => {
                let mut chunks = Chunks::default();
                loop {
                    let had = self.body.len();
                    let done = chunks.take(&mut self.raw, &mut self.body)?;
                    if self.body.len() > had {
                        at = Instant::now();
                    }
                    if done {
                        break;
                    }
                    if self.stream.read_buf(&mut self.raw).await.context("cannot read")? == 0 {
                        bail!("the connection was closed within the answer");
                    }
                }
            }
            Length::Close => {
                keeps = false;
                std::mem::swap(&mut self.raw, &mut self.body);
                while self.stream.read_buf(&mut self.body).await.context("cannot read")? > 0 {
                    at = Instant::now();
                }
            }
        }
        Ok(Answer { status: head.status, session: head.session, events: head.events, at, keeps })
    }

    /// The messages in the body.
    fn messages(&self, answer: &Answer) -> Vec<Vec<u8>> {
        if answer.events { wire::events(&self.body) } else { vec![self.body.clone()] }
    }
}

/// Opens sessions that nobody uses again, and returns how many there are.
///
/// # Errors
/// If one cannot be opened.
pub(crate) async fn idle_sessions(door: &Door, count: usize) -> anyhow::Result<usize> {
    let mut client = super::Client::Http(Box::new(Http::new(door.clone())));
    for _ in 0..count {
        if let super::Client::Http(http) = &mut client {
            // Without the id of the session before, or it would be asked for another one in that.
            http.head = head(door, None).into();
        }
        client.greet().await.context("opening a session")?;
    }
    Ok(count)
}

/// How long to wait between two attempts to reach a server that starts.
pub(crate) const KNOCK: Duration = Duration::from_micros(500);
