//! Attacks that once worked, or nearly: each is tried on the real binary, with its siblings.

mod compiling;
mod files;
pub(crate) mod hostile_guests;
mod local;
mod names;
mod one_meaning;
mod one_way;
mod processes;
mod queues;
mod record;
mod schemas;
pub(crate) mod secrets;
mod shares;
