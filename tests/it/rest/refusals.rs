//! Every refusal is a problem document with its status, a stable reason and a number that finds its row.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::json;

use super::stage::{Caller, Upstream, gateway, raw, stop};
use crate::support::{Setup, eventually, mint};

fn is(reply: &super::stage::Reply, status: u16, reason: &str) {
    assert_eq!(
        reply.refusal(),
        (status, reason.to_owned()),
        "{reply:?} {}",
        String::from_utf8_lossy(&reply.body)
    );
}

#[test]
fn who_may_not_call_hears_why() {
    let upstream = Upstream::start();
    let roles = "[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.reader]\npermissions = [\"tools.read\"]\n\
        [rbac.roles.picky]\npermissions = [\"routes.call\"]\ndenied_tools = [\"addPet\"]";
    let setup = Setup::echo()
        .roles(roles)
        .auth("api_keys = [{ id = \"bot\", role = \"admin\", secret_env = \"BOT_KEY\" }]");
    let setup = setup.env("BOT_KEY", "sk-0123456789abcdef0123456789abcdef");
    let mut door = gateway(&upstream, setup, "");
    let nobody = Caller::of(&door);
    let reply = nobody.ask("GET", "/pets/7");
    is(&reply, 401, "unauthenticated");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"sentinel-gateway\""));
    let wrong = nobody.clone().with("Authorization", "Bearer x.y.z").ask("GET", "/pets/7");
    is(&wrong, 401, "unauthenticated");
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    is(&nobody.clone().with("Authorization", "Basic YTpi").ask("GET", "/pets/7"), 401, "unauthenticated");
    let old = nobody.clone().with("Authorization", &format!("Bearer {}", mint("ann", "admin", -3600)));
    is(&old.ask("GET", "/pets/7"), 401, "unauthenticated");
    // Each route takes its own kind of credential.
    let key = nobody.clone().with("X-API-Key", "sk-0123456789abcdef0123456789abcdef");
    assert_eq!(key.ask("GET", "/keyed").status, 200);
    is(&key.ask("GET", "/pets/7"), 401, "unauthenticated");
    let ann = Caller::token(&door, "ann", "admin");
    is(&ann.ask("GET", "/keyed"), 401, "unauthenticated");
    is(&nobody.ask("GET", "/keyed"), 401, "unauthenticated");
    // Everybody may call what is for everybody, with a wrong credential as well.
    assert_eq!(nobody.ask("GET", "/open/x").status, 200);
    assert_eq!(nobody.clone().with("Authorization", "Bearer x").ask("GET", "/open/x").status, 200);
    is(&Caller::token(&door, "rob", "reader").ask("GET", "/pets/7"), 403, "permission_denied");
    is(&Caller::token(&door, "rob", "anonymous").ask("GET", "/pets/7"), 403, "permission_denied");
    let picky = Caller::token(&door, "pia", "picky");
    assert_eq!(picky.ask("GET", "/pets/7").status, 200);
    is(&picky.json("POST", "/pets", "{\"name\":\"x\"}"), 403, "permission_denied");
    let scoped = ann.ask("GET", "/scoped");
    is(&scoped, 403, "insufficient_scope");
    assert_eq!(
        scoped.header("www-authenticate"),
        Some("Bearer error=\"insufficient_scope\", scope=\"pets:read\"")
    );
    stop(&mut door);
    let rows = door.gateway.audit();
    let has = |status: &str, subject: &str| {
        rows.iter().any(|row| row["status"] == status && row["subject"] == subject)
    };
    assert!(has("unauthenticated", "") && has("denied", "rob") && has("denied", "ann"), "{rows:?}");
    assert!(has("success", "anonymous@127.0.0.1") && has("success", "bot"), "{rows:?}");
}

