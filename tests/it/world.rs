//! The world as it is: what public reports of gateways, proxies, SDKs, servers and clients describe, tried on the real binary.
//! `tests/README.md` has the table: report, situation, result.

mod archive;
mod first_minutes;
mod record;
mod registering;
mod to_servers;
mod web;
