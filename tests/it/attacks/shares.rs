//! Connections, sessions and memory have a share for each caller; a stranger takes nobody's place.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use reqwest::Method;
use serde_json::{Value, json};

use crate::http_door::client::{Door, NEWEST, request, tool};
use crate::http_door::raw::{Raw, post};
use crate::support::{HttpServer, Setup, code, eventually, free_address, get, mint, reason};

/// A refused request on a connection that stays open.
const REFUSED: &[u8] = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn opening() -> Value {
    request("initialize", &json!({"protocolVersion": NEWEST, "capabilities": {}}))
}

fn slow() -> Value {
    request("tools/call", &tool("slow", json!({"ms": 60_000})))
}

/// How many calls of `slow` are on record.
fn begun(door: &Door, what: &str, count: usize) {
    door.gateway.await_audit(what, |rows| {
        let pending = rows.iter().filter(|row| row["tool"] == "slow" && row["status"] == "pending").count();
        (pending >= count).then_some(())
    });
}

#[test]
fn strangers_hold_every_connection() {
    let door = Door::open(Setup::echo(), "max_connections = 30");
    let held: Vec<Raw> = (0..40).map(|_| Raw::sent(&door.address, REFUSED)).collect();
    let eve = door.client("eve").hello(NEWEST);
    assert_eq!(eve.structured("echo")["name"], "echo");
    // More of them change nothing, while eve's connection rests.
    let more: Vec<Raw> = (0..40).map(|_| Raw::sent(&door.address, REFUSED)).collect();
    for _ in 0..10 {
        assert_eq!(eve.structured("echo")["name"], "echo");
    }
    drop((held, more));
}

/// Each wrong token costs what a right one costs. While many are refused they wait for their turn, and what finds no place to
/// wait is told to come again; callers who are known notice nothing, and a new one gets in.
#[test]
fn a_flood_of_wrong_tokens_is_verified_in_turn() {
    let door = Door::open(Setup::echo(), "");
    let ann = door.client("ann").hello(NEWEST);
    let wrong =
        post(&door.anyone().bearer(&format!("{}x", mint("eve", "admin", 3600))), &opening().to_string());
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    eventually("some are told to come again", || {
        let mut flood: Vec<Raw> = (0..100).map(|_| Raw::sent(&door.address, wrong.as_bytes())).collect();
        assert_eq!(ann.structured("echo")["name"], "echo");
        for stranger in &mut flood {
            let response = stranger.response();
            let status = response.split_whitespace().nth(1).unwrap().parse().unwrap();
            assert!(status == 401 || response.contains("retry-after: 1"), "{response}");
            *statuses.entry(status).or_default() += 1;
        }
        statuses.contains_key(&503).then_some(())
    });
    assert!(statuses.keys().all(|status| [401, 503].contains(status)), "{statuses:?}");
    // Somebody new, from elsewhere, has a place of their own in the middle of it.
    let flood: Vec<Raw> = (0..100).map(|_| Raw::sent(&door.address, wrong.as_bytes())).collect();
    let mut bob = Raw::connect_from(Ipv4Addr::new(127, 0, 0, 2), &door.address);
    bob.send(post(&door.client("bob"), &opening().to_string()).as_bytes());
    let welcome = bob.response();
    assert!(welcome.starts_with("HTTP/1.1 200"), "{welcome}");
    drop(flood);
}

#[test]
fn strangers_that_say_nothing_or_half_of_it_hold_none_either() {
    let door = Door::open(Setup::echo(), "max_connections = 30");
    let half = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let body = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    let mut held = Vec::new();
    for number in 0..60 {
        held.push(match number % 3 {
            0 => Raw::connect(&door.address),
            1 => Raw::sent(&door.address, half.as_bytes()),
            _ => Raw::sent(&door.address, body.as_bytes()),
        });
    }
    assert_eq!(door.client("eve").hello(NEWEST).structured("echo")["name"], "echo");
    drop(held);
}

