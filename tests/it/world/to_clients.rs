//! The HTTP door as browsers, load balancers, and clients with habits of their own meet it.

use serde_json::{Value, json};

use crate::http_door::client::{Client, Door, NEWEST, STATELESS, request, tool};
use crate::http_door::raw::{Raw, post};
use crate::support::{Setup, eventually, free_address, get, mint, reason, said};

const PAGE: &str = "https://app.example.org";

/// `slow` answers as soon as the test has made a file.
const SLOW: &str = r#"
tools = [{"name": "echo", "inputSchema": {"type": "object"}}, {"name": "slow", "inputSchema": {"type": "object"}}]

def call(id, params):
    if params["name"] == "slow":
        while not os.path.exists("go"):
            time.sleep(0.02)
    text(id, "called " + params["name"])
"#;

fn door(keys: &str) -> Door {
    Door::open(Setup::new().scripted("srv", SLOW, ""), keys)
}

fn pages() -> Door {
    door(&format!("allowed_origins = [\"{PAGE}\"]"))
}

/// What a browser asks before a page may call.
fn preflight(client: &Client, origin: &str, wanted: &str) -> crate::http_door::client::Answer {
    client
        .with("origin", origin)
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", wanted)
        .options()
}

#[test]
fn web_page_cannot_call() {
    let door = pages();
    let wanted = "content-type, mcp-session-id, mcp-protocol-version, authorization";
    // A browser sends no token with it.
    let asked = preflight(&door.anyone().without("accept").without("content-type"), PAGE, wanted);
    assert_eq!(asked.status, 204, "{asked:?}");
    assert_eq!(asked.header("access-control-allow-origin"), Some(PAGE), "{asked:?}");
    assert_eq!(asked.header("access-control-allow-headers"), Some(wanted), "{asked:?}");
    for method in ["GET", "POST", "DELETE"] {
        assert!(asked.header("access-control-allow-methods").unwrap().contains(method), "{asked:?}");
    }
    assert!(asked.header("access-control-allow-credentials").is_none(), "{asked:?}");
    let ada = door.client("ada").with("origin", PAGE);
    let hello = ada.request("initialize", &hello());
    assert_eq!((hello.status, hello.header("access-control-allow-origin")), (200, Some(PAGE)), "{hello:?}");
    let exposed = hello.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("Mcp-Session-Id") && exposed.contains("WWW-Authenticate"), "{exposed}");
    // Errors, too, or the page cannot say what is wrong.
    for (what, answer) in [
        ("no token", door.anyone().with("origin", PAGE).request("ping", &json!({}))),
        ("no session", ada.with("mcp-session-id", "gone").request("tools/list", &json!({}))),
        ("no page", ada.at("/nowhere").get()),
        ("a wrong type", ada.with("content-type", "text/plain").post_text("{}".to_owned())),
        ("no authorization server", ada.at("/.well-known/oauth-protected-resource/mcp").get()),
        ("no stream in the stateless era", ada.with("mcp-protocol-version", STATELESS).get()),
    ] {
        assert!(answer.status >= 400, "{what}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{what}: {answer:?}");
    }
}

#[test]
fn every_place_of_the_door_answers_browsers_and_only_of_allowed_origins() {
    let door = pages();
    let anyone = door.anyone();
    for path in [
        "/mcp",
        "/mcp/",
        "/mcp/health",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/openid-configuration",
    ] {
        let allowed =
            preflight(&anyone.at(path), PAGE, "mcp-protocol-version, Mcp-Param-Region, traceparent");
        assert_eq!(
            (allowed.status, allowed.header("access-control-allow-origin")),
            (204, Some(PAGE)),
            "{path}"
        );
        assert!(allowed.header("vary").is_some(), "{allowed:?}");
        for stranger in
            ["https://evil.example", "null", "http://app.example.org", "https://app.example.org.evil"]
        {
            let refused = preflight(&anyone.at(path), stranger, "authorization");
            assert_eq!(refused.status, 403, "{path} of {stranger}: {refused:?}");
            let told = refused.headers.keys().any(|name| name.as_str().starts_with("access-control"));
            assert!(!told, "{path} of {stranger}: {refused:?}");
        }
    }
    // A request that comes from no web page gets no CORS headers, and a preflight of such a client is refused.
    let ada = door.client("ada").hello(NEWEST);
    let listed = ada.request("tools/list", &json!({}));
    assert!(listed.header("access-control-allow-origin").is_none(), "{listed:?}");
    assert_eq!(ada.options().status, 405);
    // What Chromium asks before a page of the internet may reach this machine.
    let network = anyone.with("access-control-request-private-network", "true");
    let asked = preflight(&network, PAGE, "authorization");
    assert_eq!(asked.header("access-control-allow-private-network"), Some("true"), "{asked:?}");
    // Headers that are no names are not repeated.
    let odd = preflight(&anyone, PAGE, "authorization;x=\"y\"");
    assert!(odd.header("access-control-allow-headers").is_none(), "{odd:?}");
}

