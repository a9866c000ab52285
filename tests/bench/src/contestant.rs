//! Who is measured, how it is started, and where it is spoken to.

pub(crate) mod ours;
pub(crate) mod peers;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::call::Calls;
use crate::client::{Client, Door, Http, KNOCK, Stdio as StdioClient};
use crate::proc::Tree;

/// How long a start may take.
const START: Duration = Duration::from_secs(60);
/// How long one attempt may take to get an answer from a contestant whose server was killed.
const TRY: Duration = Duration::from_secs(3);
/// How long an orderly end may take.
const END: Duration = Duration::from_secs(15);

/// From the caller to the gateway, and from the gateway to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Route {
    #[serde(rename = "HTTP → stdio")]
    HttpStdio,
    #[serde(rename = "HTTP → HTTP")]
    HttpHttp,
    #[serde(rename = "stdio → stdio")]
    StdioStdio,
}

impl Route {
    pub(crate) const ALL: [Self; 3] = [Self::HttpStdio, Self::HttpHttp, Self::StdioStdio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HttpStdio => "HTTP → stdio",
            Self::HttpHttp => "HTTP → HTTP",
            Self::StdioStdio => "stdio → stdio",
        }
    }

    /// Whether the caller comes over HTTP.
    pub(crate) fn http_door(self) -> bool {
        self != Self::StdioStdio
    }
}

/// The programs and folders that contestants are made of.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) gateway: PathBuf,
    /// `tests/guests`, built.
    pub(crate) guests: PathBuf,
    /// Where peers are installed.
    pub(crate) peers: PathBuf,
}

/// The server behind a contestant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) tools: usize,
    pub(crate) delay_ms: u64,
}

impl Server {
    /// The command line that starts it, this very program.
    pub(crate) fn argv(&self, way: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
        let this = std::env::current_exe()?;
        let mut argv = vec![this.to_string_lossy().into_owned(), "backend".to_owned(), way.to_owned()];
        argv.extend(["--tools".to_owned(), self.tools.max(1).to_string()]);
        argv.extend(["--delay-ms".to_owned(), self.delay_ms.to_string()]);
        if !prefix.is_empty() {
            argv.extend(["--prefix".to_owned(), prefix.to_owned()]);
        }
        Ok(argv)
    }
}

/// One of those who are measured.
#[derive(Debug, Clone)]
pub(crate) enum Contestant {
    /// The server itself, with nothing before it.
    Direct,
    Ours(ours::Variant),
    Peer(peers::Peer),
}

impl Contestant {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Ours(variant) => variant.name.clone(),
            Self::Peer(peer) => peer.name().to_owned(),
        }
    }

    /// How it is configured, for people.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Direct => "the echo server itself".to_owned(),
            Self::Ours(variant) => variant.what.clone(),
            Self::Peer(peer) => peer.what().to_owned(),
        }
    }

    pub(crate) fn takes(&self, route: Route) -> bool {
        match self {
            Self::Direct | Self::Ours(_) => true,
            Self::Peer(peer) => peer.takes(route),
        }
    }

    /// Starts it and waits for its first list.
    ///
    /// # Errors
    /// If it cannot be started, or lists no tool that echoes in time.
    pub(crate) async fn start(
        &self,
        place: &Place,
        route: Route,
        server: &Server,
    ) -> anyhow::Result<Running> {
        let folder = tempfile::Builder::new().prefix("sentinel-bench-").tempdir()?;
        let backend = match (self, route) {
            (_, Route::HttpHttp) | (Self::Direct, Route::HttpStdio) => Some(HttpServer::start(server, 0)?),
            _ => None,
        };
        let url = backend.as_ref().map(HttpServer::url);
        let way = Way { route, folder: folder.path(), server, url: url.as_deref() };
        let launch = match self {
            Self::Direct => direct(&way, backend.as_ref())?,
            Self::Ours(variant) => variant.launch(place, &way)?,
            Self::Peer(peer) => peer.launch(place, &way)?,
        };
        Running::start(launch, folder, backend, server.clone()).await
    }
}

/// What a contestant must know to be started.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    pub(crate) route: Route,
    /// A folder of its own.
    pub(crate) folder: &'a Path,
    pub(crate) server: &'a Server,
    /// Where the server listens, if it is reached over HTTP.
    pub(crate) url: Option<&'a str>,
}

