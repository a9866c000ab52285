//! Servers that speak HTTP as revision 2024-11-05 did: one event stream that names where to POST and brings every answer.
//! They are found as the specification says, when `initialize` is refused.
//!
//! Rule: MCP 2024-11-05, "Transports", HTTP with SSE; 2025-03-26, "Transports", backwards compatibility.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::sse::{Item, Parser};
use super::super::transport::{Incoming, Outgoing, TransportError};
use super::Link;
use super::body::{answered, answers, is_event_stream, read, refused};
use super::deliver::{deliver, deliver_answer, event_message};
use super::send::{Sending, Target, send};
use super::session::{self, Verdict};
use crate::backend::spool::TooLong;
use crate::mcp::payload::Payload;
use crate::outbound::explain;
use crate::queue;

/// How long the stream and its first event may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many bytes of the body are read when a server accepts a message.
const RECEIPT: usize = 64 << 10;

/// The same, where nothing has been refused yet.
const GLANCE: Duration = Duration::from_secs(3);

/// The way to a server that was found to be one of them.
#[derive(Debug)]
pub(super) struct Legacy {
    endpoint: RwLock<Url>,
    /// Another address where it may be instead.
    behind_prefix: Option<Url>,
    /// The tasks that wait for an answer, by request id; no more than requests under way.
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

/// Whether a refusal of `initialize` may come from such a server. One about credentials or load does not.
pub(super) fn is_likely(status: StatusCode) -> bool {
    status.is_client_error() && ![401, 402, 403, 407, 408, 413, 425, 429, 431, 451].contains(&status.as_u16())
}

/// Whether to find out, before the first message of a transport, if the server is one of them. Only if the url looks like
/// one: asking costs time with servers that never answer.
pub(super) fn is_to_be_looked_for(link: &Link) -> bool {
    link.target.as_ref().is_ok_and(Target::is_of_old_form) && !link.looked.swap(true, Ordering::Relaxed)
}

/// Looks for the event stream for a moment.
pub(super) async fn look(link: &Arc<Link>, incoming: &queue::Sender<Incoming>) {
    if let Err(why) = open(link, incoming, GLANCE).await {
        tracing::debug!(
            backend = link.name,
            "the server's url looks like one of revision 2024-11-05, but {why}"
        );
    }
}

/// Asks for the event stream, and says `initialize` there.
///
/// # Errors
/// There is no such stream, so `refused` is what counts; or what became of the message.
pub(super) async fn fall_back(
    link: &Arc<Link>,
    incoming: &queue::Sender<Incoming>,
    message: &Outgoing,
    refused: TransportError,
) -> Result<(), TransportError> {
    match open(link, incoming, PATIENCE).await {
        Ok(legacy) => legacy.post(link, incoming, message).await,
        Err(why) => Err(match refused {
            TransportError::Status { status, retry_after, said } => {
                let text = if said.is_empty() { why } else { format!("{said} ({why})") };
                TransportError::Status { status, retry_after, said: link.redaction.words(&text) }
            }
            other => other,
        }),
    }
}

async fn open<'a>(
    link: &'a Arc<Link>,
    incoming: &queue::Sender<Incoming>,
    patience: Duration,
) -> Result<&'a Legacy, String> {
    let none = |why: String| format!("nor is it a server of 2024-11-05: {why}");
    let deadline = Instant::now() + patience.min(link.times.timeout());
    let late = |_| none("its event stream did not begin in time".to_owned());
    let sent = timeout_at(deadline, send(link, &Sending::get(None))).await.map_err(late)?;
    let mut response = sent.map_err(|error| none(error.to_string()))?;
    let status = response.status();
    if status != StatusCode::OK || !is_event_stream(response.headers()) {
        return Err(none(format!("GET was answered with HTTP status {}", status.as_u16())));
    }
    let mut parser = Parser::new(link.max_body.get(), link.spool.clone());
    let (endpoint, rest) = loop {
        let chunk = timeout_at(deadline, response.chunk()).await.map_err(late)?;
        let chunk = chunk.map_err(|error| none(explain(error)))?;
        let chunk = chunk.ok_or_else(|| none("its event stream ended at once".to_owned()))?;
        let mut items = parser.push(&chunk).into_iter();
        parser.settle().await;
        let named = items.find_map(|item| match item {
            Item::Event { name, data } if name == "endpoint" => Some(data),
            Item::Event { .. } | Item::Long { .. } | Item::Oversized => None,
        });
        if let Some(named) = named {
            break (String::from_utf8_lossy(&named).trim().to_owned(), items.collect::<Vec<_>>());
        }
    };
    let base = response.url().clone();
    let endpoint = base
        .join(&endpoint)
        .map_err(|error| format!("its event stream names no place to post to: {error}"))?;
    if endpoint.origin() != base.origin() || !endpoint.username().is_empty() {
        // The query is the session's, and a secret.
        let mut place = endpoint;
        place.set_query(None);
        place.set_fragment(None);
        return Err(format!(
            "its event stream names {place} as the place to post to, which is not where `url` is; nothing is sent there"
        ));
    }
    tracing::debug!(backend = link.name, "the server speaks the HTTP+SSE of revision 2024-11-05");
    let behind_prefix = behind_prefix(&base, &endpoint);
    let (endpoint, waiting) = (RwLock::new(endpoint), Mutex::default());
    let legacy = link.legacy.get_or_init(|| Legacy { endpoint, behind_prefix, waiting });
    tokio::spawn(listen(Arc::clone(link), incoming.clone(), response, parser, rest));
    Ok(legacy)
}

