//! The edges: where clients come in and where replies go out.
//!
//! A door reads messages, hands them to the [`crate::pipeline`] and writes what comes back. Only
//! [`respond`] knows how a failure looks on the wire.

pub mod control;
pub mod conversation;
mod given;
mod greeting;
pub mod guard;
pub mod health;
pub mod http;
pub mod line;
pub mod server;
pub mod stdio;
pub mod subscribers;
pub mod suspend;

mod backlog;
mod batch;
mod lines;
mod listen;
mod log_limit;
mod pending;
mod pour;
pub(crate) mod respond;
mod seal;
mod stateless;
