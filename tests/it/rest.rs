//! The HTTP API beside MCP.

mod openapi;
mod openapi_engine;
mod tiers;
