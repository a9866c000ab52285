//! One module for each kind of bytes.

pub(crate) mod audit;
pub(crate) mod border;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod http;
pub(crate) mod jwt;
pub(crate) mod schema;
pub(crate) mod splice;
