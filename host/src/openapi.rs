//! OpenAPI documents, in both directions.
//!
//! Reading ([`read`], [`operations`]): a document of version 3.0, 3.1 or 3.2, in JSON or YAML, becomes a list of [`Operation`]s in one
//! shape. What differs between the versions ends there: every schema is JSON Schema 2020-12 and holds what it refers to as `$defs`,
//! so that a schema that refers to itself stays one.
//!
//! Writing ([`generate`]): routes become a document of version 3.1, with what the gateway itself answers.
//!
//! A document is foreign: it is bounded in bytes, depth, aliases and operations, and nothing in it makes the gateway fetch anything.

mod bundle;
mod dialect;
mod endless;
mod generate;
mod hoist;
mod merge;
mod naming;
mod notes;
mod operation;
mod operations;
mod parameters;
mod pick;
mod read;
mod reader;
mod refs;
mod routes;
mod schema;
mod size;
#[cfg(test)]
mod tests;
mod tool;
mod usable;

pub use bundle::bundle;
pub use generate::{Auth, Described, Info, generate};
pub use merge::{Access, Merged, merge};
pub use notes::Notes;
pub use operation::{Body, Media, Operation, Parameter, Place, Requirement, Response, Scheme};
pub use operations::{Imported, operations};
pub use pick::Pick;
pub use read::{Document, MAX_BYTES, ReadError, Version, read};
pub use routes::{Served, served};
pub use size::Sizes;
pub use tool::tool;
pub use usable::unusable;
