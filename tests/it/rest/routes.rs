//! A request for a route is a call: it reaches its upstream as it was judged, and its answer comes back.

use serde_json::json;

use super::stage::{Caller, Upstream, gateway, raw, stop};
use crate::support::{Gateway, Setup, eventually};

#[test]
fn a_request_reaches_its_upstream_and_is_on_record() {
    let upstream = Upstream::start();
    let mut door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let said = ann
        .clone()
        .with("X-Tenant", "acme")
        .with("X-Forwarded-For", "203.0.113.9")
        .with("Cookie", "a=b")
        .ask("GET", "/pets/7?tags=a,b%2Cc&free=x+y");
    assert_eq!(said.status, 200, "{said:?}");
    let heard = said.json();
    assert_eq!(heard["target"], "/v1/pets/7?tags=a,b%2Cc&free=x%20y");
    let headers = &heard["headers"];
    assert_eq!((&headers["x-tenant"], &headers["x-key"]), (&json!("acme"), &json!("of-the-gateway")));
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1", "what a client says of that is not passed on");
    assert!(headers["authorization"].is_null() && headers["cookie"].is_null(), "{headers}");
    assert_eq!(headers["x-request-id"].as_str(), said.header("x-request-id"));
    // The body goes on as it was sent, to the number.
    let said = ann.json("POST", "/pets", r#"{"name":"rex",  "weight": 1.50}"#);
    assert_eq!(said.json()["body"], r#"{"name":"rex",  "weight": 1.50}"#, "{said:?}");
    let said = ann.send("PUT", "/files/a/b%20c.csv", "text/csv", b"a;b\n\xff");
    assert_eq!((said.status, &said.json()["target"]), (200, &json!("/files/a/b%20c.csv")), "{said:?}");
    // MCP is where it was.
    let mcp = door.client("ann").at("/mcp/health").get();
    assert_eq!(mcp.status, 200);
    let id = said.header("x-request-id").unwrap().to_owned();
    stop(&mut door);
    let rows = door.gateway.audit();
    let row = |method: &str| {
        rows.iter().find(|row| row["method"] == method).unwrap_or_else(|| panic!("{method}: {rows:?}"))
    };
    let get = row("GET /pets/{petId}");
    assert_eq!(
        (&get["tool"], &get["backend"], &get["status"]),
        (&json!("getPet"), &json!("api"), &json!("success"))
    );
    assert_eq!((&get["subject"], &get["kind"]), (&json!("ann"), &json!("route")));
    let arguments = &get["arguments"];
    assert_eq!(arguments["path"], json!({"petId": 7}));
    assert_eq!(arguments["query"], json!({"tags": ["a", "b,c"], "free": "x y"}));
    assert_eq!(row("POST /pets")["arguments"]["body"]["name"], "rex");
    assert_eq!(
        row("PUT /files/{*path}")["rpc_id"],
        id.as_str(),
        "a row is found by the number of the answer"
    );
}

#[test]
fn an_answer_is_passed_on_without_what_is_for_one_connection() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let said = ann.ask("GET", "/any/hop");
    assert_eq!((said.status, said.header("x-outer"), said.header("x-inner")), (200, Some("2"), None));
    assert_eq!(said.header("set-cookie"), Some("a=b"));
    for status in [200, 201, 204, 304, 400, 404, 409, 418, 429, 500, 503] {
        let said = ann.ask("GET", &format!("/any/status/{status}"));
        assert_eq!(said.status, status, "the upstream's own answer: {said:?}");
    }
    let moved = ann.ask("GET", "/any/redirect");
    assert_eq!((moved.status, moved.header("location")), (302, Some("/elsewhere?a=b")));
    let head = ann.ask("HEAD", "/any/x");
    assert_eq!((head.status, head.body.len()), (200, 0), "{head:?}");
    assert_eq!(ann.ask("GET", "/any/large").refusal(), (502, "answer_too_large".to_owned()));
}

#[test]
fn a_stream_goes_through_both_ways() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let body = vec![b'y'; 8 << 20];
    let said = ann.send("POST", "/flow/echo", "application/octet-stream", &body);
    assert_eq!(said.status, 200);
    assert_eq!(said.json()["body"].as_str().unwrap().len(), body.len(), "more than a message may have");
    let said = ann.send("POST", "/flow/large", "text/plain", b"x");
    assert_eq!((said.status, said.body.len()), (200, 2 << 20), "more than is read whole");
    let said = ann.send("POST", "/flow/echo", "text/plain", &vec![b'y'; 20_000_001]);
    assert_eq!(said.refusal(), (413, "body_too_large".to_owned()));
}

