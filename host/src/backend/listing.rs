//! The first words with a server: the handshake, and everything it offers, every page of it.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::errand::{Errand, Own};
use super::peer::{Peer, Request};
use super::reply::Reply;
use super::{Backend, PeerError, STANDING};
use crate::config;
use crate::mcp::catalog::{List, Offer};
use crate::mcp::client::{Client as _, Nobody};
use crate::mcp::{Era, REVISIONS, STATELESS, code, era, header, message, params, said, splice};

/// Bounds of one list of one backend. What comes after them is left out.
const MAX_PAGES: usize = 1_000;
const MAX_ITEMS: usize = 20_000;
const MAX_BYTES: usize = 64 << 20;
/// Entries of one list that the log names if they are left out.
const MAX_NAMED: usize = 8;
/// Characters of an entry's name that a log line shows.
const MAX_SHOWN: usize = 128;
/// How long a server may think about whether it knows `server/discover`. The old ones answer at once that they do
/// not; one that stays silent is asked to shake hands on the same connection.
const PROBE: Duration = Duration::from_secs(10);

/// What a server said of itself in `initialize`.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub version: String,
    pub capabilities: Box<RawValue>,
    pub instructions: Option<String>,
    /// Whether it shakes hands, if asked to.
    pub handshake: bool,
}