#[test]
fn strangers_from_many_addresses_make_room_for_whoever_comes() {
    let door = Door::open(Setup::echo(), "max_connections = 20\nmax_connections_per_address = 5");
    let ann = door.client("ann").hello(NEWEST);
    let working = Raw::sent(&door.address, post(&ann, &slow().to_string()).as_bytes());
    begun(&door, "ann's call", 1);
    let mut held = Vec::new();
    for last in 2..60 {
        for _ in 0..2 {
            let mut stranger = Raw::connect_from(Ipv4Addr::new(127, 0, 0, last), &door.address);
            stranger.send(REFUSED);
            held.push(stranger);
        }
    }
    let eve = door.client("eve").hello(NEWEST);
    assert_eq!(eve.structured("echo")["name"], "echo");
    assert_eq!(eve.structured("cancelled")["requestIds"], json!([]));
    let mut working = working;
    assert!(working.silent(), "a connection that works on a call is not closed for others");
    drop(held);
}

#[test]
fn one_caller_cannot_hold_all_connections_with_calls() {
    let setup = Setup::new().backend("echo", &[], "max_in_flight = 1000");
    let door = Door::open(setup, "max_connections = 20");
    let [eve, bob] = ["eve", "bob"].map(|name| door.client(name).with("connection", "close").hello(NEWEST));
    let mut held: Vec<Raw> = Vec::new();
    // Half of all are hers; then she is told, and nobody else is.
    let refused = eventually("the bound", || {
        held.push(Raw::sent(&door.address, post(&eve, &slow().to_string()).as_bytes()));
        begun(&door, "her calls", held.len().min(10));
        let text = request("ping", &json!({})).to_string();
        let ending = Raw::sent(&door.address, post(&eve, &text).as_bytes()).ending();
        (ending.status() != 200).then_some(ending)
    });
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(refused.text.contains("-32004") && refused.text.contains("overloaded"), "{refused:?}");
    assert!(refused.text.contains("retry-after: 1"), "{refused:?}");
    assert!(held.len() <= 11, "{}", held.len());
    assert_eq!(bob.structured("echo")["name"], "echo");
}

#[test]
fn a_proxys_connection_serves_many_callers() {
    let door = Door::open(Setup::echo(), "max_connections = 10");
    let mut proxy = Raw::connect(&door.address);
    let ping = request("ping", &json!({})).to_string();
    for number in 0..40 {
        let client = door.client(&format!("caller-{number}"));
        proxy.send(post(&client, &ping).as_bytes());
        let answer = proxy.response();
        assert!(answer.starts_with("HTTP/1.1 200"), "{number}: {answer}");
        // And refuses those who bring nothing, without losing the others.
        if number % 10 == 9 {
            proxy.send(post(&door.anyone(), &ping).as_bytes());
            assert!(proxy.response().starts_with("HTTP/1.1 401"));
        }
    }
}

#[test]
fn standing_streams_are_shared_too() {
    let door = Door::open(Setup::echo(), "max_connections = 16");
    let eve = door.client("eve").with("connection", "close");
    let mut sessions: Vec<_> = (0..16).map(|_| eve.hello(NEWEST)).collect();
    let mut streams = Vec::new();
    let refused = eventually("the bound", || {
        let session = sessions.pop().unwrap().with("accept", "text/event-stream");
        let mut stream = Raw::connect(&door.address);
        let head: String =
            session.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = head.replace("connection: close\r\n", "");
        stream.send(format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes());
        let first = stream.response();
        streams.push(stream);
        (!first.starts_with("HTTP/1.1 200")).then_some(first)
    });
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("overloaded"), "{refused}");
    assert!(streams.len() <= 9, "{}", streams.len());
    let bob = door.client("bob").hello(NEWEST);
    drop(bob.listen());
    assert_eq!(bob.structured("echo")["name"], "echo");
}

#[test]
fn two_callers_have_all_sessions() {
    let door = Door::open(Setup::echo(), "max_sessions = 20");
    for name in ["eve", "bob"] {
        for _ in 0..20 {
            door.client(name).post(&opening());
        }
    }
    assert_eq!(door.client("cat").hello(NEWEST).structured("echo")["name"], "echo");
}