#[test]
fn a_request_that_does_not_fit_hears_where() {
    let upstream = Upstream::start();
    let mut door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let wrong = |reply: super::stage::Reply, member: &str, place: &str| {
        is(&reply, 400, "invalid_arguments");
        let errors = reply.json()["errors"].clone();
        assert_eq!(errors[0][member], place, "{errors}");
        assert!(errors[0]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{errors}");
    };
    wrong(ann.ask("GET", "/pets/x"), "parameter", "petId");
    wrong(ann.ask("GET", "/pets/0"), "parameter", "petId");
    wrong(ann.ask("GET", "/pets/7?tags=a&tags=b"), "parameter", "tags");
    wrong(ann.clone().with("X-Tenant", "much-too-long").ask("GET", "/pets/7"), "header", "x-tenant");
    wrong(ann.json("POST", "/pets", "{\"name\":7}"), "pointer", "/name");
    wrong(
        ann.json("POST", "/pets", "{\"name\":\"a\",\"kin\":{\"kin\":{\"name\":1}}}"),
        "pointer",
        "/kin/kin/name",
    );
    wrong(ann.json("POST", "/pets", "{\"name\":"), "pointer", "");
    wrong(ann.json("POST", "/pets", "{\"name\":\"a\",\"name\":\"b\"}"), "pointer", "");
    wrong(ann.json("POST", "/pets", ""), "pointer", "");
    is(&ann.send("POST", "/pets", "application/json", b"{\"name\":\"\xff\"}"), 400, "invalid_arguments");
    is(&ann.send("POST", "/pets", "text/plain", b"x"), 415, "unsupported_media_type");
    is(&raw(&door.address, &ann.text("POST", "/pets", Some(b"{}"))).unwrap(), 415, "unsupported_media_type");
    is(&ann.json("GET", "/pets/7", "{}"), 400, "unexpected_body");
    let length = ann.clone().with("Content-Type", "application/json");
    is(&raw(&door.address, &length.text("POST", "/pets", None)).unwrap(), 411, "length_required");
    is(
        &ann.json("POST", "/pets", &format!("{{\"name\":\"{}\"}}", "x".repeat(10_000))),
        413,
        "body_too_large",
    );
    let chunked = ann.clone().with("Content-Type", "application/json").with("Transfer-Encoding", "chunked");
    let mut body = format!("{:x}\r\n", 10_500).into_bytes();
    body.extend_from_slice(&[b' '; 10_500]);
    body.extend_from_slice(b"\r\n0\r\n\r\n");
    is(&raw(&door.address, &chunked.text("POST", "/pets", Some(&body))).unwrap(), 413, "body_too_large");
    is(
        &ann.clone().with("Accept", "text/html").json("POST", "/pets", "{\"name\":\"a\"}"),
        406,
        "not_acceptable",
    );
    is(
        &ann.clone().with("Content-Encoding", "gzip").json("POST", "/pets", "x"),
        415,
        "unsupported_media_type",
    );
    assert_eq!(upstream.asked(), 0, "nothing of this reached it");
    stop(&mut door);
    let rows = door.gateway.audit();
    assert!(rows.iter().filter(|row| row["status"] == "invalid_args").count() >= 10, "{rows:?}");
}

#[test]
fn a_request_for_nothing_is_refused_as_what_it_is() {
    let upstream = Upstream::start();
    let mut door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    is(&ann.ask("GET", "/nothing"), 404, "not_found");
    let not_here = ann.ask("DELETE", "/pets/7");
    is(&not_here, 405, "method_not_allowed");
    assert_eq!(not_here.header("allow"), Some("GET, HEAD"));
    let not_here = ann.ask("OPTIONS", "/pets");
    is(&not_here, 405, "method_not_allowed");
    assert_eq!(not_here.header("allow"), Some("POST"));
    is(&ann.ask("TRACE", "/pets"), 405, "method_not_allowed");
    is(&ann.ask("GET", &format!("/pets/{}", "7".repeat(9_000))), 414, "too_long");
    is(&ann.clone().with("Host", "evil.example").ask("GET", "/pets/7"), 421, "wrong_host");
    is(&ann.clone().with("Origin", "https://evil.example").ask("GET", "/pets/7"), 403, "origin_not_allowed");
    is(&ann.clone().with("x_tenant", "a").ask("GET", "/pets/7"), 400, "bad_header");
    is(&ann.clone().with("Expect", "the-worst").ask("GET", "/pets/7"), 417, "expectation_failed");
    stop(&mut door);
    let rows = door.gateway.audit();
    for (asked, status) in [("GET /nothing", "invalid_args"), ("DELETE /pets/7", "invalid_args")] {
        assert!(
            rows.iter().any(|row| row["method"] == asked && row["status"] == status),
            "{asked}: {rows:?}"
        );
    }
}

#[test]
fn an_upstream_that_fails_is_not_the_callers_fault() {
    let upstream = Upstream::start();
    let mut door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    is(&ann.ask("GET", "/any/cut"), 502, "backend_protocol_error");
    is(&ann.ask("GET", "/any/garbage"), 502, "backend_protocol_error");
    is(&ann.ask("GET", "/any/hang"), 504, "backend_timeout");
    // Failures one after the other open the circuit, which keeps calls away from it.
    let open = eventually("an open circuit", || {
        let reply = ann.ask("GET", "/any/garbage");
        (reply.status == 503).then_some(reply)
    });
    is(&open, 503, "circuit_open");
    assert!(open.header("retry-after").is_some(), "{open:?}");
    stop(&mut door);
    let rows = door.gateway.audit();
    let row = rows.iter().find(|row| row["error"].as_str().is_some_and(|error| error.contains("within 2 s")));
    assert!(row.is_some_and(|row| row["status"] == "error"), "{rows:?}");
    assert!(rows.iter().any(|row| row["status"] == "circuit_open"), "{rows:?}");
}

#[test]
fn limits_and_the_kill_switch_hold_here_as_well() {
    let upstream = Upstream::start();
    let setup = Setup::echo()
        .rate_limits("default_rpm = 1000000\n[rate_limits.per_tool]\ngetPet = { rpm = 2, burst = 2 }");
    let mut door = gateway(&upstream, setup, "");
    let ann = Caller::token(&door, "ann", "admin");
    assert_eq!((ann.ask("GET", "/pets/7").status, ann.ask("GET", "/pets/8").status), (200, 200));
    let limited = ann.ask("GET", "/pets/7");
    is(&limited, 429, "rate_limited");
    let after: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&after), "{after}");
    assert_eq!(
        Caller::token(&door, "bob", "admin").ask("GET", "/pets/7").status,
        200,
        "each caller has their own"
    );
    assert_eq!(ann.ask("GET", "/any/x").status, 200, "each route has its own");
    door.gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"any\"]\ndisabled_backends = []"));
    let killed =
        eventually("the kill", || Some(ann.ask("GET", "/any/x")).filter(|reply| reply.status != 200));
    is(&killed, 503, "killed");
    assert_eq!(Caller::of(&door).ask("GET", "/open/x").status, 200);
}

