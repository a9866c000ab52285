//! The first words with a server: finding out which era of MCP it speaks (2026-07-28, "Versioning"), whatever it does when
//! it is asked something it does not know, and with as few starts as possible.
//!
//! `server/discover` comes first, because a stateless server may take `initialize` for a mistake. A server of the handshake
//! era may refuse the question, ignore it, or end itself. So it is greeted with `initialize` on the same connection after
//! an answer that says so, or after a while without one; from then on whatever the server answers to either of the two
//! counts. One that ended when it was asked is started again and greeted with `initialize` at once (`eras` knows that).

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::errand::{Errand, Own};
use super::listing;
use super::peer::{Peer, Request};
use super::progress::{ClientCapabilities, First, Negotiated, Progress, Stage};
use super::server_info::ServerInfo;
use super::transport::TransportError;
use super::{PeerError, Server};
use crate::config::BackendEra;
use crate::mcp::client::{Client as _, Nobody};
use crate::mcp::{Era, REVISIONS, STATELESS, era, header, message, said, splice};

/// How long a server is asked `server/discover` and nothing else. It may still be starting; the longer it takes, the
/// likelier it is one of those that never answer what they do not know.
const PROBE: Duration = Duration::from_secs(10);
/// When one answer has come that leaves the era open: how long to wait for the one that decides.
const LATE: Duration = Duration::from_secs(5);

/// Characters of a server's name and version that are remembered.
const MAX_IDENTITY: usize = 256;

/// A server's `instructions` for the model, if they are a text. Anything else is ignored: it is no reason to refuse the
/// server.
fn instructions(said: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(said?.get()).ok()
}

/// A server that refused `initialize`.
#[derive(Debug)]
pub(super) struct Refusal {
    error: PeerError,
    /// The revisions it named instead of the one it was asked for.
    versions: Vec<String>,
    /// It is about the revision, whether it named another or not.
    about_version: bool,
}

impl Refusal {
    fn new(error: PeerError, text: &str, asked: &str) -> Self {
        let about_version = text.to_ascii_lowercase().contains("protocol version");
        Self { error, versions: versions_in(text, asked), about_version }
    }

    /// The newest revision of the handshake era that it named and the gateway speaks. One that dislikes a revision and names
    /// none is most likely older than all others.
    fn revision(&self) -> Option<&'static str> {
        newest(&self.versions).or_else(|| {
            let silent = self.versions.is_empty() && self.about_version;
            REVISIONS.last().copied().filter(|_| silent)
        })
    }
}

impl From<Refusal> for PeerError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

/// The revisions that an error names (2025-11-25, "Lifecycle"; 2026-07-28, "Versioning"), besides the one that was asked for.
/// Servers differ in the member that holds them, and some only write a sentence.
fn versions_in(error: &str, asked: &str) -> Vec<String> {
    let listed = ["/data/supported", "/data/supportedVersions", "/data/supportedProtocolVersions"]
        .iter()
        .find_map(|place| serde_json::from_str::<Vec<String>>(splice::get(error, place)?).ok());
    let mut versions = listed.unwrap_or_else(|| {
        let known = era::all_revisions().into_iter().filter(|known| error.contains(known));
        known.map(str::to_owned).collect()
    });
    versions.retain(|version| version != asked);
    versions
}

fn newest(versions: &[String]) -> Option<&'static str> {
    REVISIONS.into_iter().find(|known| versions.iter().any(|version| version == known))
}

/// The result of `server/discover`.
enum Discovery {
    Stateless(ServerInfo),
    /// It speaks otherwise; with what it says about how.
    Other {
        why: String,
        versions: Vec<String>,
    },
}

/// Holds the first exchange with a server, and returns what it said of itself.
pub(super) async fn negotiate(
    peer: &Peer,
    backend: &Server,
    first: First,
    client: &mut ClientCapabilities,
    progress: &Progress,
) -> Result<Negotiated, PeerError> {
    let (patience, era) = {
        let settings = backend.settings.load();
        (settings.start_timeout, settings.era)
    };
    let mut words = Words { peer, patience, client, progress };
    let met = match (era, first) {
        (BackendEra::Stateless, _) => words.stateless_only().await,
        (BackendEra::Handshake, _) => {
            words.initialized(REVISIONS[0], Stage::Initialize).await?.map_err(Into::into)
        }
        (BackendEra::Auto, First::Initialize) => words.initialize_first().await,
        (BackendEra::Auto, First::Discover) => words.discover_first().await,
    }?;
    peer.speaks(Era::of(&met.info.version));
    Ok(met)
}

