//! Drives the real binary as its client would: one module for each promise.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/lib.rs"]
mod support;

mod allocations;
mod attacks;
mod authoring;
mod bad_input;
mod calls;
mod config_mistakes;
mod crash;
mod defects;
mod fidelity;
mod guests;
mod http_door;
mod large;
mod lifecycle;
mod policy;
mod postgres;
mod real_clients;
mod real_servers;
mod record;
