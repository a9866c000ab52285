//! The defects of the gateway that this one replaces: what becomes of one call, and of messages the other way.

use serde_json::json;

use crate::support::{Gateway, HttpServer, Setup, code, eventually, reason, said};

#[test]
fn a_timed_out_call_is_not_retried() {
    let server = HttpServer::start(&[]);
    let keys = "timeout_secs = 1\nretries = 3\nprefix = true\ncircuit_breaker_threshold = 0";
    let setup = Setup::new().backend("pipe", &[], keys).http("web", &server.url(), keys);
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("web_hang");
    for prefix in ["pipe_", "web_"] {
        let refused = gateway.call(&format!("{prefix}hang"), json!({}));
        assert_eq!((code(&refused), reason(&refused)), (-32603, "backend_timeout"));
        assert_eq!(gateway.counted(prefix, "hang"), 1, "{prefix}");
    }
}

#[test]
fn collided_tools_work_under_their_prefix() {
    let setup = Setup::new().backend("one", &[], "env = { WHO = \"one\" }").backend(
        "two",
        &[],
        "env = { WHO = \"two\" }",
    );
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("two_env");
    for (tool, who) in [("env", "one"), ("two_env", "two")] {
        let answer = gateway.call(tool, json!({"name": "WHO"}));
        assert_eq!(answer["result"]["structuredContent"]["value"], who, "{tool}: {answer}");
    }
    assert_eq!(gateway.ask("two_echo")["name"], "echo", "the backend hears its own name for the tool");
}

#[test]
fn an_endless_line_is_bounded() {
    let mut gateway =
        Gateway::start(Setup::echo().gateway("max_message_bytes = 65536\nmax_result_bytes = 65536"));
    assert_eq!(gateway.ask("echo")["name"], "echo");
    let before = gateway.peak_memory();
    let chunk = vec![b'x'; 1 << 20];
    gateway.write(br#"{"jsonrpc":"2.0","id":"long","method":"ping","params":""#).unwrap();
    for _ in 0..48 {
        gateway.write(&chunk).unwrap();
    }
    gateway.write(b"\"}\n").unwrap();
    let reply = gateway.reply().value;
    assert_eq!((code(&reply), reason(&reply), &reply["id"]), (-32600, "message_too_large", &json!("long")));
    // The other way: a backend's answer that is too long costs its call, and nothing else.
    assert_eq!(code(&gateway.call("big", json!({"bytes": 8 << 20}))), -32603);
    assert_eq!(gateway.ask("echo")["name"], "echo");
    let grown = gateway.peak_memory() - before;
    assert!(grown < 16 << 10, "the gateway grew by {grown} KiB for a line of 48 MiB");
}

#[test]
fn negative_ids_are_served_and_null_ids_refused() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.send_raw(r#"{"jsonrpc":"2.0","id":-7,"method":"tools/call","params":{"name":"echo"}}"#);
    let reply = gateway.reply();
    assert!(reply.raw.contains(r#""id":-7,"#) && reply.value["result"].is_object(), "{}", reply.raw);
    gateway.send_raw(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#);
    let reply = gateway.reply().value;
    assert_eq!((code(&reply), &reply["id"]), (-32600, &json!(null)));
}

#[test]
fn progress_and_log_messages_from_a_backend_reach_the_client() {
    let mut gateway = Gateway::start(Setup::echo());
    for token in [json!("t-1"), json!(17)] {
        let params = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": token}});
        let id = gateway.send("tools/call", &params);
        for step in 1..=3 {
            let heard = gateway.heard("notifications/progress");
            assert_eq!(
                (&heard["params"]["progressToken"], &heard["params"]["progress"]),
                (&token, &json!(step))
            );
        }
        assert_eq!(said(&gateway.answer(id)), "done");
    }
    let id = gateway.begin("log", json!({"text": "hear, hear"}));
    assert_eq!(gateway.heard("notifications/message")["params"]["data"], "hear, hear");
    assert_eq!(said(&gateway.answer(id)), "logged");
}

#[test]
fn questions_of_a_backend_reach_the_client_and_its_answers_come_back() {
    let mut gateway = Gateway::spawn(Setup::echo());
    gateway.hello("2025-11-25", &json!({"sampling": {}, "roots": {}}));
    gateway.await_tool("ask");
    for (method, result) in [
        (
            "sampling/createMessage",
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "noon"}}),
        ),
        ("roots/list", json!({"roots": [{"uri": "file:///home/ann"}]})),
    ] {
        let id = gateway.begin("ask", json!({"method": method}));
        let question = gateway.heard(method);
        gateway.send_raw(&json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string());
        let heard: serde_json::Value = serde_json::from_str(said(&gateway.answer(id))).unwrap();
        assert_eq!(heard, result, "{method}");
    }
    // What this client cannot do is refused at once, on its behalf.
    let answer = gateway.call("ask", json!({"method": "elicitation/create"}));
    assert!(said(&answer).contains("-32601"), "{answer}");
}

#[test]
fn tools_list_is_in_a_fixed_order() {
    let setup =
        Setup::new().backend("b", &["--shuffle"], "").backend("a", &["--shuffle", "--page-size", "3"], "");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("a_echo");
    let first = gateway.tools();
    assert_eq!(first.len(), 36, "{first:?}");
    // The backend lists anew, in another order.
    let added = gateway.call("change_tools", json!({}));
    assert_eq!(said(&added), "changed");
    gateway.await_tool("added_1");
    let mut second = gateway.tools();
    second.retain(|name| name != "added_1");
    assert_eq!(first, second);
    let mut gateway = gateway.crash_and_restart();
    // What is remembered has the added one until the server has listed again.
    eventually("the first list again", || (gateway.tools() == first).then_some(()));
}

#[test]
fn the_kill_switch_stops_running_calls() {
    let mut gateway = Gateway::start(Setup::echo());
    let slow = gateway.begin("slow", json!({"ms": 60_000}));
    eventually("the call under way", || (gateway.counted("", "slow") == 1).then_some(()));
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"slow\"]"));
    let killed = gateway.answer(slow);
    assert_eq!((code(&killed), reason(&killed)), (-32005, "killed"));
    eventually("the backend hears that it may stop", || {
        let cancelled = gateway.ask("cancelled");
        (!cancelled["requestIds"].as_array().unwrap().is_empty()).then_some(())
    });
    assert_eq!(code(&gateway.call("slow", json!({"ms": 1}))), -32005);
    assert!(!gateway.tools().contains(&"slow".to_owned()));
    gateway.end();
    let killed = gateway.audit().iter().filter(|row| row["status"] == "killed").count();
    assert_eq!(killed, 2);
}
