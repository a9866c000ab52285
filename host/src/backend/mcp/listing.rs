//! The requests that the gateway makes by itself, and the reading of a server's lists, with all their pages.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::value::RawValue;

use super::errand::{Errand, Own};
use super::peer::{Peer, Request};
use super::reply::Reply;
use super::server_info::ServerInfo;
use super::{PeerError, STANDING};
use crate::mcp::catalog::{List, Offer};
use crate::mcp::client::{Client as _, Nobody};
use crate::mcp::{Era, code, era, header, params, said, splice};

/// Bounds of one list of one backend. What comes after them is left out.
const MAX_PAGES: usize = 1_000;
const MAX_ITEMS: usize = 20_000;
const MAX_BYTES: usize = 64 << 20;
/// Entries of one list that the log names if they are left out.
const MAX_NAMED: usize = 8;
/// Characters of an entry's name that a log line shows.
const MAX_SHOWN: usize = 128;
/// A request of the gateway's own, in the era of the server.
pub(super) async fn ask(
    peer: &Peer,
    own: Own,
    params: Option<&str>,
    patience: Duration,
) -> Result<Reply, PeerError> {
    let client = Nobody::new();
    let stateless = peer.era() == Era::Stateless;
    let dressed = stateless.then(|| era::request_to_stateless(params.unwrap_or("{}"), client.client_info()));
    let headers = dressed.as_deref().map(|params| header::of_request(own.method(), params, &[]));
    let params = dressed.as_deref().or(params);
    let (errand, headers) = (Errand::Own(own), headers.unwrap_or_default());
    let request = Request { errand, params, headers, client, patience, longest: patience };
    Ok(peer.request(request).await?.whole().await?)
}

/// Asks a stateless server to say when its lists change. Returns when the server ends that; at once for any other
/// server.
pub(super) async fn listen(peer: &Peer, info: &ServerInfo) {
    if peer.era() != Era::Stateless {
        return;
    }
    let changes = |capability: &str| {
        splice::get(info.capabilities.get(), &format!("/{capability}/listChanged")) == Some("true")
    };
    let (tools, prompts, resources) = (changes("tools"), changes("prompts"), changes("resources"));
    if !(tools || prompts || resources) {
        return;
    }
    let params = format!(
        "{{\"notifications\":{{\"toolsListChanged\":{tools},\"promptsListChanged\":{prompts},\"resourcesListChanged\":{resources}}}}}"
    );
    if let Err(error) = ask(peer, Own::Listen, Some(&params), STANDING).await {
        tracing::debug!("the server no longer says when its lists change: {error}");
    }
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
    tracing::warn!(backend = %peer.name(), method, "the server's list has more than {MAX_PAGES} pages; the rest is left out");
    end(offers, nameless)
}
