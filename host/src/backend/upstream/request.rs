//! The request that an upstream gets: made of what the policies saw, so that nothing else is sent.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::config::rest::{Parameter, Place, Segment, Target, Template, Upstream};
use crate::mcp::splice;
use crate::route::path::{self, PathError};
use crate::route::read::{plain, write_query};
use crate::route::{Asked, From};

/// Headers of a request that are passed on to every upstream. Credentials are not among them.
const PASSED: [HeaderName; 14] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_LANGUAGE,
    header::CONTENT_DISPOSITION,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::PRAGMA,
    header::RANGE,
    header::USER_AGENT,
    HeaderName::from_static("prefer"),
];

/// The address behind the upstream's own, with the query.
pub(super) fn place(asked: &Asked, arguments: &str) -> Result<String, PathError> {
    let route = &asked.entry.route;
    let template = match &route.target {
        Target::Upstream { path: Some(path), .. } => path,
        Target::Upstream { path: None, .. } | Target::Engine { .. } => &route.path,
    };
    let mut place = path_of(template, &object(arguments, "/path"));
    // A rewriter may have put something into it that is no segment.
    path::check(&place)?;
    let mut query = String::new();
    let known = |name: &str| -> Option<&Parameter> {
        route.parameters.iter().find(|parameter| parameter.place == Place::Query && parameter.name == name)
    };
    if let Value::Object(members) = object(arguments, "/query") {
        for (name, value) in &members {
            write_query(known(name), name, value, &mut query);
        }
    }
    if !query.is_empty() {
        place.push('?');
        place.push_str(&query);
    }
    Ok(place)
}

fn object(arguments: &str, at: &str) -> Value {
    splice::get(arguments, at).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

fn path_of(template: &Template, values: &Value) -> String {
    let mut path = String::new();
    for segment in template.segments() {
        path.push('/');
        match segment {
            Segment::Text(text) => path.push_str(text),
            Segment::Name(name) => path::encode(&joined(&values[name]), &mut path),
            Segment::Rest(name) => {
                for (index, part) in plain(&values[name]).split('/').enumerate() {
                    path.push_str(if index == 0 { "" } else { "/" });
                    path::encode(part, &mut path);
                }
            }
        }
    }
    path
}

/// A value in a path; of a list its items, with commas (OpenAPI, style "simple").
fn joined(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(members) => {
            members.iter().map(|(key, value)| format!("{key},{}", plain(value))).collect::<Vec<_>>().join(",")
        }
        other => plain(other),
    }
}

/// The headers of the request. `extra` are those that rewriters set, and the trace context.
pub(super) fn headers(
    settings: &Upstream,
    asked: &Asked,
    arguments: &str,
    extra: &[(String, String)],
    json: bool,
) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(24);
    // What a client lists in `Connection` is for this connection alone (RFC 9110, section 7.6.1).
    let listed = connection_options(&asked.headers);
    let own = settings.pass_headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    for name in
        PASSED.into_iter().chain(own).filter(|name| !listed.iter().any(|listed| listed == name.as_str()))
    {
        for value in asked.headers.get_all(&name) {
            out.append(name.clone(), value.clone());
        }
    }
    if let Value::Object(members) = object(arguments, "/header") {
        for (name, value) in &members {
            set(&mut out, name, &joined(value));
        }
    }
    if let Value::Object(members) = object(arguments, "/cookie") {
        let pairs: Vec<String> =
            members.iter().map(|(name, value)| format!("{name}={}", joined(value))).collect();
        set(&mut out, "cookie", &pairs.join("; "));
    }
    if json {
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    } else if let Some(kind) = &asked.content_type {
        out.insert(header::CONTENT_TYPE, kind.clone());
    }
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    set(&mut out, "x-request-id", &asked.request_id);
    forwarded(&mut out, &asked.from);
    for (name, value) in extra {
        set(&mut out, name, value);
    }
    // The operator has the last word.
    for (name, value) in &settings.headers {
        set(&mut out, name, value.expose());
    }
    out
}

fn set(out: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        out.insert(name, value);
    }
}

/// Where the request came from, in the two ways that servers read. What the client said of that is not passed on, because
/// anybody can say it.
fn forwarded(out: &mut HeaderMap, from: &From) {
    let address = from.address.to_canonical();
    let proto = if from.secure { "https" } else { "http" };
    set(out, "x-forwarded-for", &address.to_string());
    set(out, "x-forwarded-proto", proto);
    // RFC 7239, sections 4 and 6: an IPv6 address stands in brackets and quotes.
    let node = if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() };
    let mut text = format!("for={node};proto={proto}");
    if let Some(host) = from.host.as_ref().and_then(|host| host.to_str().ok()) {
        set(out, "x-forwarded-host", host);
        if !host.contains(['"', '\\']) {
            text.push_str(&format!(";host=\"{host}\""));
        }
    }
    set(out, "forwarded", &text);
}