/// A conversation that begins.
struct Words<'a> {
    peer: &'a Peer,
    /// For each answer.
    patience: Duration,
    client: &'a mut ClientCapabilities,
    progress: &'a Progress,
}

impl Words<'_> {
    async fn stateless_only(&mut self) -> Result<Negotiated, PeerError> {
        self.progress.is_at(Stage::Discover);
        match discover(self.peer, self.patience).await? {
            Discovery::Stateless(info) => Ok(stateless(info)),
            Discovery::Other { why, .. } => Err(PeerError::Garbage(format!(
                "it does not speak {STATELESS}, and era = \"stateless\" says it must: {why}"
            ))),
        }
    }

    /// It shook hands the last time. If it no longer does, it is asked what it is.
    async fn initialize_first(&mut self) -> Result<Negotiated, PeerError> {
        let refused: PeerError = match self.initialized(REVISIONS[0], Stage::Initialize).await {
            Ok(Ok(met)) => return Ok(met),
            Ok(Err(refusal)) => refusal.into(),
            Err(
                error @ PeerError::Transport(TransportError::Status {
                    status: 400 | 404 | 405 | 406 | 415 | 501,
                    ..
                }),
            ) => error,
            Err(error) => return Err(error),
        };
        self.progress.is_at(Stage::Discover);
        match discover(self.peer, self.patience).await? {
            Discovery::Stateless(info) => Ok(stateless(info)),
            Discovery::Other { .. } => Err(refused),
        }
    }

    async fn discover_first(&mut self) -> Result<Negotiated, PeerError> {
        self.progress.is_at(Stage::Discover);
        let mut probe = std::pin::pin!(discover(self.peer, self.patience));
        let other = match tokio::time::timeout(PROBE, &mut probe).await {
            Ok(found) => match found? {
                Discovery::Stateless(info) => return Ok(stateless(info)),
                Discovery::Other { why, versions } => (why, versions),
            },
            Err(_) => return self.both(probe).await,
        };
        let (why, versions) = other;
        let revision = newest(&versions);
        if !versions.is_empty() && revision.is_none() {
            let versions = versions.join(", ");
            return Err(PeerError::Garbage(format!(
                "it speaks {versions}, and this gateway none of them: {why}"
            )));
        }
        tracing::debug!("the server does not speak {STATELESS}: {why}");
        self.initialized(revision.unwrap_or(REVISIONS[0]), Stage::Initialize).await?.map_err(Into::into)
    }

    /// Waits for an answer to `server/discover`, which has been asked, and to `initialize`, which is asked now.
    async fn both(
        &mut self,
        mut probe: std::pin::Pin<&mut impl Future<Output = Result<Discovery, PeerError>>>,
    ) -> Result<Negotiated, PeerError> {
        let (peer, patience, progress) = (self.peer, self.patience, self.progress);
        let mut initialized = std::pin::pin!(self.initialized(REVISIONS[0], Stage::Both));
        // Outer none: no answer yet. Inner none: not this era.
        let mut found: Option<Option<ServerInfo>> = None;
        let mut enough = std::pin::pin!(tokio::time::sleep(patience));
        loop {
            tokio::select! {
                answer = &mut probe, if found.is_none() => match answer? {
                    // It was answered before `initialize` was sent, so nothing else is to be waited for.
                    Discovery::Stateless(info) if progress.stage() != Stage::Both => {
                        return Ok(stateless(info));
                    }
                    // What it answers to the second message is how it understands the third.
                    Discovery::Stateless(info) => {
                        found = Some(Some(info));
                        enough.as_mut().reset(tokio::time::Instant::now() + LATE);
                    }
                    Discovery::Other { .. } => found = Some(None),
                },
                met = &mut initialized => {
                    let refusal = match met? {
                        Ok(met) => {
                            let stateless = matches!(found, Some(Some(_)));
                            return Ok(Negotiated { learnt: if stateless { Era::Stateless } else { met.learnt }, ..met });
                        }
                        Err(refusal) => refusal,
                    };
                    if let Some(Some(info)) = found {
                        return Ok(stateless(info));
                    }
                    if found.is_none()
                        && let Ok(Ok(Discovery::Stateless(info))) = tokio::time::timeout(LATE, &mut probe).await
                    {
                        return Ok(stateless(info));
                    }
                    // It says that it speaks the other era, so the question was lost.
                    if refusal.versions.iter().any(|version| version == STATELESS)
                        && let Discovery::Stateless(info) = discover(peer, patience).await?
                    {
                        return Ok(stateless(info));
                    }
                    return Err(refusal.into());
                },
                () = &mut enough, if matches!(found, Some(Some(_))) => {
                    if let Some(Some(info)) = found {
                        return Ok(stateless(info));
                    }
                }
            }
        }
    }

    /// Shakes hands with the abilities of the client behind the gateway, once it has said them: they are said once for a
    /// connection, and a server that was told none would have to be started again when the client comes.
    async fn initialized(
        &mut self,
        revision: &'static str,
        stage: Stage,
    ) -> Result<Result<Negotiated, Refusal>, PeerError> {
        if self.client.borrow().is_none() {
            self.progress.is_at(Stage::Client);
        }
        // Without anybody who could say it the gateway ends.
        let _ = self.client.wait_for(Option::is_some).await;
        let declared = self.client.borrow_and_update().clone();
        self.progress.is_at(stage);
        let capabilities = declared.as_deref().unwrap_or("{}");
        let info = greet_as(self.peer, capabilities, revision, self.patience).await?;
        Ok(info.map(|info| Negotiated { info, learnt: Era::Handshake, declared }))
    }
}

