//! Media types: what a body must be, and what a client must be ready to read.

use axum::http::{HeaderMap, StatusCode, header};

use super::{Rejection, trimmed};

const JSON: (&str, &str) = ("application", "json");
const EVENTS: (&str, &str) = ("text", "event-stream");
const BOTH: &[u8] = b"application/json, text/event-stream";

/// The body is JSON; parameters such as `charset` are allowed. A web page cannot send this type to a foreign site
/// without asking first, which makes it a guard against cross-site requests too.
///
/// # Errors
/// 415.
pub fn content_type_json(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    if let (Some(value), None) = (values.next(), values.next()) {
        let essence = trimmed(value).split(|byte| *byte == b';').next().unwrap_or_default();
        if essence.trim_ascii_end().eq_ignore_ascii_case(b"application/json") {
            return Ok(());
        }
    }
    let message = "the body has to be JSON: send it with \"Content-Type: application/json\"";
    Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

/// What a client can read of the answer to its POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON or an event stream, as MCP demands of every client.
    Either,
    /// JSON alone.
    Json,
    /// An event stream alone.
    Events,
}

/// A POST of MCP may be answered by JSON or by an event stream, and its client has to name both. Many name one of them, or
/// none, and are served in that form: a client that names nothing reads JSON.
///
/// # Errors
/// 406 for one that can read neither.
pub fn accept_rpc(headers: &HeaderMap) -> Result<Form, Rejection> {
    // As the specification writes it, and nearly every client.
    if headers.get(header::ACCEPT).is_some_and(|value| value.as_bytes() == BOTH)
        && headers.get_all(header::ACCEPT).iter().nth(1).is_none()
    {
        return Ok(Form::Either);
    }
    match (admits(headers, JSON), admits(headers, EVENTS)) {
        (true, true) => Ok(Form::Either),
        (true, false) => Ok(Form::Json),
        (false, true) => Ok(Form::Events),
        (false, false) if headers.get_all(header::ACCEPT).iter().all(|value| trimmed(value).is_empty()) => {
            Ok(Form::Json)
        }
        (false, false) => {
            let message =
                "the answer is JSON or an event stream: send \"Accept: application/json, text/event-stream\"";
            Err(Rejection::new(StatusCode::NOT_ACCEPTABLE, message))
        }
    }
}

/// A GET of MCP is answered by an event stream.
///
/// # Errors
/// 406; also without the header.
pub fn accept_events(headers: &HeaderMap) -> Result<(), Rejection> {
    if admits(headers, EVENTS) {
        return Ok(());
    }
    let message = "the answer is an event stream: send \"Accept: text/event-stream\"";
    Err(Rejection::new(StatusCode::NOT_ACCEPTABLE, message))
}

/// Whether the Accept headers admit a type: the most specific range decides (RFC 9110 section 12.5.1).
fn admits(headers: &HeaderMap, (kind, subtype): (&str, &str)) -> bool {
    let mut best: Option<(u8, bool)> = None;
    for value in headers.get_all(header::ACCEPT) {
        let Ok(text) = value.to_str() else { continue };
        for range in split(text, ',') {
            let mut pieces = split(range, ';');
            let Some((first, second)) = pieces.next().and_then(|essence| essence.trim().split_once('/'))
            else {
                continue;
            };
            let specific = match (first, second) {
                ("*", "*") => 0,
                (first, "*") if first.eq_ignore_ascii_case(kind) => 1,
                (first, second)
                    if first.eq_ignore_ascii_case(kind) && second.eq_ignore_ascii_case(subtype) =>
                {
                    2
                }
                _ => continue,
            };
            let wanted = pieces.all(weighs);
            // Of two equally specific ranges the later counts only if it refuses: in doubt, no.
            best = match best {
                Some((held, _)) if held > specific => best,
                Some((held, before)) if held == specific => Some((held, before && wanted)),
                _ => Some((specific, wanted)),
            };
        }
    }
    best.is_some_and(|(_, wanted)| wanted)
}

/// Whether a parameter leaves its range wanted: it is not the weight, or a weight above zero.
fn weighs(parameter: &str) -> bool {
    match parameter.trim().split_once('=') {
        Some((name, weight)) if name.trim().eq_ignore_ascii_case("q") => {
            weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0 && weight <= 1.0)
        }
        _ => true,
    }
}

/// Splits at a separator that does not stand inside a quoted string.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter: char| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return letter == separator && !quoted,
        }
        false
    })
}
