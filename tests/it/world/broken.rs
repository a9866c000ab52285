//! Servers that are half broken: the damage stays with the item, is named once, and everything else works.

use serde_json::{Value, json};

use crate::support::{Gateway, Setup, code, eventually, reason, said};

/// A gateway before one scripted server called `srv`.
fn start(code: &str, more: &str) -> Gateway {
    Gateway::start(Setup::new().scripted("srv", code, more))
}

/// What is listed, by name.
fn listed(gateway: &mut Gateway, method: &str, items: &str, name: &str) -> Vec<(String, Value)> {
    let list = gateway.request(method, &json!({}));
    let all = list["result"][items].as_array().unwrap_or_else(|| panic!("no list: {list}")).clone();
    all.into_iter().map(|item| (item[name].as_str().unwrap().to_owned(), item)).collect()
}

fn works(gateway: &mut Gateway, tool: &str, arguments: Value) {
    let answer = gateway.call(tool, arguments);
    assert_eq!(answer["result"]["content"][0]["text"], format!("called {tool}"), "{answer}");
}

#[test]
fn one_bad_tool_hides_all() {
    let bad = r##"
def with_schema(name, schema):
    return {"name": name, "inputSchema": schema}
ok = {"type": "object"}
tools = [with_schema("fine", ok), with_schema("a", None), {"name": "b"}, {"name": "c", "description": None, "inputSchema": ok},
         with_schema("d", {"type": "string"}),
         {"name": "e", "inputSchema": ok, "outputSchema": {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}}},
         with_schema("f", {}), with_schema("g", {"type": "object", "properties": []}),
         with_schema("h", {"type": "object", "properties": {"coin": {"type": "string"}, "required": ["coin"]}}),
         {"name": "i", "inputSchema": ok, "annotations": {"title": None}, "icons": None, "_meta": None, "title": None},
         {"name": "j", "inputSchema": ok, "description": "x" * (2 << 20)},
         {"name": "", "inputSchema": ok}, {"inputSchema": ok}, None, "k", {"name": 7, "inputSchema": ok}]
def call(id, params):
    if params["name"] == "fine":
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    text(id, "called " + params["name"])
"##;
    let setup = Setup::new().scripted("good", "", "").scripted("bad", bad, "");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("fine");
    let tools = listed(&mut gateway, "tools/list", "tools", "name");
    let names: Vec<&str> = tools.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["echo", "a", "b", "c", "e", "f", "fine", "g", "h", "i"]);
    for (name, tool) in &tools {
        assert_eq!(tool["inputSchema"]["type"], "object", "{name}: {tool}");
        let properties = tool["inputSchema"].get("properties").cloned().unwrap_or(json!({}));
        assert!(properties.as_object().unwrap().values().all(Value::is_object), "{name}: {tool}");
        for member in ["description", "outputSchema", "annotations", "icons", "_meta", "title"] {
            assert!(tool.get(member).is_none_or(|found| !found.is_null()), "{name}: {tool}");
        }
    }
    assert!(!tools.iter().any(|(_, tool)| tool.get("outputSchema").is_some()));
    for name in ["echo", "a", "b", "c", "e", "f", "g", "h", "i"] {
        works(&mut gateway, name, json!({"coin": "x"}));
    }
    assert_eq!(code(&gateway.call("d", json!({}))), -32602, "what is not shown is not there");
    // The list is read again, with the same mistakes: each is named once.
    works(&mut gateway, "fine", json!({}));
    works(&mut gateway, "fine", json!({}));
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let line = format!("name=\"{name}\"");
        gateway.await_log(&line, 1);
        assert_eq!(gateway.log().matches(&line).count(), 1, "{name}: {}", gateway.log());
    }
    gateway.await_log("entries without `name` were left out: 5", 1);
    gateway.end();
}

