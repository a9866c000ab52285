//! What passes and what does not, by rule and by chance.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderName, Request};
use proptest::prelude::*;

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    map
}

fn parts(uri: &str, lines: &[(&str, &str)]) -> Parts {
    let mut parts = Request::builder().uri(uri).body(()).unwrap().into_parts().0;
    parts.headers = headers(lines);
    parts
}

fn status<T>(outcome: Result<T, Rejection>) -> u16 {
    outcome.map_or_else(|rejection| rejection.status.as_u16(), |_| 200)
}

fn asked(allowed: &Hosts, name: &str) -> u16 {
    status(host(&parts("/mcp", &[("host", name)]), allowed))
}

fn called(allowed: &Origins, page: &str) -> u16 {
    status(origin(&headers(&[("origin", page)]), allowed))
}

#[test]
fn a_loopback_door_answers_to_loopback_names_only() {
    for bound in [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let allowed = Hosts::new::<&str>(bound, &[]).unwrap();
        for name in
            ["localhost", "LocalHost:9200", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:9200", "localhost:"]
        {
            assert_eq!(asked(&allowed, name), 200, "{name}");
        }
        for name in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost.",
            "0.0.0.0:9200",
            "10.0.0.1",
            "[::2]",
            "127.1",
            "2130706433",
        ] {
            assert_eq!(asked(&allowed, name), 403, "{name}");
        }
        for name in [
            "",
            ":9200",
            "localhost:99999",
            "localhost:+1",
            "a@localhost",
            "localhost/x",
            "[::1",
            "::1",
            "a b",
            "[::1]9",
        ] {
            assert_eq!(asked(&allowed, name), 400, "{name}");
        }
    }
}

#[test]
fn another_door_answers_to_listed_names_only() {
    let allowed = Hosts::new(ANYWHERE, &["Gate.example", "api.example:8443", "[2001:db8::1]"]).unwrap();
    assert_eq!(asked(&allowed, "gate.EXAMPLE:1234"), 200);
    assert_eq!(asked(&allowed, "api.example:8443"), 200);
    assert_eq!(asked(&allowed, "[2001:db8:0::1]:80"), 200);
    assert_eq!(asked(&allowed, "api.example"), 403);
    assert_eq!(asked(&allowed, "localhost"), 403);
    assert_eq!(asked(&Hosts::new::<&str>(ANYWHERE, &[]).unwrap(), "localhost"), 403);
    assert_eq!(asked(&Hosts::default(), "localhost"), 403);
    let both = Hosts::new(LOOPBACK, &["gate.example"]).unwrap();
    assert_eq!((asked(&both, "gate.example"), asked(&both, "localhost:1")), (200, 200));
    assert_eq!(Hosts::new(ANYWHERE, &["*"]), Err(ListError::Host("*".to_owned())));
    assert_eq!(Hosts::new(ANYWHERE, &["http://a"]), Err(ListError::Host("http://a".to_owned())));
}

#[test]
fn a_request_names_one_host_and_the_request_line_agrees() {
    let allowed = Hosts::new::<&str>(LOOPBACK, &[]).unwrap();
    assert_eq!(status(host(&parts("/", &[]), &allowed)), 400);
    assert_eq!(status(host(&parts("/", &[("host", "localhost"), ("host", "localhost")]), &allowed)), 400);
    let line = |uri| status(host(&parts(uri, &[("host", "localhost:9200")]), &allowed));
    assert_eq!(line("http://LOCALHOST:9200/mcp"), 200);
    assert_eq!(line("http://evil.example/mcp"), 400);
    assert_eq!(line("http://localhost/mcp"), 400);
    assert_eq!(line("http://evil@localhost:9200/mcp"), 400);
}

#[test]
fn a_loopback_door_takes_loopback_pages_only() {
    let allowed = Origins::new::<&str>(LOOPBACK, &[]).unwrap();
    assert_eq!(status(origin(&HeaderMap::new(), &allowed)), 200);
    for page in ["http://localhost", "https://localhost:3000", "HTTP://127.0.0.1:5173", "http://[::1]:80"] {
        assert_eq!(called(&allowed, page), 200, "{page}");
    }
    for page in [
        "null",
        "",
        "localhost",
        "http://evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://localhost:80@evil.example",
        "http://evil.example#localhost",
        "http://localhost/",
        "file://localhost",
        "http://localhost http://evil.example",
        "http://localhost, http://evil.example",
    ] {
        assert_eq!(called(&allowed, page), 403, "{page}");
    }
    let twice = headers(&[("origin", "http://localhost"), ("origin", "http://localhost")]);
    assert_eq!(status(origin(&twice, &allowed)), 400);
}

