//! From the words of a case to what the gateway would show a plugin.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::cases::{Asked, Door, End, Kind, Knock};
use crate::call::{About, Call, Credential, Outcome, Principal, Target, TargetKind};

/// The call of a case.
///
/// # Errors
/// It does not say what is called.
pub(super) fn call(asked: &Asked) -> anyhow::Result<Arc<Call>> {
    let name = asked.tool.as_ref().or(asked.name.as_ref()).context("needs `tool` in its `call`")?;
    let (method, place) = match asked.kind {
        Kind::Tool => ("tools/call", "name"),
        Kind::Prompt => ("prompts/get", "name"),
        Kind::Resource => ("resources/read", "uri"),
        Kind::Route | Kind::Command | Kind::Control | Kind::Other => (name.as_str(), "name"),
    };
    let upstream = asked.upstream.as_ref().unwrap_or(name);
    let params = asked.params.clone().unwrap_or_else(|| {
        let mut params = json!({ (place): name });
        if asked.kind == Kind::Tool || asked.arguments.is_some() {
            params["arguments"] = asked.arguments.clone().unwrap_or_else(|| json!({}));
        }
        params
    });
    let principal = Principal {
        subject: asked.subject.clone(),
        role: asked.role.clone(),
        issuer: None,
        audience: None,
        token_id: None,
        expires_at: None,
        claims: asked.claims.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    };
    Ok(Arc::new(Call {
        id: "case".to_owned(),
        method: asked.method.clone().unwrap_or_else(|| method.to_owned()),
        target: Target {
            kind: kind(asked.kind),
            name: name.as_str().into(),
            backend: asked.backend.as_str().into(),
            upstream: upstream.as_str().into(),
        },
        principal: Arc::new(principal),
        params: Value::to_string(&params).into(),
        session: asked.session.as_str().into(),
        door: door(asked.door),
        about: About::default(),
    }))
}

/// The credential of a case.
pub(super) fn credential(knock: &Knock) -> Credential {
    let headers =
        knock.headers.iter().map(|(name, value)| (format!("header.{}", name.to_ascii_lowercase()), value));
    let attrs = knock.attrs.iter().map(|(name, value)| (name.clone(), value));
    Credential {
        door: door(knock.door),
        bearer: knock.bearer.clone(),
        attrs: headers.chain(attrs).map(|(name, value)| (name.into(), value.clone())).collect(),
    }
}

fn door(door: Door) -> &'static str {
    match door {
        Door::Stdio => "stdio",
        Door::Http => "http",
    }
}

fn kind(kind: Kind) -> TargetKind {
    match kind {
        Kind::Tool => TargetKind::Tool,
        Kind::Resource => TargetKind::Resource,
        Kind::Prompt => TargetKind::Prompt,
        Kind::Route => TargetKind::Route,
        Kind::Command => TargetKind::Command,
        Kind::Control => TargetKind::Control,
        Kind::Other => TargetKind::Other,
    }
}

/// How the call of a case ended.
pub(super) fn outcome(end: End) -> Outcome {
    match end {
        End::Success => Outcome::Success,
        End::ToolError => Outcome::ToolError,
        End::InvalidRequest => Outcome::InvalidRequest,
        End::Throttled => Outcome::Throttled,
        End::ServerError => Outcome::ServerError,
        End::Timeout => Outcome::Timeout,
        End::Unreachable => Outcome::Unreachable,
        End::ProtocolError => Outcome::ProtocolError,
        End::Cancelled => Outcome::Cancelled,
    }
}