#[test]
fn what_the_parser_refuses_is_a_problem_too() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo(), "");
    for (bytes, status, reason) in [
        (b"GET /pets HTTP/1.1\r\nHost localhost\r\n\r\n".to_vec(), 400, "bad_request"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n".to_vec(), 400, "bad_request"),
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(70_000)).into_bytes(),
            431,
            "headers_too_large",
        ),
    ] {
        let reply = raw(&door.address, &bytes).unwrap_or_else(|| panic!("{status}: no answer"));
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (status, Some("application/problem+json")),
            "{reply:?}"
        );
        assert_eq!((&reply.json()["reason"], &reply.json()["status"]), (&json!(reason), &json!(status)));
    }
    // A head that never ends is cut; half a body is told so.
    let ann = Caller::token(&door, "ann", "admin")
        .with("Content-Type", "application/json")
        .with("Content-Length", "100");
    let mut slow = TcpStream::connect(&door.address).unwrap();
    slow.write_all(&ann.text("POST", "/pets", Some(b"{"))).unwrap();
    slow.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut slow, &mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("\"reason\":\"body_too_slow\""), "{text}");
}

#[test]
fn a_browser_may_read_what_its_page_may() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo(), "allowed_origins = [\"https://app.example\"]");
    let page = Caller::token(&door, "ann", "admin").with("Origin", "https://app.example");
    let reply = page.ask("GET", "/pets/7");
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (200, Some("https://app.example"))
    );
    assert_eq!(reply.header("vary"), Some("Origin"));
    let asks = Caller::of(&door)
        .with("Origin", "https://app.example")
        .with("Access-Control-Request-Method", "POST")
        .with("Access-Control-Request-Headers", "authorization, content-type");
    let reply = asks.ask("OPTIONS", "/pets");
    assert_eq!(
        (reply.status, reply.header("access-control-allow-methods")),
        (204, Some("POST")),
        "{reply:?}"
    );
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization, content-type"));
    is(&asks.clone().with("Origin", "null").ask("OPTIONS", "/pets"), 403, "origin_not_allowed");
    is(&asks.without("Access-Control-Request-Method").ask("OPTIONS", "/pets"), 405, "method_not_allowed");
    // A refusal can be read as well.
    let refused = Caller::of(&door).with("Origin", "https://app.example").ask("GET", "/pets/7");
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("https://app.example"))
    );
}
