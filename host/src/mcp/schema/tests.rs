//! The rules, and random schemas that keep them.
#![allow(clippy::unwrap_used, reason = "tests")]

use jsonschema::PatternOptions;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn schema(text: &str) -> ArgumentSchema {
    ArgumentSchema::new(Some(RawValue::from_string(text.to_owned()).unwrap()))
}

#[test]
fn names_the_pointer_that_is_wrong() {
    let schema = schema(
        r#"{"type":"object","properties":{"a":{"type":"object","properties":{"n":{"type":"integer"}}}},"required":["a"]}"#,
    );
    assert_eq!(schema.check(Some(r#"{"a":{"n":3}}"#)), Ok(()));
    let Err(ArgumentError::Mismatch { pointer, .. }) = schema.check(Some(r#"{"a":{"n":"x"}}"#)) else {
        panic!()
    };
    assert_eq!(pointer, "/a/n");
    assert!(matches!(schema.check(None), Err(ArgumentError::Mismatch { .. })));
}

#[test]
fn what_is_no_schema_refuses_everything() {
    let nested = format!("{}{{}}{}", r#"{"not":"#.repeat(200), "}".repeat(200));
    let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(MAX_SCHEMA_BYTES));
    for text in ["null", "true", "[]", "7", r#""x""#, &nested, &long] {
        let schema = schema(text);
        assert!(matches!(schema.check(None), Err(ArgumentError::Schema(_))), "{text:.40}: {schema:?}");
    }
    assert!(matches!(ArgumentSchema::unread().check(None), Err(ArgumentError::Schema(_))));
}

/// How a schema is read, with all that is said about it.
fn read(text: &str, strict: bool) -> (ArgumentSchema, String) {
    let raw = RawValue::from_string(text.to_owned()).unwrap();
    let (schema, notices) = ArgumentSchema::read(Some(raw), strict, &mut Room::default());
    let said: Vec<String> = notices.iter().map(ToString::to_string).collect();
    (schema, said.join("\n"))
}

#[test]
fn a_flaw_is_said_and_the_rest_is_checked() {
    // What stands at the property `x`, what is said, and values that fit and do not.
    let cases = [
        (r#"{"type":"integer","minimum":0,"exclusiveMinimum":true}"#, "as in draft 4", "1", "0"),
        (r#"{"type":"integer","maximum":9,"exclusiveMaximum":false}"#, "as in draft 4", "9", "10"),
        (r#"{"type":"string","required":true}"#, "/properties/x/required", r#""s""#, "1"),
        (
            r#"{"type":"array","items":[{"type":"string"}],"additionalItems":false}"#,
            "prefixItems",
            r#"["a"]"#,
            r#"["a",1]"#,
        ),
        (r##"{"$ref":"#/$defs/Missing","type":"string"}"##, "nothing where it points", r#""s""#, "1"),
        (r#"{"$ref":"http://127.0.0.1:9/x","minimum":1}"#, "nothing is fetched", "1", "0"),
        (r#"{"type":"no-such-type","maxLength":1}"#, "no meaning", r#""s""#, r#""ss""#),
        (r#"{"type":["string","any"],"minLength":1}"#, "no meaning", "1", r#""""#),
        (r#"{"pattern":"(?=a)b","type":"string"}"#, "looks ahead", r#""s""#, "1"),
        (
            r#"{"pattern":7,"enum":"a","minimum":"x","maxLength":-1,"type":"string"}"#,
            "no meaning",
            r#""s""#,
            "1",
        ),
        (
            r#"{"properties":[],"additionalProperties":false,"required":["a"]}"#,
            "no meaning",
            r#"{"a":1}"#,
            "{}",
        ),
        (r#"{"properties":{"a":5,"b":{"type":"null"}}}"#, "is no schema", r#"{"a":1}"#, r#"{"b":1}"#),
        (
            r#"{"patternProperties":{"(?!x)":{}},"additionalProperties":false,"type":"object"}"#,
            "looks ahead",
            r#"{"a":1}"#,
            "1",
        ),
        (r#"{"anyOf":[],"type":"string"}"#, "no meaning", r#""s""#, "1"),
        (r#"{"allOf":[{"type":"string"},7]}"#, "is no schema", r#""s""#, "1"),
        (r#"{"contains":{"type":"null"},"minContains":"0","type":"array"}"#, "minContains", "[1]", "1"),
        // Left out inside of these, it would refuse more than it was meant to.
        (r#"{"not":{"pattern":"(?=a)"},"type":"string"}"#, "looks ahead", r#""s""#, "1"),
        (
            r#"{"oneOf":[{"type":"string"},{"pattern":"(?=a)"}],"maxLength":1}"#,
            "looks ahead",
            r#""s""#,
            r#""ss""#,
        ),
        (
            r##"{"if":{"$ref":"#/x"},"then":{"type":"null"},"else":{"type":"null"},"maxLength":1}"##,
            "nothing",
            r#""s""#,
            r#""ss""#,
        ),
        (
            r##"{"allOf":[{"$ref":"#/nowhere"}],"unevaluatedProperties":false,"required":["a"]}"##,
            "nothing",
            r#"{"a":1}"#,
            "{}",
        ),
        (r##"{"not":{"not":{"not":{"$ref":"#/nowhere"}}},"maxLength":1}"##, "nothing", r#""s""#, r#""ss""#),
    ];
    for (at, said, good, bad) in cases {
        let text = format!(r#"{{"type":"object","properties":{{"x":{at},"y":{{"type":"integer"}}}}}}"#);
        let (schema, told) = read(&text, false);
        assert!(told.contains(said) && told.contains("/properties/x"), "{at}: {told}");
        let fits = |x: &str| schema.check(Some(&format!(r#"{{"x":{x}}}"#)));
        assert_eq!(fits(good), Ok(()), "{at}");
        assert!(matches!(fits(bad), Err(ArgumentError::Mismatch { .. })), "{at}: {:?}", fits(bad));
        assert!(schema.check(Some(r#"{"y":"s"}"#)).is_err(), "{at}: the rest is checked");
        let (strict, told) = read(&text, true);
        assert!(matches!(strict.check(Some(r#"{"y":1}"#)), Err(ArgumentError::Schema(_))), "{at}");
        assert!(told.contains("argument_check"), "{told}");
    }
}

#[test]
fn what_old_drafts_mean_is_no_flaw_in_them() {
    let cases = [
        ("http://json-schema.org/draft-04/schema#", r#"{"minimum":0,"exclusiveMinimum":true}"#, "1", "0"),
        (
            "http://json-schema.org/draft-07/schema#",
            r#"{"items":[{"type":"string"}],"additionalItems":false}"#,
            r#"["a"]"#,
            r#"["a",1]"#,
        ),
        (
            "http://json-schema.org/draft-07/schema",
            r#"{"dependencies":{"a":["b"],"c":{"required":["d"]}}}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"c":1}"#,
        ),
        (
            "https://json-schema.org/draft/2019-09/schema",
            r#"{"minContains":2,"contains":{"type":"null"}}"#,
            "[null,null]",
            "[null]",
        ),
        (
            "https://json-schema.org/draft/2020-12/schema",
            r#"{"prefixItems":[{"type":"string"}],"items":false}"#,
            r#"["a"]"#,
            r#"["a",1]"#,
        ),
    ];
    for (draft, at, good, bad) in cases {
        let (schema, told) = read(&format!(r#"{{"$schema":"{draft}","properties":{{"x":{at}}}}}"#), true);
        assert_eq!(told, "", "{draft}");
        assert_eq!(schema.check(Some(&format!(r#"{{"x":{good}}}"#))), Ok(()), "{draft}");
        assert!(schema.check(Some(&format!(r#"{{"x":{bad}}}"#))).is_err(), "{draft}");
    }
    let (unknown, told) = read(r#"{"$schema":"https://example.com/meta","required":["a"]}"#, false);
    assert!(told.contains("example.com") || told.contains("$schema"), "{told}");
    assert!(unknown.check(Some("{}")).is_err());
}

#[test]
fn messages_show_patterns_as_their_author_wrote_them() {
    let error =
        schema(r#"{"properties":{"d":{"pattern":"^\\d{4}$"}}}"#).check(Some(r#"{"d":"x"}"#)).unwrap_err();
    assert!(error.to_string().contains(r"^\d{4}$"), "{error}");
}

fn definitions(count: usize, each: impl Fn(usize) -> serde_json::Value) -> String {
    let mut all: serde_json::Map<String, serde_json::Value> =
        (0..count).map(|number| (format!("d{number}"), each(number))).collect();
    all.insert(format!("d{count}"), json!({"type": "integer"}));
    json!({"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": all}).to_string()
}

#[test]
fn what_may_not_end_is_not_judged_here() {
    let next = |number: usize| json!({"$ref": format!("#/$defs/d{}", number + 1)});
    let twice = |keyword: &str| definitions(40, |number| json!({keyword: [next(number), next(number)]}));
    let properties: String = (0..20_000).map(|number| format!(r#""^p{number}.*z$":{{}},"#)).collect();
    let states: String =
        (0..400).map(|number| format!(r#"{{"pattern":"^(?:a{number}[a-z]{{200}})$"}},"#)).collect();
    let heavy = [
        twice("anyOf"),
        twice("oneOf"),
        twice("allOf"),
        // A chain that is no tree, but longer than a stack.
        definitions(5_000, next),
        definitions(40, |number| json!({"if": next(number), "then": next(number), "else": next(number)})),
        definitions(40, |number| json!({"not": {"allOf": [next(number), {"not": next(number)}]}})),
        r##"{"allOf":[{"$ref":"#"}]}"##.to_owned(),
        r##"{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}},"properties":{"x":{"$ref":"#/$defs/a"}}}"##
            .to_owned(),
        format!(r#"{{"allOf":[{states}{{}}]}}"#),
    ];
    for text in heavy {
        let (schema, told) = read(&text, false);
        let found = schema.check(Some(r#"{"x":"s"}"#));
        assert_eq!(found, Err(ArgumentError::Elsewhere), "{text:.80}");
        assert!(told.contains("may take long"), "{told}");
    }
    let (schema, told) = read(&format!(r#"{{"patternProperties":{{{properties}"z":{{}}}}}}"#), false);
    assert!(matches!(schema.check(None), Err(ArgumentError::Schema(_))));
    assert!(told.contains("too many"), "{told}");
}

#[test]
fn what_doubles_with_each_level_is_judged_here_while_it_is_flat() {
    // Both branches judge every child, so each level doubles what is below it.
    let text = r##"{"anyOf":[{"properties":{"n":{"$ref":"#"},"a":{"type":"null"}}},{"properties":{"n":{"$ref":"#"},"b":{"type":"null"}}}]}"##;
    let (schema, _) = read(text, false);
    let nested = |levels: usize| format!("{}1{}", r#"{"n":"#.repeat(levels), "}".repeat(levels));
    assert_eq!(schema.check(Some(&nested(3))), Ok(()));
    assert_eq!(schema.check(Some(&nested(60))), Err(ArgumentError::Elsewhere));
    // A tree whose children are judged once each does not double, however deep.
    let tree = r##"{"type":"object","properties":{"left":{"$ref":"#"},"right":{"$ref":"#"},"all":{"type":"array","items":{"$ref":"#"}}},"additionalProperties":false}"##;
    let (schema, told) = read(tree, false);
    assert_eq!(told, "");
    let deep = format!("{}{{}}{}", r#"{"left":"#.repeat(100), "}".repeat(100));
    assert_eq!(schema.check(Some(&deep)), Ok(()));
    let wide = format!(r#"{{"all":[{}{{}}]}}"#, "{},".repeat(500));
    assert_eq!(schema.check(Some(&wide)), Ok(()));
}

#[test]
fn large_arguments_are_judged_elsewhere_if_that_may_take_long() {
    let unique = schema(r#"{"properties":{"x":{"uniqueItems":true}}}"#);
    let list = |items: usize| {
        format!(r#"{{"x":[{}]}}"#, (0..items).map(|n| n.to_string()).collect::<Vec<_>>().join(","))
    };
    assert_eq!(unique.check(Some(&list(500))), Ok(()));
    assert_eq!(unique.check(Some(&list(50_000))), Err(ArgumentError::Elsewhere));
    let open = schema(r#"{"type":"object"}"#);
    assert_eq!(open.check(Some(&list(50_000))), Ok(()), "this costs next to nothing");
    assert_eq!(open.check(Some(&list(500_000))), Err(ArgumentError::Elsewhere), "but its memory does");
    let text = |bytes: usize| format!(r#"{{"x":"{}"}}"#, "a,".repeat(bytes / 2));
    let pattern = schema(r#"{"properties":{"x":{"type":"string","pattern":"^(?:[a,]|b){0,200}$"}}}"#);
    assert!(matches!(pattern.check(Some(&text(1000))), Err(ArgumentError::Mismatch { .. })));
    assert_eq!(pattern.check(Some(&text(1 << 20))), Err(ArgumentError::Elsewhere));
}

#[test]
fn the_room_of_a_backend_is_bounded() {
    let raw = |text: String| Some(RawValue::from_string(text).unwrap());
    let mut room = Room::default();
    let big = format!(r#"{{"title":"{}"}}"#, "x".repeat(1 << 19));
    let usable =
        (0..64).filter(|_| ArgumentSchema::read(raw(big.clone()), false, &mut room).1.is_empty()).count();
    assert!((16..40).contains(&usable), "{usable} schemas of half a MiB");
    // The same schemas again, of which the same number has room.
    let (one, _) = ArgumentSchema::read(raw(big.clone()), false, &mut Room::default());
    let mut room = Room::default();
    assert_eq!((0..64).filter(|_| one.is(Some(&big), &mut room)).count(), usable);
    assert!(!one.is(Some("{}"), &mut Room::default()) && !one.is(None, &mut Room::default()));
    let many: String = (0..5_000).map(|number| format!(r#""p{number}":{{"type":"string"}},"#)).collect();
    let many = format!(r#"{{"properties":{{{many}"z":{{}}}}}}"#);
    let mut room = Room::default();
    let light =
        (0..40).filter(|_| ArgumentSchema::read(raw(many.clone()), false, &mut room).1.is_empty()).count();
    assert!((2..20).contains(&light), "{light} compiled");
}

#[test]
fn deep_schemas_and_arguments_fit_the_stack_of_a_worker() {
    // Four schemas at every place, as deep as JSON goes.
    let text = r##"{"allOf":[{"anyOf":[{"$ref":"#/$defs/n"}]}],"$defs":{"n":{"type":["object","null"],"properties":{"n":{"$ref":"#"}}}}}"##;
    let (schema, _) = read(text, false);
    let deep = format!("{}7{}", r#"{"n":"#.repeat(120), "}".repeat(120));
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let found = small.spawn(move || schema.check(Some(&deep))).unwrap().join().unwrap();
    assert!(found.is_err(), "{found:?}");
}

#[test]
fn what_no_type_holds_passes_where_the_schema_says_nothing() {
    let open = schema(r#"{"type":"object","properties":{"n":{"type":"integer"},"any":{}}}"#);
    for fits in [r#"{"any":1e400}"#, r#"{"n":1,"x":["\ud800",{"y":-1e999}]}"#, r#"{"any":[1e400,"\udfff"]}"#]
    {
        assert_eq!(open.check(Some(fits)), Ok(()), "{fits}");
    }
    assert_eq!(schema("{}").check(Some(r#"{"n":1e400}"#)), Ok(()));
    let refused = |arguments: &str| match open.check(Some(arguments)) {
        Err(ArgumentError::Mismatch { pointer, message }) => (pointer, message),
        other => panic!("{arguments}: {other:?}"),
    };
    let (pointer, message) = refused(r#"{"any":1e400,"n":1e400}"#);
    assert_eq!(pointer, "/n");
    assert!(message.contains("larger than a 64-bit float") && message.contains("schema"), "{message}");
    let (pointer, message) = refused(r#"{"n":"\ud800"}"#);
    assert_eq!(pointer, "/n");
    assert!(message.contains("surrogate"), "{message}");
    let required = schema(r#"{"required":["a"]}"#).check(Some(r#"{"b":1e400}"#)).unwrap_err();
    assert!(required.to_string().contains("required"), "{required}");
    assert_eq!(refused(r#"{"any":1e400,"n":"x"}"#).0, "/n", "the rest is judged as ever");
    assert!(refused(r#"{"\ud800":1}"#).1.contains("cannot be read"));
    let closed = schema(r#"{"additionalProperties":{"type":"number"}}"#);
    assert!(matches!(closed.check(Some(r#"{"x":1e400}"#)), Err(ArgumentError::Mismatch { .. })));
}

#[test]
fn values_are_not_repeated_in_messages() {
    let error =
        schema(r#"{"properties":{"k":{"type":"integer"}}}"#).check(Some(r#"{"k":"hunter2"}"#)).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

/// Schemas that use every way to lead from one to another, with references among four definitions and the whole.
fn schemas() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({"type": "integer"})),
        Just(json!({"type": "string", "maxLength": 1})),
        Just(json!({"type": ["object", "array"]})),
        Just(json!({"enum": [1, "a", null, {"a": 1}]})),
        Just(json!({"const": [1]})),
        Just(json!({"required": ["a"]})),
        Just(json!({"uniqueItems": true, "maxItems": 2})),
        Just(json!({"pattern": "^[ab]?$"})),
        (0..4).prop_map(|number| json!({"$ref": format!("#/$defs/{number}")})),
        Just(json!({"$ref": "#"})),
    ];
    let inner = leaf.prop_recursive(4, 24, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        let named = prop::collection::btree_map("[abc]", inner.clone(), 0..3);
        prop_oneof![
            (prop_oneof![Just("allOf"), Just("anyOf"), Just("oneOf"), Just("prefixItems")], list)
                .prop_map(|(keyword, list)| json!({keyword: list})),
            (prop_oneof![Just("properties"), Just("dependentSchemas")], named.clone())
                .prop_map(|(keyword, named)| json!({keyword: named})),
            (
                prop_oneof![
                    Just("not"),
                    Just("items"),
                    Just("contains"),
                    Just("propertyNames"),
                    Just("additionalProperties"),
                    Just("unevaluatedProperties"),
                    Just("unevaluatedItems"),
                ],
                inner.clone()
            )
                .prop_map(|(keyword, under)| json!({keyword: under})),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(one, two, three)| json!({"if": one, "then": two, "else": three})),
            (named, inner.clone(), inner.clone()).prop_map(|(named, other, pattern)| json!({
                "properties": named, "patternProperties": {"^a": pattern}, "additionalProperties": other
            })),
            (inner.clone(), inner).prop_map(|(one, two)| json!({"allOf": [one], "items": two})),
        ]
    });
    prop::collection::vec(inner, 5).prop_map(|mut all| {
        let definitions: serde_json::Map<_, _> =
            all.drain(..4).enumerate().map(|(number, schema)| (number.to_string(), schema)).collect();
        json!({"allOf": [all.remove(0)], "$defs": definitions})
    })
}

fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!(2.5)),
        "[abc]{0,2}".prop_map(|text| json!(text))
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| json!(items)),
            prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|named| json!(named)),
        ]
    })
}

/// Visits every schema that could have a say, and counts keywords; false if that takes too long.
struct Walker<'s> {
    root: &'s serde_json::Value,
    count: u64,
}

impl Walker<'_> {
    fn visit(&mut self, schema: &serde_json::Value, value: &serde_json::Value) -> bool {
        let serde_json::Value::Object(map) = schema else {
            self.count += 1;
            return true;
        };
        self.count += 1 + map.keys().filter(|key| *key != "$defs").count() as u64;
        if self.count > 200_000 {
            return false;
        }
        let each = |key: &str| map.get(key).and_then(|list| list.as_array()).cloned().unwrap_or_default();
        let named = |key: &str| map.get(key).and_then(|named| named.as_object()).cloned().unwrap_or_default();
        let mut here = Vec::new();
        for key in ["allOf", "anyOf", "oneOf"] {
            here.extend(each(key));
        }
        here.extend(["not", "if", "then", "else"].iter().filter_map(|key| map.get(*key).cloned()));
        if let Some(reference) = map.get("$ref").and_then(|reference| reference.as_str()) {
            here.push(self.root.pointer(&reference[1..]).unwrap().clone());
        }
        if let serde_json::Value::Object(members) = value {
            here.extend(
                named("dependentSchemas")
                    .into_iter()
                    .filter(|(key, _)| members.contains_key(key))
                    .map(|(_, s)| s),
            );
        }
        let mut fine = here.iter().all(|schema| self.visit(schema, value));
        match value {
            serde_json::Value::Object(members) => {
                for (key, member) in members {
                    let mut under = Vec::new();
                    let pattern = named("patternProperties").into_iter().filter(|_| key.starts_with('a'));
                    under.extend(pattern.map(|(_, schema)| schema));
                    match named("properties").get(key) {
                        Some(schema) => under.push(schema.clone()),
                        None if under.is_empty() => under.extend(map.get("additionalProperties").cloned()),
                        None => {}
                    }
                    under.extend(map.get("unevaluatedProperties").cloned());
                    fine = fine && under.iter().all(|schema| self.visit(schema, member));
                    if let Some(names) = map.get("propertyNames") {
                        fine = fine && self.visit(names, &json!(key));
                    }
                }
            }
            serde_json::Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    let mut under = Vec::new();
                    under.extend(each("prefixItems").get(at).cloned().or_else(|| map.get("items").cloned()));
                    under.extend(
                        ["contains", "unevaluatedItems"].iter().filter_map(|key| map.get(*key).cloned()),
                    );
                    fine = fine && under.iter().all(|schema| self.visit(schema, item));
                }
            }
            _ => {}
        }
        fine
    }
}

/// What the library says of a schema as it was written.
fn plainly(schema: &serde_json::Value, value: &serde_json::Value) -> Option<bool> {
    let options = PatternOptions::regex();
    let validator = jsonschema::options().with_pattern_options(options).build(schema).ok()?;
    Some(validator.is_valid(value))
}

/// A schema with something else at every place where a type is asked for.
fn instead(schema: &serde_json::Value, of: &serde_json::Value, by: &serde_json::Value) -> serde_json::Value {
    if schema == of {
        return by.clone();
    }
    match schema {
        serde_json::Value::Object(map) => {
            map.iter().map(|(key, under)| (key.clone(), instead(under, of, by))).collect()
        }
        serde_json::Value::Array(items) => items.iter().map(|item| instead(item, of, by)).collect(),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_bound_is_never_below_what_a_walk_counts(schema in schemas(), value in values()) {
        let lowered = lower::lower(&schema.to_string()).unwrap();
        prop_assert!(lowered.flaws.is_empty(), "{}", lowered.flaws);
        let raised = raise::raise(&lowered);
        if let Ok(graph) = graph::Graph::new(&lowered.nodes, &mut { usize::MAX }) {
            let mut walker = Walker { root: &raised, count: 0 };
            let size = cost::Size::of(&value);
            let levels = graph.levels();
            let load = levels.get(size.depth).or(levels.last()).copied().unwrap();
            if walker.visit(&raised, &value) {
                let bound = load.visits * size.values;
                prop_assert!(bound >= walker.count as f64, "{bound} < {} for {schema} and {value}", walker.count);
            } else {
                prop_assert!(load.visits * size.values >= 200_000.0, "{schema} and {value}");
            }
        }
    }

    #[test]
    fn what_is_judged_here_and_apart_is_what_the_library_says(schema in schemas(), value in values()) {
        let text = schema.to_string();
        let here = super::ArgumentSchema::new(Some(RawValue::from_string(text.clone()).unwrap()));
        let arguments = value.to_string();
        if let Kind::Light(_) = here.kind {
            let here = here.check(Some(&arguments));
            let mut helper = apart::Helper::default();
            let there = helper.work(&apart::question(&text, &arguments)).unwrap();
            let there = apart::read(&there);
            prop_assume!(here != Err(ArgumentError::Elsewhere));
            // Here the place is not looked for if that may take long.
            match &here {
                Err(ArgumentError::Mismatch { message, .. }) if message.contains("say where") => {
                    prop_assert!(matches!(there, Err(ArgumentError::Mismatch { .. })), "{:?}", there);
                }
                here => prop_assert_eq!(here, &there),
            }
            if let Some(fits) = plainly(&schema, &value) {
                prop_assert_eq!(here.is_ok(), fits, "{} and {}", schema, value);
            }
        }
    }

    #[test]
    fn what_is_left_out_makes_nothing_refused(schema in schemas(), value in values()) {
        // Whatever the missing schema may have said of a place, one of these two says it of all places.
        let marked = json!({"type": "integer"});
        let flawed = instead(&schema, &marked, &json!({"$ref": "#/nowhere"}));
        prop_assume!(flawed != schema);
        let here = super::ArgumentSchema::new(Some(RawValue::from_string(flawed.to_string()).unwrap()));
        let Kind::Light(_) = here.kind else { return Ok(()) };
        for meant in [json!({}), json!({"not": {}})] {
            if plainly(&instead(&schema, &marked, &meant), &value) == Some(true) {
                let found = here.check(Some(&value.to_string()));
                prop_assert!(!matches!(found, Err(ArgumentError::Mismatch { .. })), "{} and {}: {:?}", flawed, value, found);
            }
        }
    }

    #[test]
    fn any_text_is_read_to_an_end(text in "[a-z0-9{}\\[\\]\",:$#/^(|)*+?\\\\.-]{0,60}") {
        let _ = pattern::translate(&text);
        if let Ok(raw) = RawValue::from_string(text) {
            let _ = super::ArgumentSchema::new(Some(raw));
        }
    }
}

/// The stack that schemas are read on; see `backend::arguments`.
const STACK: usize = 64 << 20;

#[test]
fn no_schema_breaks_the_stack_it_is_read_on() {
    let next = |number: usize| json!({"$ref": format!("#/$defs/d{}", number + 1)});
    let chain = |keyword: &'static str| definitions(3_000, move |number| json!({keyword: next(number)}));
    let list = |keyword: &'static str| definitions(3_000, move |number| json!({keyword: [next(number)]}));
    let named =
        |keyword: &'static str| definitions(3_000, move |number| json!({keyword: {"a": next(number)}}));
    let both = |number: usize| {
        let (reference, rest) = (format!("#/$defs/d{}", number + 1), json!({}));
        json!({"unevaluatedProperties": {"$ref": reference, "unevaluatedProperties": rest}})
    };
    let nested = format!("{}{{}}{}", r#"{"properties":{"a":"#.repeat(60), "}}".repeat(60));
    let texts = [
        chain("items"),
        chain("not"),
        chain("contains"),
        chain("additionalProperties"),
        chain("propertyNames"),
        chain("unevaluatedItems"),
        chain("unevaluatedProperties"),
        list("allOf"),
        list("prefixItems"),
        named("properties"),
        named("patternProperties"),
        named("dependentSchemas"),
        definitions(3_000, next),
        definitions(3_000, both),
        // About as many as are compiled here where something is said about what no other keyword has looked at.
        definitions(90, both),
        definitions(140, |number| json!({"unevaluatedItems": next(number)})),
        definitions(20, |_| serde_json::from_str(&nested).unwrap()),
    ];
    let deep = std::thread::Builder::new().stack_size(STACK);
    let schemas = deep.spawn(move || texts.map(|text| read(&text, false))).unwrap().join().unwrap();
    let light = schemas.iter().filter(|(schema, _)| matches!(schema.kind, Kind::Light(_))).count();
    let said: Vec<&String> = schemas.iter().map(|(_, said)| said).collect();
    assert!(light >= 8, "{light}: {said:#?}");
    // And ends where it is not as deep.
    let shallow = std::thread::Builder::new().stack_size(2 << 20);
    shallow.spawn(move || drop(schemas)).unwrap().join().unwrap();
}