#[test]
fn schema_that_cannot_be_compiled() {
    // The tools and calls of the case; its siblings stand in `attacks::schemas`.
    let mut gateway = start(
        r##"
def tool(name, schema, **more):
    return {"name": name, "inputSchema": {"type": "object", "properties": {"x": schema, "y": {}}, **more}}
tools = [
    tool("t4", {"type": "integer", "minimum": 0, "exclusiveMinimum": True}),
    tool("t5", {"type": "string", "required": True}),
    tool("t6", {"type": "array", "items": [{"type": "string"}, {"type": "number"}]}),
    tool("t7", {"$ref": "#/$defs/Missing"}),
    tool("t8", {"type": "string", "pattern": "^{[a-z]+}$"}),
    tool("t9", {"type": "string"}, **{"$schema": "https://example.com/meta"}),
]
"##,
        "",
    );
    gateway.await_tool("t9");
    for tool in ["t4", "t5", "t6", "t7", "t8", "t9"] {
        works(&mut gateway, tool, json!({"y": 1}));
    }
    // The warning comes with the list, before any call.
    for tool in ["t4", "t5", "t6", "t7", "t9"] {
        assert_eq!(gateway.log().matches(&format!("tool=\"{tool}\"")).count(), 1, "{}", gateway.log());
    }
    gateway.end();
}

/// Tools whose schemas ask for more than their servers do.
const GENEROUS: &str = r##"
def tool(name, schema, **more):
    return {"name": name, "inputSchema": {"type": "object", "properties": {"x": schema}, **more}}
day = {"type": "string", "format": "date-time"}
tools = [
    tool("format", day),
    tool("format4", day, **{"$schema": "http://json-schema.org/draft-04/schema#"}),
    tool("format7", {"type": "string", "format": "email", "contentEncoding": "base64"}, **{"$schema": "http://json-schema.org/draft-07/schema#"}),
    tool("default", {"type": "integer", "default": 1}, required=["x", "y"]),
    tool("referred", {"$ref": "#/$defs/X"}, required=["x"], **{"$defs": {"X": {"type": "integer", "default": 2}}}),
    tool("union", {"type": "integer"}, oneOf=[
        {"properties": {"kind": {"const": "a", "default": "a"}}, "required": ["kind"]},
        {"properties": {"kind": {"const": "b"}}, "required": ["kind"]}]),
    tool("nullable", {"type": "string", "nullable": True, "enum": ["a"]}),
]
"##;

#[test]
fn arguments_are_refused_only_where_the_server_would_refuse_them() {
    let mut gateway = start(GENEROUS, "");
    gateway.await_tool("format");
    for (tool, fits, does_not) in [
        ("format", json!({"x": "tomorrow"}), json!({"x": 1})),
        ("format4", json!({"x": "tomorrow"}), json!({"x": 1})),
        ("format7", json!({"x": "not an address"}), json!({"x": 1})),
        ("default", json!({"y": 1}), json!({"x": 1})),
        ("referred", json!({}), json!({"x": "s"})),
        ("union", json!({"x": 1}), json!({"x": "s"})),
        ("nullable", json!({"x": null}), json!({"x": "b"})),
    ] {
        works(&mut gateway, tool, fits);
        assert_eq!(code(&gateway.call(tool, does_not)), -32602, "{tool}");
    }
    assert!(!gateway.log().contains("flaws"), "nothing of it is a flaw: {}", gateway.log());
    gateway.end();
}

#[test]
fn an_operator_says_what_becomes_of_arguments_that_do_not_fit() {
    let schemas = r##"
schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
tools = [{"name": n, "inputSchema": schema} for n in ("refused", "warned", "open_a", "open_b")]
tools.append({"name": "open_trap", "inputSchema": {"type": "object", "patternProperties": {f"^p{i}.*[a-z]$": {} for i in range(20000)}}})
"##;
    let keys = "[backends.tools]\nrefused = { arguments = \"refuse\" }\n\"open_*\" = { arguments = \"off\" }";
    let setup = Setup::new().scripted("srv", schemas, &format!("arguments = \"warn\"\n{keys}"));
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("warned");
    assert_eq!(code(&gateway.call("refused", json!({"x": "s"}))), -32602);
    for _ in 0..3 {
        works(&mut gateway, "warned", json!({"x": "s"}));
        works(&mut gateway, "open_a", json!({"x": "s"}));
        works(&mut gateway, "open_trap", json!({"p1": "s"}));
    }
    // The first and the second time; a third changes nothing.
    gateway.await_log("do not fit the tool's inputSchema", 2);
    works(&mut gateway, "open_b", json!({}));
    let log = gateway.log();
    assert_eq!(log.matches("do not fit the tool's inputSchema").count(), 2, "{log}");
    assert!(log.contains("pointer=\"/x\"") && !log.contains("open_"), "{log}");
    gateway.end();
}

