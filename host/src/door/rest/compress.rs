//! Smaller answers for clients that want them (RFC 9110, section 8.4): gzip, and only of what is held whole.
//!
//! It is off unless the operator wants it: where an answer holds a secret beside something that a stranger chose, its length
//! over TLS tells about the secret (BREACH).

use axum::body::HttpBody;
use axum::http::{HeaderMap, Response, StatusCode, header};
use tower_http::compression::{CompressionLayer, CompressionLevel, Predicate};

/// Below this an answer becomes no shorter that is worth the work; in bytes.
const LEAST: u64 = 1_024;
/// Above this an answer is sent as it is: compressing it would hold a thread for too long. In bytes.
const MOST: u64 = 8 << 20;

/// Marks an answer that was read whole before it is sent. What streams is never compressed: its parts would wait for each
/// other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole;

/// Which answers are worth it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worth;

/// Compresses answers, for clients that accept it.
pub(super) fn layer() -> CompressionLayer<Worth> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(Worth)
}

impl Predicate for Worth {
    fn should_compress<B: HttpBody>(&self, response: &Response<B>) -> bool {
        let headers = response.headers();
        response.extensions().get::<Whole>().is_some()
            && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            && response.body().size_hint().exact().is_some_and(|length| (LEAST..=MOST).contains(&length))
            && is_text(headers)
            && may_change(headers)
    }
}

/// Whether it is something that becomes much shorter.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/") && kind != "text/event-stream"
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json" | "application/x-ndjson" | "application/xml" | "application/javascript"
        )
}

/// Whether its bytes may be others on the way: not if it says so itself (RFC 9111, section 5.2.2.6), and not if it has a strong
/// tag, which names exactly these bytes (RFC 9110, section 8.8.1).
fn may_change(headers: &HeaderMap) -> bool {
    let strong = headers.get(header::ETAG).is_some_and(|tag| !tag.as_bytes().starts_with(b"W/"));
    let fixed = headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        text.split(',').any(|directive| directive.trim() == "no-transform")
    });
    !strong && !fixed
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use axum::body::Body;
    use axum::http::HeaderValue;

    use super::*;

    fn worth(length: usize, headers: &[(&'static str, &'static str)], whole: bool) -> bool {
        let mut response = Response::new(Body::from(vec![b'a'; length]));
        for (name, value) in headers {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        if whole {
            response.extensions_mut().insert(Whole);
        }
        Worth.should_compress(&response)
    }

    #[test]
    fn only_long_texts_that_are_held_whole_and_may_change_are_compressed() {
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(worth(2_000, &[json], true));
        assert!(worth(2_000, &[("content-type", "application/problem+json"), ("etag", "W/\"a\"")], true));
        for (length, headers, whole) in [
            (2_000, &[json][..], false),
            (1_023, &[json], true),
            ((8 << 20) + 1, &[json], true),
            (2_000, &[], true),
            (2_000, &[("content-type", "image/png")], true),
            (2_000, &[("content-type", "text/event-stream")], true),
            (2_000, &[json, ("etag", "\"a\"")], true),
            (2_000, &[json, ("cache-control", "private, No-Transform")], true),
        ] {
            assert!(!worth(length, headers, whole), "{length} {headers:?} {whole}");
        }
    }
}
