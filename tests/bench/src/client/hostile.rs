//! Clients that mean no good, a thousand of them, each from a loopback address of its own and each with one trick. None is
//! fast: what is measured is what they hold, not how much of the machine their own work takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::http::Door;
use super::wire;

/// One after the other, client by client.
const TRICKS: [Trick; 6] =
    [Trick::SlowHead, Trick::WrongToken, Trick::Rest, Trick::Greetings, Trick::UnknownTools, Trick::Deaf];

/// How long one exchange may take before the client gives it up and comes again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a client that was turned away comes again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a hostile client does, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trick {
    /// A head that comes byte by byte and never ends.
    SlowHead,
    /// A request a second, each with another wrong token of some kilobytes.
    WrongToken,
    /// One refused request, then it rests on its connection.
    Rest,
    /// A session after the other, each with a long greeting, never used. It has a token.
    Greetings,
    /// Two calls a second of tools that do not exist, with long arguments. It has a token.
    UnknownTools,
    /// It asks for large answers and reads none. It has a token.
    Deaf,
}

/// How often each trick was tried and what became of the connections, for people.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// Requests that were sent whole.
    pub(crate) requests: AtomicU64,
    /// Connections that were made.
    pub(crate) connections: AtomicU64,
}

/// Runs on a thread of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    pub(crate) deeds: Arc<Deeds>,
}

impl Crowd {
    /// Lets so many clients loose. `door` has the token of a caller other than the good one.
    pub(crate) fn start(door: Door, count: usize) -> Self {
        let (over, deeds) = (Arc::new(AtomicBool::new(false)), Arc::new(Deeds::default()));
        let (stop, done) = (over.clone(), deeds.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                for number in 0..count {
                    let client = Client { number, door: door.clone(), deeds: done.clone() };
                    tokio::spawn(client.run(TRICKS[number % TRICKS.len()]));
                }
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Self { over, thread: Some(thread), deeds }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

struct Client {
    number: usize,
    door: Door,
    deeds: Arc<Deeds>,
}

impl Client {
    /// Until the runtime ends.
    async fn run(self, trick: Trick) {
        // Not all at the same moment.
        tokio::time::sleep(Duration::from_millis((self.number as u64 * 7) % 1_000)).await;
        loop {
            // Whatever goes wrong is what the gateway is there for.
            let _ = self.once(trick).await;
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn once(&self, trick: Trick) -> anyhow::Result<()> {
        let mut stream = self.connect().await?;
        match trick {
            Trick::SlowHead => {
                stream.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await?;
                loop {
                    stream.write_all(b"a").await?;
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Trick::WrongToken => {
                for turn in 0_u64.. {
                    let token = format!("{}.{turn}", "x".repeat(1_000 + 997 * (self.number % 8)));
                    self.exchange(&mut stream, Some(&token), None, PING).await?;
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Trick::Rest => {
                self.exchange(&mut stream, None, None, PING).await?;
                // Until it is shown the door.
                let _ = stream.read(&mut [0; 64]).await?;
            }
            Trick::Greetings => loop {
                self.greet(&mut stream, 3_000).await?;
                tokio::time::sleep(2 * AGAIN).await;
            },
            Trick::UnknownTools => {
                let session = self.greet(&mut stream, 10).await?;
                let call = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"nope_{}","arguments":{{"d":"{}"}}}}}}"#,
                    self.number,
                    "A".repeat(4_000)
                );
                loop {
                    self.exchange(&mut stream, self.door.token.as_deref(), Some(&session), &call).await?;
                    tokio::time::sleep(AGAIN / 2).await;
                }
            }
            Trick::Deaf => {
                let session = self.greet(&mut stream, 10).await?;
                let text = "a deaf one asks for much ".repeat(4_000);
                let call = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}","number":1}}}}}}"#
                );
                for _ in 0..8 {
                    self.send(&mut stream, self.door.token.as_deref(), Some(&session), &call).await?;
                }
                tokio::time::sleep(PATIENCE).await;
            }
        }
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let [high, low] = u16::try_from(self.number).unwrap_or(0).to_be_bytes();
        // All of 127.0.0.0/8 is this machine; the good client is 127.0.0.1.
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0)))?;
        let address: SocketAddr = self.door.address.parse()?;
        let stream = tokio::time::timeout(PATIENCE, socket.connect(address)).await??;
        self.deeds.connections.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    /// Opens a session with a name of so many bytes; its id.
    async fn greet(&self, stream: &mut TcpStream, name: usize) -> anyhow::Result<String> {
        let greeting = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{}","capabilities":{{}},"clientInfo":{{"name":"{}","version":"1"}}}}}}"#,
            super::REVISION,
            "h".repeat(name)
        );
        let session = self.exchange(stream, self.door.token.as_deref(), None, &greeting).await?;
        session.ok_or_else(|| anyhow::anyhow!("no session"))
    }

    async fn send(
        &self,
        stream: &mut TcpStream,
        token: Option<&str>,
        session: Option<&str>,
        body: &str,
    ) -> anyhow::Result<()> {
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n",
            self.door.path, self.door.address
        );
        if let Some(token) = token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(session) = session {
            request += &format!("Mcp-Session-Id: {session}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        tokio::time::timeout(PATIENCE, stream.write_all(request.as_bytes())).await??;
        self.deeds.requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// One request and its answer; the session that the answer names.
    async fn exchange(
        &self,
        stream: &mut TcpStream,
        token: Option<&str>,
        session: Option<&str>,
        body: &str,
    ) -> anyhow::Result<Option<String>> {
        self.send(stream, token, session, body).await?;
        let answered = async {
            let mut raw = Vec::new();
            loop {
                if stream.read_buf(&mut raw).await? == 0 {
                    anyhow::bail!("closed");
                }
                let Some(head) = wire::response(&raw)? else { continue };
                match head.length {
                    wire::Length::Bytes(length) if raw.len() < head.bytes + length => {}
                    _ => return Ok(head.session),
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await?
    }
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
