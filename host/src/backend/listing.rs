//! The first words with a server: the handshake, and everything it offers, every page of it.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::PeerError;
use super::peer::Peer;
use crate::mcp::catalog::{List, Offer};
use crate::mcp::{REVISIONS, code, message, splice};

/// Bounds of one list of one backend.
const MAX_PAGES: usize = 1_000;
const MAX_ITEMS: usize = 20_000;

/// What a server said of itself in `initialize`.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub version: String,
    pub capabilities: Box<RawValue>,
    pub instructions: Option<String>,
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
    instructions: Option<String>,
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
    let reply = peer.request("initialize", Some(&params), Vec::new(), None, patience).await?;
    if reply.is_error() {
        return Err(PeerError::Garbage(format!("it refused to initialize: {}", reply.text())));
    }
    let result: InitializeResult = serde_json::from_str(reply.text())
        .map_err(|error| PeerError::Garbage(format!("its initialize result cannot be read: {error}")))?;
    if !REVISIONS.contains(&result.protocol_version.as_str()) {
        let version = &result.protocol_version;
        return Err(PeerError::Garbage(format!(
            "it wants protocol version `{version}`, which this gateway does not speak"
        )));
    }
    peer.notify("notifications/initialized", None);
    Ok(Greeting {
        version: result.protocol_version,
        capabilities: result.capabilities.unwrap_or_else(|| message::raw("{}".to_owned())),
        instructions: result.instructions,
    })
}

/// All pages of one list. A server that does not know the method offers nothing.
pub(super) async fn drain(peer: &Peer, list: List, patience: Duration) -> Result<Vec<Offer>, PeerError> {
    let (method, items, key) = list.wire();
    let mut offers = Vec::new();
    let mut seen = HashSet::new();
    let mut params: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let reply = peer.request(method, params.as_deref(), Vec::new(), None, patience).await?;
        if reply.is_error() {
            return match reply.error_code() {
                Some(code::METHOD_NOT_FOUND) => Ok(offers),
                _ => Err(PeerError::Garbage(format!("{method} failed: {}", reply.text()))),
            };
        }
        let page = splice::get(reply.text(), &format!("/{items}")).unwrap_or("[]");
        let page: Vec<Box<RawValue>> = serde_json::from_str(page)
            .map_err(|error| PeerError::Garbage(format!("{method} cannot be read: {error}")))?;
        for item in page {
            let name =
                splice::get(item.get(), &format!("/{key}")).and_then(|name| serde_json::from_str(name).ok());
            let Some(name) = name.filter(|name: &String| !name.is_empty()) else {
                tracing::warn!(method, "an entry without `{key}` was left out");
                continue;
            };
            if offers.len() >= MAX_ITEMS {
                return Err(PeerError::Garbage(format!("{method} lists more than {MAX_ITEMS} entries")));
            }
            offers.push(Offer { upstream: name.clone(), name, item });
        }
        // The empty string is a cursor like any other; only its absence (or null) is the end.
        match splice::get(reply.text(), "/nextCursor").filter(|cursor| *cursor != "null") {
            None => return Ok(offers),
            Some(cursor) if !seen.insert(cursor.to_owned()) => {
                tracing::warn!(method, "the server repeats its cursor; its list ends here");
                return Ok(offers);
            }
            Some(cursor) => params = Some(format!("{{\"cursor\":{cursor}}}")),
        }
    }
    Err(PeerError::Garbage(format!("{method} has more than {MAX_PAGES} pages")))
}
