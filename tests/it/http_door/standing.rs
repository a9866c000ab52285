//! What clients are told unasked: a session's standing stream, and `subscriptions/listen` without sessions.

use serde_json::{Value, json};

use super::client::{Client, Door, NEWEST, STATELESS, Stream};
use crate::support::eventually;

const CHANGED: &str = "notifications/tools/list_changed";

/// Hears of changes until the list is as it should be. One of them may be about the server's start.
fn changed(stream: &mut Stream, session: &Client, fits: impl Fn(&[String]) -> bool) {
    loop {
        let message = heard(stream, CHANGED);
        assert!(message.get("id").is_none(), "{message}");
        // A client that asks after a notification sees the list it is about.
        if fits(&session.tools()) {
            return;
        }
    }
}

/// The next notification of this method.
fn heard(stream: &mut Stream, method: &str) -> Value {
    loop {
        let message = stream.next().unwrap_or_else(|| panic!("the stream ended before {method}"));
        if message["method"] == method {
            return message;
        }
    }
}

#[test]
fn a_standing_stream_hears_that_the_list_has_changed() {
    let mut door = Door::echo();
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    let mut streams = [ann.listen(), bob.listen()];
    // A client that has a list is told when the list changes.
    for session in [&ann, &bob] {
        assert!(session.tools().contains(&"whoami".to_owned()));
    }
    door.gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"whoami\"]"));
    for (stream, session) in streams.iter_mut().zip([&ann, &bob]) {
        changed(stream, session, |tools| !tools.contains(&"whoami".to_owned()));
        let refused = session.call("whoami", json!({}));
        assert_eq!(refused["error"]["code"], -32005, "{refused}");
    }
    door.gateway.reload(|setup| setup.set_kill_switch(""));
    changed(&mut streams[0], &ann, |tools| tools.contains(&"whoami".to_owned()));
    // A change at a backend arrives by the same way.
    bob.call("change_tools", json!({}));
    changed(&mut streams[0], &ann, |tools| tools.contains(&"added_1".to_owned()));
}

#[test]
fn a_stream_that_broke_is_opened_again() {
    let mut door = Door::echo();
    let ann = door.client("ann").hello(NEWEST);
    assert!(ann.tools().contains(&"whoami".to_owned()));
    drop(ann.listen());
    let mut again = ann.listen();
    door.gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"whoami\"]"));
    changed(&mut again, &ann, |tools| !tools.contains(&"whoami".to_owned()));
}

#[test]
fn what_cannot_be_read_is_not_sent() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    for accept in ["application/json", "text/html", "text/event-stream;q=0", "text/*;q=0, */*", ""] {
        assert_eq!(session.with("accept", accept).get().status, 406, "GET with {accept:?}");
    }
    for accept in ["text/event-stream", "text/*", "*/*", "application/json;q=0.5, text/event-stream"] {
        // The stream stays open; its head is enough.
        drop(session.with("accept", accept).listen());
    }
    let calls = session.structured("calls");
    for accept in ["text/html", "application/json;q=0"] {
        let refused = session.with("accept", accept).request("tools/list", &json!({}));
        assert_eq!(refused.status, 406, "POST with {accept:?}");
        let (client, body) = door.client("ann").with("accept", accept).modern("tools/list", &json!({}));
        assert_eq!(client.post(&body).status, 406, "stateless with {accept:?}");
    }
    assert_eq!(session.structured("calls")["echo"], calls["echo"]);
}

#[test]
fn the_stateless_revision_has_post_only() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    for client in [door.client("ann"), session.clone()] {
        let modern = client.with("mcp-protocol-version", STATELESS);
        for answer in [modern.with("accept", "text/event-stream").get(), modern.delete()] {
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{answer:?}");
        }
    }
    assert_eq!(session.structured("echo")["name"], "echo", "the session was not ended");
}

#[test]
fn a_stateless_client_hears_what_it_listens_for() {
    let mut door = Door::echo();
    let ann = door.client("ann");
    let wish =
        json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true, "made-up": true}});
    let (client, body) = ann.modern("subscriptions/listen", &wish);
    let mut stream = client.follow(&body);
    let mut numb = {
        let (client, body) = ann.modern("subscriptions/listen", &json!({"notifications": {}}));
        client.follow(&body)
    };
    let own = |message: &Value| message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
    let first = stream.next().unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    let granted = json!({"toolsListChanged": true, "promptsListChanged": true});
    assert_eq!((&first["params"]["notifications"], own(&first)), (&granted, body["id"].clone()), "{first}");
    assert_eq!(numb.next().unwrap()["params"]["notifications"], json!({}));
    door.gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"whoami\"]"));
    let changed = heard(&mut stream, CHANGED);
    assert_eq!(own(&changed), body["id"], "{changed}");
    eventually("the new list", || {
        let list = ann.ask("tools/list", &json!({})).value();
        (!super::client::names(&list).contains(&"whoami".to_owned())).then_some(())
    });
    // At the end both are answered; the one that subscribed to nothing has heard nothing before it.
    door.gateway.signal(rustix::process::Signal::TERM);
    let last = numb.next().unwrap();
    assert_eq!(
        (&last["id"].is_number(), &last["result"]["resultType"]),
        (&true, &json!("complete")),
        "{last}"
    );
    let mut rest = std::iter::from_fn(|| stream.next());
    assert!(rest.any(|message| message["id"] == body["id"] && message["result"].is_object()));
    assert!(door.gateway.wait_exit().success());
}