#[test]
fn ten_callers_have_all_sessions_and_use_them() {
    let door = Door::open(Setup::echo(), "max_sessions = 20");
    for number in 0..10 {
        let client = door.client(&format!("greedy-{number}"));
        for _ in 0..20 {
            let opened = client.post(&opening());
            if let Some(session) = opened.header("mcp-session-id") {
                let inside = client.with("mcp-session-id", session);
                assert_eq!(inside.request("tools/list", &json!({})).status, 200);
            }
        }
    }
    assert!(door.sessions() <= 20);
    for number in 0..3 {
        let late = door.client(&format!("late-{number}")).hello(NEWEST);
        assert_eq!(late.structured("echo")["name"], "echo", "{number}");
    }
}

#[test]
fn a_session_that_works_or_is_listened_to_gives_way_to_nobody() {
    let door = Door::open(Setup::echo(), "max_sessions = 8");
    let eve = door.client("eve");
    let working = eve.hello(NEWEST);
    let call = working.begin_post(&slow());
    begun(&door, "the call", 1);
    let listening = eve.hello(NEWEST);
    let _stream = listening.listen();
    let forgotten = eve.hello(NEWEST);
    while eve.post(&opening()).status == 200 {}
    for number in 0..12 {
        let opened = door.client(&format!("c{number}")).post(&opening()).status;
        assert!(matches!(opened, 200 | 503), "{number}: {opened}");
    }
    assert_eq!(forgotten.request("tools/list", &json!({})).status, 404, "nothing was asked in it");
    assert_eq!(listening.structured("echo")["name"], "echo");
    assert_eq!(working.structured("echo")["name"], "echo");
    drop(call);
}

/// Calls in flight: the backend's, and the gateway's over all sessions of a caller.
#[test]
fn slow_calls_of_one_caller_leave_room_for_others() {
    for (what, of_gateway, of_backend) in
        [("the backend", "", "max_in_flight = 8"), ("the gateway", "max_in_flight = 8", "")]
    {
        let setup = Setup::new().backend("echo", &[], of_backend).gateway(of_gateway);
        let door = Door::open(setup, "");
        let eve = door.client("eve");
        let mut calls = Vec::new();
        for number in 1..=4 {
            // Each in a session of its own: the share is the caller's.
            calls.push(eve.hello(NEWEST).begin_post(&slow()));
            begun(&door, what, number);
        }
        let session = eve.hello(NEWEST);
        for _ in 0..20 {
            let refused = session.call("echo", json!({}));
            assert_eq!((code(&refused), reason(&refused)), (-32004, "overloaded"), "{what}: {refused}");
            assert_eq!(refused["error"]["data"]["retryAfter"], 1, "{what}: {refused}");
        }
        let refused = eve.ask("tools/call", &tool("echo", json!({}))).value();
        assert_eq!((code(&refused), reason(&refused)), (-31004, "overloaded"), "{what}: {refused}");
        // None of it was the server's fault, so its circuit is closed.
        let bob = door.client("bob").hello(NEWEST);
        for _ in 0..5 {
            assert_eq!(bob.structured("echo")["name"], "echo", "{what}");
        }
        drop(calls);
    }
}

#[test]
fn connections_of_their_own_to_a_server_are_shared_too() {
    let door = Door::open(Setup::new().backend("echo", &[], "max_connections = 8"), "");
    let with_roots = |name: &str| door.client(name).greeting(NEWEST, &json!({"roots": {}}));
    // Sessions that rest make room for one another: with a call each, any number of them has one.
    let resting: Vec<_> = (0..12).map(|_| with_roots("eve")).collect();
    for session in resting.iter().chain(&resting) {
        assert_eq!(session.structured("echo")["name"], "echo");
    }
    // Those at work do not.
    let mut calls = Vec::new();
    for (number, session) in resting.iter().take(4).enumerate() {
        calls.push(session.begin_post(&slow()));
        begun(&door, "a connection of its own", number + 1);
    }
    let refused = resting[4].call("echo", json!({}));
    assert_eq!((code(&refused), reason(&refused)), (-32004, "overloaded"), "{refused}");
    assert_eq!(with_roots("bob").structured("echo")["name"], "echo", "half of them are hers");
    // A session that ends gives its own back.
    resting[0].delete();
    eventually("a place", || (resting[4].call("echo", json!({}))["result"].is_object()).then_some(()));
    drop(calls);
}

