//! Authenticators of one's own: alone, beside those that come with the gateway, and with reasons that survive HTTP (A7, A8).

use serde_json::{Value, json};

use super::made::built;
use crate::http_door::client::{Answer, Door};
use crate::support::{Setup, mint, reason};

const TEAM: &str = "team_0123456789abcdef0123456789abcdef";

/// The authenticator that `plugin new` makes.
fn team(more: &str) -> String {
    format!(
        "[[plugins]]\nname = \"team\"\nwasm = {:?}\nstage = \"authenticate\"\nsecrets = [\"TEAM_TOKEN\"]\n{more}\nconfig = {{ token = \"TEAM_TOKEN\", prefix = \"team_\", subject = \"blue-team\", role = \"admin\" }}\n",
        built("authenticator").to_str().unwrap()
    )
}

fn asks(door: &Door, token: &str) -> Answer {
    door.anyone().bearer(token).ask("tools/list", &json!({}))
}

fn refused(answer: &Answer) -> (u16, String) {
    let value: Value = answer.value();
    (answer.status, reason(&value).to_owned())
}

#[test]
fn a8_one_of_ones_own_may_be_the_only_one() {
    let setup = Setup::echo().auth("mode = \"plugins\"").more(&team("")).env("TEAM_TOKEN", TEAM);
    let door = Door::open(setup.without_env("JWT_SECRET_KEY"), "");
    assert_eq!(asks(&door, TEAM).status, 200);
    // A7: the plugin's own word, and what nobody takes.
    let wrong = asks(&door, &format!("{}0", &TEAM[..TEAM.len() - 1]));
    assert_eq!(refused(&wrong), (401, "wrong_team_token".to_owned()));
    assert_eq!(refused(&asks(&door, &mint("ann", "admin", 60))), (401, "unauthenticated".to_owned()));
}

#[test]
fn a8_without_one_the_mode_is_refused() {
    let (code, said) = Setup::echo().auth("mode = \"plugins\"").refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there is no authenticator of your own"), "{said}");
}

#[test]
fn a8_a_foreign_token_finds_its_authenticator() {
    for more in ["", "before = \"auth-jwt\""] {
        let setup = Setup::echo().more(&team(more)).env("TEAM_TOKEN", TEAM);
        let door = Door::open(setup, "");
        assert_eq!(asks(&door, TEAM).status, 200, "{more}");
        assert_eq!(asks(&door, &mint("ann", "admin", 60)).status, 200, "{more}");
        assert_eq!(
            refused(&asks(&door, &mint("ann", "admin", -600))),
            (401, "token_expired".to_owned()),
            "{more}"
        );
    }
}

#[test]
fn a8_before_names_an_authenticator_that_is_there() {
    for (more, words) in [
        ("before = \"auth-jwks\"", "there is no authenticator \"auth-jwks\" to come before"),
        ("before = \"rbac\"", "there is no authenticator \"rbac\" to come before"),
    ] {
        let (code, said) = Setup::echo().more(&team(more)).env("TEAM_TOKEN", TEAM).refused(&["check"]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a8_a_header_that_the_door_does_not_pass_on_is_named() {
    let wasm = built("authenticator");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("team.wasm");
    std::fs::copy(&wasm, &own).unwrap();
    std::fs::write(own.with_extension("toml"), "[request]\nsecrets = true\nheaders = [\"X-Team\"]\n")
        .unwrap();
    let entry = team("").replace(wasm.to_str().unwrap(), own.to_str().unwrap());
    let setup = |keys: &str| Setup::echo().more(&format!("{entry}[http]\n{keys}\n")).env("TEAM_TOKEN", TEAM);
    let (code, said) = setup("").refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("reads the header \"x-team\"") && said.contains("http.credential_headers"),
        "{said}"
    );
    let (code, said) = setup("credential_headers = [\"x-team\"]").refused(&["check"]);
    assert_eq!(code, Some(0), "{said}");
}