fn stateless(info: ServerInfo) -> Negotiated {
    Negotiated { info, learnt: Era::Stateless, declared: None }
}

/// Asks a server what it is. Which error says that it does not know the question differs from server to server.
async fn discover(peer: &Peer, patience: Duration) -> Result<Discovery, PeerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered {
        supported_versions: Vec<String>,
        #[serde(default)]
        capabilities: Option<Box<RawValue>>,
        #[serde(default)]
        instructions: Option<Box<RawValue>>,
    }
    let client = Nobody::new();
    let params = era::request_to_stateless("{}", client.client_info());
    let headers = header::of_request(Own::Discover.method(), &params, &[]);
    let errand = Errand::Own(Own::Discover);
    let request = Request { errand, params: Some(&params), headers, client, patience, longest: patience };
    let reply = match peer.request(request).await {
        Ok(reply) => reply.whole().await?,
        // No further word reaches it, or none would be heard. Some say 401 to all that is not of a session and opens none.
        Err(PeerError::Transport(error @ (TransportError::Unreachable(_) | TransportError::Closed(_)))) => {
            return Err(error.into());
        }
        Err(PeerError::Transport(ref wire @ TransportError::Status { status: 401 | 407, ref said, .. }))
            if !said.to_string().to_ascii_lowercase().contains("session") =>
        {
            return Err(wire.clone().into());
        }
        // Silence, a status without a message, no JSON: whatever it is, it is not this era.
        Err(error) => return Ok(Discovery::Other { why: error.to_string(), versions: Vec::new() }),
    };
    if reply.is_error() {
        let (why, versions) = (said::in_error(reply.text()), versions_in(reply.text(), STATELESS));
        return Ok(Discovery::Other { why, versions });
    }
    let found: Discovered = match serde_json::from_str(reply.text()) {
        Ok(found) => found,
        Err(error) => {
            let why = format!("its answer to server/discover cannot be read: {error}");
            return Ok(Discovery::Other { why, versions: Vec::new() });
        }
    };
    if !found.supported_versions.iter().any(|version| version == STATELESS) {
        let why = format!("it does not name {STATELESS}");
        return Ok(Discovery::Other { why, versions: found.supported_versions });
    }
    let server = splice::get(reply.text(), "/serverInfo")
        .or_else(|| splice::get(reply.text(), "/_meta/io.modelcontextprotocol~1serverInfo"));
    Ok(Discovery::Stateless(ServerInfo {
        version: STATELESS.to_owned(),
        capabilities: found.capabilities.unwrap_or_else(|| message::raw("{}".to_owned())),
        instructions: instructions(found.instructions.as_deref()),
        handshake: newest(&found.supported_versions).is_some(),
        server: server.map_or_else(String::new, identity),
    }))
}

