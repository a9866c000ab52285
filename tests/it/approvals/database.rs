//! Approvals in PostgreSQL: what holds for a file holds for a database that several gateways share.

use rustix::process::Signal;
use serde_json::json;

use super::{LEA, approve, list, pending, ran, ready, setup, text, to, waiting, waits};
use crate::http_door::client::{Door, NEWEST, request, tool};
use crate::postgres::server::Postgres;
use crate::support::{Setup, eventually, mint, reason};

fn kept(setup: Setup, database: &Postgres) -> Setup {
    setup.more("store = \"postgres\"").env("DATABASE_URL", &database.url())
}

#[test]
fn a_call_waits_is_approved_after_a_kill_and_runs_once_without_any_file() {
    let database = Postgres::start();
    let mut gateway = ready(kept(waiting(0), &database));
    waits(&gateway.call("deploy", to("prod")));
    let asked = pending(&gateway.setup);
    assert_eq!(waits(&gateway.call("deploy", to("prod")))["approval_id"], asked.0, "one request");
    gateway.signal(Signal::KILL);
    gateway.wait_exit();
    let mut gateway = ready(gateway.into_setup());
    assert_eq!(pending(&gateway.setup), asked, "nothing is forgotten");
    approve(&gateway.setup, LEA, &asked);
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    let named =
        json!({"name": "deploy", "arguments": to("prod"), "_meta": {"sentinel-gateway/approval": asked.0}});
    assert_eq!(reason(&gateway.request("tools/call", &named)), "consumed");
    for place in ["one", "two", "three"] {
        waits(&gateway.call("deploy", to(place)));
    }
    assert_eq!(reason(&gateway.call("deploy", to("four"))), "too_many_pending");
    let states: Vec<_> = list(&gateway.setup, LEA).iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["pending", "pending", "pending", "consumed"]);
    assert_eq!(ran(&gateway.setup).len(), 1);
    let files = gateway.setup.files("");
    assert!(!files.iter().any(|file| file.ends_with("approvals.db")), "{files:?}");
    assert!(!gateway.log().contains(crate::postgres::server::PASSWORD));
}

/// A hundred identical calls at two gateways at once: one request, one run.
#[test]
fn two_gateways_share_the_requests_and_one_approval_runs_once() {
    let database = Postgres::start();
    let door = Door::open(kept(waiting(50), &database), "");
    let other = Door::open(kept(waiting(50), &database), "");
    let calls: Vec<_> = [&door, &other]
        .into_iter()
        .flat_map(|door| {
            let session = door.anyone().bearer(&mint("ann", "agent", 3600)).hello(NEWEST);
            (0..25)
                .map(|_| session.begin_post(&request("tools/call", &tool("deploy", to("prod")))))
                .collect::<Vec<_>>()
        })
        .collect();
    let asked = pending(&door.gateway.setup);
    approve(&other.gateway.setup, LEA, &asked);
    let runs = || ran(&door.gateway.setup).len() + ran(&other.gateway.setup).len();
    eventually("the one that runs", || (runs() == 1).then_some(()));
    eventually("the end of the others", || calls.iter().all(|call| call.is_finished()).then_some(()));
    assert_eq!(runs(), 1);
    let consumed = list(&door.gateway.setup, LEA);
    assert_eq!(consumed.iter().filter(|one| one["state"] == "consumed").count(), 1, "{consumed:?}");
}

#[test]
fn while_the_database_is_away_nobody_is_asked_and_nothing_runs() {
    let mut database = Postgres::start();
    let mut gateway = ready(kept(waiting(0), &database));
    waits(&gateway.call("deploy", to("prod")));
    let asked = pending(&gateway.setup);
    database.down();
    let refused = gateway.call("deploy", to("prod"));
    assert_eq!(reason(&refused), "approvals_unavailable", "{refused}");
    // What needs nobody goes on.
    assert_eq!(text(&gateway.call("look", json!({}))), "deployed");
    database.up();
    approve(&gateway.setup, LEA, &asked);
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    assert_eq!(ran(&gateway.setup), ["look {}", "deploy {\"to\": \"prod\"}"]);
    let (code, said) = Setup::refused(&setup().more("[approvals]\nstore = \"postgres\""), &["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("approvals.store: approvals cannot be kept in PostgreSQL"), "{said}");
}