/// Long answers that wait on the disk for their reader: more than what the system holds for a connection.
#[test]
fn long_answers_that_one_caller_does_not_read() {
    const LONG: usize = 5 << 20;
    let limits = "max_message_bytes = 500000\nmax_result_bytes = 6000000";
    let server = HttpServer::start(&["--profile", "echo"]);
    for setup in [Setup::echo(), Setup::new().http("echo", &server.url(), "")] {
        let door = Door::open(setup.gateway(limits), "");
        let [eve, bob] = ["eve", "bob"].map(|name| door.client(name).hello(NEWEST));
        let long = || tool("big", json!({"bytes": LONG}));
        let mut held = Vec::new();
        let refused = eventually("the bound", || {
            let answer = eve.begin(Method::POST, Some(request("tools/call", &long()).to_string()));
            if answer.content_length().is_none_or(|length| length > LONG as u64) {
                held.push(answer);
                return None;
            }
            Some(eve.request("tools/call", &long()).value())
        });
        assert_eq!((code(&refused), reason(&refused)), (-32603, "answer_not_kept"), "{refused}");
        let said = refused["error"]["message"].as_str().unwrap();
        assert!(
            said.starts_with("the call was made") && said.contains("of your other long answers"),
            "{said}"
        );
        assert!((4..=6).contains(&held.len()), "half of eight: {}", held.len());
        // She may ask as often as she likes: it costs the server's circuit nothing, and others no room.
        for _ in 0..6 {
            assert_eq!(code(&eve.ask("tools/call", &long()).value()), -32603);
        }
        let answer = bob.call("big", json!({"bytes": LONG}));
        assert_eq!(answer["result"]["content"][0]["text"].as_str().map(str::len), Some(LONG));
        drop(held);
        eventually("her room", || {
            eve.call("big", json!({"bytes": LONG}))["result"].is_object().then_some(())
        });
    }
}

#[test]
fn tokens_of_thirty_kilobytes() {
    const TOKENS: usize = 2_000;
    let door = Door::echo();
    let ann = door.client("ann").hello(NEWEST);
    assert_eq!(ann.structured("echo")["name"], "echo");
    let anyone = door.anyone();
    let tries: [(&str, usize); 3] =
        [("authorization", 30_000), ("x-api-key", 30_000), ("authorization", 15_000)];
    for (header, length) in tries {
        let value = |number: usize| {
            let token = format!("{number:08}{}", "t".repeat(length));
            if header == "authorization" { format!("Bearer {token}") } else { token }
        };
        // What the first ones need stays with the gateway and is no growth.
        for number in 0..50 {
            anyone.with(header, &value(number)).post(&json!({}));
        }
        let before = door.gateway.peak_memory();
        for number in 50..TOKENS {
            let answer = anyone.with(header, &value(number)).post(&json!({}));
            assert_eq!(answer.status, 401, "{header}: {answer:?}");
            if length > 16 << 10 {
                assert!(answer.text.contains("longer than"), "{header}: {answer:?}");
            }
        }
        let grown = door.gateway.peak_memory().saturating_sub(before);
        assert!(grown < 10 << 10, "{header} of {length} bytes: {grown} KiB more");
    }
    assert_eq!(ann.structured("echo")["name"], "echo");
}

