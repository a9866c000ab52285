//! The world as it is: what public reports of gateways, proxies, SDKs, servers and clients describe, tried on the real binary.
//! `tests/README.md` has the table: report, situation, result.

mod archive;
mod breaker;
mod broken;
mod browser;
mod changes;
mod first_minutes;
mod identity;
mod links;
mod lists;
mod record;
mod registering;
mod start;
mod to_clients;
mod to_servers;
pub(crate) mod web;
