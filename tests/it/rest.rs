//! The HTTP API: routes under the same policies as MCP, on the same record, before servers and programs that behave and that
//! do not.

mod engine;
mod imported;
mod once;
mod openapi;
mod openapi_engine;
mod paths;
mod profit;
mod refusals;
mod routes;
pub(crate) mod stage;
mod tiers;
mod tls;