#[test]
fn greeting_of_four_megabytes() {
    let door = Door::echo();
    let eve = door.client("eve");
    let long = "y".repeat(3_900_000);
    let before = door.gateway.peak_memory();
    let greetings = [
        json!({"protocolVersion": NEWEST, "capabilities": {"experimental": {"x": long}}}),
        json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": {"name": "c", "version": "1", "x": long}}),
        json!({"protocolVersion": NEWEST, "capabilities": {"experimental": {"x": "y".repeat(9_000)}}}),
    ];
    for greeting in &greetings {
        for _ in 0..10 {
            let refused = eve.request("initialize", greeting);
            assert!(refused.header("mcp-session-id").is_none());
            let refused = refused.value();
            assert_eq!((code(&refused), reason(&refused)), (-32602, "greeting_too_large"), "{refused}");
        }
    }
    assert_eq!(door.sessions(), 0);
    // What real clients say of themselves is far below the bound.
    let usual =
        json!({"protocolVersion": NEWEST, "capabilities": {"experimental": {"x": "y".repeat(7_000)}}});
    assert_eq!(eve.request("initialize", &usual).status, 200);
    // Without a session it travels with each request, and becomes part of keys.
    let (client, body) =
        eve.declaring(&json!({"roots": {}, "x": "y".repeat(9_000)}), "tools/list", &json!({}));
    let refused = client.post(&body);
    assert_eq!((refused.status, code(&refused.value())), (400, -32602), "{refused:?}");
    let grown = door.gateway.peak_memory().saturating_sub(before);
    assert!(grown < 50 << 10, "{grown} KiB more");
}

/// Everything of a request that outlives its reading has a bound in bytes; the arguments have that of the message.
#[test]
fn what_a_client_says_of_a_request_is_short() {
    let door = Door::echo();
    let session = door.client("eve").hello(NEWEST);
    let long = "l".repeat(20_000);
    let call = |name: &str| tool(name, json!({}));
    let with_id = |id: Value, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let mut token = call("echo");
    token["_meta"] = json!({"progressToken": long});
    let cases = [
        ("an id", with_id(json!(long), "tools/call", call("echo")), -32600),
        ("a method", request(&long, &json!({})), -32601),
        ("a method of others", request(&format!("acme/{long}"), &call("echo")), -32601),
        ("a progress token", request("tools/call", &token), -32602),
        ("a tool", request("tools/call", &call(&long)), -32602),
        ("a prompt", request("prompts/get", &json!({"name": long})), -32602),
        ("a resource", request("resources/read", &json!({"uri": format!("test://{long}")})), -32602),
        ("a subscription", request("resources/subscribe", &json!({"uri": format!("test://{long}")})), -32602),
        ("a level", request("logging/setLevel", &json!({"level": long})), -32602),
        (
            "a reference",
            request(
                "completion/complete",
                &json!({"ref": {"type": "ref/resource", "uri": long}, "argument": {"name": "a", "value": ""}}),
            ),
            -32602,
        ),
    ];
    for (what, body, wanted) in &cases {
        let refused = session.post(body).value();
        assert_eq!(code(&refused), *wanted, "{what}: {refused}");
        assert!(!refused["error"].to_string().contains(&long), "{what} is repeated: {refused}");
    }
    let (client, mut body) = session.without("mcp-session-id").modern("tools/call", &call("echo"));
    body["id"] = long.clone().into();
    let refused = client.post(&body);
    assert_eq!((refused.status, code(&refused.value())), (400, -32600), "{refused:?}");
    // It cancels whatever words come with it.
    let waiting = session.begin_post(&with_id(json!(77), "tools/call", tool("slow", json!({"ms": 60_000}))));
    eventually("the call at the server", || (session.structured("calls")["slow"] == 1).then_some(()));
    session.post(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77, "reason": long}}));
    eventually("the cancellation", || {
        (session.structured("cancelled")["requestIds"].as_array()?.len() == 1).then_some(())
    });
    drop(waiting);
    // A long session id is nobody's.
    assert_eq!(
        session.with("mcp-session-id", &"s".repeat(20_000)).request("tools/list", &json!({})).status,
        404
    );
    assert_eq!(session.structured("echo")["name"], "echo");
    let longest = door.gateway.await_audit("the calls", |rows| {
        let fields = rows.iter().flat_map(|row| row.as_object().unwrap().values());
        (rows.len() > 3).then(|| fields.map(|value| value.to_string().len()).max().unwrap())
    });
    assert!(longest < 10_000, "{longest} bytes in one field of the record");
    assert!(!door.gateway.log().contains(&long), "and none of it is in the log");
}

