//! The world as it is: what public bug reports of gateways, servers and clients describe, one test for each situation.
//! `tests/README.md` has the table.
#![allow(clippy::unwrap_used, reason = "tests")]

mod browser;
mod identity;
mod to_clients;