/// A server behind something that puts a prefix before its paths does not know of the prefix: with its stream at
/// `/prefix/sse`, its `/messages` is at `/prefix/messages`.
fn behind_prefix(stream: &Url, endpoint: &Url) -> Option<Url> {
    let (prefix, _) = stream.path().trim_end_matches('/').rsplit_once('/')?;
    if prefix.is_empty() || endpoint.path().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')) {
        return None;
    }
    let mut other = endpoint.clone();
    other.set_path(&format!("{prefix}{}", endpoint.path()));
    Some(other)
}

/// Reads the stream until it ends, and the transport with it.
async fn listen(
    link: Arc<Link>,
    incoming: queue::Sender<Incoming>,
    mut response: Response,
    mut parser: Parser,
    mut items: Vec<Item>,
) {
    let Some(legacy) = link.legacy.get() else { return };
    let read = async {
        loop {
            for item in items.drain(..) {
                match event_message(item, link.max_body.get()).await {
                    // `endpoint` once more, or events that MCP does not define.
                    None => {}
                    Some(Ok(data)) => legacy.hand_over(&link, &incoming, data).await,
                    Some(Err(TooLong { limit })) => {
                        deliver(&incoming, Incoming::Oversized { limit, answers: None }).await;
                    }
                }
            }
            // Its silence is no failure; TCP keep-alive notices a server that has vanished.
            match response.chunk().await {
                Ok(Some(chunk)) => items = parser.push(&chunk),
                Ok(None) => return "the server closed its event stream".to_owned(),
                Err(error) => return format!("the event stream of the server broke off: {}", explain(error)),
            }
            parser.settle().await;
        }
    };
    tokio::select! {
        () = link.closed.cancelled() => {}
        why = read => link.close(&why),
    }
}

impl Legacy {
    /// Delivers what the stream brought, in its order; the task that waits for an answer only hears that it is there.
    async fn hand_over(&self, link: &Link, incoming: &queue::Sender<Incoming>, data: Payload) {
        let awaited = answered(data.text()).and_then(|id| Some((id, self.waiting.lock().remove(&id)?)));
        match awaited {
            Some((id, waiting)) => {
                deliver_answer(link, incoming, id, data).await;
                // The waiting task may have given up in this moment.
                let _ = waiting.send(());
            }
            None => deliver(incoming, Incoming::Message(data)).await,
        }
    }

    /// Sends one message, and waits for its answer on the stream.
    pub(super) async fn post(
        &self,
        link: &Link,
        incoming: &queue::Sender<Incoming>,
        message: &Outgoing,
    ) -> Result<(), TransportError> {
        let Some(id) = message.id else { return self.send(link, message).await.map(drop) };
        if message.method == "server/discover" {
            // Such a server cannot know the method, and some end at an unknown method before the handshake.
            return Err(TransportError::Protocol("it speaks HTTP as 2024-11-05 did".to_owned()));
        }
        let (waiting, answer) = oneshot::channel();
        self.waiting.lock().insert(id, waiting);
        // However this ends, the entry of the waiting request is removed.
        let _end = Waiting { legacy: self, id };
        tokio::pin!(answer);
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            sent = self.send(link, message) => match sent? {
                Some(body) => return { deliver_answer(link, incoming, id, body).await; Ok(()) },
                // The stream's end ends the transport; until then the caller's own patience counts.
                None => answer.await,
            },
        };
        answered.map_err(|_| TransportError::Closed(link.end.reason()))
    }

    /// Sends one message; some servers answer in the same exchange.
    async fn send(&self, link: &Link, message: &Outgoing) -> Result<Option<Payload>, TransportError> {
        let endpoint = self.endpoint.read().clone();
        let post = async |to: &Url| {
            let request = Sending::post(message.body.clone(), &message.headers).to(to);
            timeout(link.times.timeout(), send(link, &request)).await.map_err(|_| link.silent())?
        };
        let mut response = post(&endpoint).await?;
        let nobody = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&response.status());
        if let Some(other) = self.behind_prefix.as_ref().filter(|_| nobody && message.method == "initialize")
        {
            let second = post(other).await?;
            if second.status().is_success() {
                *self.endpoint.write() = other.clone();
                response = second;
            }
        }
        let status = response.status();
        let answer = |body: &[u8]| message.id.is_some_and(|id| answers(body, id));
        if status.is_success() {
            // A body that cannot be read is no answer; the answer comes on the stream.
            let body = read(response, RECEIPT, link.times.timeout()).await.unwrap_or_default();
            return Ok(answer(&body).then(|| body.into()));
        }
        let (error, body) = refused(link, response).await;
        let answers = answer(&body);
        match session::judge(status, &body, answers) {
            _ if message.method == "initialize" && !answers => Err(error),
            Verdict::Over => Err(TransportError::SessionLost),
            Verdict::Doubtful | Verdict::Alive if answers => Ok(Some(body.into())),
            Verdict::Doubtful | Verdict::Alive => Err(error),
        }
    }
}

/// A task that waits for an answer.
struct Waiting<'a> {
    legacy: &'a Legacy,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.legacy.waiting.lock().remove(&self.id);
    }
}
