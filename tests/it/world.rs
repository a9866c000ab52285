//! What was reported of gateways, proxies, SDKs, servers and clients in the world, tried against this one. tests/README.md
//! has the table: report, situation, result.

mod changes;
mod links;
mod lists;
