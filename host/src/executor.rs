//! The executor: a process of its own that runs commands for the gateway, and nothing else.
//!
//! ```text
//! gateway ── unix socket, one question a connection ──▶ executor ── fork ──▶ worker ── fork, walls ──▶ the command
//!                                                          own config, public key, own record
//! ```
//!
//! It has no network and no secret. What may be run stands in its own file; the gateway names a command and what fills its
//! slots, and shows a capability token. The executor judges the slots itself, opens the program and every file itself, and
//! runs the command only if the digest of all that is the one in the token, and only once. Its record is its own: a chain of
//! lines, in which an intent stands before anything is run.
//!
//! It has one thread. A worker is forked for each connection, and what a command leaves behind becomes the worker's child and
//! is killed by it.

mod launchers;
mod listen;
mod nonces;
mod open;
mod privileges;
mod record;
mod resolve;
mod run;
mod service;
mod settings;
mod walls;
mod wire;
mod worker;

pub use listen::{Executor, ExecutorError};
pub use privileges::{Privileges, look};
pub use record::{Verdict, verify};
pub use settings::{Settings, SettingsError};

/// 64 hex digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into memory cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
