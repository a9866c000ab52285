//! The lists that backends offered before this start: shown at once, and corrected when the backends are up.
//!
//! A list is kept as the server sent it, before the rewriters. Nothing is decided by it: the first list after a start
//! may be yesterday's, but a call goes to the server as it is today.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Registry;
use crate::backend::mcp::Server;
use crate::backend::mcp::fleet::ServerFleet;
use crate::backend::mcp::server_info::ServerInfo;
use crate::mcp::catalog::{List, Offer, Offers};
use crate::mcp::{params, splice};

/// The name under which it is kept.
const LISTS: &str = "lists";

/// What is kept of one backend.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: String,
    handshake: bool,
    capabilities: Box<RawValue>,
    instructions: Option<String>,
    tools: Vec<Box<RawValue>>,
    resources: Vec<Box<RawValue>>,
    templates: Vec<Box<RawValue>>,
    prompts: Vec<Box<RawValue>>,
}

impl Kept {
    fn of(info: ServerInfo, offers: &Offers) -> Self {
        let items = |list| offers.get(list).iter().map(|offer| offer.item.clone()).collect();
        Self {
            version: info.version,
            handshake: info.handshake,
            capabilities: info.capabilities,
            instructions: info.instructions,
            tools: items(List::Tools),
            resources: items(List::Resources),
            templates: items(List::Templates),
            prompts: items(List::Prompts),
        }
    }

    fn take(self) -> (ServerInfo, Offers) {
        let Self { version, handshake, capabilities, instructions, .. } = self;
        let mut offers = Offers::default();
        for (list, items) in [
            (List::Tools, self.tools),
            (List::Resources, self.resources),
            (List::Templates, self.templates),
            (List::Prompts, self.prompts),
        ] {
            offers.set(list, items.into_iter().filter_map(|item| offer(list, item)).collect());
        }
        (ServerInfo { version, capabilities, instructions, handshake, server: String::new() }, offers)
    }
}

/// An entry of a list. The file is judged as the server was.
fn offer(list: List, item: Box<RawValue>) -> Option<Offer> {
    params::check_item(list, item.get()).ok()?;
    let name = splice::get(item.get(), &format!("/{}", list.wire().2))?;
    let name: String = serde_json::from_str(name).ok()?;
    Some(Offer { upstream: name.clone(), name, item })
}

impl Registry {
    /// Shows what the backends offered before, as far as they have not been listed by now.
    pub(super) async fn recall(self: Arc<Self>) {
        let of = |backend: &Arc<Server>| {
            let (registry, backend) = (self.clone(), backend.clone());
            async move {
                let memory = backend.remembered.clone();
                let kept = tokio::task::spawn_blocking(move || memory.read::<Kept>(LISTS)).await;
                if let Some((info, offers)) = kept.ok().flatten().map(Kept::take) {
                    registry.remind(&backend, info, offers).await;
                }
            }
        };
        futures_util::future::join_all(self.backends.iter().map(of)).await;
        self.merging.lock().recalled = true;
        self.moves.send_modify(|moves| *moves += 1);
    }

    async fn remind(&self, backend: &Arc<Server>, info: ServerInfo, offers: Offers) {
        let _turn = backend.reading.lock().await;
        if backend.is_listed() {
            return;
        }
        let offers = Arc::new(offers);
        let Some(shaped) = self.read(backend, &offers).await else { return };
        self.put(backend, Arc::new(shaped));
        backend.has_said(offers, true);
        backend.said.lock().info.get_or_insert(info);
    }
}

impl ServerFleet {
    /// Keeps the lists of a backend for the next start, in the background.
    pub(in crate::backend) fn remember(&self, backend: &Arc<Server>) {
        let info = backend.said.lock().info.clone();
        let Some(info) = info else { return };
        let offers = backend.original().unwrap_or_default();
        let backend = backend.clone();
        // Stopping waits for it.
        self.tasks.spawn_blocking(move || {
            let kept = Kept::of(info, &offers);
            // Some servers repeat the key they were given, and no secret goes into a file.
            let secret = serde_json::to_string(&kept)
                .is_ok_and(|text| backend.opener.redaction().without_known(&text).is_some());
            if secret {
                tracing::warn!(
                    backend = %backend.name,
                    "the server's lists are not kept for the next start: they hold a secret of the configuration"
                );
                backend.remembered.forget(LISTS);
            } else {
                backend.remembered.write(LISTS, &kept);
            }
        });
    }
}
