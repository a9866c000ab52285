//! Who is let in over HTTP, what the others are told, and where a token never goes.

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::client::{Answer, Client, Door, NEWEST, request, tool};
use crate::support::{HttpServer, SECRET, Setup, code, eventually, get, mint, reason, said};

const OAUTH: &str = "[http.oauth]
resource = \"https://mcp.example.org/mcp\"
authorization_servers = [\"https://login.example.org\"]
scopes = [\"tools:call\"]";

const METADATA: &str = "/.well-known/oauth-protected-resource/mcp";

/// A token whose claims differ from a good one's in these.
#[allow(clippy::needless_pass_by_value, reason = "it is called with json!(…) in place")]
pub(super) fn odd(changes: Value) -> String {
    signed(&changes, SECRET)
}

fn signed(changes: &Value, secret: &str) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({
        "sub": "ann", "role": "admin", "iss": "sentinel-gateway", "aud": "sentinel-api",
        "iat": now, "exp": now + 3600,
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// A parameter of the challenge.
pub(super) fn challenge(answer: &Answer, parameter: &str) -> Option<String> {
    let value = answer.header("www-authenticate").unwrap_or_else(|| panic!("no challenge: {answer:?}"));
    let parameters = value.strip_prefix("Bearer ").unwrap_or_else(|| panic!("another scheme: {value}"));
    let found = parameters.split(", ").find_map(|one| one.strip_prefix(&format!("{parameter}=")));
    found.map(|quoted| quoted.trim_matches('"').to_owned())
}

/// Every way of asking for something.
fn everything(client: &Client) -> Vec<(&'static str, Answer)> {
    let (modern, body) = client.modern("tools/call", &tool("echo", json!({})));
    let inside = client.with("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA");
    vec![
        ("initialize", client.post(&request("initialize", &json!({"protocolVersion": NEWEST})))),
        ("a call", inside.post(&request("tools/call", &tool("echo", json!({}))))),
        ("a ping", client.post(&request("ping", &json!({})))),
        ("a notification", inside.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))),
        ("no JSON at all", client.post_text("{".to_owned())),
        ("the standing stream", inside.get()),
        ("an end", inside.delete()),
        ("a stateless call", modern.post(&body)),
        ("discovery", client.ask("server/discover", &json!({}))),
    ]
}

#[test]
fn without_a_good_token_nothing_is_done_and_it_is_said_where_tokens_come_from() {
    let mut door = Door::open(Setup::echo(), OAUTH);
    let anyone = door.anyone();
    let now = jsonwebtoken::get_current_timestamp();
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJyb2xlIjoiYWRtaW4ifQ.";
    let visitors = [
        ("no token", anyone.clone()),
        ("garbage", anyone.bearer("garbage")),
        ("three dots of garbage", anyone.bearer("a.b.c")),
        ("expired", anyone.bearer(&mint("ann", "admin", -3600))),
        ("another audience", anyone.bearer(&odd(json!({"aud": "another-api"})))),
        ("another issuer", anyone.bearer(&odd(json!({"iss": "somebody"})))),
        ("not yet", anyone.bearer(&odd(json!({"nbf": now + 3600})))),
        ("another key", anyone.bearer(&signed(&json!({}), "fedcba9876543210fedcba9876543210-not-ours"))),
        ("no signature", anyone.bearer(none)),
        ("another scheme", anyone.with("authorization", "Basic YW5uOmFubg==")),
        ("no scheme", anyone.with("authorization", &mint("ann", "admin", 3600))),
        ("a token of 16 KiB", anyone.bearer(&"x".repeat(16 << 10))),
    ];
    for (who, client) in &visitors {
        for (what, answer) in everything(client) {
            assert_eq!(answer.status, 401, "{who}, {what}: {answer:?}");
            let place = challenge(&answer, "resource_metadata");
            assert_eq!(
                place.as_deref(),
                Some(&*format!("https://mcp.example.org{METADATA}")),
                "{who}, {what}"
            );
            assert_eq!(challenge(&answer, "scope").as_deref(), Some("tools:call"), "{who}, {what}");
            assert!(answer.header("mcp-session-id").is_none(), "{who}, {what}");
            assert!(answer.value()["error"]["message"].is_string(), "{who}, {what}: {answer:?}");
        }
    }
    assert_eq!(door.sessions(), 0);
    let ann = door.client("ann").hello(NEWEST);
    assert!(ann.structured("calls")["echo"].is_null(), "nothing reached the backend");
    door.gateway.signal(rustix::process::Signal::TERM);
    door.gateway.wait_exit();
}

/// RFC 6750, section 3.1: no error code where nothing was tried; `invalid_token` where something was.
#[test]
fn the_challenge_tells_a_missing_token_from_a_bad_one() {
    let door = Door::open(Setup::echo(), OAUTH);
    let bad = door.anyone().bearer("garbage").request("ping", &json!({}));
    assert_eq!(challenge(&bad, "error").as_deref(), Some("invalid_token"));
    let none = door.anyone().request("ping", &json!({}));
    assert_eq!(challenge(&none, "error"), None, "{none:?}");
}

/// 2026-07-28: a server's own codes lie outside of what JSON-RPC reserves.
#[test]
fn a_stateless_request_without_a_token_is_refused_with_a_code_of_that_era() {
    let door = Door::echo();
    let refused = door.anyone().ask("tools/list", &json!({}));
    assert_eq!(refused.status, 401);
    let code = code(&refused.value());
    assert!(!(-32_768..=-32_000).contains(&code), "{refused:?}");
}

/// RFC 9728, section 3.
#[test]
fn everybody_may_read_where_tokens_come_from() {
    let door = Door::open(Setup::echo(), OAUTH);
    for client in [door.anyone(), door.anyone().bearer("garbage"), door.client("ann")] {
        let answer = client.at(METADATA).get();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let expected = json!({
            "resource": "https://mcp.example.org/mcp",
            "authorization_servers": ["https://login.example.org"],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["tools:call"],
        });
        assert_eq!(answer.value(), expected);
    }
    let plain = Door::echo();
    assert_eq!(plain.anyone().at(METADATA).get().status, 404);
    let refused = plain.anyone().request("ping", &json!({}));
    assert_eq!(challenge(&refused, "resource_metadata"), None, "there is nothing to point at");
}

#[test]
fn a_minted_token_opens_the_door_in_both_eras() {
    let door = Door::echo();
    let minted = door.gateway.setup.run(&["token", "mint", "--sub", "cat", "--role", "admin"]);
    assert!(minted.status.success(), "{minted:?}");
    let cat = door.anyone().bearer(String::from_utf8(minted.stdout).unwrap().trim());
    assert_eq!(cat.hello(NEWEST).structured("echo")["name"], "echo");
    let answer = cat.ask("tools/call", &tool("echo", json!({})));
    assert_eq!(answer.value()["result"]["structuredContent"]["name"], "echo", "{answer:?}");
    let rows = door.gateway.await_audit("both calls", |rows| {
        (rows.iter().filter(|row| row["status"] == "success").count() == 2).then(|| rows.to_vec())
    });
    assert!(rows.iter().all(|row| row["subject"] == "cat"), "{rows:?}");
}

#[test]
fn a_token_in_the_query_is_nobodys() {
    let door = Door::echo();
    let token = mint("ann", "admin", 3600);
    let query = format!("/mcp?access_token={token}&token={token}&authorization=Bearer%20{token}");
    for (what, answer) in everything(&door.anyone().at(&query)) {
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
    }
    let spoilt = door.client("ann").at("/mcp?access_token=garbage").hello(NEWEST);
    assert_eq!(spoilt.structured("echo")["name"], "echo", "nor does one there spoil the one in the header");
    assert!(!door.gateway.log().contains(&token));
}

#[test]
fn two_tokens_are_none() {
    let door = Door::echo();
    let (one, other) = (mint("ann", "admin", 3600), mint("bob", "admin", 3600));
    let both = door.anyone().bearer(&one).twice("authorization", &format!("Bearer {other}"));
    let refused = both.request("ping", &json!({}));
    assert!(matches!(refused.status, 400 | 401), "{refused:?}");
}

/// MCP "Authorization": a server must not pass on the token it was given.
#[test]
fn what_a_client_proves_itself_with_stays_at_the_door() {
    let server = HttpServer::start(&[]);
    let door = Door::open(Setup::new().http("web", &server.url(), ""), "");
    let token = mint("ann", "admin", 3600);
    let ann = door
        .anyone()
        .bearer(&token)
        .with("cookie", "canary-cookie=1")
        .with("proxy-authorization", "Basic canary-proxy")
        .with("x-api-key", "canary-key")
        .with("x-sentinel-auth", "canary-shared");
    let session = ann.hello(NEWEST);
    eventually("the backend", || session.tools().contains(&"echo".to_owned()).then_some(()));
    assert_eq!(session.structured("echo")["name"], "echo");
    let answer = ann.ask("tools/call", &tool("echo", json!({})));
    assert_eq!(answer.value()["result"]["structuredContent"]["name"], "echo", "{answer:?}");
    let log = get(&format!("127.0.0.1:{}", server.port()), "/log", None).unwrap();
    let calls = log.body.matches("\\\"tools/call\\\"").count();
    assert_eq!(calls, 2, "{}", log.body);
    let audit = door.gateway.await_audit("both calls", |rows| {
        let done = rows.iter().filter(|row| row["tool"] == "echo" && row["status"] == "success").count();
        (done == 2).then(|| Value::from(rows).to_string())
    });
    for (place, text) in
        [("the backend", &log.body), ("the log", &door.gateway.log()), ("the record", &audit)]
    {
        for secret in [&*token, "canary-cookie", "canary-proxy", "canary-key", "canary-shared"] {
            assert!(!text.contains(secret), "{place} has seen {secret}");
        }
    }
    for seen in log.json().as_array().unwrap() {
        assert!(seen["headers"].get("authorization").is_none(), "{seen}");
    }
}

#[test]
fn a_token_is_looked_at_with_every_request() {
    let door = Door::open(Setup::echo().auth("leeway_secs = 0"), "");
    let short = door.anyone().bearer(&mint("ann", "admin", 3));
    let session = short.hello(NEWEST);
    assert_eq!(session.structured("echo")["name"], "echo");
    eventually("the end of the token", || {
        (session.request("tools/list", &json!({})).status == 401).then_some(())
    });
    assert_eq!(session.get().status, 401);
    assert_eq!(session.delete().status, 401);
    assert_eq!(short.ask("tools/list", &json!({})).status, 401);
}

/// OAuth tokens live for minutes and are renewed; sessions are not opened anew for that.
#[test]
fn a_session_goes_on_with_a_renewed_token() {
    let door = Door::open(Setup::echo().auth("leeway_secs = 0"), "");
    let session = door.anyone().bearer(&mint("ann", "admin", 3)).hello(NEWEST);
    eventually("the end of the token", || {
        (session.request("tools/list", &json!({})).status == 401).then_some(())
    });
    let renewed = session.bearer(&mint("ann", "admin", 3600));
    let answer = renewed.request("tools/call", &tool("echo", json!({})));
    assert_eq!(answer.value()["result"]["structuredContent"]["name"], "echo", "{answer:?}");
}

/// The rights are those of the token at hand, not of the one that opened the session.
#[test]
fn every_request_has_the_rights_of_its_own_token() {
    let roles =
        "[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.reader]\npermissions = [\"tools.read\"]";
    let door = Door::open(Setup::echo().roles(roles), "");
    let session = door.client("ann").hello(NEWEST);
    let lowered = session.bearer(&mint("ann", "reader", 3600));
    let refused = lowered.call("echo", json!({}));
    assert_eq!((code(&refused), reason(&refused)), (-32003, "permission_denied"), "{refused}");
    assert_eq!(said(&session.call("slow", json!({"ms": 1}))), "waited 1 ms");
}

/// Sessions are bound to client, issuer and subject.
#[test]
fn another_application_of_the_same_person_has_not_its_session() {
    let door = Door::echo();
    let of = |client: &str| door.anyone().bearer(&odd(json!({"client_id": client})));
    let session = of("editor").hello(NEWEST);
    assert_eq!(session.structured("echo")["name"], "echo");
    let id = session.header("mcp-session-id");
    let stranger = of("mailer").with("mcp-session-id", id).with("mcp-protocol-version", NEWEST);
    let refused = stranger.request("tools/list", &json!({}));
    assert_eq!(refused.status, 404, "{refused:?}");
}
