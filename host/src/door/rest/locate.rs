//! Where a request goes: its route in the generation that the call belongs to, and the target that this names.

use std::sync::Arc;

use crate::call::{About, Denial, DenialKind, Target, TargetKind};
use crate::pipeline::{Backend, Destination, Failure, Generation, Locate};
use crate::route::{Asked, Found};

/// A request for a route.
#[derive(Debug)]
pub(super) struct Route {
    asked: Arc<Asked>,
    path: String,
    about: About,
}

impl Route {
    pub(super) fn new(asked: Arc<Asked>, path: &str, about: About) -> Self {
        Self { asked, path: path.to_owned(), about }
    }
}

impl Locate for Route {
    fn locate(&self, generation: &Generation) -> Result<Destination, Failure> {
        let entry = &self.asked.entry;
        let unknown = || Failure::Unknown { kind: TargetKind::Route, name: entry.route.id.clone() };
        let found = match generation.routes().find(&entry.route.method, &self.path) {
            Found::Route(matched) => matched.entry,
            Found::Method(_) | Found::Nothing | Found::Ambiguous => return Err(unknown()),
        };
        // The configuration may have changed since the head of the request was judged.
        if !Arc::ptr_eq(found, entry) && found.route != entry.route {
            let text = "the configuration has changed while the request came in: send it once more";
            return Err(Failure::Denied(Denial::new(DenialKind::Unavailable, "route_changed", text)));
        }
        let backend = match generation.find(&entry.backend).ok_or_else(unknown)? {
            Backend::Http(upstream) => Backend::Http(upstream.asked(self.asked.clone())),
            Backend::Engine(engine) => Backend::Engine(engine.asked(self.asked.clone())),
            Backend::Mcp(_) | Backend::Exec(_) => return Err(unknown()),
        };
        let target = Target {
            kind: TargetKind::Route,
            name: entry.id.clone(),
            backend: entry.backend.clone(),
            upstream: entry.id.clone(),
        };
        Ok(Destination::new(target, backend, entry.schema.clone()))
    }

    fn about(&self) -> About {
        self.about.clone()
    }
}

/// A request that goes nowhere, because of what it is.
#[derive(Debug)]
pub(super) struct Refused<'a>(pub(super) &'a str, pub(super) About);

impl Locate for Refused<'_> {
    fn locate(&self, _: &Generation) -> Result<Destination, Failure> {
        Err(Failure::Params(self.0.to_owned()))
    }

    fn about(&self) -> About {
        self.1.clone()
    }
}