/// The headers that a message names in `Connection`, in lower case.
fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|text| text.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// The headers of an answer that are passed on.
pub(super) fn answered(headers: &HeaderMap) -> HeaderMap {
    const KEPT_BACK: [&str; 12] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "alt-svc",
        "date",
        "x-request-id",
    ];
    let listed = connection_options(headers);
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let kept = KEPT_BACK.contains(&name.as_str()) || listed.iter().any(|listed| listed == name.as_str());
        if !kept {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::rest::Style;
    use crate::route::{Entry, Table};

    fn entry(path: &str, target: Option<&str>) -> Arc<Entry> {
        let mut route = crate::route::sample("GET", path);
        route.target = Target::Upstream {
            name: "up".to_owned(),
            path: target.map(|path| Template::parse(path).unwrap()),
        };
        route.parameters.push(Parameter {
            name: "tags".to_owned(),
            place: Place::Query,
            required: false,
            style: Style::Form,
            explode: false,
            schema: Some(serde_json::json!({"type": "array"})),
            description: None,
        });
        Table::new(&[route]).entries().next().unwrap().clone()
    }

    fn asked(entry: Arc<Entry>, headers: &[(&'static str, &str)]) -> Asked {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let from = From {
            address: "2001:db8::1".parse().unwrap(),
            host: Some("api.test:8".parse().unwrap()),
            secure: false,
        };
        Asked {
            entry,
            headers: map,
            content_type: None,
            from,
            head: false,
            dev: false,
            request_id: "r1".into(),
        }
    }

    #[test]
    fn an_address_is_made_of_what_the_policies_saw() {
        let of = |path: &str, target: Option<&str>, arguments: &str| {
            place(&asked(entry(path, target), &[]), arguments)
        };
        let pets = r#"{"path":{"id":"7 ä/?"},"query":{"tags":["a,b","c"],"q":"x&y","n":[1,2]}}"#;
        assert!(of("/pets/{id}", None, pets).is_err(), "a slash in a segment is another path");
        let pets = pets.replace('/', "");
        assert_eq!(
            of("/pets/{id}", None, &pets).unwrap(),
            "/pets/7%20%C3%A4%3F?tags=a%2Cb,c&q=x%26y&n=1&n=2"
        );
        assert_eq!(
            of("/pets/{id}", Some("/v1/p/{id}/x"), &pets).unwrap().split('?').next(),
            Some("/v1/p/7%20%C3%A4%3F/x")
        );
        assert_eq!(of("/f/{*rest}", None, r#"{"path":{"rest":"a b/c"}}"#).unwrap(), "/f/a%20b/c");
        for bad in ["..", ".", "a/../b", "", "a//b"] {
            let arguments = format!(r#"{{"path":{{"rest":{bad:?}}}}}"#);
            assert!(of("/f/{*rest}", None, &arguments).is_err() || bad.is_empty(), "{bad}");
        }
    }

    #[test]
    fn only_what_may_be_passed_on_is() {
        let settings = Upstream {
            name: "up".to_owned(),
            url: crate::config::Secret::new("http://127.0.0.1:1"),
            headers: vec![("X-Key".to_owned(), crate::config::Secret::new("k"))],
            way: crate::config::Route::default(),
            timeout: std::time::Duration::from_secs(1),
            max_in_flight: 1,
            retries: 0,
            pass_headers: vec!["x-tenant".to_owned(), "x-hop".to_owned()],
            max_answer: 1,
        };
        let sent = [
            ("authorization", "Bearer t"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("accept", "text/html"),
            ("x-tenant", "t"),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("x-api-key", "k"),
            ("x-key", "of the client"),
        ];
        let out = headers(&settings, &asked(entry("/a", None), &sent), "{}", &[], false);
        let of = |name: &str| out.get(name).map(|value| value.to_str().unwrap());
        for gone in ["authorization", "cookie", "connection", "x-hop", "x-api-key", "host"] {
            assert_eq!(of(gone), None, "{gone}");
        }
        assert_eq!((of("accept"), of("x-tenant"), of("x-key")), (Some("text/html"), Some("t"), Some("k")));
        assert_eq!(of("x-forwarded-for"), Some("2001:db8::1"));
        assert_eq!(of("forwarded"), Some("for=\"[2001:db8::1]\";proto=http;host=\"api.test:8\""));
    }
}
