//! Judging arguments is bounded: a schema that is too costly costs its own tool and nobody else.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, Setup, code, reason};

/// Longest time in which a call that is too costly is refused: starting a process, a second of its work and the wait for
/// others. Generous, for machines that do other things as well.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// More than the gateway may ever need, in KiB.
const MEMORY: u64 = 300 << 10;

/// A server of tools with these schemas, as Python; and one more that is fine.
fn tools(schemas: &str) -> String {
    format!(
        "{schemas}\ntools = [{{\"name\": name, \"inputSchema\": schema}} for name, schema in SCHEMAS.items()]\n\
         tools.append({{\"name\": \"fine\", \"inputSchema\": {{\"type\": \"object\"}}}})\n"
    )
}

fn start(schemas: &str, more: &str) -> Gateway {
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &tools(schemas), more));
    gateway.await_tool("fine");
    gateway
}

fn works(gateway: &mut Gateway, tool: &str, arguments: Value) {
    let answer = gateway.call(tool, arguments);
    assert_eq!(answer["result"]["content"][0]["text"], format!("called {tool}"), "{answer}");
}

/// The call is refused because of the schema, in time, and everything else goes on meanwhile.
fn refused(gateway: &mut Gateway, tool: &str, arguments: &Value) -> String {
    let since = Instant::now();
    let ids: Vec<u64> = (0..3).map(|_| gateway.begin(tool, arguments.clone())).collect();
    works(gateway, "fine", json!({}));
    assert_eq!(gateway.request("ping", &json!({}))["result"], json!({}));
    let mut message = String::new();
    for id in ids {
        let answer = gateway.answer(id);
        assert_eq!((code(&answer), reason(&answer)), (-32603, "schema_unusable"), "{tool}: {answer}");
        message = answer["error"]["message"].as_str().unwrap().to_owned();
    }
    assert!(since.elapsed() < REFUSED_WITHIN, "{tool}: {:?}", since.elapsed());
    assert!(message.contains("other tools are not affected"), "{message}");
    let peak = gateway.peak_memory();
    assert!(peak < MEMORY, "{tool}: {peak} KiB");
    message
}

