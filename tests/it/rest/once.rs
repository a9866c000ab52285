//! A request with an Idempotency-Key is done once, whoever repeats it and however often, and also across a crash.

use super::stage::{Caller, Reply, Upstream, gateway};
use crate::support::{Setup, eventually};

fn keyed(caller: &Caller, key: &str) -> Caller {
    caller.clone().with("Idempotency-Key", key)
}

fn is(reply: &Reply, status: u16, reason: &str) {
    assert_eq!(reply.refusal(), (status, reason.to_owned()), "{}", String::from_utf8_lossy(&reply.body));
}

#[test]
fn a_hundred_racers_are_one_request() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let racers: Vec<_> = (0..100)
        .map(|_| {
            let ann = keyed(&ann, "\"race\"");
            std::thread::spawn(move || ann.json("POST", "/pay/slow", "{\"n\":1}"))
        })
        .collect();
    let replies: Vec<Reply> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
    assert_eq!(upstream.asked(), 1, "one of them was done");
    let (done, others): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 201);
    assert!(!done.is_empty() && done.iter().all(|reply| reply.json()["done"] == true), "{done:?}");
    assert_eq!(done.iter().filter(|reply| reply.header("idempotent-replayed").is_none()).count(), 1);
    for other in others.iter().filter(|reply| reply.status != 503) {
        is(other, 409, "idempotency_running");
    }
    // The same again, and the same key for something else.
    let again = keyed(&ann, "race").json("POST", "/pay/slow", "{\"n\":1}");
    assert_eq!(
        (again.status, again.header("idempotent-replayed"), again.header("x-slow")),
        (201, Some("true"), Some("yes"))
    );
    is(&keyed(&ann, "race").json("POST", "/pay/slow", "{\"n\":2}"), 422, "idempotency_mismatch");
    is(&ann.json("POST", "/pay/slow", "{\"n\":1}"), 428, "idempotency_key_required");
    is(&keyed(&ann, "\"broken").json("POST", "/pay/slow", "{\"n\":1}"), 400, "invalid_arguments");
    // A key is its caller's own.
    let bob = Caller::token(&door, "bob", "admin");
    assert_eq!(keyed(&bob, "race").json("POST", "/pay/x", "{\"n\":1}").header("idempotent-replayed"), None);
    // Nobody knows what a server that failed has done; what was refused before can be tried again.
    assert_eq!(keyed(&ann, "fails").json("POST", "/pay/status/500", "{}").status, 500);
    is(&keyed(&ann, "fails").json("POST", "/pay/status/500", "{}"), 409, "unknown_outcome");
    assert_eq!(keyed(&ann, "wrong").json("POST", "/pay/status/404", "{}").status, 404);
    assert_eq!(
        keyed(&ann, "wrong").json("POST", "/pay/status/404", "{}").header("idempotent-replayed"),
        Some("true")
    );
    let asked = upstream.asked();
    // It survives a restart.
    let door = door.again();
    let ann = Caller::token(&door, "ann", "admin");
    let again = keyed(&ann, "race").json("POST", "/pay/slow", "{\"n\":1}");
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(upstream.asked(), asked);
}

#[test]
fn what_was_under_way_when_the_gateway_was_killed_is_not_done_again() {
    let upstream = Upstream::start();
    let mut door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let under_way = std::thread::spawn({
        let ann = keyed(&ann, "crash");
        move || {
            super::stage::raw(
                &ann.address,
                &ann.clone().with("Content-Type", "application/json").text("POST", "/pay/hang", Some(b"{}")),
            )
        }
    });
    eventually("the request at the upstream", || (upstream.asked() == 1).then_some(()));
    door.gateway.signal(rustix::process::Signal::KILL);
    drop(under_way.join());
    let _killed = door.gateway.wait_exit();
    let setup = door.gateway.into_setup();
    let door = crate::http_door::client::Door::restart(setup);
    let ann = Caller::token(&door, "ann", "admin");
    is(&keyed(&ann, "crash").json("POST", "/pay/hang", "{}"), 409, "unknown_outcome");
    assert_eq!(upstream.asked(), 1, "it was not done again");
}
