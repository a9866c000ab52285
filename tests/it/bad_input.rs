//! Nothing a client sends can stop the conversation: it gets its error, and the next message is served.

use serde_json::json;

use crate::support::{Gateway, Setup, code, reason};

/// The conversation goes on.
fn goes_on(gateway: &mut Gateway) {
    assert_eq!(gateway.request("ping", &json!({}))["result"], json!({}));
    assert_eq!(gateway.ask("echo")["name"], "echo");
}

#[test]
fn what_is_not_json_is_a_parse_error() {
    let mut gateway = Gateway::start(Setup::echo());
    for line in ["{", "hello", "{\"jsonrpc\":\"2.0\",}", "[1,", "\u{1}"] {
        gateway.send_raw(line);
        let reply = gateway.reply().value;
        assert_eq!((code(&reply), &reply["id"]), (-32700, &json!(null)), "{line:?}");
        goes_on(&mut gateway);
    }
    gateway.write(b"\xff\xfe{}\n\n   \n").unwrap();
    assert_eq!(code(&gateway.reply().value), -32700);
    goes_on(&mut gateway);
}

#[test]
fn what_is_no_message_is_an_invalid_request() {
    let mut gateway = Gateway::start(Setup::echo());
    for line in [
        "{}",
        "5",
        "\"text\"",
        "null",
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":5}"#,
    ] {
        gateway.send_raw(line);
        assert_eq!(code(&gateway.reply().value), -32600, "{line}");
    }
    goes_on(&mut gateway);
}

#[test]
fn a_line_that_is_too_long_costs_its_sender_an_error() {
    let mut gateway = Gateway::start(Setup::echo().gateway("max_message_bytes = 4096"));
    let text = "x".repeat(10_000);
    let params = json!({"name": "echo", "arguments": {"text": text}});
    let refused = gateway.request("tools/call", &params);
    assert_eq!((code(&refused), reason(&refused)), (-32600, "message_too_large"));
    goes_on(&mut gateway);
}

#[test]
fn a_batch_is_answered_as_an_array_where_the_revision_has_batches() {
    let mut gateway = Gateway::spawn(Setup::echo());
    gateway.hello("2025-03-26", &json!({}));
    let call = r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}"#;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    gateway.send_raw(&format!(r#"[{{"jsonrpc":"2.0","id":"a","method":"ping"}},{note},{call},{{}}]"#));
    let answers = gateway.until("an array", serde_json::Value::is_array).value;
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 3, "{answers:?}");
    let of = |id: serde_json::Value| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(of(json!("a"))["result"], json!({}));
    assert_eq!(of(json!("b"))["result"]["structuredContent"]["arguments"]["text"], "hi");
    assert_eq!(code(of(json!(null))), -32600);
    gateway.send_raw("[]");
    assert_eq!(code(&gateway.reply().value), -32600);
    goes_on(&mut gateway);
}

#[test]
fn a_batch_is_refused_where_the_revision_has_none() {
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut gateway = Gateway::spawn(Setup::echo());
        assert_eq!(gateway.hello(revision, &json!({}))["protocolVersion"], revision);
        gateway.send_raw(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#);
        let reply = gateway.reply().value;
        assert_eq!((code(&reply), &reply["id"]), (-32600, &json!(null)), "{revision}");
        goes_on(&mut gateway);
    }
}

#[test]
fn ids_come_back_byte_for_byte() {
    let mut gateway = Gateway::start(Setup::echo());
    for id in ["\"text\"", "\"\\u0061\\n\"", "\"\"", "0", "-1", "123456789012345678901234567890", "\"1\""] {
        for request in
            [r#""method":"ping""#, r#""method":"tools/call","params":{"name":"echo"}"#, r#""method":"nope""#]
        {
            gateway.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":{id},{request}}}"#));
            let reply = gateway.reply();
            assert!(reply.raw.contains(&format!(r#""id":{id},"#)), "{id}: {}", reply.raw);
        }
    }
}

#[test]
fn an_id_that_is_in_use_is_refused() {
    let mut gateway = Gateway::start(Setup::echo());
    let line =
        r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"slow","arguments":{"ms":800}}}"#;
    gateway.send_raw(line);
    gateway.send_raw(line);
    assert_eq!(code(&gateway.reply().value), -32600);
    assert!(gateway.reply().value["result"].is_object());
}

#[test]
fn unknown_names_and_wrong_arguments_are_invalid_params() {
    let mut gateway = Gateway::start(Setup::echo());
    let unknown = gateway.call("no_such_tool", json!({}));
    assert_eq!((code(&unknown), reason(&unknown)), (-32602, "unknown_target"));
    assert!(unknown.to_string().contains("no_such_tool"), "{unknown}");
    let wrong = gateway.call("slow", json!({"ms": "soon"}));
    assert_eq!((code(&wrong), reason(&wrong)), (-32602, "invalid_arguments"));
    assert_eq!(wrong["error"]["data"]["pointer"], "/ms");
    let missing = gateway.call("slow", json!({}));
    assert_eq!(code(&missing), -32602);
    assert!(missing["error"]["message"].as_str().unwrap().contains("ms"), "{missing}");
    for params in [json!({}), json!({"name": 5}), json!({"name": "echo", "arguments": "text"})] {
        assert_eq!(code(&gateway.request("tools/call", &params)), -32602, "{params}");
    }
    assert_eq!(gateway.counted("", "slow"), 0, "the backend never heard of it");
}

#[test]
fn unknown_methods_are_told_from_known_ones() {
    let mut gateway = Gateway::start(Setup::echo());
    assert_eq!(code(&gateway.request("tools/destroy", &json!({}))), -32601);
    assert_eq!(code(&gateway.request("tools/list", &json!({"cursor": "invented"}))), -32602);
    goes_on(&mut gateway);
}

#[test]
fn nothing_is_served_before_the_handshake_and_nothing_twice_shakes_hands() {
    let mut gateway = Gateway::spawn(Setup::echo());
    for method in ["tools/list", "tools/call", "no/such"] {
        assert_eq!(code(&gateway.request(method, &json!({"name": "echo"}))), -32002, "{method}");
    }
    assert_eq!(gateway.request("ping", &json!({}))["result"], json!({}));
    let hello = gateway.hello("1999-01-01", &json!({}));
    assert_eq!(hello["protocolVersion"], "2025-11-25");
    let again = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
    assert_eq!(code(&gateway.request("initialize", &again)), -32600);
    goes_on(&mut gateway);
}

#[test]
fn a_cancelled_call_gets_no_answer_and_stops_at_the_backend() {
    let mut gateway = Gateway::start(Setup::echo());
    let slow = gateway.begin("slow", json!({"ms": 60_000}));
    crate::support::eventually("the call under way", || (gateway.counted("", "slow") == 1).then_some(()));
    gateway.notify("notifications/cancelled", &json!({"requestId": slow}));
    crate::support::eventually("the backend hears of it", || {
        let cancelled = gateway.ask("cancelled");
        (!cancelled["requestIds"].as_array().unwrap().is_empty()).then_some(())
    });
    gateway.end();
    assert!(!gateway.has_answer(slow));
    assert_eq!(gateway.audit().iter().filter(|row| row["status"] == "cancelled").count(), 1);
}