impl Greeting {
    /// Whether the server declared a capability by its top-level key.
    #[must_use]
    pub(crate) fn has(&self, capability: &str) -> bool {
        splice::get(self.capabilities.get(), &format!("/{capability}")).is_some()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitializeResult {
    protocol_version: String,
    #[serde(default)]
    capabilities: Option<Box<RawValue>>,
    #[serde(default)]
    instructions: Option<Box<RawValue>>,
}

/// What a server says to the model: a text, or nothing. It is no reason not to talk to it.
fn instructions(said: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(said?.get()).ok()
}

/// A request of the gateway's own, in the era of the server.
pub(super) async fn ask(
    peer: &Peer,
    own: Own,
    params: Option<&str>,
    patience: Duration,
) -> Result<Reply, PeerError> {
    let client = Nobody::new();
    let stateless = peer.era() == Era::Stateless;
    let dressed = stateless.then(|| era::request_to_stateless(params.unwrap_or("{}"), client.hello()));
    let headers = dressed.as_deref().map(|params| header::of_request(own.method(), params, &[]));
    let params = dressed.as_deref().or(params);
    let (errand, headers) = (Errand::Own(own), headers.unwrap_or_default());
    let request = Request { errand, params, headers, client, patience, longest: patience };
    Ok(peer.request(request).await?.whole().await?)
}

/// The first words: how does the server speak? Then what that era begins with (MCP 2026-07-28, "Versioning").
pub(super) async fn meet(peer: &Peer, backend: &Backend, capabilities: &str) -> Result<Greeting, PeerError> {
    let patience = backend.settings.timeout;
    if backend.settings.era != config::BackendEra::Handshake
        && let Some(greeting) = discover(peer, patience.min(PROBE)).await?
    {
        peer.speaks(Era::Stateless);
        return Ok(greeting);
    }
    if backend.settings.era == config::BackendEra::Stateless {
        return Err(PeerError::Garbage(format!(
            "it does not speak {STATELESS}, and era = \"stateless\" says it must"
        )));
    }
    peer.speaks(Era::Handshake);
    greet(peer, capabilities, patience).await
}

/// Asks a server what it is. None if it does not know the question; which error says so differs from server to server.
async fn discover(peer: &Peer, patience: Duration) -> Result<Option<Greeting>, PeerError> {
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
    let params = era::request_to_stateless("{}", client.hello());
    let headers = header::of_request(Own::Discover.method(), &params, &[]);
    let errand = Errand::Own(Own::Discover);
    let request = Request { errand, params: Some(&params), headers, client, patience, longest: patience };
    let reply = match peer.request(request).await {
        Ok(reply) => reply.whole().await?,
        Err(PeerError::Wire(error @ (super::WireError::Unreachable(_) | super::WireError::Closed(_)))) => {
            return Err(error.into());
        }
        // Silence, a status without a message, no JSON: whatever it is, it is not this era.
        Err(error) => {
            tracing::debug!("no answer to server/discover: {error}");
            return Ok(None);
        }
    };
    if reply.is_error() {
        return Ok(None);
    }
    let Ok(found) = serde_json::from_str::<Discovered>(reply.text()) else { return Ok(None) };
    Ok(found.supported_versions.iter().any(|version| version == STATELESS).then(|| Greeting {
        version: STATELESS.to_owned(),
        capabilities: found.capabilities.unwrap_or_else(|| message::raw("{}".to_owned())),
        instructions: instructions(found.instructions.as_deref()),
        handshake: found.supported_versions.iter().any(|version| REVISIONS.contains(&version.as_str())),
    }))
}

/// Has a stateless server say when its lists change, for as long as it will. Returns at once for any other.
pub(super) async fn listen(peer: &Peer, greeting: &Greeting) {
    if peer.era() != Era::Stateless {
        return;
    }
    let changes = |capability: &str| {
        splice::get(greeting.capabilities.get(), &format!("/{capability}/listChanged")) == Some("true")
    };
    let (tools, prompts, resources) = (changes("tools"), changes("prompts"), changes("resources"));
    if !(tools || prompts || resources) {
        return;
    }
    let params = format!(
        "{{\"notifications\":{{\"toolsListChanged\":{tools},\"promptsListChanged\":{prompts},\"resourcesListChanged\":{resources}}}}}"
    );
    if let Err(error) = ask(peer, Own::Listen, Some(&params), STANDING).await {
        tracing::debug!("the server no longer says what changes: {error}");
    }
}

/// Shakes hands (MCP "Lifecycle"), declaring what the client behind the gateway can do.
pub(super) async fn greet(
    peer: &Peer,
    capabilities: &str,
    patience: Duration,
) -> Result<Greeting, PeerError> {
    let params = format!(
        "{{\"protocolVersion\":\"{}\",\"capabilities\":{capabilities},\"clientInfo\":{{\"name\":\"sentinel-gateway\",\"version\":\"{}\"}}}}",
        REVISIONS[0],
        env!("CARGO_PKG_VERSION"),
    );
    let reply = ask(peer, Own::Initialize, Some(&params), patience).await?;
    if reply.is_error() {
        return Err(PeerError::Garbage(format!(
            "it refused to initialize: {}",
            said::in_error(reply.text())
        )));
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
    Ok(Greeting {
        version: result.protocol_version,
        capabilities: result.capabilities.unwrap_or_else(|| message::raw("{}".to_owned())),
        instructions: instructions(result.instructions.as_deref()),
        handshake: true,
    })
}

/// All pages of one list. A server that does not know the method offers nothing.
pub(super) async fn drain(peer: &Peer, list: List, patience: Duration) -> Result<Vec<Offer>, PeerError> {
    let (method, items, key) = list.wire();
    let mut offers = Vec::new();
    let mut seen = HashSet::new();
    let (mut left_out, mut nameless, mut bytes) = (0usize, 0usize, 0usize);
    let end = |offers: Vec<Offer>, nameless: usize| {
        if nameless > 0 {
            tracing::warn!(backend = %peer.name(), method, "entries without `{key}` were left out: {nameless}");
        }
        Ok(offers)
    };
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let reply = ask(peer, Own::List(list), next.as_deref(), patience).await?;
        if reply.is_error() {
            return match reply.error_code() {
                Some(code::METHOD_NOT_FOUND) => end(offers, nameless),
                _ => Err(PeerError::Garbage(format!("{method} failed: {}", said::in_error(reply.text())))),
            };
        }
        let page = splice::get(reply.text(), &format!("/{items}")).filter(|page| *page != "null");
        let page = page.unwrap_or("[]");
        let page: Vec<Box<RawValue>> = serde_json::from_str(page)
            .map_err(|error| PeerError::Garbage(format!("{method} cannot be read: {error}")))?;
        for item in page {
            let name =
                splice::get(item.get(), &format!("/{key}")).and_then(|name| serde_json::from_str(name).ok());
            let Some(name) = name.filter(|name: &String| !name.is_empty()) else {
                nameless += 1;
                continue;
            };
            // Others may read another name in it than the one that is judged here.
            if let Err(ambiguous) = params::check_item(list, item.get()) {
                left_out += 1;
                if left_out <= MAX_NAMED {
                    let name: String = name.escape_debug().take(MAX_SHOWN).collect();
                    tracing::warn!(
                        backend = %peer.name(),
                        method,
                        name,
                        "an entry that can be read in two ways was left out: {ambiguous}"
                    );
                }
                continue;
            }
            bytes = bytes.saturating_add(item.get().len());
            if offers.len() >= MAX_ITEMS || bytes > MAX_BYTES {
                tracing::warn!(backend = %peer.name(), method, "only the first {} entries are taken: the limit is {MAX_ITEMS} entries or {} MiB", offers.len(), MAX_BYTES >> 20);
                return end(offers, nameless);
            }
            offers.push(Offer { upstream: name.clone(), name, item });
        }
        // The empty string is a cursor like any other; only its absence (or null) is the end.
        match splice::get(reply.text(), "/nextCursor").filter(|cursor| *cursor != "null") {
            None => return end(offers, nameless),
            Some(cursor) if !seen.insert(cursor.to_owned()) => {
                tracing::warn!(backend = %peer.name(), method, "the server repeats its cursor; its list ends here");
                return end(offers, nameless);
            }
            Some(cursor) => next = Some(format!("{{\"cursor\":{cursor}}}")),
        }
    }
    tracing::warn!(backend = %peer.name(), method, "its list has more than {MAX_PAGES} pages; the rest is left out");
    end(offers, nameless)
}
