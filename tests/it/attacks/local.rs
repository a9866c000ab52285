//! "Local" means a person on this machine, not a request that a proxy passes on or a child process makes.

use serde_json::{Value, json};

use crate::http_door::client::{Answer, Door, NEWEST, request, tool};
use crate::support::{Setup, said};

/// Every request from this machine counts as its user's.
fn open(setup: Setup, auth: &str, keys: &str) -> Door {
    let setup = setup.auth(&format!("mode = \"local\"\nrole = \"admin\"\n{auth}"));
    Door::open(setup, &format!("allow_local = true\n{keys}"))
}

/// What is said of the request, for people.
fn message(answer: &Answer) -> String {
    answer.value()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn local_behind_a_proxy() {
    let door = open(Setup::echo(), "", "");
    let ann = door.anyone();
    assert_eq!(ann.request("ping", &json!({})).status, 200);
    for header in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "x_forwarded_for",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
        "X-Client-IP",
        "X-Original-Forwarded-For",
        "X-Envoy-External-Address",
        "Tailscale-User-Login",
        "CDN-Loop",
    ] {
        let through = ann.with(header, "203.0.113.9");
        for answer in [through.request("ping", &json!({})), through.get(), through.delete()] {
            assert_eq!(answer.status, 401, "{header}: {answer:?}");
            let name = header.to_ascii_lowercase().replace('_', "-");
            assert!(message(&answer).contains(&name), "{header}: {answer:?}");
        }
        // Nor is it found among those who were let in before.
        assert_eq!(ann.request("ping", &json!({})).status, 200);
    }
    let empty = ann.with("x-forwarded-for", "").request("ping", &json!({}));
    assert_eq!(empty.status, 401, "an empty one was added, too: {empty:?}");
    let (modern, body) = ann.with("via", "1.1 proxy").modern("tools/list", &json!({}));
    assert_eq!(modern.post(&body).status, 401);
}

#[test]
fn a_session_of_the_local_user_is_not_a_proxys() {
    let door = open(Setup::echo(), "", "");
    let session = door.anyone().hello(NEWEST);
    assert_eq!(session.structured("echo")["name"], "echo");
    let through = session.with("x-forwarded-for", "203.0.113.9");
    assert_eq!(through.request("tools/list", &json!({})).status, 401);
    assert_eq!(through.with("accept", "text/event-stream").get().status, 401);
    assert_eq!(through.delete().status, 401);
    assert_eq!(session.structured("echo")["name"], "echo", "it was not ended");
}

#[test]
fn by_a_public_name_nobody_is_local() {
    let door = open(Setup::echo(), "", "allowed_hosts = [\"mcp.example.org\"]");
    let ann = door.anyone();
    assert_eq!(ann.request("ping", &json!({})).status, 200);
    assert_eq!(ann.with("host", "localhost").request("ping", &json!({})).status, 200);
    let public = ann.with("host", "mcp.example.org").request("ping", &json!({}));
    assert_eq!(public.status, 401, "{public:?}");
}

#[test]
fn a_credential_counts_through_a_proxy_too() {
    // printf %s sk-eve-000000000000000000000000 | sha256sum
    let keys = "api_keys = [{ id = \"eve\", role = \"admin\", sha256 = \"42f33ee329370915c70d6054e0b20df827256d7674bc5332f16688828cf37905\" }]";
    let door = open(Setup::echo(), keys, "");
    let through = door.anyone().with("x-forwarded-for", "203.0.113.9");
    assert_eq!(through.request("ping", &json!({})).status, 401);
    let eve = through.with("x-api-key", "sk-eve-000000000000000000000000");
    assert_eq!(eve.hello(NEWEST).structured("echo")["name"], "echo");
}

/// A server that comes to the door of its own gateway, itself or through what it starts.
const KNOCKING: &str = r#"
import subprocess
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ["itself", "child", "apart", "thread"]]

KNOCK = """
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
body = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
c.request("POST", "/mcp", body, {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"})
answer = c.getresponse()
print(answer.status, answer.read().decode())
"""

def run(port, **how):
    knock = [sys.executable, "-c", KNOCK, port]
    return subprocess.run(knock, capture_output=True, text=True, **how).stdout

def call(id, params):
    port, way = params["arguments"]["port"], params["name"]
    if way == "child":
        said = run(port)
    elif way == "apart":
        said = run(port, start_new_session=True, env={})
    else:
        import contextlib, io, threading
        out = io.StringIO()
        def knock():
            with contextlib.redirect_stdout(out):
                sys.argv = ["knock", port]
                exec(KNOCK, {})
        if way == "thread":
            thread = threading.Thread(target=knock)
            thread.start()
            thread.join()
        else:
            knock()
        said = out.getvalue()
    text(id, said)
"#;

#[test]
fn a_server_behind_the_gateway_is_not_its_user() {
    let door = open(Setup::new().scripted("srv", KNOCKING, "").rate_limits("default_rpm = 1000"), "", "");
    let port = door.address.rsplit_once(':').unwrap().1;
    let ann = door.anyone().hello(NEWEST);
    for way in ["itself", "child", "apart", "thread"] {
        let answer = ann.call(way, json!({"port": port}));
        let heard = said(&answer);
        assert!(heard.starts_with("401 "), "{way}: {heard}");
        assert!(heard.contains("started"), "{way}: {heard}");
    }
    door.gateway.await_log("a server must not call the gateway it works for", 4);
    assert_eq!(ann.request("tools/list", &json!({})).status, 200, "its user still is");
}

#[test]
fn without_allow_local_nothing_is_looked_for() {
    let door = Door::echo();
    let ann = door.client("ann").with("x-forwarded-for", "203.0.113.9").with("via", "1.1 proxy");
    let answer: Value = ann.hello(NEWEST).request("tools/call", &tool("echo", json!({}))).value();
    assert_eq!(
        answer["result"]["structuredContent"]["name"], "echo",
        "a token counts wherever it comes from"
    );
    let bad = door.anyone().with("via", "1.1 proxy").post(&request("ping", &json!({})));
    assert_eq!(bad.status, 401);
    assert!(!message(&bad).contains("via"), "{bad:?}");
}
