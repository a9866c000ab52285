//! Documents of all versions, and documents that mean no good.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn imported(document: &Value) -> Imported {
    operations(&read(&document.to_string()).unwrap())
}

fn petstore() -> Value {
    json!({
        "openapi": "3.0.3", "info": {"title": "Pets", "version": "1.2"},
        "servers": [{"url": "https://{region}.example.org/v1", "variables": {"region": {"default": "eu"}}}],
        "security": [{"key": []}],
        "paths": {
            "/pets": {
                "parameters": [{"$ref": "#/components/parameters/Trace"}],
                "get": {"operationId": "listPets", "tags": ["pets"], "security": [], "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "nullable": true}},
                    {"name": "tags", "in": "query", "explode": false, "schema": {"type": "array", "items": {"type": "string"}}},
                ], "responses": {"200": {"description": "ok", "content": {"application/json; charset=utf-8": {"schema": {"$ref": "#/components/schemas/Pet"}}}}}},
                "post": {"operationId": "addPet", "tags": ["pets", "write"], "requestBody": {"$ref": "#/components/requestBodies/Pet"}, "responses": {}},
            },
            "/pets/{petId}": {"delete": {"summary": "Remove", "responses": {"204": {"description": "gone"}}},
                "trace": {"responses": {}}},
            "/bad/{x}": {"get": {"operationId": "bad", "parameters": [{"name": "x", "in": "path", "required": true, "schema": {"$ref": "#/components/schemas/None"}}], "responses": {}}},
            "/v{version}/diff/{base}...{head}": {"get": {"operationId": "diff", "responses": {}}},
        },
        "components": {
            "parameters": {"Trace": {"name": "X-Trace", "in": "header", "schema": {"type": "string"}}},
            "requestBodies": {"Pet": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}},
            "schemas": {"Pet": {"type": "object", "required": ["id", "name"], "properties": {
                "id": {"type": "integer", "readOnly": true}, "name": {"type": "string"}, "parent": {"$ref": "#/components/schemas/Pet"}}}},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
        },
    })
}

#[test]
fn operations_are_read_and_the_bad_one_is_left_out() {
    let imported = imported(&petstore());
    let ids: Vec<_> = imported.operations.iter().map(|operation| operation.id.as_str()).collect();
    assert_eq!(ids, ["listPets", "addPet", "delete_pets_petId", "diff"]);
    assert_eq!((imported.title.as_str(), imported.left), ("Pets", 1));
    let said = imported.notes.to_string();
    assert!(
        said.contains(
            "left out: parameter \"x\": nothing stands at #/components/schemas/None (GET /bad/{x})"
        ),
        "{said}"
    );
    assert!(said.contains("TRACE"), "{said}");
    let list = &imported.operations[0];
    assert_eq!(list.server.as_deref(), Some("https://eu.example.org/v1"));
    assert_eq!(list.security, []);
    let names: Vec<_> =
        list.parameters.iter().map(|one| (one.name.as_str(), one.place.as_str(), one.is_plain())).collect();
    assert_eq!(names, [("X-Trace", "header", true), ("limit", "query", true), ("tags", "query", false)]);
    assert_eq!(list.parameters[1].schema, Some(json!({"type": ["integer", "null"]})));
    assert_eq!(list.responses[0].content[0].name, "application/json");
    let add = &imported.operations[1];
    assert_eq!(add.security[0].0[0].kind, "apiKey in header X-Key");
    let body = add.body.as_ref().unwrap().json().unwrap().schema.as_ref().unwrap();
    assert_eq!(
        body["$defs"]["Pet"]["required"],
        json!(["name"]),
        "the client does not send what is read-only"
    );
    assert_eq!(imported.operations[2].parameters[0].name, "petId", "described nowhere, but in the path");
}

#[test]
fn a_selection_is_by_tag_id_and_method_and_says_what_fits_nothing() {
    let all = imported(&petstore()).operations;
    let pick = |tags: &[&str], ids: &[&str], methods: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        Pick { tags: own(tags), ids: own(ids), methods: own(methods) }
    };
    let taken =
        |pick: &Pick| all.iter().filter(|one| pick.takes(one)).map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!(taken(&pick(&["pets"], &[], &["post"])), ["addPet"]);
    assert_eq!(taken(&pick(&[], &["*Pet*"], &[])), ["listPets", "addPet"]);
    assert_eq!(taken(&pick(&[], &[], &[])).len(), 4);
    let wrong = pick(&["pest"], &["addPet"], &["PUT"]);
    assert_eq!(wrong.unmatched(&all), [("tag", "pest"), ("method", "PUT")]);
}