fn hello() -> Value {
    json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}})
}

#[test]
fn slash_at_the_end() {
    let door = door("");
    let slash = door.client("ada").at("/mcp/");
    let opened = slash.request("initialize", &hello());
    assert_eq!(opened.status, 200, "{opened:?}");
    let session = opened.header("mcp-session-id").unwrap();
    let inside = slash.with("mcp-session-id", session);
    let listed = inside.request("tools/list", &json!({}));
    assert_eq!(listed.status, 200, "{listed:?}");
    let same = door.client("ada").with("mcp-session-id", session).request("tools/list", &json!({}));
    assert_eq!(same.status, 200, "it is the same endpoint: {same:?}");
    assert_eq!(inside.delete().status, 204);
    assert_eq!(slash.ask("tools/list", &json!({})).status, 200, "the stateless era, too");
    assert_eq!(door.anyone().at("/mcp/health/").get().status, 200);
    // Without a token it is the same refusal as without the slash.
    assert_eq!(door.anyone().at("/mcp/").request("ping", &json!({})).status, 401);
    // Another path says which one is served.
    for path in ["/", "/sse", "/mcp/mcp", "//mcp", "/MCP", "/.well-known/oauth-authorization-server"] {
        for answer in
            [door.client("ada").at(path).post(&request("ping", &json!({}))), door.anyone().at(path).get()]
        {
            assert_eq!(answer.status, 404, "{path}: {answer:?}");
            assert!(
                answer.value()["error"]["message"].as_str().unwrap().contains("MCP is at /mcp"),
                "{answer:?}"
            );
        }
    }
}

/// Reads until the text holds this.
fn until(raw: &mut Raw, held: &mut String, wanted: &str) {
    eventually(&format!("{wanted:?} in what came"), || {
        if held.contains(wanted) {
            return Some(());
        }
        held.push_str(&raw.some());
        None
    });
}

#[test]
fn silent_while_a_call_runs() {
    let door = door("keep_alive_secs = 0.3");
    let session = door.client("ada").hello(NEWEST);
    let call = request("tools/call", &tool("slow", json!({})));
    let mut raw = Raw::sent(&door.address, post(&session, &call.to_string()).as_bytes());
    let mut held = String::new();
    until(&mut raw, &mut held, ": keep-alive\n\n");
    let head = held.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("text/event-stream"), "{held}");
    eventually("more than one", || {
        held.push_str(&raw.some());
        (held.matches(": keep-alive\n\n").count() >= 3).then_some(())
    });
    std::fs::write(door.gateway.setup.path("go"), "").unwrap();
    until(&mut raw, &mut held, "called slow");
    // What is quick stays one JSON message.
    let quick = session.request("tools/call", &tool("echo", json!({})));
    assert_eq!(quick.header("content-type"), Some("application/json"), "{quick:?}");
    assert_eq!(said(&quick.value()), "called echo");
}

#[test]
fn a_long_call_without_a_session_lives_and_ends_with_its_connection() {
    let door = door("keep_alive_secs = 0.3");
    let (modern, body) = door.client("ada").modern("tools/call", &tool("slow", json!({})));
    let mut raw = Raw::sent(&door.address, post(&modern, &body.to_string()).as_bytes());
    let mut held = String::new();
    until(&mut raw, &mut held, ": keep-alive\n\n");
    // In this era a closed connection is a cancelled call, also once the stream has begun.
    drop(raw);
    door.gateway.await_audit("the cancelled call", |rows| {
        rows.iter().any(|row| row["tool"] == "slow" && row["status"] == "cancelled").then_some(())
    });
}

