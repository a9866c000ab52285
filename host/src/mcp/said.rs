//! What a server says about something that failed, in its own words: for people, and for agents that can correct
//! themselves. The words are foreign: they are redacted, escaped and cut where they are shown.

use super::splice;

/// Where error bodies of HTTP hold their sentence: JSON-RPC, problem documents (RFC 9457), OAuth, and what is usual.
const SENTENCES: [&str; 6] =
    ["/error/message", "/detail", "/error_description", "/message", "/error", "/title"];

/// A JSON-RPC error object: its code and its message.
#[must_use]
pub(crate) fn in_error(error: &str) -> String {
    let code = splice::get(error, "/code").unwrap_or_default();
    let message = string_at(error, "/message").unwrap_or_default();
    match (code, message.as_str()) {
        ("", "") => error.to_owned(),
        ("", message) => message.to_owned(),
        (code, "") => code.to_owned(),
        (code, message) => format!("{code}: {message}"),
    }
}

/// An error that is no JSON-RPC error object, as one: clients refuse the whole message for it, and wait. None if it is one.
#[must_use]
pub(crate) fn as_error(error: &str) -> Option<String> {
    let number = |text: &str| text.trim_matches('"').parse::<i64>().ok();
    let code = splice::get(error, "/code");
    let message = splice::get(error, "/message").filter(|message| message.starts_with('"'));
    // A whole number, however it is written.
    let whole = |code: &str| code.parse::<f64>().is_ok_and(|code| code.is_finite() && code.fract() == 0.0);
    if message.is_some() && code.is_some_and(whole) {
        return None;
    }
    let code = code.and_then(number).unwrap_or(super::code::INTERNAL_ERROR);
    let message = match (message, error.as_bytes().first()) {
        (Some(message), _) => message.to_owned(),
        (None, Some(b'"')) => error.to_owned(),
        (None, _) => super::message::quoted(error),
    };
    let data = splice::get(error, "/data").map_or_else(String::new, |data| format!(",\"data\":{data}"));
    Some(format!("{{\"code\":{code},\"message\":{message}{data}}}"))
}

/// A result that says `isError`: its texts, or what else it holds.
#[must_use]
pub(crate) fn in_result(result: &str) -> String {
    let texts: Vec<String> = (0..MAX_TEXTS)
        .map_while(|index| splice::get(result, &format!("/content/{index}")))
        .filter_map(|item| string_at(item, "/text"))
        .collect();
    if texts.is_empty() {
        let rest = splice::get(result, "/structuredContent").or_else(|| splice::get(result, "/content"));
        return rest.unwrap_or(result).to_owned();
    }
    texts.join(" ")
}

/// How many parts of a result are read; more would not fit where they are shown.
const MAX_TEXTS: usize = 4;

/// The body of an HTTP error: the sentence of a JSON document, or the text itself. Nothing of a web page: its first
/// bytes say nothing.
#[must_use]
pub(crate) fn in_body(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.trim_ascii());
    match text.as_bytes().first() {
        Some(b'<') => String::new(),
        Some(b'{') => SENTENCES
            .iter()
            .find_map(|place| string_at(&text, place).filter(|sentence| !sentence.is_empty()))
            .unwrap_or_else(|| text.into_owned()),
        _ => text.into_owned(),
    }
}

fn string_at(json: &str, place: &str) -> Option<String> {
    serde_json::from_str(splice::get(json, place)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_one_that_clients_read() {
        assert_eq!(as_error(r#"{"code":-32602,"message":"m","x":1}"#), None);
        assert_eq!(as_error(r#"{"code":1E2,"message":"m"}"#), None);
        for (error, wrapped) in [
            (r#""broken""#, r#"{"code":-32603,"message":"broken"}"#),
            (r#"{"code":"-32000","message":"m","data":[1]}"#, r#"{"code":-32000,"message":"m","data":[1]}"#),
            (r#"{"code":"E_ACCESS","message":"m"}"#, r#"{"code":-32603,"message":"m"}"#),
            (r#"{"code":5}"#, r#"{"code":5,"message":"{\"code\":5}"}"#),
            ("true", r#"{"code":-32603,"message":"true"}"#),
        ] {
            assert_eq!(as_error(error).as_deref(), Some(wrapped));
        }
    }

    #[test]
    fn the_sentence_is_found_where_servers_put_it() {
        assert_eq!(in_error(r#"{"code":-32602,"message":"at most \u0035\u0030"}"#), "-32602: at most 50");
        assert_eq!(in_error(r#"{"message":"no"}"#), "no");
        assert_eq!(in_error(r#"{"code":-1}"#), "-1");
        assert_eq!(in_error(r#"{"message":5}"#), r#"{"message":5}"#);
        let result = r#"{"isError":true,"content":[{"type":"text","text":"a"},{"type":"image"},{"type":"text","text":"b"}]}"#;
        assert_eq!(in_result(result), "a b");
        assert_eq!(in_result(r#"{"isError":true,"structuredContent":{"why":"x"}}"#), r#"{"why":"x"}"#);
        for (body, sentence) in [
            (r#"{"error":{"code":1,"message":"m"},"id":null}"#, "m"),
            (r#"{"type":"about:blank","title":"t","detail":"d"}"#, "d"),
            (r#"{"title":"t"}"#, "t"),
            (r#"{"error":"e"}"#, "e"),
            (r#"{"error":"e","error_description":"f"}"#, "f"),
            (r#"{"odd":1}"#, r#"{"odd":1}"#),
            ("{broken", "{broken"),
            (" plain \n", "plain"),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(in_body(body.as_bytes()), sentence);
        }
    }
}
