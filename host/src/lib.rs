//! The library behind the `sentinel-gateway` binary; tests and benches use it as the binary does.
#![doc = include_str!("../ARCHITECTURE.md")]

// 0: words
pub mod call;
pub mod capability;
pub mod command;
pub mod mcp;
pub mod redact;
pub mod text;

// 1: settings
pub mod config;
pub mod files;
pub mod openapi;
pub mod outbound;
pub mod telemetry;

// 2: organs
pub mod confined;
pub mod plugin;
pub mod queue;
pub mod route;
mod sandbox;
pub mod session;
pub mod state;

// 3: decisions
pub mod approval;
pub mod audit;
pub mod control;
pub mod policy;

// 4: deeds
pub mod backend;
pub mod rewrite;

// 5: the story
pub mod pipeline;

// 6: edges
pub mod door;

// 7: assembly
pub mod app;
pub mod executor;