#[test]
fn a_wrong_word_about_arguments_is_named() {
    let keys = "arguments = \"maybe\"\nmax_timeout_secs = 5\n[backends.tools]\n\"a[b]\" = { arguments = \"off\" }\nb = { timeout_secs = 9, max_timeout_secs = 3 }";
    let (status, said) = Setup::new().scripted("srv", "", keys).refused(&["check"]);
    assert_eq!(status, Some(2), "{said}");
    for part in ["arguments", "maybe", "backends[0].max_timeout_secs", "a[b]", "shorter than timeout_secs"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_list_that_cannot_be_read_costs_that_list() {
    let server = r##"
asked = {}
def initialize(id, params):
    abilities = {"tools": {}, "resources": {}, "prompts": {}}
    result(id, {"protocolVersion": "2025-06-18", "capabilities": abilities, "instructions": ["not", "a", "text"], "serverInfo": {"name": "s", "version": "1"}})
def other(message):
    id, method = message.get("id"), message.get("method")
    asked[method] = asked.get(method, 0) + 1
    if method == "resources/list" and asked[method] < 3:
        error(id, -32603, "the index is not there yet")
    elif method == "resources/list":
        result(id, {"resources": [{"uri": "a://b"}]})
    elif method == "resources/templates/list":
        result(id, {"resourceTemplates": None})
    elif method == "prompts/list":
        result(id, {"prompts": {"name": "p"}})
    elif id is not None:
        error(id, -32601, "Method not found")
"##;
    let mut gateway = start(server, "");
    gateway.await_tool("echo");
    works(&mut gateway, "echo", json!({}));
    gateway.await_log("this list cannot be read", 2);
    let found = eventually("the list that could not be read at first", || {
        let found = listed(&mut gateway, "resources/list", "resources", "uri");
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found[0].1["name"], "a://b", "without a name clients refuse the list");
    assert!(listed(&mut gateway, "prompts/list", "prompts", "name").is_empty());
    assert!(!gateway.log().contains("is down"), "{}", gateway.log());
    gateway.end();
}

/// What a tool answers, as the line is written.
const ODD: &str = r##"
def raw(line):
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.buffer.flush()
def answer(id, text='called {}', **more):
    return json.dumps({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}], **more}})
names = ["nan", "comma", "half", "bytes", "two", "text_id", "float_id", "no_version", "null_error", "null_result",
         "text_error", "bom", "before", "after", "tab", "path", "batch", "python", "zero", "no_id", "cut", "quoted", "logs", "list", "fine"]
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in names]
def call(id, params):
    name = params["name"]
    line = answer(id, "called " + name)
    if name == "nan": raw(answer(id, "called nan", structuredContent={"x": float("nan"), "y": [float("-inf")]}))
    elif name == "comma": raw(line.replace("}]", "},]"))
    elif name == "half": raw(line.replace("called half", "called half\\ud83d"))
    elif name == "bytes": raw(line.replace("called bytes", "called bytes\udcff"))
    elif name == "two": raw(json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "first"}}) + line)
    elif name == "text_id": raw(line.replace('"id": %d' % id, '"id": "%d"' % id))
    elif name == "float_id": raw(line.replace('"id": %d' % id, '"id": %d.0' % id))
    elif name == "no_version": raw(line.replace('"jsonrpc": "2.0", ', ""))
    elif name == "null_error": raw(line[:-1] + ', "error": null}')
    elif name == "null_result": raw('{"jsonrpc": "2.0", "id": %d, "result": null, "error": {"code": -32001, "message": "called null_result"}}' % id)
    elif name == "text_error": raw('{"jsonrpc": "2.0", "id": %d, "error": "called text_error"}' % id)
    elif name == "bom": raw("\ufeff" + line)
    elif name == "before": raw("\x1b[2K |####| " + line)
    elif name == "after": raw(line + " done.")
    elif name == "tab": raw(line.replace("called tab", "called tab\t"))
    elif name == "path": raw(line.replace("called path", "called path C:\\Users\\me"))
    elif name == "batch": raw("[" + json.dumps({"jsonrpc": "2.0", "method": "notifications/x"}) + "," + line + "]")
    elif name == "python": raw(line[:-2] + ', "isError": False}}')
    elif name == "zero": raw(line.replace('"id": %d' % id, '"id": 0'))
    elif name == "no_id": raw(line.replace('"id": %d' % id, '"id": null'))
    elif name == "cut": raw(line[:-20])
    elif name == "quoted":
        raw("DEBUG sent " + json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "quoted"}}))
        raw("DEBUG answered " + answer(id, "called by a log line"))
        raw("[12:00] " + answer(id, "called by another"))
        raw("DEBUG got " + json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}))
        raw(line)
    elif name == "logs":
        for log in ["[Breadcrumb] {", "  message: 'Loaded spreadsheet'", "}", "info: Microsoft.Hosting.Lifetime[14]", '{"level":"info","msg":"up"}', "", "{'a': 1}"]:
            raw(log)
        raw(line)
    elif name == "list": raw('{"jsonrpc": "2.0", "id": %d, "result": [1]}' % id)
    else: raw(line)
