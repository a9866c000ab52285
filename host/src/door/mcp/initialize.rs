//! The `initialize` of a client of the handshake era: what it says of itself, and what it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

use super::conversation::{Conversation, say};
use super::line::{Out, Outbound};
use super::respond;
use crate::call::{Denial, Principal};
use crate::mcp::client::{self, ClientInfo};
use crate::mcp::{Ambiguous, Era, Params, code, message, negotiate, splice};
use crate::pipeline::{Caller, Failure, TurnedAway};

/// What `initialize` settled.
#[derive(Debug)]
pub(super) struct Opened {
    version: &'static str,
    who: Arc<Principal>,
}

impl Conversation {
    /// Takes what the client says of itself, and settles the revision.
    ///
    /// # Errors
    /// The answer that refuses it.
    pub(super) fn open(
        &self,
        id: &RawValue,
        params: Result<&Option<Params>, &Ambiguous>,
        caller: &Caller,
    ) -> Result<Opened, Bytes> {
        let params = match params {
            Ok(params) => params.as_ref().map_or("{}", Params::get),
            Err(ambiguous) => {
                let data = json!({ "reason": "invalid_arguments" });
                let text = format!("`params`: {ambiguous}");
                return Err(message::error(id.get(), code::INVALID_PARAMS, &text, &data));
            }
        };
        let Some(requested) =
            splice::get(params, "/protocolVersion").and_then(|v| serde_json::from_str::<String>(v).ok())
        else {
            let data = json!({ "reason": "invalid_arguments" });
            let text = "initialize needs `protocolVersion`, a string";
            return Err(message::error(id.get(), code::INVALID_PARAMS, text, &data));
        };
        let who = self.pipeline().identify(caller).map_err(|denial| self.not_let_in(id, denial))?;
        let version = negotiate(&requested);
        let object = |pointer: &str| splice::get(params, pointer).filter(|json| json.starts_with('{'));
        let capabilities = object("/capabilities").unwrap_or("{}");
        if let Some((what, most)) = client::too_long(Some(capabilities), object("/clientInfo"), None) {
            let data = json!({ "reason": "greeting_too_large" });
            let text = format!("`{what}` of initialize is longer than {most} bytes: say less of the client");
            return Err(message::error(id.get(), code::INVALID_PARAMS, &text, &data));
        }
        if self.client_info.load().is_some() {
            let data = json!({ "reason": "already_initialized" });
            let text = "the session is already initialised";
            return Err(message::error(id.get(), code::INVALID_REQUEST, text, &data));
        }
        let client_info = ClientInfo {
            version,
            capabilities: message::raw(capabilities.to_owned()),
            info: object("/clientInfo").map(|info| message::raw(info.to_owned())),
            log_level: None,
        };
        self.exclusive.store(client_info.answers_any(), Ordering::Relaxed);
        self.client_info.store(Some(Arc::new(client_info)));
        if self.endpoint.sole {
            self.pipeline().client_declares(capabilities);
        }
        Ok(Opened { version, who })
    }

    /// The answer to a client that is not let in, which goes on record.
    fn not_let_in(&self, id: &RawValue, denial: Denial) -> Bytes {
        tracing::error!("the client was not let in: {}", denial.message);
        // The refusal waits for nothing; the end of the conversation waits for its record.
        let (pipeline, door, denied) = (self.endpoint.pipeline.clone(), self.endpoint.door, denial.clone());
        drop(self.tasks().spawn(async move {
            let request = TurnedAway {
                door,
                who: None,
                address: "",
                source: door,
                asked: "initialize",
                rpc_id: "",
                since: Instant::now(),
            };
            pipeline.turned_away(request, &denied).await;
        }));
        let refused = respond::failed(id.get(), &Failure::Denied(denial), Era::Handshake);
        refused.unwrap_or_default()
    }

    /// The answer to `initialize`, if it can be given at once. Else it follows when the servers have introduced themselves:
    /// their instructions are in it, and no client asks for them a second time.
    pub(super) fn greet(self: &Arc<Self>, id: &RawValue, opened: Opened, out: &Out) -> Option<Outbound> {
        if self.pipeline().is_introduced() {
            return Some(Outbound::last(self.greeting(id, &opened)));
        }
        let (this, id, out) = (self.clone(), id.to_owned(), out.clone());
        self.tasks().spawn(async move {
            this.pipeline().introduced().await;
            say(&out, Outbound::last(this.greeting(&id, &opened))).await;
        });
        None
    }

    fn greeting(&self, id: &RawValue, Opened { version, who }: &Opened) -> Bytes {
        let version = *version;
        let mut result = json!({
            "protocolVersion": version,
            "capabilities": {
                "tools": { "listChanged": true },
                "resources": { "subscribe": true, "listChanged": true },
                "prompts": { "listChanged": true },
                "logging": {},
            },
            "serverInfo": { "name": "sentinel-gateway", "version": env!("CARGO_PKG_VERSION") },
        });
        if version != "2024-11-05" {
            result["capabilities"]["completions"] = json!({});
            result["serverInfo"]["title"] = json!("Sentinel Gateway");
        }
        if version == "2025-11-25" && self.pipeline().has_tasks() {
            result["capabilities"]["tasks"] =
                json!({ "cancel": {}, "requests": { "tools": { "call": {} } } });
            if self.pipeline().lists_tasks() {
                result["capabilities"]["tasks"]["list"] = json!({});
            }
        }
        if let Some(instructions) = self.pipeline().instructions(who, self.session.id(), self.endpoint.door) {
            result["instructions"] = instructions.into();
        }
        message::result(id.get(), &result.to_string())
    }
}
