//! OpenAPI documents become routes, and what becomes of a file that has some already.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::Setup;

pub(super) fn fixture(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "tests/fixtures/openapi", name].iter().collect();
    path.to_str().unwrap().to_owned()
}

/// A file that the gateway takes, and that has words of a person in it.
const MINE: &str = "# mine\n[auth]\nmode = \"local\" # one person\nrole = \"admin\"\n\n[rbac.roles.admin]\npermissions = [\"*\"]\n";

fn import(setup: &Setup, document: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let document = fixture(document);
    let mut args = vec!["openapi", "import", &document];
    args.extend(more);
    setup.bare(&args)
}

fn table(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

#[test]
fn a_document_becomes_routes_and_says_what_it_could_not_take() {
    let setup = Setup::new();
    let (code, out, said) = import(&setup, "petstore.yaml", &[]);
    assert_eq!(code, Some(0), "{said}");
    let file: Value = serde_json::to_value(out.parse::<toml::Table>().unwrap()).unwrap();
    assert_eq!(file["upstreams"], json!([{"name": "pet-store", "url": "https://eu.pets.example.org/v1"}]));
    let ids: Vec<_> =
        file["routes"].as_array().unwrap().iter().map(|route| route["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["listPets", "addPet", "getPet", "delete_pets_petId", "list_owners"]);
    assert!(
        file["routes"].as_array().unwrap().iter().all(|route| route["auth"] == "jwt"),
        "closed, whatever the document says"
    );
    let body: Value = serde_json::from_str(file["routes"][1]["body"]["schema"].as_str().unwrap()).unwrap();
    let judge = jsonschema::validator_for(&body).unwrap();
    assert!(judge.is_valid(
        &json!({"name": "Rex", "country": "NO", "nick": null, "parent": {"name": "Max", "weight": 0.1}})
    ));
    assert!(!judge.is_valid(&json!({"name": "Rex", "parent": {"name": "Max", "weight": 0}})), "{body}");
    for (what, times) in [
        ("the body: nothing stands at #/components/schemas/Missing (POST /owners)", 1),
        ("TRACE is refused by the gateway (/pets/{petId})", 1),
        ("a parameter in its path is not a whole segment (GET /diff/{base}...{head})", 1),
        ("callbacks are requests of the API to others, and no routes (POST /pets)", 1),
        ("the API wants credentials: key (apiKey in header X-Key)", 1),
        ("6 operations and 1 that cannot be read, 6 taken", 1),
        ("as MCP tools: 6 tools, ", 1),
    ] {
        assert_eq!(said.matches(what).count(), times, "{what}: {said}");
    }
}

#[test]
fn a_second_import_keeps_what_is_local_and_shows_what_changes() {
    let setup = Setup::new();
    let file = setup.path("routes.toml");
    std::fs::write(&file, MINE).unwrap();
    let out = file.to_str().unwrap().to_owned();
    let (code, shown, said) = import(&setup, "petstore.yaml", &["--out", &out, "--dry-run", "--tag", "pets"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(shown.contains("+id = \"listPets\"") && said.contains("nothing was written"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), MINE);

    let (_, shown, said) = import(&setup, "petstore.yaml", &["--out", &out, "--tag", "pets"]);
    assert!(shown.contains("+[[upstreams]]") && said.contains("4 new, 0 changed, 0 as they were"), "{said}");
    let first = std::fs::read_to_string(&file).unwrap();
    assert!(first.starts_with(MINE), "{first}");

    let local = first
        .replacen("auth = \"jwt\"", "auth = \"none\"   # everybody may look\nmax_body_bytes = 100", 1)
        .replacen("summary = \"One more\"", "summary = \"Old words\" # theirs", 1)
        .replacen("id = \"getPet\"", "id = \"one_pet\"", 1);
    std::fs::write(&file, &local).unwrap();
    let (_, shown, said) = import(&setup, "petstore.yaml", &["--out", &out]);
    assert!(said.contains("1 new, 1 changed, 3 as they were"), "{said}");
    assert!(shown.contains("-summary = \"Old words\" # theirs\n+summary = \"One more\" # theirs"), "{shown}");
    let third = std::fs::read_to_string(&file).unwrap();
    assert!(third.contains("auth = \"none\"   # everybody may look\nmax_body_bytes = 100"), "{third}");
    assert_eq!(table(&file)["routes"].as_array().unwrap().len(), 5, "{third}");
    assert!(third.contains("id = \"one_pet\"") && !third.contains("id = \"getPet\""), "{third}");

    let (code, shown, said) = import(&setup, "petstore.yaml", &["--out", &out]);
    assert_eq!((code, shown.as_str()), (Some(0), ""), "{said}");
    assert!(
        said.contains("says all this already") && std::fs::read_to_string(&file).unwrap() == third,
        "{said}"
    );

    // What another document says of the same upstream leaves these where they are.
    let (_, _, said) =
        import(&setup, "search-3.2.yaml", &["--out", &out, "--name", "pet-store", "--method", "get"]);
    assert!(said.contains("keeps the url that it has there"), "{said}");
    assert!(said.contains("not in the document, and still in the file: listPets, addPet, one_pet, delete_pets_petId, list_owners"), "{said}");
}

#[test]
fn what_is_asked_for_and_is_not_there_is_a_mistake() {
    let setup = Setup::new();
    for (document, more, what) in [
        (
            "petstore.yaml",
            ["--tag", "cats"],
            "no operation has the tag \"cats\"; the document has the tags owners, pets",
        ),
        ("petstore.yaml", ["--id", "list"], "no operation has the id \"list\""),
        ("tree-3.1.json", ["--id", "putTree"], "only where the API is on its own host, \"/api\""),
        ("petstore.yaml", ["--upstream", "pets.example.org"], "is not an http or https URL"),
        ("nothing.yaml", ["--name", "x"], "cannot read"),
    ] {
        let (code, out, said) = import(&setup, document, &more);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains(what), "{what}: {said}");
    }
    std::fs::write(setup.path("old.json"), r#"{"swagger": "2.0", "paths": {}}"#).unwrap();
    let (code, _, said) = setup.bare(&["openapi", "import", "old.json"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("Swagger 2.0: convert it to OpenAPI 3 first"), "{said}");
}

#[test]
fn recursion_stays_recursion_and_an_endless_one_is_left_out() {
    let setup = Setup::new();
    let (code, out, said) = import(&setup, "tree-3.1.json", &["--as", "tools"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("judging by it would never end (POST /trees)"), "{said}");
    assert!(said.contains("1 webhooks are requests of the API to others"), "{said}");
    let tools: Value = serde_json::from_str(&out).unwrap();
    let tools = tools["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 1);
    let judge = jsonschema::validator_for(&tools[0]["inputSchema"]).unwrap();
    let mut tree = json!({"value": "leaf"});
    for _ in 0..50 {
        tree = json!({"children": [tree], "other": {"node": null}});
    }
    assert!(judge.is_valid(&json!({"body": tree})));
    assert!(!judge.is_valid(&json!({"body": {"children": [{"children": [{"value": 1}]}]}})));
}

#[test]
fn the_newest_version_is_read_and_what_routes_lack_is_said() {
    let setup = Setup::new();
    let (code, out, said) = import(&setup, "search-3.2.yaml", &[]);
    assert_eq!(code, Some(0), "{said}");
    let file: Value = serde_json::to_value(out.parse::<toml::Table>().unwrap()).unwrap();
    let ids: Vec<_> =
        file["routes"].as_array().unwrap().iter().map(|route| route["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["findItems"]);
    assert_eq!(file["routes"][0]["parameters"][0]["style"], "deepObject");
    assert!(said.contains("the whole query string was left out (GET /items)"), "{said}");
    assert!(said.contains("left out: routes have no such method (QUERY /items, COPY /items)"), "{said}");
}
