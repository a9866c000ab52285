//! What two readers could read differently is refused: doubled members and headers, spellings that fold to one, two
//! credentials, one name for two things.

use serde_json::{Value, json};

use crate::http_door::client::{Client, Door, NEWEST, request, tool};
use crate::http_door::raw::{Raw, headers};
use crate::support::{Gateway, Setup, code, mint};

/// A server that reads names in any case, as Go's encoding/json does, takes the last of two, and writes down what it did.
const FOLDS: &str = r#"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("mirror", "danger")]

def folded(pairs):
    return {key.casefold(): value for key, value in pairs}

def initialize(id, params):
    abilities = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
    result(id, {"protocolVersion": "2025-06-18", "capabilities": abilities, "serverInfo": {"name": "s", "version": "1"}})

def hear_line(line):
    message = json.loads(line, object_pairs_hook=folded)
    id, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if method == "initialize":
        initialize(id, params)
    elif method == "tools/list":
        result(id, {"tools": tools})
    elif method == "prompts/list":
        result(id, {"prompts": [{"name": "mirror"}, {"name": "danger"}]})
    elif method == "resources/list":
        result(id, {"resources": [{"uri": "a://open", "name": "a"}, {"uri": "a://shut", "name": "b"}]})
    elif method == "ping" or str(method).startswith("notifications/"):
        if id is not None:
            result(id, {})
    elif method in ("server/discover", "resources/templates/list"):
        error(id, -32601, "Method not found")
    elif id is not None:
        note("ran.txt", method + " " + json.dumps(params))
        result(id, {})

def serve():
    for line in sys.stdin:
        hear_line(line)
"#;

const ROLES: &str =
    "[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [\"danger\"]\nallowed_methods = [\"acme/*\"]";

fn folds() -> Setup {
    Setup::new().scripted("srv", FOLDS, "").roles(ROLES)
}

fn ran(setup: &Setup) -> String {
    std::fs::read_to_string(setup.path("ran.txt")).unwrap_or_default()
}