#[test]
fn a_long_call_whose_client_hangs_up_goes_on_in_a_session() {
    let door = door("keep_alive_secs = 0.3");
    let session = door.client("ada").hello(NEWEST);
    let call = request("tools/call", &tool("slow", json!({})));
    let mut raw = Raw::sent(&door.address, post(&session, &call.to_string()).as_bytes());
    let mut held = String::new();
    until(&mut raw, &mut held, ": keep-alive\n\n");
    drop(raw);
    std::fs::write(door.gateway.setup.path("go"), "").unwrap();
    door.gateway.await_audit("the call that went on", |rows| {
        rows.iter().any(|row| row["tool"] == "slow" && row["status"] == "success").then_some(())
    });
}

#[test]
fn every_refusal_helps_and_is_counted_logged_and_on_record_if_it_was_a_call() {
    let health = free_address();
    let setup = Setup::new().scripted("srv", SLOW, "").gateway(&format!("health_listen = {health:?}"));
    let door = Door::open(setup.env("HEALTH_TOKEN", "let-me-see"), "");
    let ada = door.client("ada").hello(NEWEST);
    let anyone = door.anyone();
    let call = request("tools/call", &tool("echo", json!({})));
    let all = [
        ("no token", anyone.post(&call), 401, "Authorization: Bearer TOKEN"),
        ("a wrong token", anyone.bearer("nonsense").post(&call), 401, "malformed"),
        ("another scheme", anyone.with("authorization", "Basic YWRhOmFkYQ==").post(&call), 401, "Bearer"),
        ("a token that is over", anyone.bearer(&mint("ada", "admin", -3600)).post(&call), 401, "expired"),
        ("a page", ada.with("origin", "https://evil.example").post(&call), 403, "allowed origins"),
        ("an unknown session", ada.with("mcp-session-id", "gone").post(&call), 404, "initialize"),
        ("somebody else's session", ada.bearer(&mint("eve", "admin", 600)).post(&call), 404, "initialize"),
        ("no session", ada.without("mcp-session-id").post(&call), 400, "Mcp-Session-Id"),
        ("no JSON", ada.with("content-type", "text/plain").post(&call), 415, "application/json"),
        ("another path", ada.at("/sse").post(&call), 404, "MCP is at /mcp"),
    ];
    for (what, answer, status, words) in &all {
        assert_eq!(answer.status, *status, "{what}: {answer:?}");
        let text = answer.value()["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.contains(words) && text.len() < 400, "{what}: {text}");
    }
    // Refused where the message was read already: it is a row, too.
    let long =
        json!({"jsonrpc": "2.0", "id": "i".repeat(9_000), "method": "tools/call", "params": call["params"]});
    assert_eq!(ada.post(&long).status, 400);
    // A line for each reason, and not for each request.
    for _ in 0..20 {
        assert_eq!(anyone.post(&call).status, 401);
    }
    for line in ["status=401", "status=403", "status=404", "status=415"] {
        door.gateway.await_log(line, 1);
    }
    let log = door.gateway.log();
    assert!(log.matches("status=401").count() < 10, "{log}");
    assert!(!log.contains("YWRhOmFkYQ"), "no credential is in it: {log}");
    let lines = log.lines().find(|line| line.contains("no such session")).unwrap_or_default().to_owned();
    assert!(lines.contains("tools/call") && lines.contains("subject=\"ada\""), "{lines}");
    let rows = door.gateway.await_audit("all of them", |rows| {
        let refused: Vec<Value> = rows.iter().filter(|row| row["status"] != "success").cloned().collect();
        (refused.len() >= 13).then_some(refused)
    });
    let of = |words: &str| {
        rows.iter().find(|row| row["error"].as_str().is_some_and(|error| error.contains(words)))
    };
    assert_eq!(of("no such session").unwrap()["subject"], "ada", "{rows:?}");
    assert_eq!(of("no such session").unwrap()["method"], "tools/call", "{rows:?}");
    for words in [
        "expired",
        "malformed",
        "allowed origins",
        "Mcp-Session-Id",
        "application/json",
        "/sse",
        "the id of a request",
    ] {
        assert!(of(words).is_some(), "{words}: {rows:?}");
    }
    let metrics = get(&health, "/metrics", Some("let-me-see")).unwrap().body;
    assert!(metrics.contains("sentinel_http_refusals_total{status=\"401\"} 24"), "{metrics}");
    assert_eq!(reason(&all[5].1.value()), "session_unknown");
}

/// Clients that declare an ability have a connection of their own to a server that shakes hands, here a process. Editors
/// keep sessions open all day.
#[test]
fn idle_clients_do_not_use_up_the_connections_to_a_server() {
    const SERVER: &str = r#"
def other(message):
    if message.get("method") in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        result(message["id"], {})
    elif message.get("method") == "resources/list":
        result(message["id"], {"resources": [{"uri": "test://a", "name": "a"}]})
    elif message.get("id") is not None and "method" in message:
        error(message["id"], -32601, "Method not found")

def initialize(id, params):
    note("started", "one")
    abilities = {"tools": {}, "resources": {"subscribe": True}, "logging": {}}
    info = {"name": "scripted", "version": "1"}
    result(id, {"protocolVersion": "2025-06-18", "capabilities": abilities, "serverInfo": info})

def call(id, params):
    send({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "test://a"}})
    text(id, str(os.getpid()))
"#;
    let door = Door::open(Setup::new().scripted("srv", SERVER, "max_connections = 3"), "");
    let asks = |name: &str| door.client(name).greeting(NEWEST, &json!({"roots": {}}));
    let pid = |session: &Client| {
        let answer = session.call("echo", json!({}));
        said(&answer).to_owned()
    };
    // As many people as the server may have connections, and five more.
    let people: Vec<Client> = (0..8).map(|number| asks(&format!("p{number}"))).collect();
    let first: Vec<String> = people.iter().map(pid).collect();
    let different: std::collections::HashSet<&String> = first.iter().collect();
    assert_eq!(different.len(), 8, "each had a process of its own: {first:?}");
    // A client whose session made room is given another; the client that came last still has its own.
    assert_eq!(pid(&people[7]), first[7]);
    assert_ne!(pid(&people[0]), first[0]);
    // A subscription is a reason to stay: the server may have something to say.
    let listens = asks("listens");
    let before = pid(&listens);
    let subscribed = listens.request("resources/subscribe", &json!({"uri": "test://a"}));
    assert!(subscribed.value()["result"].is_object(), "{subscribed:?}");
    for person in &people {
        pid(person);
    }
    assert_eq!(pid(&listens), before);
    let ended = listens.request("resources/unsubscribe", &json!({"uri": "test://a"}));
    assert!(ended.value()["result"].is_object(), "{ended:?}");
    for person in &people {
        pid(person);
    }
    assert_ne!(pid(&listens), before);
}

