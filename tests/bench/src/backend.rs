//! The server behind everything that is measured: it echoes, as fast as it can be done, and knows no more of MCP
//! than that takes. Handshake era, JSON answers.
//!
//! `tests/fixtures/backend` is the server of the tests: it can misbehave in thirty ways, and costs five times as
//! much for a call. What is measured here is what stands in front of the server, so the server must cost little.

mod http;
mod stdio;

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Tools on one page of the list.
const PAGE: usize = 1_000;

/// How it is reached.
#[derive(Debug, Subcommand)]
pub(crate) enum Way {
    Stdio(Options),
    /// Writes `listening ADDRESS` as its first line
    Http {
        #[command(flatten)]
        options: Options,
        /// The port on the loopback; 0 for any
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// What a GET is answered with: the keys that a peer fetches
        #[arg(long)]
        serve: Option<std::path::PathBuf>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// How many tools it lists; the first is the one that echoes
    #[arg(long, default_value_t = 1)]
    tools: usize,
    /// How long it takes for each call
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Stands before the name of every tool
    #[arg(long, default_value = "")]
    prefix: String,
}

impl Options {
    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }
}

/// Serves until its input ends (stdio) or it is killed (HTTP).
///
/// # Errors
/// If it cannot listen, read or write.
pub(crate) fn serve(way: Way) -> anyhow::Result<()> {
    match way {
        Way::Stdio(options) => stdio::serve(&options),
        Way::Http { options, port, serve } => http::serve(options, port, serve.as_deref()),
    }
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params<'a> {
    #[serde(borrow)]
    protocol_version: Option<&'a RawValue>,
    #[serde(borrow)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
}

#[derive(Debug, Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    None,
    AtOnce,
    /// A call, which takes as long as the options say.
    Delayed,
}

/// Appends the answer to a message, if it has one.
fn answer(options: &Options, message: &[u8], out: &mut Vec<u8>) -> Reply {
    let Ok(Message { id: Some(id), method: Some(method), params }) = serde_json::from_slice(message) else {
        return Reply::None;
    };
    let (id, params) = (id.get(), params.as_ref());
    // Writing to a vector does not fail.
    match method.get() {
        r#""tools/call""# => {
            let arguments = params.and_then(|params| params.arguments.as_ref());
            let text = arguments.and_then(|arguments| arguments.text).map_or("\"\"", RawValue::get);
            out.reserve(text.len() + 128);
            out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(br#","result":{"content":[{"type":"text","text":"#);
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(br#"}],"isError":false}}"#);
            return Reply::Delayed;
        }
        r#""initialize""# => {
            let version =
                params.and_then(|params| params.protocol_version).map_or("\"2025-11-25\"", RawValue::get);
            let _ = write!(
                out,
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":{version},"capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"bench","version":"1"}}}}}}"#
            );
        }
        r#""tools/list""# => list(options, id, params.and_then(|params| params.cursor), out),
        r#""ping""# => {
            let _ = write!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        }
        _ => {
            let _ = write!(
                out,
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"only tools"}}}}"#
            );
        }
    }
    Reply::AtOnce
}

/// A page of the list; a cursor is the number of the page.
fn list(options: &Options, id: &str, cursor: Option<&RawValue>, out: &mut Vec<u8>) {
    let page: usize = cursor.and_then(|cursor| cursor.get().trim_matches('"').parse().ok()).unwrap_or(0);
    let prefix = &options.prefix;
    let _ = write!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":["#);
    let end = options.tools.min((page + 1) * PAGE);
    for index in page * PAGE..end {
        let comma = if index == page * PAGE { "" } else { "," };
        let name = if index == 0 { "echo".to_owned() } else { format!("tool_{index:05}") };
        let _ = write!(
            out,
            r#"{comma}{{"name":"{prefix}{name}","description":"Answers with the text it was given.","inputSchema":{{"type":"object","properties":{{"text":{{"type":"string"}}}},"required":["text"]}}}}"#
        );
    }
    let _ = write!(out, "]");
    if end < options.tools {
        let _ = write!(out, r#","nextCursor":"{}""#, page + 1);
    }
    let _ = write!(out, "}}}}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::call::{Calls, Verdict};

    fn options(tools: usize) -> Options {
        Options { tools, delay_ms: 0, prefix: String::new() }
    }

    #[test]
    fn a_call_comes_back_as_its_caller_wants_it() {
        let calls = Calls::new("echo", 100);
        let (mut request, mut out) = (Vec::new(), Vec::new());
        calls.request(42, &mut request);
        assert_eq!(answer(&options(1), &request, &mut out), Reply::Delayed);
        assert_eq!(calls.judge(&out), Verdict::Good(42));
    }

    #[test]
    fn the_list_comes_in_pages_and_is_whole() {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let params =
                cursor.as_ref().map_or("{}".to_owned(), |cursor| format!(r#"{{"cursor":{cursor}}}"#));
            let request = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{params}}}"#);
            let mut out = Vec::new();
            assert_eq!(answer(&options(2_500), request.as_bytes(), &mut out), Reply::AtOnce);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let tools = value["result"]["tools"].as_array().unwrap();
            names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            match value["result"].get("nextCursor") {
                Some(next) => cursor = Some(next.clone()),
                None => break,
            }
        }
        names.dedup();
        assert_eq!((names.len(), names[0].as_str()), (2_500, "echo"));
    }

    #[test]
    fn a_notification_has_no_answer() {
        let mut out = Vec::new();
        let message = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(answer(&options(1), message, &mut out), Reply::None);
        assert!(out.is_empty());
    }
}
