//! Where a request goes: its route in the generation that the call belongs to, and the target that this names.

use std::sync::Arc;

use crate::backend::Backend;
use crate::call::{Denial, DenialKind, Target, TargetKind};
use crate::config::rest::RouteAuth;
use crate::pipeline::{Destination, Failure, Generation, Locate};
use crate::route::{Asked, Found};

/// A request for a route.
#[derive(Debug)]
pub(super) struct Route {
    asked: Arc<Asked>,
    path: String,
}

impl Route {
    pub(super) fn new(asked: Arc<Asked>, path: &str) -> Self {
        Self { asked, path: path.to_owned() }
    }
}

impl Locate for Route {
    fn locate(&self, generation: &Generation) -> Result<Destination, Failure> {
        let entry = &self.asked.entry;
        let (method, head) = (&entry.route.method, self.asked.head);
        let found = match generation.routes().find(method, &self.path) {
            Found::Route(matched) => matched.entry,
            Found::Method(_) | Found::Nothing | Found::Ambiguous => {
                return Err(Failure::Unknown { kind: TargetKind::Route, name: entry.route.id.clone() });
            }
        };
        // The configuration may have changed since the head of the request was judged.
        if found.route != entry.route {
            let text = "the configuration has changed while the request came in: send it once more";
            return Err(Failure::Denied(Denial::new(DenialKind::Unavailable, "route_changed", text)));
        }
        let Some(backend) = generation.find(&entry.backend) else {
            return Err(Failure::Unknown { kind: TargetKind::Route, name: entry.route.id.clone() });
        };
        let backend = match backend {
            Backend::Http(handle) => Backend::Http(handle.asked(self.asked.clone())),
            Backend::Engine(handle) => Backend::Engine(handle.asked(self.asked.clone())),
            other @ Backend::Mcp(_) => other,
        };
        let _ = head;
        let target = Target {
            kind: TargetKind::Route,
            name: entry.id.clone(),
            backend: entry.backend.clone(),
            upstream: entry.id.clone(),
        };
        Ok(Destination::new(target, backend, entry.schema.clone()))
    }
}

/// A request that goes nowhere.
#[derive(Debug)]
pub(super) struct Refused(pub(super) String);

impl Locate for Refused {
    fn locate(&self, _: &Generation) -> Result<Destination, Failure> {
        Err(Failure::Params(self.0.clone()))
    }
}

/// Whether everybody may ask for a route.
pub(super) fn is_open(auth: RouteAuth) -> bool {
    auth == RouteAuth::None
}