#[test]
fn schema_that_never_ends() {
    let mut gateway = start(
        r##"
def chain(word):
    return {f"d{i}": {word: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {"type": "integer"}}
SCHEMAS = {w: {"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": chain(w)} for w in ("anyOf", "oneOf", "allOf")}
# `allOf` stops at the first that does not fit; only what fits makes it go on.
"##,
        "",
    );
    for (tool, x) in [("anyOf", json!("s")), ("oneOf", json!("s")), ("oneOf", json!(1)), ("allOf", json!(1))]
    {
        let message = refused(&mut gateway, tool, &json!({"x": x}));
        assert!(
            message.contains("longer than") || message.contains("memory") || message.contains("wait"),
            "{message}"
        );
    }
    // What ends soon is judged, though it might not have.
    works(&mut gateway, "anyOf", json!({}));
    works(&mut gateway, "anyOf", json!({"x": 1}));
    gateway.await_log("may take long to judge", 3);
    gateway.end();
}

#[test]
fn too_many_patterns_are_not_even_compiled() {
    let mut gateway = start(
        r##"
SCHEMAS = {
    "many": {"type": "object", "patternProperties": {f"^p{i}.*[a-z]$": {} for i in range(20000)}},
    # Each just under what an engine allows for one: 20 s together.
    "large": {"type": "object", "properties": {f"p{i}": {"pattern": f"^{i}" + "(?:[a-z]{30}[0-9]{30}){150}$"} for i in range(100)}},
    "unicode": {"type": "object", "properties": {f"p{i}": {"pattern": f"{i}" + r"(?:\p{L}{20}){20}x"} for i in range(100)}},
    "enum": {"type": "object", "properties": {"x": {"enum": [{"n": i} for i in range(50000)]}}},
    "nested": {"type": "object", "properties": {"x": {"pattern": "(" * 8000 + "a" + ")" * 8000}}},
}
"##,
        "",
    );
    let message = refused(&mut gateway, "many", &json!({"p1": "x"}));
    assert!(message.contains("patterns"), "{message}");
    // A pattern that is too large is left out, with a word in the log; the rest of its schema is checked.
    for tool in ["large", "unicode", "nested"] {
        works(&mut gateway, tool, json!({"p1": "x", "x": "y"}));
        gateway.await_log(&format!("tool=\"{tool}\""), 1);
    }
    let answer = gateway.call("enum", json!({"x": {"n": -1}}));
    assert_eq!(code(&answer), -32602, "{answer}");
    assert!(gateway.peak_memory() < MEMORY);
    gateway.end();
}

#[test]
fn recursion_that_doubles_with_each_level_of_the_arguments_ends() {
    let mut gateway = start(
        r##"
node = lambda key: {"type": "object", "properties": {"n": {"$ref": "#"}, key: {"type": "null"}}}
SCHEMAS = {
    "any": {"anyOf": [node("a"), node("b")]},
    "one": {"oneOf": [node("a"), node("b")]},
    "unevaluated": {"type": "object", "allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": {"$ref": "#"}},
    "dependent": {"type": "object", "dependentSchemas": {"n": {"properties": {"n": {"$ref": "#"}}}}, "properties": {"n": {"$ref": "#"}}},
}
"##,
        "",
    );
    let nested = |levels: usize| (0..levels).fold(json!(7), |inner, _| json!({"n": inner}));
    for tool in ["any", "one", "dependent", "unevaluated"] {
        let answer = gateway.call(tool, nested(3));
        assert_eq!(code(&answer), -32602, "{tool}: {answer}");
        let since = Instant::now();
        let id = gateway.begin(tool, nested(100));
        works(&mut gateway, "fine", json!({}));
        let answer = gateway.answer(id);
        // The library may find a short way; then the answer is that they do not fit.
        assert!([-32602, -32603].contains(&code(&answer)), "{tool}: {answer}");
        assert!(since.elapsed() < REFUSED_WITHIN);
    }
    assert!(gateway.peak_memory() < MEMORY);
    gateway.end();
}

#[test]
fn a_chain_longer_than_a_stack_ends_no_more_than_its_call() {
    let mut gateway = start(
        r##"
defs = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(15000)} | {"d15000": {"type": "integer"}}
SCHEMAS = {
    "chain": {"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": defs},
    "self": {"type": "object", "properties": {"x": {"allOf": [{"$ref": "#/properties/x"}]}}},
}
"##,
        "",
    );
    for tool in ["chain", "self"] {
        let answer = gateway.call(tool, json!({"x": "s"}));
        // The gateway lives on whatever became of the process that judged.
        assert!(
            answer["result"].is_object() || [-32602, -32603].contains(&code(&answer)),
            "{tool}: {answer}"
        );
        works(&mut gateway, "fine", json!({}));
    }
    gateway.end();
}

#[test]
fn large_arguments_are_judged_within_bounds() {
    let mut gateway = start(
        r##"
SCHEMAS = {
    "unique": {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}},
    "pattern": {"type": "object", "properties": {"x": {"type": "string", "pattern": "(?:a|b)*a(?:a|b){2000}c"}}},
}
"##,
        "",
    );
    // Lists that all have one hash and none of which is another: comparing them takes the square of their number.
    let list = |bits: u32| {
        (0..14).fold(
            json!([1]),
            |inner, bit| if bits >> bit & 1 == 1 { json!([inner]) } else { json!([inner, []]) },
        )
    };
    let same: Vec<Value> = (0..12_000).map(list).collect();
    let answer = gateway.call("unique", json!({"x": same}));
    assert!(answer["result"].is_object() || [-32602, -32603].contains(&code(&answer)), "{answer}");
    works(&mut gateway, "unique", json!({"x": (0..20_000).collect::<Vec<_>>()}));
    let text: String = (0..3_000_000_u32)
        .map(|n| if n.wrapping_mul(2_654_435_761) >> 31 == 0 { 'a' } else { 'b' })
        .collect();
    let answer = gateway.call("pattern", json!({"x": text}));
    assert!([-32602, -32603].contains(&code(&answer)), "{answer}");
    works(&mut gateway, "fine", json!({"x": text}));
    assert!(gateway.peak_memory() < MEMORY);
    gateway.end();
}

