//! The body of an answer, read within the limits, and a first look at what it holds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::super::sse::{Item, Parser};
use super::super::transport::TransportError;
use super::{Link, headers, silent_for};
use crate::backend::spool::{Gather, TooLong};
use crate::mcp::payload::Payload;
use crate::mcp::{envelope, mend, message, said};
use crate::outbound::explain;

/// A body that says it is no longer than this is read in one piece, in bytes.
const LITTLE: u64 = 64 << 10;

/// A content encoding that was not decoded. Other values that some servers write into this header are harmless.
pub(super) fn unknown_coding(headers: &HeaderMap) -> Option<String> {
    let coding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.to_ascii_lowercase();
    ["gzip", "zstd", "deflate", "br", "compress"].iter().any(|known| coding.contains(known)).then_some(coding)
}

/// The failure that a status means, and the body; of an event stream its first message.
pub(super) async fn refused(link: &Link, response: Response) -> (TransportError, Bytes) {
    let status = response.status().as_u16();
    let retry_after = headers::retry_after(response.headers(), Timestamp::now());
    let challenge = headers::challenge(response.headers());
    let streams = is_event_stream(response.headers());
    // A body that breaks off or is too large does not hide the status.
    let mut body = read(response, link.max_body.get(), link.times.timeout()).await.unwrap_or_default();
    if streams {
        let first = Parser::new(link.max_body.get(), None).push(&body).into_iter().next();
        if let Some(Item::Event { data, .. }) = first {
            body = data;
        }
    }
    let said = Some(said::in_body(&body)).filter(|said| !said.is_empty()).or(challenge).unwrap_or_default();
    (TransportError::Status { status, retry_after, said: link.redaction.words(&said) }, body)
}

/// An answer of any length.
pub(super) async fn gather(link: &Link, mut response: Response) -> Result<Payload, TransportError> {
    let short = response.content_length().is_some_and(|length| length <= LITTLE);
    if short || link.spool.is_none() {
        return Ok(read(response, link.max_body.get(), link.times.longest()).await?.into());
    }
    let mut body = Gather::new(link.spool.clone(), link.max_body.get());
    while let Some(chunk) = timeout(link.times.longest(), response.chunk())
        .await
        .map_err(|_| silent_for(link.times.longest()))?
        .map_err(transport)?
    {
        body.push(&chunk);
        body.settle().await;
        if body.has_failed() {
            break;
        }
    }
    body.finish().await.map_err(|TooLong { limit }| TransportError::TooLarge { limit })
}

/// A body of at most so many bytes, from a server that is silent for at most so long.
pub(super) async fn read(
    mut response: Response,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, TransportError> {
    let too_large = TransportError::TooLarge { limit };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let chunk = timeout(patience, response.chunk())
            .await
            .map_err(|_| silent_for(patience))?
            .map_err(transport)?;
        let Some(chunk) = chunk else { break };
        if first.len() + all.len() + chunk.len() > limit {
            return Err(too_large);
        }
        if first.is_empty() && all.is_empty() {
            // Most bodies come in one piece, which is not copied.
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The members of a message that say which request it answers; all others are skipped.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<IgnoredAny>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Head<'_> {
    fn answered(&self) -> Option<u64> {
        let id = self.id.filter(|_| self.method.is_none())?;
        envelope::number(id.get())
    }
}

/// True if the JSON is a response to this id, or a batch with one.
pub(super) fn answers(body: &[u8], id: u64) -> bool {
    if body.trim_ascii_start().first() == Some(&b'[') {
        serde_json::from_slice::<Vec<Head<'_>>>(body)
            .is_ok_and(|batch| batch.iter().any(|head| head.answered() == Some(id)))
    } else {
        serde_json::from_slice::<Head<'_>>(body).is_ok_and(|head| head.answered() == Some(id))
    }
}

/// The same for what a server sent with success, where more is certain: an error that names no request is about the one it
/// came with, and gets its id; and what is not quite JSON may be read all the same.
pub(super) fn is_answer(body: &mut Payload, id: u64) -> bool {
    let text = body.text().clone();
    if let Ok(head) = serde_json::from_slice::<Head<'_>>(&text) {
        let nameless = head.method.is_none() && head.id.is_none();
        let Some(error) = head.error.filter(|_| nameless) else { return head.answered() == Some(id) };
        *body = body.reworded(message::error_object(&id.to_string(), error.get()));
        return true;
    }
    // The reader of the message says what is wrong with it.
    answers(&text, id)
        || mend::mend(&text).is_some_and(|mended| mended.texts.iter().any(|text| answers(text, id)))
}

/// The request that a message answers, if it is an answer; also of what is not quite JSON, as it will be read.
pub(super) fn answered(body: &Bytes) -> Option<u64> {
    if let Ok(head) = serde_json::from_slice::<Head<'_>>(body) {
        return head.answered();
    }
    if let Ok(batch) = serde_json::from_slice::<Vec<Head<'_>>>(body) {
        return batch.iter().find_map(Head::answered);
    }
    let mended = mend::mend(body)?;
    mended.texts.iter().find_map(|text| serde_json::from_slice::<Head<'_>>(text).ok()?.answered())
}

/// A connection that was there: the server may have acted.
pub(super) fn transport(error: reqwest::Error) -> TransportError {
    TransportError::Protocol(format!("the connection broke off: {}", explain(error)))
}