/// How to start a contestant.
#[derive(Debug)]
pub(crate) struct Launch {
    /// None: there is nothing to start but the server.
    pub(crate) command: Option<Command>,
    /// What must run to its end once it listens, before it knows its server.
    pub(crate) prepare: Option<Command>,
    /// What else it needs while it runs: the server that gives it the keys of tokens.
    pub(crate) helper: Option<HttpServer>,
    /// None: it is spoken to on its own input and output.
    pub(crate) door: Option<Door>,
    /// What the tool that echoes is called there.
    pub(crate) tool: String,
}

fn direct(way: &Way<'_>, backend: Option<&HttpServer>) -> anyhow::Result<Launch> {
    let tool = "echo".to_owned();
    if let Some(backend) = backend {
        let door =
            Door { address: backend.address.clone(), path: "/mcp".to_owned(), token: None, other: None };
        return Ok(Launch { command: None, prepare: None, helper: None, door: Some(door), tool });
    }
    Ok(Launch {
        command: Some(command(&way.server.argv("stdio", "")?)),
        prepare: None,
        helper: None,
        door: None,
        tool,
    })
}

/// A command of these words.
pub(crate) fn command(argv: &[String]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    command
}

/// A port of the loopback that was free a moment ago.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The echo server over HTTP; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct HttpServer {
    child: std::process::Child,
    address: String,
}

impl HttpServer {
    fn start(server: &Server, port: u16) -> anyhow::Result<Self> {
        let mut argv = server.argv("http", "")?;
        argv.extend(["--port".to_owned(), port.to_string()]);
        Self::spawn(&argv)
    }

    /// Answers every GET with this file.
    fn serving(file: &Path) -> anyhow::Result<Self> {
        let mut argv = Server::default().argv("http", "")?;
        argv.extend(["--serve".to_owned(), file.to_string_lossy().into_owned()]);
        Self::spawn(&argv)
    }

    fn spawn(argv: &[String]) -> anyhow::Result<Self> {
        let mut child = std::process::Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the echo server")?;
        let mut line = String::new();
        let output = child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening ").context("the echo server does not listen")?;
        Ok(Self { address: address.to_owned(), child })
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    fn restart(&mut self, server: &Server) -> anyhow::Result<()> {
        let port =
            self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).context("no port")?;
        self.child.kill()?;
        self.child.wait()?;
        *self = Self::start(server, port)?;
        Ok(())
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A contestant that runs, and the conversation with it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Option<Child>,
    pub(crate) client: Client,
    pub(crate) door: Option<Door>,
    backend: Option<HttpServer>,
    /// Kept for as long as it runs.
    _helper: Option<HttpServer>,
    server: Server,
    pub(crate) tool: String,
    /// From its start to the first list with the tool that echoes.
    pub(crate) started: Duration,
    folder: TempDir,
}

impl Running {
    async fn start(
        launch: Launch,
        folder: TempDir,
        backend: Option<HttpServer>,
        server: Server,
    ) -> anyhow::Result<Self> {
        let Launch { command, prepare, helper, door, tool } = launch;
        let since = Instant::now();
        let mut child = None;
        let mut pipes = None;
        if let Some(mut command) = command {
            let log = std::fs::File::create(folder.path().join("log"))?;
            command.stderr(log.try_clone()?).kill_on_drop(true);
            // A group of its own, so that what it leaves behind can be ended with it.
            command.process_group(0);
            match door {
                Some(_) => command.stdin(Stdio::null()).stdout(log),
                None => command.stdin(Stdio::piped()).stdout(Stdio::piped()),
            };
            let program = command.as_std().get_program().to_owned();
            let mut started =
                command.spawn().with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
            pipes = started.stdin.take().zip(started.stdout.take());
            child = Some(started);
        }
        let client = match (&door, pipes) {
            (Some(door), _) => Client::Http(Box::new(Http::new(door.clone()))),
            (None, Some((input, output))) => Client::Stdio(Box::new(StdioClient::new(input, output))),
            (None, None) => bail!("nothing to speak to"),
        };
        let mut running = Self {
            child,
            client,
            door,
            backend,
            _helper: helper,
            server,
            tool,
            started: Duration::ZERO,
            folder,
        };
        let listed = running.first_list(since, prepare).await;
        listed.map_err(|error| {
            let log = running.log();
            error.context(format!("it did not start; its log ends with: {log}"))
        })?;
        running.started = since.elapsed();
        Ok(running)
    }

