//! Drives the real binary as its client would: one module for each promise.
#![allow(clippy::unwrap_used, reason = "tests")]

/// A gateway within this process starts servers, too, and each of them has a keeper: the program that started it, asked by a hidden
/// command. What comes before the `main` of the harness, which is not ours, looks whether it was asked.
mod keeper {
    #[allow(clippy::exit, reason = "there is no main to return from")]
    extern "C" fn keep() {
        if let Some(code) = sentinel_gateway::backend::serve_as_keeper_if_asked() {
            std::process::exit(i32::from(code));
        }
    }

    #[used]
    #[expect(unsafe_code, reason = "the only place that comes before a main that is not ours")]
    // SAFETY: the section holds pointers to functions that take no argument they need and return nothing, as this one is.
    #[unsafe(link_section = ".init_array")]
    static KEEP: extern "C" fn() = keep;
}

#[path = "../support/lib.rs"]
mod support;

mod allocations;
mod approvals;
mod attacks;
mod authoring;
mod bad_input;
mod calls;
mod config_mistakes;
mod crash;
mod defects;
mod exec;
mod fidelity;
mod guests;
mod house;
mod http_door;
mod large;
mod lifecycle;
mod platform;
mod policy;
mod postgres;
mod real_clients;
mod real_servers;
mod record;
mod rest;
mod world;
