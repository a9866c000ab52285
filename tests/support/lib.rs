//! The small language of the tests: a gateway of one's own, spoken to as its client would.
//!
//! Every test starts the real binary in a folder of its own. Every wait has a deadline and waits for a state.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, unused_imports, reason = "not every test binary uses every word")]

mod clock;
mod disk;
mod gateway;
mod http;
mod publisher;
mod server;
mod setup;

pub(crate) use clock::{PATIENCE, eventually, reached, within};
pub(crate) use disk::SmallDisk;
pub(crate) use gateway::Gateway;
pub(crate) use http::{Response, get};
pub(crate) use publisher::{Manner, Publisher};
pub(crate) use server::HttpServer;
pub(crate) use setup::{SECRET, Setup, fixture, mint, target};

/// Whether a process lives. One that is dead and waits to be reaped does not.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may hold anything, in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A pid that a fixture wrote, as soon as it has.
pub(crate) fn pid_in(path: &std::path::Path) -> i32 {
    eventually(&format!("a pid in {}", path.display()), || {
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

/// The code of an error response.
pub(crate) fn code(response: &serde_json::Value) -> i64 {
    response["error"]["code"].as_i64().unwrap_or_else(|| panic!("an error was expected, not {response}"))
}

/// The stable reason of an error response.
pub(crate) fn reason(response: &serde_json::Value) -> &str {
    response["error"]["data"]["reason"]
        .as_str()
        .unwrap_or_else(|| panic!("a reason was expected: {response}"))
}

/// The text of a tool's result.
pub(crate) fn said(response: &serde_json::Value) -> &str {
    response["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("a text was expected: {response}"))
}

/// An address of the loopback that nobody listens on.
pub(crate) fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