#[test]
fn a_caller_waits_for_few_of_them_and_others_for_none() {
    let mut gateway = start(
        r##"
defs = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {"type": "integer"}}
SCHEMAS = {"trap": {"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": defs}}
"##,
        "max_in_flight = 1000",
    );
    let since = Instant::now();
    let ids: Vec<u64> = (0..60).map(|_| gateway.begin("trap", json!({"x": "s"}))).collect();
    for _ in 0..20 {
        works(&mut gateway, "fine", json!({}));
    }
    for id in ids {
        let answer = gateway.answer(id);
        assert_eq!((code(&answer), reason(&answer)), (-32603, "schema_unusable"), "{answer}");
    }
    // One after the other they would take a minute.
    assert!(since.elapsed() < REFUSED_WITHIN, "{:?}", since.elapsed());
    assert!(gateway.peak_memory() < MEMORY);
    gateway.end();
}

/// The tools of the case, with some more flaws of the kind.
const FLAWED: &str = r##"
def with_x(schema, **more):
    return {"type": "object", "properties": {"x": schema, "y": {"type": "integer"}}, **more}
SCHEMAS = {
    "t4": with_x({"type": "integer", "minimum": 0, "exclusiveMinimum": True}),
    "t5": with_x({"type": "string", "required": True}),
    "t6": with_x({"type": "array", "items": [{"type": "string"}, {"type": "number"}]}),
    "t7": with_x({"$ref": "#/$defs/Missing"}),
    "t8": with_x({"type": "string", "pattern": "^{[a-z]+}$"}),
    "t9": with_x({"type": "string"}, **{"$schema": "https://example.com/meta"}),
    "any": with_x({"type": "any"}),
    "remote": with_x({"$ref": "https://example.com/schema.json#/x"}),
    "ahead": with_x({"type": "string", "pattern": "^(?=.*[0-9]).{8,}$"}),
    "nothing": with_x({"type": "string", "pattern": "^[^]{1,50000}$"}),
    "not": with_x({"not": {"pattern": "(?!a)"}}),
    "id": with_x({"$id": "not a uri %%", "type": "string"}),
}
"##;

#[test]
fn schema_that_cannot_be_compiled() {
    let mut gateway = start(FLAWED, "");
    let flawed = ["t4", "t5", "t6", "t7", "t9", "any", "remote", "ahead", "not"];
    for tool in flawed.into_iter().chain(["t8", "nothing", "id"]) {
        works(&mut gateway, tool, json!({"y": 1}));
        // What can be checked is.
        assert_eq!(code(&gateway.call(tool, json!({"y": "no"}))), -32602, "{tool}");
    }
    for (tool, good, bad) in [
        ("t4", json!(1), json!(0)),
        ("t6", json!(["a", 1]), json!([1])),
        ("t8", json!("{abc}"), json!("abc")),
        ("nothing", json!("a\nb"), json!("")),
        ("ahead", json!("anything"), json!(7)),
    ] {
        works(&mut gateway, tool, json!({"x": good}));
        assert_eq!(code(&gateway.call(tool, json!({"x": bad}))), -32602, "{tool}");
    }
    for tool in flawed {
        gateway.await_log(&format!("tool=\"{tool}\""), 1);
        assert_eq!(gateway.log().matches(&format!("tool=\"{tool}\"")).count(), 1, "{tool} is named once");
    }
    assert!(!gateway.log().contains("tool=\"t8\""), "its pattern has an exact equivalent: {}", gateway.log());
    gateway.end();
}

#[test]
fn an_operator_can_ask_for_strictness() {
    let mut gateway = start(FLAWED, "argument_check = \"strict\"");
    for tool in ["t4", "t7", "ahead"] {
        let answer = gateway.call(tool, json!({"y": 1}));
        assert_eq!((code(&answer), reason(&answer)), (-32603, "schema_unusable"), "{answer}");
    }
    works(&mut gateway, "t8", json!({"x": "{a}"}));
    works(&mut gateway, "fine", json!({}));
    gateway.end();
}

#[test]
fn what_is_no_schema_costs_its_own_tool() {
    let schemas = r#"SCHEMAS = {"null": None, "list": [], "text": "{}", "number": {"type": "number"}}"#;
    let mut gateway = start(schemas, "");
    // Clients refuse a whole list for one such tool. Those that can only mean that there are no arguments are shown so.
    for tool in ["null", "list"] {
        works(&mut gateway, tool, json!({}));
        gateway.await_log(&format!("name=\"{tool}\""), 1);
    }
    for tool in ["text", "number"] {
        assert_eq!(code(&gateway.call(tool, json!({}))), -32602);
        gateway.await_log(&format!("name=\"{tool}\""), 1);
    }
    works(&mut gateway, "fine", json!({}));
    gateway.end();
}
