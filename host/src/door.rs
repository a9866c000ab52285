//! The edges: where clients come in and where replies go out.
//!
//! A door reads messages, hands them to the [`crate::pipeline`] and writes what comes back. Only
//! [`respond`] knows how a failure looks on the wire.

pub mod conversation;
pub mod health;
pub mod stdio;

mod lines;
mod respond;