/// Params that such a server, or one that ends a text at a NUL, reads as something else than what they say.
const APART: [(&str, &str); 20] = [
    ("tools/call", r#"{"name":"mirror","Name":"danger"}"#),
    ("tools/call", r#"{"name":"mirror","NAME":"danger","arguments":{}}"#),
    ("tools/call", r#"{"name":"mirror","n\u0041me":"danger"}"#),
    ("tools/call", r#"{"name":"mirror","name\u0000":"danger"}"#),
    ("tools/call", r#"{"name":"mirror","name":"danger"}"#),
    ("tools/call", r#"{"name":"mirror","arguments":{},"argument\u017f":{"all":true}}"#),
    ("tools/call", r#"{"name":"mirror","argumentſ":{"all":true}}"#),
    ("tools/call", r#"{"name":"mirror","tas\u212a":{"ttl":1}}"#),
    ("tools/call", r#"{"name":"mirror","_meta":{"progressToken":1,"ProgressToken":2}}"#),
    ("tools/call", r#"{"name":"mirror","_META":{"progressToken":2}}"#),
    ("prompts/get", r#"{"name":"mirror","Arguments":{}}"#),
    ("resources/read", r#"{"uri":"a://open","URI":"a://shut"}"#),
    (
        "completion/complete",
        r#"{"ref":{"type":"ref/prompt","name":"mirror","Name":"danger"},"argument":{"name":"a","value":""}}"#,
    ),
    (
        "completion/complete",
        r#"{"ref":{"type":"ref/prompt","name":"mirror"},"Ref":{"type":"ref/prompt","name":"danger"}}"#,
    ),
    (
        "completion/complete",
        r#"{"ref":{"type":"ref/prompt","name":"mirror"},"argument":{"name":"a","Value":""}}"#,
    ),
    ("logging/setLevel", r#"{"level":"error","Level":"debug"}"#),
    ("tools/list", r#"{"Cursor":"x"}"#),
    ("acme/run", r#"{"Name":"danger"}"#),
    ("acme/run", r#"{"uri":"a://open","Uri":"a://shut"}"#),
    ("acme/run", r#"{"ref":{"NAME":"danger"}}"#),
];

#[test]
fn names_that_fold_to_one_of_the_protocol_are_refused_at_every_level() {
    let mut gateway = Gateway::start(folds());
    for (method, params) in APART {
        gateway.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":"x","method":"{method}","params":{params}}}"#));
        let reply = gateway.reply().value;
        assert_eq!(code(&reply), -32602, "{method} {params}: {reply}");
        let text = reply["error"]["message"].as_str().unwrap();
        assert!(text.contains("the key"), "it says which: {text}");
    }
    assert_eq!(ran(&gateway.setup), "");
    // Within a tool's own arguments keys are the tool's, and a vendor's object is the vendor's.
    let free =
        r#"{"name":"mirror","arguments":{"a":{"Name":1}},"x":{"Name":1},"_meta":{"vendor.example/Name":1}}"#;
    gateway.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":"y","method":"tools/call","params":{free}}}"#));
    assert_eq!(gateway.reply().value["result"], json!({}));
    assert_eq!(ran(&gateway.setup).lines().count(), 1);
    // Refused or not, each is on record.
    gateway.end();
    let refused = gateway.audit().into_iter().filter(|row| row["status"] == "invalid_args").count();
    assert_eq!(refused, APART.len());
}

#[test]
fn neither_over_http_nor_in_a_batch_nor_without_a_session() {
    let door = Door::open(folds(), "");
    let ann = door.client("ann");
    let (session, old) = (ann.hello(NEWEST), ann.hello("2025-03-26"));
    for (method, params) in APART {
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        assert_eq!(code(&session.post_text(message.clone()).value()), -32602, "{message}");
        assert_eq!(code(&old.post_text(format!("[{message}]")).value()[0]), -32602, "{message}");
        if matches!(method, "tools/call" | "resources/read" | "acme/run") && !params.contains("_meta") {
            let name = if method == "resources/read" { "a://open" } else { "mirror" };
            let own = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
            let params = format!("{},{own}}}", params.strip_suffix('}').unwrap());
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let modern = ann.with("mcp-protocol-version", "2026-07-28").with("mcp-method", method);
            let modern = if method == "acme/run" { modern } else { modern.with("mcp-name", name) };
            assert_eq!(code(&modern.post_text(message.clone()).value()), -32602, "{message}");
        }
    }
    // What the sender of a stateless request says of itself.
    let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"Elicitation":{}}}"#;
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"mirror","_meta":{meta}}}}}"#
    );
    let modern = ann.with("mcp-protocol-version", "2026-07-28").with("mcp-method", "tools/call");
    assert_eq!(code(&modern.with("mcp-name", "mirror").post_text(message).value()), -32602);
    assert_eq!(ran(&door.gateway.setup), "");
}

#[test]
fn a_message_and_what_a_client_says_of_itself_have_one_spelling() {
    let mut gateway = Gateway::spawn(folds());
    for hello in [
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"Capabilities":{"roots":{}}}"#,
        r#"{"protocolVersion":"2025-11-25","capabilities":{"ROOTS":{}},"clientInfo":{"name":"c","version":"1"}}"#,
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1","Name":"d"}}"#,
        r#"{"protocolVersion":"2025-11-25","capabilities":{"experimental":{"a":{},"a":{}}}}"#,
    ] {
        gateway.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{hello}}}"#));
        assert_eq!(code(&gateway.reply().value), -32602, "{hello}");
    }
    gateway.initialize();
    for message in [
        r#"{"jsonrpc":"2.0","ID":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"mirror"},"Params":{"name":"danger"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","param\u017f":{"name":"danger"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","JSONRPC":"1.0"}"#,
        r#"{"jsonrpc":"2.0","id":1,"RESULT":{}}"#,
    ] {
        gateway.send_raw(message);
        assert_eq!(code(&gateway.reply().value), -32600, "{message}");
    }
    gateway.end();
    assert_eq!(ran(&gateway.setup), "");
}

/// The entry is left out, and everything else works.
#[test]
fn an_entry_of_a_list_that_can_be_read_in_two_ways_is_left_out() {
    let code = r#"
plain = '{"name":"%s","inputSchema":{"type":"object"}%s}'
entries = [plain % ("good", ""), plain % ("twice", ',"name":"good"'), plain % ("folded", ',"Name":"good"'),
           plain % ("deep", ',"annotations":{"readOnlyHint":true,"ReadOnlyHint":false}'),
           '{"name":"schema","inputSchema":{"type":"object","type":"string"}}',
           plain % ("other", ',"x":{"Name":1}')]

def hear(message):
    id, method = message.get("id"), message.get("method")
    if method == "initialize":
        initialize(id, {})
    elif method == "tools/list":
        print('{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s]}}' % (json.dumps(id), ",".join(entries)), flush=True)
    elif method == "tools/call":
        call(id, message["params"])
    elif id is not None:
        result(id, {})
"#;
    let mut gateway = Gateway::start(Setup::new().scripted("srv", code, ""));
    assert_eq!(gateway.tools(), ["good", "other"]);
    assert!(gateway.call("good", json!({}))["result"].is_object());
    let log = gateway.log();
    for name in ["twice", "folded", "deep", "schema"] {
        assert!(
            log.contains(&format!("name=\"{name}\"")) || log.contains(&format!("name={name}")),
            "{name}: {log}"
        );
    }
}

/// Whatever a server says by itself, and an answer that cannot be read in one way.
#[test]
fn what_a_server_says_in_two_ways_is_not_passed_on() {
    let code = r#"
waiting = None

def say(text):
    print(text, flush=True)

def call(id, params):
    global waiting
    kind = params["arguments"]["kind"]
    if kind == "notes":
        say('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"bad","Data":1}}')
        say('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"bad","x":{"a":1,"a":2}}}')
        say('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"good","x":{"A":1}}}')
        text(id, "done")
    elif kind == "asks":
        waiting = id
        say('{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"harmless","Message":"evil"}}')
    else:
        say('{"jsonrpc":"2.0","id":%d,"result":{},"Result":{"content":[]}}' % id)

def other(message):
    if message.get("id") == "q":
        text(waiting, json.dumps(message))
"#;
    let mut gateway = Gateway::spawn(Setup::new().scripted("srv", code, ""));
    gateway.hello(NEWEST, &json!({"elicitation": {}}));
    let done = gateway.call("echo", json!({"kind": "notes"}));
    assert_eq!(done["result"]["content"][0]["text"], "done", "{done}");
    assert_eq!(gateway.heard("notifications/message")["params"]["data"], "good");
    let refused = gateway.call("echo", json!({"kind": "asks"}));
    let told = refused["result"]["content"][0]["text"].as_str().unwrap();
    assert!(told.contains("-32602") && !told.contains("evil"), "{told}");
    let broken = gateway.call("echo", json!({"kind": "answers"}));
    assert_eq!(crate::support::code(&broken), -32603, "at once, and not after the time limit: {broken}");
    assert_eq!(
        gateway.log().matches("a message of a server was not passed on").count(),
        1,
        "{}",
        gateway.log()
    );
}

const KEYS: &str = r#"api_keys = [
  { id = "ann", role = "admin", sha256 = "206eb61bf3cb70db1817307f471e8f75df9afdfbadc556aa3d5a25bbbd811758" },
  { id = "bob", role = "admin", sha256 = "19c915934df8287f746c716c04c2e0e79230c8df9f70e995e3a05037b64c181c" },
]"#;
const ANN: &str = "sk-ann-000000000000000000000000";
const BOB: &str = "sk-bob-000000000000000000000000";

fn status(client: &Client) -> u16 {
    client.post(&request("ping", &json!({}))).status
}

#[test]
fn api_key_twice() {
    let door = Door::open(Setup::echo().auth(KEYS), "credential_headers = [\"x-api-key\", \"x-tenant\"]");
    let anyone = door.anyone();
    assert_eq!(status(&anyone.with("x-api-key", ANN)), 200);
    for (name, one, other) in [
        ("x-api-key", ANN, BOB),
        ("X-API-Key", BOB, BOB),
        ("x-tenant", "a", "b"),
        ("authorization", "Bearer a", "Bearer b"),
        ("proxy-authorization", "Basic a", "Basic b"),
        ("mcp-session-id", "a", "b"),
        ("mcp-protocol-version", NEWEST, NEWEST),
        ("origin", "http://localhost", "http://localhost"),
    ] {
        let client = if name.eq_ignore_ascii_case("x-api-key") {
            anyone.clone()
        } else {
            anyone.with("x-api-key", ANN)
        };
        assert_eq!(status(&client.with(name, one).twice(name, other)), 400, "{name}");
    }
    // A library would not send it.
    let head = headers(&anyone.with("x-api-key", ANN).with("connection", "close"));
    let text = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n{head}Content-Length: 2\r\n\r\n{{}}"
    );
    assert_eq!(Raw::sent(&door.address, text.as_bytes()).ending().status(), 400);
}

#[test]
fn two_credentials_are_one_person_or_nobody() {
    let door = Door::open(Setup::echo().auth(KEYS), "");
    let key = |key: &str| door.anyone().with("x-api-key", key);
    let token = |subject: &str, role: &str| mint(subject, role, 3600);
    assert_eq!(status(&key(ANN)), 200);
    assert_eq!(status(&door.anyone().bearer(&token("eve", "admin"))), 200);
    assert_eq!(status(&key(ANN).bearer(&token("ann", "admin"))), 200, "the same person");
    for (about, client) in [
        ("two people", key(ANN).bearer(&token("eve", "admin"))),
        ("the other way round", key(BOB).bearer(&token("ann", "admin"))),
        ("two roles of one person", key(ANN).bearer(&token("ann", "user"))),
        ("a token that is over", key(ANN).bearer(&mint("ann", "admin", -3600))),
        ("a token that is none", key(ANN).bearer("none")),
        ("a key that is none", door.anyone().bearer(&token("ann", "admin")).with("x-api-key", "sk-none")),
    ] {
        let answer = client.post(&request("ping", &json!({})));
        assert_eq!(answer.status, 401, "{about}: {answer:?}");
    }
    // Not in the middle of a session either.
    let session = key(ANN).hello(NEWEST);
    assert_eq!(session.bearer(&token("eve", "admin")).request("tools/list", &json!({})).status, 401);
    assert_eq!(session.request("tools/call", &tool("echo", json!({}))).status, 200);
}

/// A tool and a prompt may have one name, and a message more than one place for a name.
#[test]
fn a_method_that_names_two_things_may_use_both_or_is_refused() {
    let mut gateway = Gateway::start(folds());
    for (params, allowed) in [
        (json!({"name": "mirror"}), true),
        (json!({"name": "mirror", "uri": "a://open"}), true),
        (json!({"name": "danger"}), false),
        (json!({"name": "mirror", "ref": {"name": "danger"}}), false),
        (json!({"ref": {"name": "mirror"}, "name": "danger"}), false),
        (json!({"uri": "a://open", "name": "danger"}), false),
    ] {
        let answer = gateway.request("acme/run", &params);
        assert_eq!(answer["result"].is_object(), allowed, "{params}: {answer}");
        assert!(allowed || code(&answer) == -32003, "{params}: {answer}");
    }
    assert!(!ran(&gateway.setup).contains("danger"));
    // Each of them can be switched off.
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"mirror\"]"));
    gateway.await_log("configuration reloaded", 1);
    let both = json!({"ref": {"name": "mirror"}, "uri": "a://open"});
    assert_eq!(code(&gateway.request("acme/run", &both)), -32005);
}

/// Prompts are kept from the role, and so is a tool of the same name to a method that could mean either.
#[test]
fn one_name_for_a_tool_and_a_prompt_needs_the_right_to_both() {
    let roles = "[rbac.roles.admin]\npermissions = [\"tools.execute\"]\nallowed_methods = [\"acme/*\"]";
    let mut gateway = Gateway::start(folds().roles(roles));
    assert!(gateway.call("mirror", json!({}))["result"].is_object());
    assert_eq!(code(&gateway.request("acme/run", &json!({"name": "mirror"}))), -32003);
}

/// A method that is not MCP's is passed on as it is, so the server's own name for a tool is that tool.
#[test]
fn a_servers_own_name_is_judged_as_the_tool_it_is() {
    let roles = "[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [\"srv_danger\"]\nallowed_methods = [\"acme/*\"]";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", FOLDS, "prefix = true").roles(roles));
    for name in ["srv_danger", "danger"] {
        let answer = gateway.request("acme/run", &json!({"name": name}));
        assert_eq!(code(&answer), -32003, "{name}: {answer}");
    }
    assert_eq!(ran(&gateway.setup), "");
    let answer: Value = gateway.request("acme/run", &json!({"name": "srv_mirror"}));
    assert!(answer["result"].is_object(), "{answer}");
    assert!(ran(&gateway.setup).contains("\"mirror\""), "{}", ran(&gateway.setup));
}
