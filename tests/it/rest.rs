//! The HTTP API: routes under the same policies as MCP, on the same record, before servers and programs that behave and that
//! do not.

mod engine;
mod once;
mod paths;
mod refusals;
mod routes;
pub(crate) mod stage;
mod tls;
