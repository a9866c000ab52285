//! Switching off and on again.

use serde_json::json;

use super::{done, orders, refused, status};
use crate::http_door::client::{Door, NEWEST};
use crate::support::{Gateway, Setup, code, eventually, reason};

#[test]
fn a_kill_ends_what_runs_and_refuses_what_comes_and_nothing_else() {
    let mut gateway = Gateway::start(Setup::new().backend("one", &[], "").backend("two", &[], ""));
    gateway.await_tool("two_slow");
    let ended = gateway.begin("slow", json!({"ms": 60_000}));
    let other = gateway.begin("two_slow", json!({"ms": 3_000}));
    eventually("both calls", || (status(&gateway.setup)["in_flight"] == 2).then_some(()));
    let said = done(&gateway.setup, &["kill", "tool", "one/slow", "--reason", "it never ends"]);
    assert_eq!(said, "tool \"one/slow\" is switched off; 1 call under way was ended\n");
    let answer = gateway.answer(ended);
    assert_eq!((code(&answer), reason(&answer)), (-32005, "killed"), "{answer}");
    assert_eq!(reason(&gateway.call("slow", json!({"ms": 1}))), "killed");
    assert_eq!(gateway.ask("echo")["name"], "echo");
    assert!(!gateway.has_answer(other), "it is not concerned");
    assert!(gateway.answer(other)["result"].is_object());
    assert!(!gateway.tools().contains(&"slow".to_owned()), "a list does not show it");
    let off = &status(&gateway.setup)["switched_off"][0];
    assert_eq!((&off["origin"], &off["why"]), (&json!("order"), &json!("it never ends")));
    assert_eq!(done(&gateway.setup, &["revive", "tool", "one/slow"]), "tool \"one/slow\" is on again\n");
    assert!(gateway.call("slow", json!({"ms": 1}))["result"].is_object());
    gateway.heard("notifications/tools/list_changed");
}

#[test]
fn an_order_outlives_reloads_and_restarts_until_it_is_taken_back() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    done(&gateway.setup, &["kill", "backend", "echo"]);
    done(&gateway.setup, &["kill", "tool", "fa*"]);
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"whoami\"]"));
    gateway.await_log("configuration reloaded", 1);
    assert_eq!(reason(&gateway.call("echo", json!({}))), "killed");
    let mut gateway = gateway.crash_and_restart();
    gateway.await_log("is switched off by an order", 2);
    assert_eq!(reason(&gateway.call("echo", json!({}))), "killed");
    let said = done(&gateway.setup, &["revive", "backend", "echo"]);
    assert_eq!(said, "backend \"echo\" is on again\n");
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    assert_eq!(reason(&gateway.call("fail", json!({}))), "killed");
    // What the file says is not an operator's to take back.
    let said = refused(&gateway.setup, &["revive", "tool", "whoami"]);
    assert!(said.contains("[kill_switch] disabled_tools") && said.contains("config apply"), "{said}");
    done(&gateway.setup, &["kill", "tool", "whoami"]);
    let said = done(&gateway.setup, &["revive", "tool", "whoami"]);
    assert!(said.contains("the order is taken back, and it is off by \"whoami\" in [kill_switch]"), "{said}");
    assert_eq!(reason(&gateway.call("whoami", json!({}))), "killed");
    let mut gateway = gateway.crash_and_restart();
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    assert_eq!(reason(&gateway.call("fail", json!({}))), "killed");
}

#[test]
fn everything_is_off_but_the_way_back() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    let slow = gateway.begin("slow", json!({"ms": 60_000}));
    eventually("the call", || (status(&gateway.setup)["in_flight"] == 1).then_some(()));
    done(&gateway.setup, &["kill", "tool", "fail"]);
    let said = done(&gateway.setup, &["kill", "all", "--reason", "a drill"]);
    assert!(said.starts_with("everything is switched off; 1 call under way was ended"), "{said}");
    assert_eq!(reason(&gateway.answer(slow)), "killed");
    for tool in ["echo", "no_such_tool"] {
        assert_eq!(reason(&gateway.call(tool, json!({}))), "killed");
    }
    assert_eq!(gateway.tools(), Vec::<String>::new());
    let said = done(&gateway.setup, &["kill", "all"]);
    assert!(said.contains("was switched off already"), "{said}");
    assert_eq!(done(&gateway.setup, &["revive", "all"]), "everything is on again\n");
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    assert_eq!(reason(&gateway.call("fail", json!({}))), "killed", "the other order stays");
    let said = refused(&gateway.setup, &["revive", "all"]);
    assert!(said.contains("no order says that everything is off; off by order: tool \"fail\""), "{said}");
}

#[test]
fn a_caller_is_off_with_all_sessions_and_the_others_are_not() {
    let door = Door::open(Setup::echo(), "");
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    assert_eq!(ann.structured("echo")["name"], "echo");
    let said = done(&door.gateway.setup, &["kill", "subject", "ann"]);
    assert_eq!(said, "subject \"ann\" is switched off\n");
    assert_eq!(reason(&ann.call("echo", json!({}))), "killed");
    assert_eq!(reason(&door.client("ann").hello(NEWEST).call("echo", json!({}))), "killed");
    assert_eq!(ann.tools(), Vec::<String>::new());
    assert_eq!(bob.structured("echo")["name"], "echo");
    let said = done(&door.gateway.setup, &["kill", "subject", "eve"]);
    assert!(said.contains("nobody of that name has come since the gateway started"), "{said}");
    assert_eq!(reason(&door.client("eve").hello(NEWEST).call("echo", json!({}))), "killed");
    done(&door.gateway.setup, &["revive", "subject", "ann"]);
    assert_eq!(ann.structured("echo")["name"], "echo");
}

#[test]
fn a_name_that_means_nothing_is_said_and_holds_only_if_that_is_wanted() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    let said = refused(&gateway.setup, &["kill", "tool", "ehco"]);
    assert!(said.contains("did you mean \"echo\"?") && said.contains("--even-unknown"), "{said}");
    let said = refused(&gateway.setup, &["kill", "backend", "eco"]);
    assert!(said.contains("did you mean \"echo\"?"), "{said}");
    for wrong in ["", " echo"] {
        refused(&gateway.setup, &["kill", "tool", wrong]);
    }
    assert_eq!(status(&gateway.setup)["switched_off"], json!([]));
    let said = done(&gateway.setup, &["kill", "tool", "later", "--even-unknown"]);
    assert!(said.contains("is switched off; \"later\" means no tool of any backend"), "{said}");
    assert_eq!(status(&gateway.setup)["switched_off"][0]["what"]["tool"], "later");
}

#[test]
fn orders_that_cannot_be_read_keep_a_gateway_from_starting() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    done(&gateway.setup, &["kill", "tool", "echo"]);
    let path = orders(&gateway.setup);
    gateway.end();
    let setup = gateway.into_setup();
    std::fs::write(&path, "{\"format\":1,\"orders\":[").unwrap();
    let (code, said) = setup.refused(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("orders.json") && said.contains("remove it"), "{said}");
    std::fs::remove_file(&path).unwrap();
    let mut gateway = Gateway::start(setup);
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    // What cannot be kept holds all the same, and that it is not kept is said.
    std::fs::create_dir(&path).unwrap();
    let said = refused(&gateway.setup, &["kill", "tool", "echo"]);
    assert!(said.contains("is switched off now") && said.contains("after a restart"), "{said}");
    assert_eq!(reason(&gateway.call("echo", json!({}))), "killed");
    std::fs::remove_dir(&path).unwrap();
}
