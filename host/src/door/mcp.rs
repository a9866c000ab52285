//! MCP, over stdin and stdout and over HTTP.
//!
//! `stdio` and `http` move messages, `conversation` (handshake era) and `stateless` (2026-07-28) say what each of them means,
//! and only [`respond`] knows how a failure looks to an MCP client.

pub mod conversation;
pub mod http;
pub mod line;
pub mod stdio;
pub mod subscribers;
pub mod suspend;

mod backlog;
mod batch;
mod given;
mod initialize;
mod lines;
mod listen;
mod pending;
mod pour;
pub(crate) mod respond;
mod seal;
mod stateless;