#[test]
fn three_versions_of_one_api_are_the_same_operations() {
    let new = |version: &str| {
        let mut document = petstore();
        document["openapi"] = json!(version);
        document["paths"]["/pets"]["get"]["parameters"][0]["schema"] = json!({"type": ["integer", "null"]});
        imported(&document).operations
    };
    let old = imported(&petstore()).operations;
    assert_eq!(old, new("3.1.1"));
    assert_eq!(old, new("3.2.0"));
    let mut document = petstore();
    document["openapi"] = json!("3.2.0");
    document["paths"]["/pets"]["query"] = json!({"operationId": "ask", "responses": {}});
    document["paths"]["/pets"]["additionalOperations"] =
        json!({"COPY": {"operationId": "copy", "responses": {}}});
    let ids: Vec<_> =
        imported(&document).operations.iter().map(|one| format!("{} {}", one.method, one.id)).collect();
    assert!(ids.contains(&"QUERY ask".to_owned()) && ids.contains(&"COPY copy".to_owned()), "{ids:?}");
}

#[test]
fn a_tool_takes_what_the_operation_takes() {
    let all = imported(&petstore()).operations;
    let tools: Vec<Value> = all.iter().map(tool).collect();
    assert_eq!(
        tools[0]["inputSchema"]["properties"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["X-Trace", "limit", "tags"]
    );
    let judge = jsonschema::validator_for(&tools[1]["inputSchema"]).unwrap();
    assert!(judge.is_valid(&json!({"body": {"name": "Rex", "parent": {"name": "Max"}}})));
    assert!(!judge.is_valid(&json!({"body": {"name": "Rex", "parent": {"name": 1}}})));
    assert!(!judge.is_valid(&json!({})));
    assert_eq!(tools[2]["annotations"]["destructiveHint"], true);
    let mut same = all[2].clone();
    same.parameters.push(Parameter { place: Place::Query, ..same.parameters[0].clone() });
    assert_eq!(tool(&same)["inputSchema"]["required"], json!(["path", "query"]), "one name in two places");
    let sizes = Sizes::of(&all);
    let written: usize = tools.iter().map(|tool| tool.to_string().len()).sum();
    assert_eq!((sizes.count, sizes.bytes, sizes.tokens()), (4, written, written.div_ceil(4)));
}

#[test]
fn a_second_import_changes_what_the_document_changed_and_nothing_else() {
    let all = imported(&petstore()).operations;
    let access = Access { upstream: "pets", url: "https://eu.example.org/v1", auth: "jwt" };
    let every =
        |all: &[Operation], old: &str| merge(old, all, &all.iter().collect::<Vec<_>>(), &access).unwrap();
    let first = every(&all, "# mine\n[auth]\nmode = \"local\"\n");
    assert_eq!(first.added, ["listPets", "addPet", "delete_pets_petId"]);
    assert!(first.notes.to_string().contains("not a whole segment (GET /v{version}"), "{}", first.notes);
    assert!(first.text.starts_with("# mine\n[auth]"), "{}", first.text);
    let table: toml::Table = first.text.parse().unwrap();
    assert_eq!(
        table["routes"][0]["parameters"][1]["schema"].as_str(),
        Some(r#"{"type":["integer","null"]}"#)
    );
    assert_eq!(table["routes"][2]["responses"]["204"]["description"].as_str(), Some("gone"));

    let local = first
        .text
        .replacen("auth = \"jwt\"", "auth = \"none\" # on purpose\nmax_body_bytes = 10", 1)
        .replacen("id = \"addPet\"", "# renamed\nid = \"new_pet\"", 1);
    let again = every(&all, &local);
    assert_eq!((again.added.len(), again.changed.len(), again.same.len()), (0, 0, 3));
    assert_eq!(again.text, local, "nothing changed, so no byte does");

    let mut newer = petstore();
    newer["paths"]["/pets"]["get"]["summary"] = json!("All pets");
    newer["paths"]["/pets/{id}"] = newer["paths"]["/pets/{petId}"].take();
    newer["paths"].as_object_mut().unwrap().shift_remove("/pets/{petId}");
    newer["paths"]["/pets"].as_object_mut().unwrap().shift_remove("post");
    let third = every(&imported(&newer).operations, &local);
    assert_eq!(third.changed, ["listPets", "delete_pets_petId"]);
    assert_eq!(third.gone, ["new_pet"]);
    assert!(third.text.contains("auth = \"none\" # on purpose\nmax_body_bytes = 10"), "{}", third.text);
    assert!(
        third.text.contains("summary = \"All pets\"") && third.text.contains("# renamed\nid = \"new_pet\"")
    );
}

#[test]
fn what_is_generated_can_be_read_again_and_is_the_same() {
    let all = imported(&petstore()).operations;
    let described = |operation: &Operation| Described {
        operation: operation.clone(),
        auth: if operation.id == "listPets" { Auth::None } else { Auth::Jwt },
        deprecated_since: None,
        sunset: None,
        scopes: vec!["pets".to_owned()],
        max_body: 1000,
        timeout_secs: 30,
        idempotency: (operation.method == "POST").then_some(true),
    };
    let info = Info { title: "gateway".to_owned(), version: "7".to_owned() };
    let document = generate(&info, &all.iter().map(described).collect::<Vec<_>>());
    let again = imported(&document);
    assert!(again.notes.is_empty(), "{}", again.notes);
    for (old, new) in all.iter().zip(&again.operations) {
        assert_eq!(
            (&old.id, &old.method, &old.path, &old.tags),
            (&new.id, &new.method, &new.path, &new.tags)
        );
        // What is read-only makes two schemas of the one, of which the second has a number.
        assert_eq!(format!("{:?}", old.body), format!("{:?}", new.body).replace("Pet_2", "Pet"));
        let own = new.parameters.iter().filter(|one| one.name != "Idempotency-Key");
        assert!(old.parameters.iter().eq(own), "{:?}", new.parameters);
    }
    assert_eq!(document["paths"]["/pets"]["get"]["security"], json!([]));
    assert_eq!(document["paths"]["/pets"]["post"]["security"], json!([{"jwt": ["pets"]}]));
    let answers = |method: &str| document["paths"]["/pets"][method]["responses"].clone();
    assert!(answers("get").get("401").is_none() && answers("post").get("401").is_some());
    assert!(answers("get").get("428").is_none() && answers("post").get("428").is_some());
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = [
        "$ref",
        "#/components/schemas/A",
        "#/components/schemas/B",
        "#/paths",
        "get",
        "post",
        "parameters",
        "schema",
        "in",
        "path",
        "query",
        "name",
        "allOf",
        "items",
        "properties",
        "required",
        "content",
        "application/json",
        "requestBody",
        "responses",
        "200",
        "nullable",
        "type",
        "/a/{x}",
        "x",
    ];
    let word = prop::sample::select(words.to_vec());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3i64..9).prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((word.clone().prop_map(str::to_owned), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever stands in a document: no panic, unique names, and every schema that comes out can be compiled or was never one.
    #[test]
    fn no_document_makes_it_panic(paths in any_json(), a in any_json(), b in any_json(), item in any_json(), version in prop::sample::select(vec!["3.0.0", "3.1.0", "3.2.0"])) {
        let document = json!({"openapi": version, "paths": {"/a/{x}": item, "/b": paths}, "components": {"schemas": {"A": a, "B": b}}});
        let all = imported(&document).operations;
        let mut ids: Vec<_> = all.iter().map(|one| one.id.clone()).collect();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), all.len());
        for operation in &all {
            let tool = tool(operation);
            let known = tool["inputSchema"]["$defs"].as_object();
            check_references(&tool["inputSchema"], &|name| known.is_some_and(|defs| defs.contains_key(name)))?;
        }
        let access = Access { upstream: "u", url: "http://localhost", auth: "jwt" };
        let merged = merge("", &all, &all.iter().collect::<Vec<_>>(), &access).unwrap();
        prop_assert!(merged.text.parse::<toml::Table>().is_ok());
        let again = merge(&merged.text, &all, &all.iter().collect::<Vec<_>>(), &access).unwrap();
        prop_assert_eq!(again.text, merged.text);
    }
}

fn check_references(value: &Value, known: &dyn Fn(&str) -> bool) -> Result<(), TestCaseError> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let (true, Some(text)) = (key == "$ref", value.as_str()) {
                    prop_assert!(text.strip_prefix("#/$defs/").is_none_or(known), "{text}");
                }
                if !["const", "default", "enum"].contains(&key.as_str()) {
                    check_references(value, known)?;
                }
            }
        }
        Value::Array(list) => list.iter().try_for_each(|value| check_references(value, known))?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}
