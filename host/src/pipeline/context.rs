//! One call on its way: what its record, its guards and its backend are told of it.

use std::sync::Arc;
use std::time::Instant;

use super::locate::{self, Destination};
use super::{CallRequest, Generation};
use crate::audit::{CallId, Entry};
use crate::backend::Request;
use crate::backend::exec::Resolved;
use crate::call::{About, Call, Json, Principal, Target, TargetKind};
use crate::mcp::client::Client;
use crate::mcp::{Params, splice};
use crate::rewrite::Prepared;

/// One call's way, with what its record needs.
pub(super) struct CallContext<'a> {
    pub(super) id: CallId,
    pub(super) generation: &'a Generation,
    pub(super) request: CallRequest<'a>,
    pub(super) since: Instant,
}

/// Longest name of an unknown target that goes on record.
const MAX_NAME: usize = 256;
/// The target that guards hear for all requests that were refused before they were asked: one name, so one counter.
const UNFOUND: &str = "unknown";

impl CallContext<'_> {
    pub(super) fn call(&self, principal: Arc<Principal>, destination: &Destination) -> Call {
        Call {
            id: self.id.to_string(),
            method: self.request.method.to_owned(),
            target: destination.target.clone(),
            principal,
            params: self.request.params.map_or_else(Json::empty, |params| params.json().clone()),
            session: self.request.session.clone(),
            door: self.request.door,
            about: About { definition: destination.definition(), ..self.about() },
        }
    }

    fn about(&self) -> About {
        self.request.locate.map_or_else(About::default, |locate| locate.about())
    }

    /// The call that guards are asked about when no target was found.
    pub(super) fn unfound(&self, principal: Arc<Principal>) -> Call {
        Call {
            id: self.id.to_string(),
            method: UNFOUND.to_owned(),
            target: Target {
                kind: TargetKind::Other,
                name: UNFOUND.into(),
                backend: "".into(),
                upstream: UNFOUND.into(),
            },
            principal,
            params: Json::empty(),
            session: self.request.session.clone(),
            door: self.request.door,
            about: self.about(),
        }
    }

    pub(super) fn entry<'b>(&'b self, principal: Option<&'b Principal>, call: Option<&'b Call>) -> Entry<'b> {
        let params = self.request.params.map_or("", Params::get);
        let rpc_id = self.request.rpc_id.unwrap_or("");
        let name = match call {
            Some(call) => &call.target.name,
            None => locate::asked(self.request.method, params),
        };
        Entry {
            rpc_id: rpc_id.get(..MAX_NAME).unwrap_or(rpc_id),
            method: self.request.method,
            subject: principal.map_or("", |principal| &principal.subject),
            role: principal.map_or("", |principal| &principal.role),
            kind: call.map_or("", |call| call.target.kind.as_str()),
            tool: name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end]),
            backend: call.map_or("", |call| &call.target.backend),
            session: self.request.session,
            arguments: own_arguments(self.request.params),
            sent: None,
            generation: self.generation.id(),
        }
    }

    /// Whether something else is wanted than the call itself.
    pub(super) fn wants_grant(&self) -> bool {
        self.request.locate.is_some_and(|locate| locate.grant().is_some())
    }

    /// What its backend gets; `sieved` is the way back through the rewriters, if there are any.
    pub(super) fn sending<'b>(
        &'b self,
        prepared: &'b mut Prepared,
        resolved: Option<&'b Resolved>,
        sieved: Option<&'b Arc<dyn Client>>,
    ) -> Request<'b> {
        Request {
            headers: std::mem::take(&mut prepared.headers),
            params: prepared.params.as_ref(),
            resolved,
            body: self.request.body,
            client: sieved.unwrap_or(self.request.client),
            answered: self.request.is_answered(),
        }
    }

    /// The arguments as the backend gets them, if a rewriter changed them.
    pub(super) fn sent<'b>(&self, prepared: &'b Prepared) -> Option<&'b str> {
        let sent = arguments(prepared.params.as_ref()?.get());
        (sent != own_arguments(self.request.params)).then_some(sent)
    }
}

/// The arguments as the client sent them; empty if there are none.
fn own_arguments(params: Option<&Params>) -> &str {
    params.and_then(Params::arguments).unwrap_or("")
}

/// The arguments in the params of a call; empty if there are none.
fn arguments(params: &str) -> &str {
    splice::get(params, "/arguments").unwrap_or("")
}
