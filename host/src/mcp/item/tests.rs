//! Items as servers send them.

use serde_json::{Value, json};

use super::*;

fn tool(item: Value) -> Value {
    mended(List::Tools, item).0
}

/// What becomes of an item, and what is said of it; null if it is left out.
fn mended(list: List, item: Value) -> (Value, String) {
    match fit(list, &item.to_string()) {
        Fit::AsIs => (item, String::new()),
        Fit::Mended(text, said) => (serde_json::from_str(&text).unwrap(), said.join("; ")),
        Fit::Out(why) => (Value::Null, why),
    }
}

#[test]
fn what_is_right_is_not_touched() {
    let whole = json!({
        "name": "a", "title": "A", "description": "d", "_meta": {"x": 1}, "other": null,
        "inputSchema": {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]},
        "outputSchema": {"type": "object", "properties": {"x": {"pattern": "^(?=a)"}}, "$defs": {}},
        "annotations": {"title": "t", "readOnlyHint": true, "vendor": 1},
        "icons": [{"src": "data:,", "sizes": ["48x48"], "theme": "dark"}],
        "execution": {"taskSupport": "optional"},
    });
    assert_eq!(fit(List::Tools, &whole.to_string()), Fit::AsIs);
    let resource = json!({
        "uri": "a://b", "name": "b", "size": 5, "mimeType": "text/plain",
        "annotations": {"audience": ["user"], "priority": 0.5, "lastModified": "2026-01-01T00:00:00+01:00"},
    });
    assert_eq!(fit(List::Resources, &resource.to_string()), Fit::AsIs);
    let prompt = json!({"name": "p", "arguments": [{"name": "x", "required": true}]});
    assert_eq!(fit(List::Prompts, &prompt.to_string()), Fit::AsIs);
}

#[test]
fn a_schema_that_says_nothing_takes_any_object() {
    let any = json!({"name": "a", "inputSchema": {"type": "object"}});
    for schema in [
        json!(null),
        json!([]),
        json!(true),
        json!({}),
        json!({"type": null}),
        json!({"type": ["object", "null"]}),
    ] {
        assert_eq!(tool(json!({"name": "a", "inputSchema": schema})), any, "{schema}");
    }
    assert_eq!(tool(json!({"name": "a"})), any);
    let inner = tool(json!({"name": "a", "inputSchema": {"properties": {"x": {}}}}));
    assert_eq!(inner["inputSchema"], json!({"properties": {"x": {}}, "type": "object"}));
}

#[test]
fn a_schema_that_no_arguments_fit_costs_its_tool() {
    for schema in [
        json!("{}"),
        json!(7),
        json!(false),
        json!([1]),
        json!({"type": "string"}),
        json!({"type": ["array"]}),
    ] {
        let (item, why) = mended(List::Tools, json!({"name": "a", "inputSchema": schema}));
        assert!(item.is_null() && why.contains("inputSchema"), "{schema}: {item} {why}");
    }
    let long = json!({"name": "a", "description": "x".repeat(MAX_ITEM), "inputSchema": {"type": "object"}});
    let (item, why) = mended(List::Tools, long);
    assert!(item.is_null() && why.contains("limit"), "{why}");
}

#[test]
fn what_can_be_spared_is_left_out() {
    for (member, value) in [
        ("title", json!(null)),
        ("description", json!(null)),
        ("description", json!(["a"])),
        ("_meta", json!(null)),
        ("annotations", json!([])),
        ("icons", json!(null)),
        ("icons", json!([{"src": 5}])),
        ("execution", json!({"taskSupport": "maybe"})),
        ("outputSchema", json!(null)),
        ("outputSchema", json!({"type": "array"})),
        ("outputSchema", json!({"$ref": "#/$defs/A"})),
        ("outputSchema", json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}})),
        ("outputSchema", json!({"type": "object", "properties": {"x": {"pattern": "(?i)a"}}})),
        ("outputSchema", json!({"type": "object", "properties": {"x": {"pattern": "^{a}$"}}})),
        ("outputSchema", json!({"type": "object", "properties": {"x": {"type": "any"}}})),
        ("outputSchema", json!({"type": "object", "properties": {"x": true}})),
        ("outputSchema", json!({"type": "object", "required": true})),
    ] {
        let bare = json!({"name": "a", "inputSchema": {"type": "object"}});
        let mut item = bare.clone();
        item[member] = value;
        let (found, said) = mended(List::Tools, item.clone());
        assert_eq!(found, bare, "{item}");
        assert!(said.contains(member), "{said}");
    }
    let hints = json!({"name": "a", "inputSchema": {"type": "object"}, "annotations": {"title": null, "readOnlyHint": "yes", "openWorldHint": false}});
    assert_eq!(tool(hints)["annotations"], json!({"openWorldHint": false}));
}

#[test]
fn properties_that_are_no_schemas_become_some() {
    let schema = json!({"type": "object", "properties": {"a": true, "b": false, "c": null, "d": {"type": "string"}, "required": ["d"]}, "required": null});
    let found = tool(json!({"name": "a", "inputSchema": schema}));
    let properties = json!({"a": {}, "b": {"not": {}}, "c": {}, "d": {"type": "string"}, "required": {}});
    assert_eq!(found["inputSchema"], json!({"type": "object", "properties": properties}));
    let empty = tool(json!({"name": "a", "inputSchema": {"type": "object", "properties": []}}));
    assert_eq!(empty["inputSchema"], json!({"type": "object", "properties": {}}));
}

#[test]
fn resources_and_prompts_are_mended_too() {
    let (found, said) = mended(
        List::Resources,
        json!({"uri": "a://b", "mimeType": null, "size": "5", "description": null, "annotations": {"priority": 7}}),
    );
    assert_eq!(found, json!({"uri": "a://b", "name": "a://b"}));
    assert!(said.contains("`uri` is taken"), "{said}");
    let (found, _) = mended(List::Templates, json!({"uriTemplate": "a://{b}", "name": null}));
    assert_eq!(found, json!({"uriTemplate": "a://{b}", "name": "a://{b}"}));
    for annotations in [
        json!({"audience": ["all"]}),
        json!({"lastModified": "yesterday"}),
        json!({"lastModified": null}),
        json!(null),
    ] {
        let (found, _) =
            mended(List::Resources, json!({"uri": "a://b", "name": "b", "annotations": annotations}));
        assert_eq!(found, json!({"uri": "a://b", "name": "b"}), "{annotations}");
    }
    let (found, _) = mended(
        List::Prompts,
        json!({"name": "p", "arguments": [{"name": "x", "required": null}, {"description": "d"}, "y", {"name": "z", "description": null, "v": 1}]}),
    );
    assert_eq!(found, json!({"name": "p", "arguments": [{"name": "x"}, {"name": "z", "v": 1}]}));
    assert_eq!(mended(List::Prompts, json!({"name": "p", "arguments": null})).0, json!({"name": "p"}));
    assert_eq!(mended(List::Prompts, json!({"name": "p", "arguments": {}})).0, json!({"name": "p"}));
}
