//! Everything that reads the bytes of strangers, as functions of bytes. Each asserts what must hold of any input, so that
//! a fuzzer finds more than panics.
//!
//! `cargo xtask fuzz --minutes N` lets coverage guide it (libFuzzer); a test tries the corpus and mutants of it for some
//! seconds a target, without that.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is what a fuzzer looks for")]

pub mod mutants;
mod targets;

/// A name and what is done with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; the folder `corpus/NAME` has inputs that reach far.
pub const TARGETS: &[Target] = &[
    ("client_line", targets::client::line),
    ("server_line", sentinel_gateway::backend::fuzz::server_line),
    ("http", targets::http::connection),
    ("jwt", targets::jwt::token),
    ("config", targets::config::file),
    ("schema", targets::schema::judge),
    ("splice", targets::splice::edit),
    ("event_stream", sentinel_gateway::backend::fuzz::event_stream),
    ("audit_recovery", targets::audit::recovery),
    ("plugin_border", targets::border::crossing),
    ("state_recovery", sentinel_gateway::state::fuzz::recovery),
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
