//! Which headers may travel, in one place: a header of a caller or of the configuration must never reframe a request
//! or speak for the transport.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sentinel_names::headers::{self, Owner};

use super::super::transport::TransportError;

pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Sets the headers that may travel; a later one replaces an earlier one of its name.
///
/// # Errors
/// [`TransportError::Unreachable`] names a header that cannot be sent, not its value.
pub(super) fn extend(into: &mut HeaderMap, extra: &[(String, String)]) -> Result<(), TransportError> {
    for (name, value) in extra {
        let bad =
            |part: &str| TransportError::Unreachable(format!("the {part} of header {name:?} cannot be sent"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad("value"))?;
        // `mcp-protocol-version` travels: since revision 2026-07-28 each message brings its own. So do credentials, which
        // the configuration names.
        if !matches!(headers::owner(name), Some(Owner::Connection | Owner::Transport)) {
            // Kept out of every debug output.
            value.set_sensitive(true);
            into.insert(key, value);
        }
    }
    Ok(())
}

/// What `Retry-After` asks for: seconds, or a date (RFC 9110, section 10.2.3). A date in the past is zero.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// What a server that asks for credentials says about it (RFC 9110, section 11.6.1; RFC 6750, section 3).
pub(super) fn challenge(headers: &HeaderMap) -> Option<String> {
    let challenge = headers.get(reqwest::header::WWW_AUTHENTICATE)?;
    Some(String::from_utf8_lossy(challenge.as_bytes()).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn framing_and_hop_by_hop_headers_do_not_travel() {
        let mut headers = HeaderMap::new();
        let extra = [
            pair("Connection", "close"),
            pair("Transfer-Encoding", "chunked"),
            pair("HOST", "elsewhere"),
            pair("Mcp-Session-Id", "stolen"),
            pair("X-Key", "old"),
            pair("x-key", "new"),
            pair("MCP-Protocol-Version", "2026-07-28"),
        ];
        extend(&mut headers, &extra).unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["x-key"], "new");
        assert!(!format!("{headers:?}").contains("new"));
        let error = extend(&mut headers, &[pair("x-a", "hush\r\nx-b: 1")]).unwrap_err().to_string();
        assert!(error.contains("x-a") && !error.contains("hush"), "{error}");
        assert!(extend(&mut headers, &[pair("x a", "1")]).is_err());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2025-11-15T08:12:31Z".parse().unwrap();
        for (text, expected) in [
            ("7", Some(7)),
            ("Sat, 15 Nov 2025 08:13:31 GMT", Some(60)),
            ("Sat, 15 Nov 2025 08:11:31 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers =
                HeaderMap::from_iter([(reqwest::header::RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
