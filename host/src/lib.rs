//! Sentinel Gateway (see ARCHITECTURE.md)

pub mod call;
pub mod mcp;

pub mod config;

pub mod plugin;
pub mod state;

pub mod policy;

pub mod backend;
pub mod rewrite;
