//! Writes JSON-RPC messages around parts that are already JSON.

use bytes::Bytes;
use serde_json::value::RawValue;

/// `{"jsonrpc":"2.0","id":…,"result":…}`; `id` and `result` are JSON texts.
#[must_use]
pub fn result(id: &str, result: &str) -> Bytes {
    join(&["{\"jsonrpc\":\"2.0\",\"id\":", id, ",\"result\":", result, "}"])
}

/// `{"jsonrpc":"2.0","id":…,"error":…}` with an error object that is already JSON.
#[must_use]
pub(crate) fn error_object(id: &str, error: &str) -> Bytes {
    join(&["{\"jsonrpc\":\"2.0\",\"id\":", id, ",\"error\":", error, "}"])
}

/// An error of the gateway's own. `data` is a JSON value, left out if null.
#[must_use]
pub fn error(id: &str, code: i64, message: &str, data: &serde_json::Value) -> Bytes {
    let mut object = serde_json::json!({ "code": code, "message": message });
    if !data.is_null() {
        object["data"] = data.clone();
    }
    error_object(id, &object.to_string())
}

/// A request with an id of the gateway's.
#[must_use]
pub fn request(id: u64, method: &str, params: Option<&str>) -> Bytes {
    let (id, method) = (id.to_string(), quoted(method));
    match params {
        Some(params) => {
            join(&["{\"jsonrpc\":\"2.0\",\"id\":", &id, ",\"method\":", &method, ",\"params\":", params, "}"])
        }
        None => join(&["{\"jsonrpc\":\"2.0\",\"id\":", &id, ",\"method\":", &method, "}"]),
    }
}

/// A notification.
#[must_use]
pub fn notification(method: &str, params: Option<&str>) -> Bytes {
    let method = quoted(method);
    match params {
        Some(params) => join(&["{\"jsonrpc\":\"2.0\",\"method\":", &method, ",\"params\":", params, "}"]),
        None => join(&["{\"jsonrpc\":\"2.0\",\"method\":", &method, "}"]),
    }
}

/// A text as a JSON string.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Owns a JSON text that is known to be valid; `null` if, against that, it is not.
#[must_use]
pub fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn join(parts: &[&str]) -> Bytes {
    let mut message = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        message.extend_from_slice(part.as_bytes());
    }
    Bytes::from(message)
}