#[test]
fn listed_origins_count_exactly() {
    let allowed = Origins::new(ANYWHERE, &["https://App.example:443", "vscode-webview://abc"]).unwrap();
    assert_eq!(called(&allowed, "https://app.example"), 200);
    assert_eq!(called(&allowed, "vscode-webview://abc"), 200);
    for page in
        ["http://app.example", "https://app.example:8443", "https://x.app.example", "http://localhost"]
    {
        assert_eq!(called(&allowed, page), 403, "{page}");
    }
    for entry in ["*", "null", "https://*.example", "https://app.example/", "app.example"] {
        assert_eq!(Origins::new(ANYWHERE, &[entry]), Err(ListError::Origin(entry.to_owned())));
    }
}

#[test]
fn json_is_the_only_body() {
    let sent = |value| status(content_type_json(&headers(&[("content-type", value)])));
    for value in ["application/json", "Application/JSON ; charset=utf-8", "application/json;x=\"a,b\""] {
        assert_eq!(sent(value), 200, "{value}");
    }
    for value in [
        "",
        "text/plain",
        "application/jsonp",
        "text/plain; application/json",
        "application/json, text/plain",
    ] {
        assert_eq!(sent(value), 415, "{value}");
    }
    assert_eq!(status(content_type_json(&HeaderMap::new())), 415);
}

#[test]
fn a_client_is_answered_in_a_form_that_it_can_read() {
    let post = |value| accept_rpc(&headers(&[("accept", value)])).ok();
    let get = |value| status(accept_events(&headers(&[("accept", value)])));
    for (value, form) in [
        ("application/json, text/event-stream", Some(Form::Either)),
        ("*/*", Some(Form::Either)),
        ("text/event-stream;q=0.1,Application/*", Some(Form::Either)),
        ("application/json;v=\"a,b;q=0\", text/*", Some(Form::Either)),
        ("text/html, */*; q=.2", Some(Form::Either)),
        ("application/json", Some(Form::Json)),
        ("application/json, text/event-stream;q=0", Some(Form::Json)),
        ("text/event-stream;q=0.000, */*", Some(Form::Json)),
        ("text/event-stream", Some(Form::Events)),
        ("json, text/event-stream", Some(Form::Events)),
        ("application/json;q=2, text/event-stream", Some(Form::Events)),
        ("application/json;q=x, text/event-stream", Some(Form::Events)),
        ("", Some(Form::Json)),
        ("text/html", None),
        ("application/json;q=0", None),
        ("json", None),
    ] {
        assert_eq!(post(value), form, "{value}");
    }
    assert_eq!((get("text/event-stream"), get("*/*"), get("text/*;q=0.5")), (200, 200, 200));
    assert_eq!((get("application/json"), get("*/*;q=0")), (406, 406));
    assert_eq!(accept_rpc(&HeaderMap::new()), Ok(Form::Json));
    let lines = headers(&[("accept", "application/json"), ("accept", "text/event-stream")]);
    assert_eq!(accept_rpc(&lines), Ok(Form::Either));
}

#[test]
fn what_decides_comes_once() {
    let own = ["x-tenant-key".to_owned()];
    for name in [
        "X-API-Key",
        "X-Tenant-Key",
        "Proxy-Authorization",
        "Host",
        "Origin",
        "Authorization",
        "Content-Type",
        "Content-Length",
        "Mcp-Session-Id",
        "MCP-Protocol-Version",
        "Mcp-Method",
        "Mcp-Name",
        "Mcp-Param-Region",
        "X-Capability-Token",
    ] {
        assert_eq!(status(singles(&headers(&[(name, "a")]), &own)), 200, "{name}");
        let rejection = singles(&headers(&[("accept", "b"), (name, "a"), (name, "a")]), &own).unwrap_err();
        assert_eq!(rejection.status, 400, "{name}");
        assert!(rejection.message.contains(&name.to_ascii_lowercase()), "{rejection}");
    }
    assert_eq!(status(singles(&headers(&[("accept", "a"), ("accept", "b"), ("host", "c")]), &own)), 200);
}

#[test]
fn framing_is_simple_or_refused() {
    let framed = |lines: &[(&str, &str)]| status(framing(&parts("/", lines)));
    assert_eq!(framed(&[("content-length", "3")]), 200);
    assert_eq!(framed(&[("transfer-encoding", "Chunked")]), 200);
    assert_eq!(framed(&[("content-encoding", "identity"), ("expect", "100-Continue")]), 200);
    assert_eq!(framed(&[("transfer-encoding", "chunked"), ("content-length", "3")]), 400);
    assert_eq!(framed(&[("transfer-encoding", "gzip, chunked")]), 501);
    assert_eq!(framed(&[("transfer-encoding", "chunked, chunked")]), 501);
    assert_eq!(framed(&[("content-encoding", "gzip")]), 415);
    assert_eq!(framed(&[("expect", "200-ok")]), 417);
    let mut old = parts("/", &[("transfer-encoding", "chunked")]);
    old.version = Version::HTTP_10;
    assert_eq!(status(framing(&old)), 400);
}

