//! The HTTP door, spoken to over real sockets: who is let in, whose session it is, what a stateless request must say,
//! whose answer is whose, and what abuse costs the others.

mod abuse;
mod auth;
pub(crate) mod client;
mod framing;
mod jwks;
mod owners;
mod parked;
pub(crate) mod raw;
mod scopes;
mod sessions;
mod standing;
mod stateless;
mod tasks;