#[test]
fn routes_come_and_go_while_the_gateway_runs() {
    let upstream = Upstream::start();
    let mut door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    assert_eq!(ann.ask("GET", "/new/1").refusal(), (404, "not_found".to_owned()));
    assert_eq!(ann.ask("GET", "/keyed").status, 401);
    let file = door.gateway.setup.path("sentinel.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let more =
        "[[routes]]\nid = \"new\"\nmethod = \"GET\"\npath = \"/new/{x}\"\ntarget = { upstream = \"api\" }\n";
    let text = format!("{}\n{more}", text.replace("auth = \"api_key\"\n", ""))
        .replace("path = \"/open/", "path = \"/opened/");
    door.gateway.reload(|setup| setup.set_whole(&text));
    eventually("the new route", || (ann.ask("GET", "/new/1").status == 200).then_some(()));
    assert_eq!(ann.ask("GET", "/keyed").status, 200, "by a token now");
    assert_eq!(Caller::of(&door).ask("GET", "/open/x").status, 404);
    assert_eq!(Caller::of(&door).ask("GET", "/opened/x").status, 200);
    // A mistake changes nothing.
    let wrong = text.replace("/new/{x}", "/new/{x");
    let before = door.gateway.log().len();
    door.gateway.reload(|setup| setup.set_whole(&wrong));
    eventually("the mistake", || door.gateway.log()[before..].contains("routes").then_some(()));
    assert_eq!(ann.ask("GET", "/new/1").status, 200);
    let log = door.gateway.log();
    assert!(log.contains("routes \"new\" (new)") && log.contains("routes \"keyed\".auth"), "{log}");
}

#[test]
fn a_client_that_hangs_up_leaves_a_row() {
    use std::io::Write as _;
    let upstream = Upstream::start();
    let mut door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let mut stream = std::net::TcpStream::connect(&door.address).unwrap();
    stream.write_all(&ann.text("GET", "/any/hang", None)).unwrap();
    eventually("the request at the upstream", || (upstream.asked() > 0).then_some(()));
    drop(stream);
    let gateway: &mut Gateway = &mut door.gateway;
    gateway.await_audit("the cancelled call", |rows| {
        rows.iter().find(|row| row["tool"] == "any" && row["status"] == "cancelled").map(drop)
    });
    assert_eq!(raw(&door.address, &ann.text("GET", "/pets/7", None)).unwrap().status, 200);
}

#[test]
fn two_routes_with_one_meaning_and_other_mistakes_are_told_at_once() {
    let file = r#"
[http]
expected_routes = 3
[[upstreams]]
name = "echo"
url = "ftp://x"
[[engines]]
name = "e"
command = "true"
exits = { 0 = 200, 7 = 200 }
[[routes]]
method = "GET"
path = "/a/{x}"
target = { upstream = "nope" }
[[routes]]
id = "two"
method = "GET"
path = "/b/{x}"
target = { engine = "e", operation = "o", args = ["{path.y}"] }
[[routes]]
id = "three"
method = "GET"
path = "/b/{y}"
target = { engine = "e", operation = "o" }
stream = true
[[routes]]
id = "two"
method = "GTE"
path = "b//c"
auth = "none"
scopes = ["x"]
[[routes.parameters]]
name = "p"
in = "path"
schema = "{"
"#;
    let setup = Setup::echo().more(file);
    let (code, said) = setup.refused(&["check"]);
    assert_ne!(code, Some(0));
    for text in [
        "is called \"echo\" as well",
        "is not the url of an http server",
        "0 is the exit of a call that went well",
        "200 is no status of a failure",
        "{path.y} stands for nothing",
        "an engine gives one document",
        "did you mean GET?",
        "a path begins with `/`",
        "a route needs a target",
        "a route for everybody asks for no scopes",
        "it is not JSON",
        "there are 4 routes, and 3 are expected",
    ] {
        assert!(said.contains(text), "{text}:\n{said}");
    }
    let conflict = r#"
[http]
[[engines]]
name = "e"
command = "true"
[[routes]]
id = "one"
method = "GET"
path = "/b/{x}"
target = { engine = "e", operation = "o" }
[[routes]]
id = "two"
method = "GET"
path = "/b/{y}"
target = { engine = "e", operation = "o" }
[[routes]]
id = "three"
method = "GET"
path = "/mcp"
target = { engine = "e", operation = "o" }
"#;
    let (_, said) = Setup::echo().more(conflict).refused(&["check"]);
    for text in ["GET /b/{y} is answered by routes[0] already", "/mcp is served by the gateway itself"] {
        assert!(said.contains(text), "{text}:\n{said}");
    }
}

#[test]
fn a_route_says_when_it_ends_and_answers_at_its_older_path() {
    let upstream = Upstream::start();
    let more = r#"
[[routes]]
id = "getToy"
method = "GET"
path = "/pets/{petId}/toys/{toy}"
target = { upstream = "api" }
legacy_paths = [{ path = "/v0/toy/{toy}/of/{petId}", since = "2026-01-31", sunset = "2030-12-31" }]
[[routes.parameters]]
name = "petId"
in = "path"
schema = '{"type":"integer"}'

[[routes]]
id = "old"
method = "GET"
path = "/old"
auth = "none"
target = { upstream = "api" }
deprecated_since = "2026-02-01T12:00:00Z"
"#;
    let mut door = gateway(&upstream, Setup::echo().more(more), "compression = true\nexpected_routes = 11");
    let ann = Caller::token(&door, "ann", "admin");
    let today = ann.ask("GET", "/pets/7/toys/ball");
    assert_eq!((today.status, today.header("deprecation"), today.header("link")), (200, None, None));
    let old = ann.ask("GET", "/v0/toy/b%C3%A4ll/of/7");
    assert_eq!(
        (old.status, &old.json()["target"]),
        (200, &json!("/pets/7/toys/b%C3%A4ll")),
        "the path of today"
    );
    assert_eq!(old.header("deprecation"), Some("@1769817600"));
    assert_eq!(old.header("sunset"), Some("Tue, 31 Dec 2030 00:00:00 GMT"));
    assert_eq!(old.header("link"), Some("</pets/7/toys/b%C3%A4ll>; rel=\"successor-version\""));
    // The same rules hold there: the token, the schema, the methods.
    let stranger = Caller::of(&door).ask("GET", "/v0/toy/ball/of/7");
    assert_eq!((stranger.status, stranger.header("deprecation")), (401, Some("@1769817600")));
    assert_eq!(ann.ask("GET", "/v0/toy/ball/of/rex").status, 400);
    let wrong = ann.ask("DELETE", "/v0/toy/ball/of/7");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(Caller::of(&door).ask("GET", "/old").header("deprecation"), Some("@1769947200"));
    let document = ann.ask("GET", "/openapi.json").json();
    assert_eq!(document["paths"]["/old"]["get"]["deprecated"], true);
    assert!(document["paths"]["/v0/toy/{toy}/of/{petId}"].is_null(), "the document is of today");
    stop(&mut door);
    let rows = door.gateway.audit();
    let at_old =
        rows.iter().filter(|row| row["method"] == "GET /v0/toy/{toy}/of/{petId}" && row["tool"] == "getToy");
    assert_eq!(at_old.count(), 2, "{rows:?}");
}

#[test]
fn mistakes_of_older_paths_are_told_at_once() {
    let setup = Setup::echo().gateway("listen = \"127.0.0.1:0\"").more(
        r#"
[http]
[[upstreams]]
name = "api"
url = "http://127.0.0.1:9"
[[routes]]
id = "a"
method = "GET"
path = "/a/{x}"
target = { upstream = "api" }
sunset = "soon"
legacy_paths = [
    { path = "/b/{y}", since = "2026-01-01" },
    { path = "/c/{x}" },
    { path = "/d/{x}", since = "2026-01-01", sunset = "2025-01-01" },
    { path = "/e", since = "2026-01-01" },
]
[[routes]]
id = "e"
method = "GET"
path = "/e/{z}"
target = { upstream = "api" }
legacy_paths = [{ path = "/a/{z}", since = "2026-01-01" }]
"#,
    );
    let (code, said) = setup.refused(&["check"]);
    assert_ne!(code, Some(0));
    for what in [
        "\"soon\" is no date",
        "/b/{y} has other names than /a/{x}",
        "since when callers should not use it",
        "it ends before callers are told",
        "/e has other names",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn long_texts_are_compressed_for_those_who_take_it_and_what_streams_is_not() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo(), "compression = true");
    let long = "x".repeat(3_000);
    let ann = Caller::token(&door, "ann", "admin").with("User-Agent", &long);
    let plain = ann.ask("GET", "/any/echo");
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    let takes = ann.clone().with("Accept-Encoding", "br, gzip");
    let small = takes.ask("GET", "/any/echo");
    assert_eq!((small.status, small.header("content-encoding")), (200, Some("gzip")), "{small:?}");
    assert!(small.body.len() < plain.body.len() / 4 && small.body.starts_with(&[0x1f, 0x8b]));
    assert_eq!(
        takes.clone().with("Accept-Encoding", "gzip;q=0").ask("GET", "/any/echo").header("content-encoding"),
        None
    );
    // What is short, what streams, and a problem document stay as they are.
    assert_eq!(takes.ask("GET", "/any/status/200").header("content-encoding"), None);
    let flow = takes.send("POST", "/flow/large", "text/plain", b"x");
    assert_eq!((flow.status, flow.body.len(), flow.header("content-encoding")), (200, 2 << 20, None));
    assert_eq!(takes.ask("GET", "/nothing").refusal().0, 404);
    // The document has a weak tag, because it may be sent in two forms.
    let document = takes.ask("GET", "/openapi.json");
    assert_eq!(document.header("content-encoding"), Some("gzip"));
    let tag = document.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let strong = tag.trim_start_matches("W/").to_owned();
    for known in [tag.clone(), strong, format!("\"other\", {tag}"), "*".to_owned()] {
        assert_eq!(
            takes.clone().with("If-None-Match", &known).ask("GET", "/openapi.json").status,
            304,
            "{known}"
        );
    }
    // Off by default.
    let door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin").with("User-Agent", &long).with("Accept-Encoding", "gzip");
    let said = ann.ask("GET", "/any/echo");
    assert_eq!((said.header("content-encoding"), said.header("vary")), (None, None));
}