#[test]
fn the_head_is_checked_whole() {
    let (hosts, origins) =
        (Hosts::new::<&str>(LOOPBACK, &[]).unwrap(), Origins::new::<&str>(LOOPBACK, &[]).unwrap());
    let whole = |lines: &[(&str, &str)]| status(head(&parts("/mcp", lines), &hosts, &origins, &[]));
    assert_eq!(whole(&[("host", "localhost:1"), ("origin", "http://localhost:2")]), 200);
    assert_eq!(whole(&[("host", "evil.example")]), 403);
    assert_eq!(whole(&[("host", "localhost"), ("origin", "http://evil.example")]), 403);
    assert_eq!(whole(&[("host", "localhost"), ("mcp-name", "a"), ("mcp-name", "b")]), 400);
    assert_eq!(whole(&[("host", "localhost"), ("transfer-encoding", "gzip, chunked")]), 501);
}

#[test]
fn the_bearer_token_is_taken_from_the_header_only() {
    let sent =
        |value: &str| bearer(&headers(&[("authorization", value)])).map(|token| token.map(str::to_owned));
    assert_eq!(bearer(&HeaderMap::new()), Ok(None));
    assert_eq!(sent("Bearer a.b-c"), Ok(Some("a.b-c".to_owned())));
    assert_eq!(sent("bEARER   x! "), Ok(Some("x!".to_owned())));
    for value in [
        "Bearer",
        "Bearer ",
        "Basic s3cret",
        "Bearer s3cret b",
        "s3cret",
        "Bearer,s3cret",
        "Bearer s3cret\tx",
    ] {
        let rejection = sent(value).unwrap_err();
        assert_eq!(rejection.status, 401, "{value}");
        assert!(!rejection.message.contains("s3cret"), "{rejection}");
    }
    let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]);
    assert_eq!(bearer(&twice).unwrap_err().status, 400);
}

#[test]
fn messages_hold_no_raw_bytes_of_strangers() {
    let long = format!("{}\u{e9}", "x".repeat(300));
    let map = {
        let mut map = HeaderMap::new();
        map.insert("origin", HeaderValue::from_bytes(long.as_bytes()).unwrap());
        map
    };
    let message = origin(&map, &Origins::default()).unwrap_err().message;
    assert!(message.len() < 250, "{message}");
    let quoted = origin(&headers(&[("origin", "\"><b>")]), &Origins::default()).unwrap_err().message;
    assert!(quoted.contains("\\\">"), "{quoted}");
}

proptest! {
    #[test]
    fn only_loopback_names_pass_a_loopback_door(name in "[a-z0-9.:@\\[\\]-]{0,20}") {
        let bare = name.rsplit_once(':').map_or(name.as_str(), |(bare, _)| bare);
        let loopback = |text: &str| {
            text == "localhost"
                || text.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
                || text.strip_prefix('[').and_then(|text| text.strip_suffix(']'))
                    .and_then(|text| text.parse::<Ipv6Addr>().ok()).is_some_and(|address| address.is_loopback())
        };
        let allowed = Hosts::new::<&str>(LOOPBACK, &[]).unwrap();
        if asked(&allowed, &name) == 200 {
            prop_assert!(loopback(&name) || loopback(bare), "{}", name);
        }
        let pages = Origins::new::<&str>(LOOPBACK, &[]).unwrap();
        if called(&pages, &format!("http://{name}")) == 200 {
            prop_assert!(loopback(&name) || loopback(bare), "{}", name);
        }
    }

    #[test]
    fn any_port_of_localhost_passes(port in any::<u16>(), upper in any::<bool>()) {
        let name = if upper { "LOCALHOST" } else { "localhost" };
        let allowed = Hosts::new::<&str>(LOOPBACK, &[]).unwrap();
        prop_assert_eq!(asked(&allowed, &format!("{name}:{port}")), 200);
        let pages = Origins::new::<&str>(LOOPBACK, &[]).unwrap();
        prop_assert_eq!(called(&pages, &format!("https://{name}:{port}")), 200);
    }

    #[test]
    fn no_bytes_make_a_check_fall_over(bytes in proptest::collection::vec(0x20u8..=0xff, 0..40)) {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        let mut parts = parts("/", &[]);
        for name in ["host", "origin", "authorization", "content-type", "accept", "transfer-encoding", "mcp-name"] {
            parts.headers.insert(name, value.clone());
        }
        let (hosts, origins) = (Hosts::new::<&str>(LOOPBACK, &[]).unwrap(), Origins::default());
        prop_assert!(head(&parts, &hosts, &origins, &[]).is_err());
        let _ = (content_type_json(&parts.headers), accept_rpc(&parts.headers), bearer(&parts.headers));
    }

    #[test]
    fn a_wanted_range_beside_others_is_found(others in proptest::collection::vec("[a-z]{1,5}/[a-z+]{1,5}(;q=0\\.[1-9])?", 0..5)) {
        let mut ranges = others;
        ranges.insert(ranges.len() / 2, "application/json".to_owned());
        ranges.push("text/event-stream;q=0.5".to_owned());
        prop_assert_eq!(status(accept_rpc(&headers(&[("accept", &ranges.join(", "))]))), 200);
    }
}
