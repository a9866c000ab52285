//! Calls for unit tests.

use std::sync::Arc;

use super::{About, Call, Json, Principal, Target, TargetKind};

/// A caller of whom nothing but name and role is known.
pub(crate) fn principal(subject: &str, role: &str) -> Principal {
    Principal {
        subject: subject.to_owned(),
        role: role.to_owned(),
        issuer: None,
        audience: None,
        token_id: None,
        expires_at: None,
        claims: Vec::new(),
    }
}

/// A tool that clients see under the name that its server gives it.
pub(crate) fn tool(name: &str, backend: &str) -> Target {
    Target { kind: TargetKind::Tool, name: name.into(), backend: backend.into(), upstream: name.into() }
}

/// A call without params, of a client on stdio.
pub(crate) fn call(principal: Principal, target: Target) -> Call {
    Call {
        id: "1".to_owned(),
        method: "tools/call".to_owned(),
        target,
        principal: Arc::new(principal),
        params: Json::empty(),
        session: "s".into(),
        door: "stdio",
        about: About::default(),
    }
}
