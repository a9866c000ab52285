//! Entry points for `tests/fuzz`: bytes are read as if a server had sent them, and what must hold for all bytes is
//! asserted.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::errand::{Errand, Own};
use super::forward::pass_on;
use super::peer::{Peer, Request};
use super::sse::{Item, Parser};
use super::transport::{self, End, Sender};
use crate::mcp::Era;
use crate::mcp::client::{Affinity, Client, ClientInfo, ServerRequest};
use crate::mcp::envelope;
use crate::mcp::payload::Payload;
use crate::text;

/// A limit that inputs can pass.
const LIMIT: usize = 4096;

/// An event stream means the same wherever its chunks are cut.
///
/// # Panics
/// It does not.
pub fn event_stream(data: &[u8]) {
    // The first byte says where it is cut.
    let Some((&step, text)) = data.split_first() else { return };
    let read = |step: usize| {
        let mut parser = Parser::new(LIMIT, None);
        let mut items = Vec::new();
        for chunk in text.chunks(step.max(1)) {
            for item in parser.push(chunk) {
                items.push(match item {
                    Item::Event { name, data } => {
                        assert!(data.len() <= LIMIT, "an event over the limit");
                        Some((name, data))
                    }
                    // Without a spool nothing is long.
                    Item::Long { .. } | Item::Oversized => None,
                });
            }
        }
        (items, parser.last_id().map(str::to_owned), parser.retry())
    };
    assert_eq!(read(text.len()), read(usize::from(step)), "cut every {step} bytes");
}

/// A line of a server changes nothing but the request that it answers, whatever it contains.
///
/// # Panics
/// An answer was given to a request that it does not name, or a word for a log has a control character.
pub fn server_line(data: &[u8]) {
    static RUNTIME: OnceLock<Option<tokio::runtime::Runtime>> = OnceLock::new();
    // Only for its clock; nothing here is waited for.
    let runtime =
        RUNTIME.get_or_init(|| tokio::runtime::Builder::new_current_thread().enable_time().build().ok());
    let Some(runtime) = runtime else { return };
    let _entered = runtime.enter();
    let (queue, mut sent) = transport::outgoing();
    let peer = Arc::new(Peer::new("fuzz".into(), Sender::new(queue, Arc::new(End::default()), None)));
    peer.speaks(Era::Handshake);
    let client: Arc<dyn Client> = Arc::new(Ears(client_info()));
    let mut request = Box::pin(peer.request(Request {
        errand: Errand::Own(Own::Ping),
        params: Some(r#"{"name":"x","_meta":{"progressToken":"p"}}"#),
        headers: Vec::new(),
        client: client.clone(),
        patience: Duration::from_secs(3600),
        longest: Duration::from_secs(3600),
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(request.as_mut().poll(&mut context).is_pending(), "nobody has answered yet");
    let name: Arc<str> = "fuzz".into();
    for line in data.split(|byte| *byte == b'\n') {
        let payload = Payload::from(Bytes::copy_from_slice(line));
        peer.receive(&payload, None, |spontaneous, about| {
            pass_on(&name, &peer, about.or(Some(client.clone())), spontaneous);
        });
        while sent.try_recv().is_ok() {}
        let shown = text::excerpt(line, 200);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        if let Poll::Ready(answer) = request.as_mut().poll(&mut context) {
            // Its id is the first that the gateway gives. What serde_json cannot hold (half a surrogate pair) passes.
            let named = serde_json::from_slice::<serde_json::Value>(line);
            // So does what is mended: a batch, an id that is spelled as a text.
            // And where one request is under way alone, an answer to number 0 is for it, and a result without a number.
            let is_first = |line: serde_json::Value| match envelope::number(&line["id"].to_string()) {
                None => line.is_array() || line.get("error").is_none(),
                Some(id) => id <= 1 || line.is_array(),
            };
            let right = named.is_err() || named.is_ok_and(is_first);
            assert!(answer.is_err() || right, "answered by {shown}");
            return;
        }
    }
}

fn client_info() -> ClientInfo {
    ClientInfo {
        version: crate::mcp::REVISIONS[0],
        capabilities: crate::mcp::message::raw(r#"{"sampling":{},"roots":{}}"#.to_owned()),
        info: None,
        log_level: None,
    }
}

/// A client that listens and answers nothing.
#[derive(Debug)]
struct Ears(ClientInfo);

impl Client for Ears {
    fn client_info(&self) -> &ClientInfo {
        &self.0
    }
    fn affinity(&self) -> Affinity {
        Affinity::Shared
    }
    fn notify(&self, message: Bytes) {
        assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&message).is_ok(), "told no JSON");
    }
    fn ask(&self, _: Arc<ServerRequest>) {}
    fn withdraw(&self, _: &str, _: Option<&str>) {}
}