/// MCP demands that clients read both forms. Many send the header of one of them, or none, and other servers turn them
/// away with 406.
#[test]
fn whoever_reads_one_form_gets_that_one() {
    const SERVER: &str = r#"
def call(id, params):
    token = (params.get("_meta") or {}).get("progressToken")
    if token is not None:
        send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
    text(id, "called " + params["name"])
"#;
    let door = Door::open(Setup::new().scripted("srv", SERVER, ""), "keep_alive_secs = 0.1");
    let call = json!({"name": "echo", "arguments": {}, "_meta": {"progressToken": "p"}});
    for (accept, form) in [
        ("application/json", "application/json"),
        ("", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("*/*", "text/event-stream"),
    ] {
        let ada = door.client("ada").with("accept", accept);
        let opened = ada.request("initialize", &hello());
        assert_eq!(opened.status, 200, "{accept}: {opened:?}");
        assert_eq!(opened.value()["result"]["protocolVersion"], NEWEST, "{accept}: {opened:?}");
        let session = ada.with("mcp-session-id", opened.header("mcp-session-id").unwrap());
        let called = session.request("tools/call", &call);
        assert_eq!((called.status, called.header("content-type")), (200, Some(form)), "{accept}: {called:?}");
        assert_eq!(said(&called.value()), "called echo", "{accept}");
        if form == "application/json" {
            // What precedes the answer goes to the stream of the session, if there is one.
            assert_eq!(called.messages().len(), 1);
            let told = session.listen().next().unwrap();
            assert_eq!(told["method"], "notifications/progress", "{accept}: {told}");
        }
        let listed = ada.ask("tools/list", &json!({}));
        assert_eq!(listed.status, 200, "the stateless era, {accept}: {listed:?}");
        assert_eq!(listed.value()["result"]["tools"][0]["name"], "echo", "{accept}");
    }
    assert_eq!(door.client("ada").with("accept", "text/html").ask("tools/list", &json!({})).status, 406);
}
