//! The world as it is: what public reports of gateways, proxies, SDKs, servers and clients describe, tried on the real binary.
//! `tests/README.md` has the table: report, situation, result.

mod archive;
mod breaker;
mod broken;
mod browser;
mod first_minutes;
mod identity;
mod record;
mod registering;
mod to_clients;
mod to_servers;
mod web;