/// One request to the health port, every header of the caller's choice; the status and the body.
fn probe(address: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn ready_answers_any_host() {
    let health = free_address();
    let setup = Setup::new()
        .gateway(&format!("health_listen = {health:?}"))
        .gated("internal-payroll", &[], "")
        .env("HEALTH_TOKEN", "let-me-see");
    let _door = Door::open(
        setup,
        "allowed_hosts = [\"health.example.org\"]\nallowed_origins = [\"https://app.example\"]",
    );
    eventually("the port", || get(&health, "/health", None));
    let token = "Authorization: Bearer let-me-see\r\n";
    for path in ["/health", "/ready", "/metrics", "/nothing"] {
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9201", "10.0.0.1", "0.0.0.0"]
        {
            let (status, body) = probe(&health, path, &format!("Host: {host}\r\n{token}"));
            assert_eq!(status, 403, "{path} of {host}: {body}");
            assert!(!body.contains("payroll"), "{body}");
        }
        assert_eq!(probe(&health, path, token).0, 400, "{path} without a host");
        for origin in ["https://evil.example", "null", "http://app.example"] {
            let headers = format!("Host: {health}\r\nOrigin: {origin}\r\n{token}");
            assert_eq!(probe(&health, path, &headers).0, 403, "{path} from {origin}");
        }
    }
    for headers in [
        format!("Host: {health}\r\n"),
        "Host: localhost\r\n".to_owned(),
        "Host: [::1]:1\r\n".to_owned(),
        "Host: health.example.org\r\n".to_owned(),
        "Host: localhost\r\nOrigin: https://app.example\r\n".to_owned(),
        "Host: localhost\r\nAuthorization: Bearer let-me-se\r\n".to_owned(),
    ] {
        let answer = eventually("not ready", || {
            let answer = probe(&health, "/ready", &headers);
            (answer.0 == 503).then_some(answer)
        });
        assert_eq!(answer.1, r#"{"ready":false}"#, "{headers}");
    }
    let (_, body) = probe(&health, "/ready", &format!("Host: localhost\r\n{token}"));
    assert!(body.contains("internal-payroll"), "{body}");
}

#[test]
fn one_dead_server_is_not_ready() {
    let health = free_address();
    let keys = format!("health_listen = {health:?}");
    let setup = || Setup::new().gateway(&keys).env("HEALTH_TOKEN", "let-me-see");
    let answers = |wanted: u16| {
        eventually("an answer", || {
            let told = get(&health, "/ready", Some("let-me-see"))?;
            (told.status == wanted && told.body.contains("dead") && !told.body.contains("starting"))
                .then_some(told)
        })
    };
    {
        let _door = Door::open(setup().backend("well", &[], "").gated("dead", &[], ""), "");
        let told = answers(200).json();
        assert_eq!(told["ready"], true);
        let dead = told["backends"].as_array().unwrap().iter().find(|one| one["name"] == "dead").unwrap();
        assert_eq!(dead["up"], false, "{told}");
        let told = get(&health, "/ready", None).unwrap();
        assert_eq!((told.status, told.json()), (200, json!({"ready": true})));
    }
    {
        let _door = Door::open(setup().backend("well", &[], "").gated("dead", &[], "required = true"), "");
        let told = answers(503).json();
        assert!(told["reasons"].to_string().contains("backend dead"), "{told}");
    }
    // Nobody is up: there is nothing it could serve.
    let _door = Door::open(setup().gated("dead", &[], ""), "");
    assert_eq!(answers(503).json()["ready"], false);
}

#[test]
fn strangers_do_not_keep_a_probe_from_the_health_port() {
    let health = free_address();
    let setup = Setup::echo().gateway(&format!("health_listen = {health:?}"));
    let _door = Door::open(setup, "");
    eventually("the port", || get(&health, "/health", None));
    let held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&health).unwrap()).collect();
    assert_eq!(get(&health, "/health", None).map(|answer| answer.status), Some(200));
    drop(held);
}
