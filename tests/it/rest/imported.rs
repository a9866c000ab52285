//! Routes that were imported are called, and the API behind them hears what its document says.

use serde_json::{Value, json};

use super::openapi::fixture;
use super::stage::{Caller, Upstream};
use crate::http_door::client::Door;
use crate::support::Setup;

#[test]
fn five_imported_operations_reach_the_api_as_its_document_says() {
    let upstream = Upstream::start();
    let setup = Setup::new();
    let file = setup.path("imported.toml");
    let (code, _, said) = setup.bare(&[
        "openapi",
        "import",
        &fixture("petstore.yaml"),
        "--upstream",
        &upstream.url,
        "--out",
        file.to_str().unwrap(),
    ]);
    assert!(said.contains("5 new") && code.is_some(), "{said}");
    let door = Door::open(setup.more(&std::fs::read_to_string(&file).unwrap()), "");
    let ann = Caller::token(&door, "ann", "admin");
    let heard = |reply: super::stage::Reply| -> (String, String, Value) {
        assert_eq!(reply.status, 200, "{reply:?}");
        let said = reply.json();
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        (text("method"), text("target"), serde_json::from_str(&text("body")).unwrap_or_default())
    };
    let own = |method: &str, target: &str, body: Value| (method.to_owned(), target.to_owned(), body);
    assert_eq!(
        heard(ann.ask("GET", "/pets?limit=5&tags=a,b")),
        own("GET", "/pets?limit=5&tags=a,b", Value::Null)
    );
    assert_eq!(heard(ann.ask("GET", "/pets/7")), own("GET", "/pets/7", Value::Null));
    assert_eq!(heard(ann.ask("DELETE", "/pets/7")), own("DELETE", "/pets/7", Value::Null));
    assert_eq!(heard(ann.ask("GET", "/owners?limit=1")), own("GET", "/owners?limit=1", Value::Null));
    let pet = json!({"name": "Rex", "nick": null, "parent": {"name": "Max", "parent": {"name": "Old"}}});
    assert_eq!(heard(ann.json("POST", "/pets", &pet.to_string())), own("POST", "/pets", pet));

    let asked = upstream.asked();
    for reply in [
        ann.ask("GET", "/pets?limit=0"),
        ann.ask("GET", "/pets/seven"),
        ann.json("POST", "/pets", r#"{"name": ""}"#),
        ann.json("POST", "/pets", r#"{"name": "Rex", "parent": {"name": "Max", "parent": {"name": 1}}}"#),
    ] {
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.json()["errors"][0]["detail"].is_string(), "{reply:?}");
    }
    assert_eq!(Caller::of(&door).ask("GET", "/pets").status, 401, "whatever the document says of it");
    assert_eq!(upstream.asked(), asked, "what does not fit reaches nothing");
}
