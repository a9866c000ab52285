//! Messages of a server on one connection: who each is for, and what is done with text that is not quite a message.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::value::RawValue;

use super::super::reply::Reply;
use super::super::{PeerError, Spontaneous};
use super::{Peer, Pending};
use crate::mcp::client::{Answered, Client};
use crate::mcp::envelope::{self, Message};
use crate::mcp::mend::{self, Oddities};
use crate::mcp::payload::Payload;
use crate::mcp::splice::{self, Edit};
use crate::mcp::{code, message, method, params, said};

/// Where a stateless notification says which subscription it belongs to.
const SUBSCRIPTION: &str = "/params/_meta/io.modelcontextprotocol~1subscriptionId";

impl Peer {
    /// Takes in what the server sent; what is not an answer is handed on, with the client it is for if that is known.
    /// `about` is the request on whose stream it came.
    pub(in crate::backend) fn receive(
        &self,
        raw: &Payload,
        about: Option<u64>,
        mut hand_on: impl FnMut(Spontaneous, Option<Arc<dyn Client>>),
    ) {
        let mut take = |raw: &Payload, message: Message<'_>| {
            if let Some((said, client)) = self.take(raw, message, about) {
                hand_on(said, client);
            }
        };
        if mend::has_half_pair(raw.text()) && self.mended(raw, &mut take) {
            return;
        }
        match envelope::parse(raw.text()) {
            Ok(message) => take(raw, message),
            Err(error) => match envelope::parse_generously(raw.text()) {
                Ok(message) => {
                    self.odd(Oddities::FRAME);
                    take(raw, message);
                }
                Err(_) if self.mended(raw, &mut take) => {}
                Err(_) => self.garbage(raw, &error),
            },
        }
    }

    /// Takes in the messages of a text that is not quite JSON; whether there was one.
    fn mended(&self, raw: &Payload, take: &mut impl FnMut(&Payload, Message<'_>)) -> bool {
        let Some(mended) = mend::mend(raw.text()) else { return false };
        let mut read = false;
        if mended.quoted {
            return false;
        }
        for text in &mended.texts {
            let part = raw.reworded(text.clone());
            match envelope::parse_generously(text) {
                Ok(message) => {
                    read = true;
                    take(&part, message);
                }
                Err(error) if mended.texts.len() > 1 => self.garbage(&part, &error),
                Err(_) => {}
            }
        }
        if read {
            self.odd(mended.oddities);
        }
        read
    }

    /// Says what is odd about the server's messages, each once for a connection.
    fn odd(&self, oddities: Oddities) {
        let known = self.odd.fetch_or(oddities.bits(), Ordering::Relaxed);
        let new = Oddities::from_bits(oddities.bits() & !known);
        if new != Oddities::default() {
            tracing::warn!(
                backend = %self.name,
                "the server's messages are not quite JSON-RPC; they are read all the same, and this is said once: {new}"
            );
        }
    }

    fn take(
        &self,
        raw: &Payload,
        message: Message<'_>,
        about: Option<u64>,
    ) -> Option<(Spontaneous, Option<Arc<dyn Client>>)> {
        self.hears(about);
        let spontaneous = self.read(raw, message)?;
        let about = about.or_else(|| match &spontaneous {
            Spontaneous::Notification { message, .. } => {
                let text = std::str::from_utf8(message).ok()?;
                splice::get(text, SUBSCRIPTION)?.trim_matches('"').parse().ok()
            }
            Spontaneous::Request { .. } => None,
        });
        let client = about.and_then(|id| Some(self.pending.lock().get(&id)?.client.clone()));
        Some((spontaneous, client))
    }

    fn read(&self, raw: &Payload, message: Message<'_>) -> Option<Spontaneous> {
        match message {
            Message::Response { id, body } => {
                let (text, is_error) = match body {
                    envelope::Body::Result(result) => (result.get(), false),
                    envelope::Body::Error(error) => (error.get(), true),
                };
                let payload = match is_error.then(|| said::as_error(text)).flatten() {
                    Some(wrapped) => {
                        self.odd(Oddities::ERROR);
                        raw.reworded(wrapped)
                    }
                    None => raw.reworded(raw.text().slice_ref(text.as_bytes())),
                };
                let reply = Reply::new(payload, is_error);
                let number = envelope::number(id.get());
                if number.is_some() && !id.get().bytes().all(|byte| byte.is_ascii_digit()) {
                    self.odd(Oddities::ID);
                }
                match self.answered(number, is_error) {
                    // The receiver is gone if the caller gave up at this moment.
                    Some(pending) => drop(pending.reply.send(Ok(reply))),
                    None => tracing::debug!("an answer nobody waits for was dropped"),
                }
                None
            }
            Message::Notification { method, params } if method == method::PROGRESS => {
                if !self.has_one_meaning(&method, params) {
                    return None;
                }
                let params = params?.get();
                let id = envelope::number(splice::get(params, "/progressToken")?)?;
                self.hears(Some(id));
                let (client, token) = {
                    let pending = self.pending.lock();
                    let pending = pending.get(&id)?;
                    (pending.client.clone(), pending.token.clone()?)
                };
                let edit = Edit::Set { pointer: "/progressToken".to_owned(), json: token.get().to_owned() };
                let params = splice::apply(params, &[edit]).ok()?;
                client.notify(message::notification(&method, Some(&params)));
                None
            }
            // It is passed on as it is, and members that nobody here knows were not looked into.
            Message::Notification { method, .. } if std::str::from_utf8(raw.text()).is_err() => {
                tracing::warn!(%method, "the backend sent a notification that is not UTF-8; it was dropped");
                None
            }
            Message::Notification { method, params } => self.has_one_meaning(&method, params).then(|| {
                Spontaneous::Notification { method: method.into_owned(), message: raw.text().clone() }
            }),
            Message::Request { id, method, params } if !self.has_one_meaning(&method, params) => {
                let text =
                    "the params can be read in two ways: each key must stand once, in its own spelling";
                let error = serde_json::json!({ "code": code::INVALID_PARAMS, "message": text });
                self.answer(id, &Answered::Error(message::raw(error.to_string())));
                None
            }
            Message::Request { id, method, params } => Some(Spontaneous::Request {
                id: id.to_owned(),
                method: method.into_owned(),
                params: params.map(ToOwned::to_owned),
            }),
        }
    }

    /// The request that an answer is for. Some servers put 0 or null in the place of every id; where one request is under way
    /// alone, a result can be for no other. No request of ours has the number 0, so no late answer is mistaken for another's.
    fn answered(&self, number: Option<u64>, is_error: bool) -> Option<Pending> {
        let mut pending = self.pending.lock();
        match number {
            Some(id) if id > 0 => pending.remove(&id),
            // A server that refuses the first words may do so without having read as far as their id. Later, an error
            // without one may be about anything, a notification for instance.
            None if is_error => {
                let mut waiting = pending.iter();
                let (alone, _) = waiting.next().filter(|(_, pending)| pending.first_words)?;
                let alone = waiting.next().is_none().then_some(*alone)?;
                pending.remove(&alone)
            }
            _ => {
                let mut waiting = pending.iter().filter(|(_, pending)| !pending.standing).map(|(id, _)| *id);
                let alone = waiting.next().filter(|_| waiting.next().is_none())?;
                self.odd(Oddities::ID);
                pending.remove(&alone)
            }
        }
    }

    /// Whether the params of what a server says by itself can be read in one way only. Logged once for a connection.
    fn has_one_meaning(&self, method: &str, params: Option<&RawValue>) -> bool {
        let Err(ambiguous) = params.map_or(Ok(()), |params| params::check(method, params.get())) else {
            return true;
        };
        if !self.ambiguous.swap(true, Ordering::Relaxed) {
            let method: String = method.escape_debug().take(64).collect();
            tracing::warn!(
                method,
                "a message of a server was not passed on, and none like it will be: {ambiguous}"
            );
        }
        false
    }

    /// A line that is JSON-like but no message: if it names a waiting request, that one failed.
    fn garbage(&self, raw: &Payload, error: &envelope::EnvelopeError<'_>) {
        // Logged the first time, and again whenever the number has doubled.
        let times = self.garbage.fetch_add(1, Ordering::Relaxed) + 1;
        if times.is_power_of_two() {
            tracing::warn!(backend = %self.name, times, "the backend sent something that is no message: {error}");
        }
        let envelope::EnvelopeError::Shape { id, .. } = error else { return self.unreadable(raw, error) };
        // A member that stands twice is noticed before the id is, perhaps.
        let id = id.map_or_else(|| splice::get(raw.json(), "/id"), |id| Some(id.get()));
        let waiting = id.and_then(envelope::number).and_then(|id| self.pending.lock().remove(&id));
        if let Some(pending) = waiting {
            let _ = pending.reply.send(Err(PeerError::Garbage(error.to_string())));
        }
    }

    /// Something that begins as a message does is no JSON. If that can be read which request it answers, it is not waited for.
    fn unreadable(&self, raw: &Payload, error: &envelope::EnvelopeError<'_>) {
        // Log lines begin with square brackets, too, and quote what they like.
        if !raw.text().starts_with(b"{") || !mend::is_like_an_answer(raw.text()) {
            return;
        }
        let mut waiting = self.pending.lock();
        let alone = || waiting.keys().next().copied().filter(|_| waiting.len() == 1);
        let Some(id) = mend::head_id(raw.text()).or_else(alone) else { return };
        let Some(pending) = waiting.remove(&id) else { return };
        let _ = pending.reply.send(Err(PeerError::Garbage(format!("its answer is {error}"))));
    }
}
