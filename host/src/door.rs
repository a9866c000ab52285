//! The edges: where clients come in and where replies go out.
//!
//! A door reads messages, hands them to the [`crate::pipeline`] and writes what comes back. Each door words failures in one
//! place of its own. `server` and `guard` are for all doors that speak HTTP.

pub mod control;
pub mod guard;
pub mod health;
pub mod mcp;
pub mod rest;
pub mod server;
pub mod telegram;

mod cors;
mod log_limit;
pub(crate) mod strangers;
