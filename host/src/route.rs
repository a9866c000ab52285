//! The routes of the HTTP API: which one a request is for, what it says, and whether that fits.
//!
//! A path is matched as it was sent, after strict checks ([`path`]), so that no proxy in front and no server behind can take
//! it for another route's. What the request says besides ([`read`]) becomes one JSON object, `arguments`, which policies
//! see, which rewriters change and which goes on record, as for a tool of MCP.

mod asked;
mod farewell;
pub mod path;
pub mod problem;
pub mod read;
mod table;
mod value;

pub use asked::{Asked, From};
pub use read::{Misfit, Place, Read};
pub use table::{Entry, Found, Matched, Table};

/// A route for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn sample(method: &str, path: &str) -> crate::config::rest::Route {
    use crate::config::rest::{Deprecation, Idempotency, Route, RouteAuth, Target, Template};
    Route {
        id: format!("{method} {path}"),
        method: method.parse().unwrap(),
        path: Template::parse(path).unwrap(),
        summary: None,
        description: None,
        tags: Vec::new(),
        deprecated: false,
        deprecation: Deprecation::default(),
        legacy: Vec::new(),
        auth: RouteAuth::Jwt,
        scopes: Vec::new(),
        target: Target::Upstream { name: "up".to_owned(), path: None },
        parameters: Vec::new(),
        body: None,
        responses: Vec::new(),
        max_body: 1 << 20,
        timeout: std::time::Duration::from_secs(5),
        stream: false,
        idempotency: Idempotency::Off,
    }
}
