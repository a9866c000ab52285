//! A client that starts a gateway which serves HTTP would wait on a pipe for an answer that never comes, and the gateway
//! would outlive it and keep the port. So a client that speaks MCP on stdin is told the URL, and when it hangs up the
//! gateway ends.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::AsFd as _;

use rustix::fs::FileType;
use tokio_util::sync::CancellationToken;

use crate::mcp::splice;

/// How much of what comes is looked at; a first message of a client is shorter.
const FIRST: u64 = 64 << 10;

/// If standard input is a pipe or a socket, as clients use, a client may be there. It is listened to on a thread that
/// nothing waits for, because a read of a pipe cannot be ended, and must not keep the gateway from ending.
pub(super) fn listen(url: String, stop: CancellationToken) {
    let kind = rustix::fs::fstat(std::io::stdin().as_fd()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
        return;
    }
    tracing::warn!(
        "standard input is a pipe, and nobody is served there: this gateway serves {url} ([http]). If a client started it, \
         give the client this address instead (`sentinel-gateway client config` prints what to write), or remove [http]"
    );
    let thread = std::thread::Builder::new().name("stray".to_owned());
    if let Err(error) = thread.spawn(move || answer(&url, &stop)) {
        tracing::warn!("a client that speaks on standard input will get no answer: {error}");
    }
}

/// Answers the first request, and ends the gateway when its sender hangs up. The end of an input that held no message of
/// MCP ends nothing.
fn answer(url: &str, stop: &CancellationToken) {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    let read = (&mut input).take(FIRST).read_until(b'\n', &mut line);
    let Some(reply) = read.ok().and_then(|_| refusal(&String::from_utf8_lossy(&line), url)) else { return };
    tracing::error!("a client speaks MCP on standard input, and was told to go to {url}");
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(reply.as_bytes()).and_then(|()| output.flush());
    let mut rest = [0; 4096];
    while input.read(&mut rest).is_ok_and(|read| read > 0) {}
    tracing::info!("the client on standard input has gone: shutting down");
    stop.cancel();
}

/// The answer to a request; `None` if the line is none.
fn refusal(line: &str, url: &str) -> Option<String> {
    let line = line.trim();
    let id = splice::get(line, "/id")?;
    splice::get(line, "/method")?;
    let message = format!(
        "this gateway serves HTTP at {url} and nobody on standard input: give the client that address instead of a command"
    );
    let reply = serde_json::json!({
        "jsonrpc": "2.0",
        "id": serde_json::from_str::<serde_json::Value>(id).ok()?,
        "error": { "code": -32600, "message": message, "data": { "reason": "served_over_http", "url": url } },
    });
    Some(format!("{reply}\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_is_answered() {
        let reply =
            refusal(r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}"#, "http://x/mcp").unwrap();
        assert!(
            reply.contains("\"id\":7") && reply.contains("http://x/mcp") && reply.ends_with('\n'),
            "{reply}"
        );
        for other in
            ["", "y", "{}", r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, r#"{"id":1,"result":{}}"#]
        {
            assert_eq!(refusal(other, "u"), None, "{other}");
        }
    }
}