    async fn first_list(&mut self, since: Instant, prepare: Option<Command>) -> anyhow::Result<()> {
        if let Some(door) = self.door.clone() {
            while tokio::net::TcpStream::connect(&door.address).await.is_err() {
                self.alive()?;
                if since.elapsed() > START {
                    bail!("it does not listen");
                }
                tokio::time::sleep(KNOCK).await;
            }
        }
        if let Some(mut prepare) = prepare {
            let output = prepare.stdin(Stdio::null()).output().await?;
            if !output.status.success() {
                bail!("it could not be prepared: {}", crate::call::shown(&output.stderr));
            }
        }
        loop {
            let greeted = self.client.greet().await;
            match greeted {
                Ok(()) => break,
                // Some listen before they are ready to serve.
                Err(error) if self.door.is_none() || since.elapsed() > START => return Err(error),
                Err(_) => tokio::time::sleep(KNOCK).await,
            }
            self.alive()?;
        }
        loop {
            let names = self.client.tools().await?;
            if names.contains(&self.tool) {
                return Ok(());
            }
            if since.elapsed() > START {
                bail!("no tool {} among {names:?}", self.tool);
            }
            tokio::time::sleep(KNOCK).await;
        }
    }

    fn alive(&mut self) -> anyhow::Result<()> {
        match self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            Some(status) => bail!("it ended with {status}"),
            None => Ok(()),
        }
    }

    /// The end of what it said, for people.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.trim().lines().rev().take(5).collect();
        lines
            .into_iter()
            .rev()
            .map(|line| line.chars().take(200).collect::<String>())
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// The folder with its configuration and all that it keeps.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its processes; the server counts as a backend wherever it hangs.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = self.child.as_ref().and_then(Child::id).map(Tree::of).unwrap_or_default();
        tree.backends.extend(self.backend.as_ref().map(|backend| backend.child.id()));
        tree
    }

    /// Kills the server, and returns how long it takes until a call is answered again. A server over HTTP is
    /// started anew at once, by us; one on a pipe is the contestant's to start.
    ///
    /// # Errors
    /// If there is no server to kill, or no good answer in time.
    pub(crate) async fn recover(&mut self, patience: Duration) -> anyhow::Result<Duration> {
        let calls = Calls::new(&self.tool, 100);
        let since = Instant::now();
        match &mut self.backend {
            Some(backend) => backend.restart(&self.server)?,
            None => {
                let backends = self.tree().backends;
                if backends.is_empty() {
                    bail!("it has no server of its own");
                }
                for pid in backends {
                    kill(pid, Signal::KILL)?;
                }
            }
        }
        loop {
            let Err(error) = within(TRY, self.client.call(&calls)).await else { return Ok(since.elapsed()) };
            if since.elapsed() >= patience {
                return Err(error.context(format!("no good answer within {} s", patience.as_secs())));
            }
            // A session may have died with its server; a client would open another.
            if let Some(door) = &self.door {
                let mut client = Client::Http(Box::new(Http::new(door.clone())));
                if within(TRY, client.greet()).await.is_ok() && within(TRY, client.call(&calls)).await.is_ok()
                {
                    self.client = client;
                    return Ok(since.elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends it in order, or, if it takes too long, by force. Returns its folder.
    ///
    /// # Errors
    /// If it had to be ended by force.
    pub(crate) async fn end(self) -> anyhow::Result<TempDir> {
        let Self { child, client, folder, door, .. } = self;
        // Hanging up is how a conversation on pipes ends.
        drop(client);
        let Some(mut child) = child else { return Ok(folder) };
        let Some(pid) = child.id() else { return Ok(folder) };
        if door.is_some() {
            kill(pid, Signal::TERM)?;
        }
        let ended = tokio::time::timeout(END, child.wait()).await;
        // What it left behind; nothing, if it ended as it should.
        if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        ended.context("it did not end in time")??;
        Ok(folder)
    }
}

/// The same, or an error if it takes longer.
async fn within(limit: Duration, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::time::timeout(limit, work)
        .await
        .with_context(|| format!("no answer within {} s", limit.as_secs()))?
}

/// Sends a signal.
fn kill(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process")?;
    Ok(kill_process(pid, signal)?)
}