"##;

#[test]
fn an_answer_that_is_not_quite_json_is_read() {
    let mut gateway = start(ODD, "");
    gateway.await_tool("fine");
    for tool in [
        "nan",
        "comma",
        "text_id",
        "float_id",
        "zero",
        "no_id",
        "no_version",
        "null_error",
        "bom",
        "before",
        "after",
        "batch",
        "python",
        "logs",
        "fine",
    ] {
        works(&mut gateway, tool, json!({}));
    }
    for (tool, text) in [
        ("half", "called half\u{fffd}"),
        ("bytes", "called bytes\u{fffd}"),
        ("tab", "called tab\t"),
        ("path", "called path C:\\Users\\me"),
    ] {
        assert_eq!(said(&gateway.call(tool, json!({}))), text);
    }
    let nan = gateway.call("nan", json!({}));
    assert_eq!(nan["result"]["structuredContent"], json!({"x": null, "y": [null]}));
    let two = gateway.call("two", json!({}));
    assert_eq!(said(&two), "called two");
    assert_eq!(gateway.heard("notifications/message")["params"]["data"], "first");
    for (tool, number) in [("null_result", -32001), ("text_error", -32603)] {
        let answer = gateway.call(tool, json!({}));
        assert_eq!((code(&answer), &answer["error"]["message"]), (number, &json!(format!("called {tool}"))));
    }
    // Everything is said, and once.
    for part in [
        "NaN or Infinity",
        "a comma before",
        "half a surrogate",
        "no UTF-8",
        "several messages",
        "an id in another spelling",
        "missing or null",
        "no JSON-RPC error object",
        "byte order mark",
        "beside a message",
        "unknown escape",
        "True, False",
    ] {
        gateway.await_log(part, 1);
        assert_eq!(gateway.log().matches(part).count(), 1, "{part}: {}", gateway.log());
    }
    gateway.end();
}

#[test]
fn an_answer_that_cannot_be_read_fails_its_call_at_once() {
    let mut gateway = start(ODD, "timeout_secs = 600");
    gateway.await_tool("fine");
    for tool in ["cut", "list"] {
        let answer = gateway.call(tool, json!({}));
        assert_eq!((code(&answer), reason(&answer)), (-32603, "backend_protocol_error"), "{answer}");
        works(&mut gateway, "fine", json!({}));
    }
    gateway.end();
}

#[test]
fn a_log_line_that_quotes_a_message_is_none() {
    let mut gateway = start(ODD, "");
    gateway.await_tool("fine");
    works(&mut gateway, "quoted", json!({}));
    works(&mut gateway, "fine", json!({}));
    gateway.hang_up();
    let rest = gateway.rest();
    assert!(
        !rest.iter().any(|message| message.raw.contains("quoted") || message.raw.contains("sampling")),
        "{rest:?}"
    );
}