/// The part of its info that tells one server, or one version of it, from another: without icons and description.
fn identity(info: &str) -> String {
    let part = |pointer| splice::get(info, pointer).unwrap_or_default();
    format!("{} {}", part("/name"), part("/version")).chars().take(MAX_IDENTITY).collect()
}

/// Shakes hands (MCP "Lifecycle"), declaring these capabilities.
pub(super) async fn greet(
    peer: &Peer,
    capabilities: &str,
    patience: Duration,
) -> Result<ServerInfo, PeerError> {
    greet_as(peer, capabilities, REVISIONS[0], patience).await?.map_err(Into::into)
}

/// Shakes hands in this revision, or in another one that the server names when it refuses this one.
async fn greet_as(
    peer: &Peer,
    capabilities: &str,
    revision: &'static str,
    patience: Duration,
) -> Result<Result<ServerInfo, Refusal>, PeerError> {
    match initialize(peer, capabilities, revision, patience).await? {
        Ok(info) => Ok(Ok(info)),
        Err(refusal) => match refusal.revision().filter(|named| *named != revision) {
            Some(named) => {
                tracing::debug!(
                    named,
                    "the server refused this revision, and is asked again in another one: {}",
                    refusal.error
                );
                initialize(peer, capabilities, named, patience).await
            }
            None => Ok(Err(refusal)),
        },
    }
}

async fn initialize(
    peer: &Peer,
    capabilities: &str,
    revision: &str,
    patience: Duration,
) -> Result<Result<ServerInfo, Refusal>, PeerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct InitializeResult {
        protocol_version: String,
        #[serde(default)]
        capabilities: Option<Box<RawValue>>,
        #[serde(default)]
        instructions: Option<Box<RawValue>>,
        #[serde(default)]
        server_info: Option<Box<RawValue>>,
    }
    let params = format!(
        "{{\"protocolVersion\":\"{revision}\",\"capabilities\":{capabilities},\"clientInfo\":{{\"name\":\"sentinel-gateway\",\"version\":\"{}\"}}}}",
        env!("CARGO_PKG_VERSION"),
    );
    let reply = match listing::ask(peer, Own::Initialize, Some(&params), patience).await {
        Ok(reply) => reply,
        // Over HTTP some refuse before they have read the message.
        Err(error @ PeerError::Transport(TransportError::Status { .. })) => {
            let text = error.to_string();
            return Ok(Err(Refusal::new(error, &text, revision)));
        }
        Err(error) => return Err(error),
    };
    if reply.is_error() {
        let said = said::in_error(reply.text());
        let error = PeerError::Garbage(format!("it refused to initialize: {said}"));
        return Ok(Err(Refusal::new(error, reply.text(), revision)));
    }
    let result: InitializeResult = serde_json::from_str(reply.text())
        .map_err(|error| PeerError::Garbage(format!("its initialize result cannot be read: {error}")))?;
    if !REVISIONS.contains(&result.protocol_version.as_str()) {
        let version = &result.protocol_version;
        return Err(PeerError::Garbage(format!(
            "it wants protocol version `{version}`, which this gateway does not speak"
        )));
    }
    peer.initialized();
    Ok(Ok(ServerInfo {
        version: result.protocol_version,
        capabilities: result.capabilities.unwrap_or_else(|| message::raw("{}".to_owned())),
        instructions: instructions(result.instructions.as_deref()),
        handshake: true,
        server: result.server_info.map_or_else(String::new, |info| identity(info.get())),
    }))
}
