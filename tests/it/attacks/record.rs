//! Refused calls are limited before they are recorded, and the record may not grow without end.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http_door::client::{Door, NEWEST, request, tool};
use crate::support::{Gateway, Setup, SmallDisk, code, eventually, free_address, get, mint, reason};

const MIB: u64 = 1 << 20;

/// How many calls the rows stand for: each for one, or for as many as it says.
fn calls(rows: &[Value]) -> u64 {
    let of = |row: &Value| row["notes"]["refusals"].as_str().map_or(1, |number| number.parse().unwrap());
    rows.iter().map(of).sum()
}

/// What the database takes on the disk, with its log.
fn size(setup: &Setup) -> u64 {
    let file = |name: &str| setup.path(name).metadata().map_or(0, |meta| meta.len());
    file("sentinel-gateway/audit.db") + file("sentinel-gateway/audit.db-wal")
}

fn tally(codes: impl IntoIterator<Item = i64>) -> BTreeMap<i64, u64> {
    codes.into_iter().fold(BTreeMap::new(), |mut seen, code| {
        *seen.entry(code).or_default() += 1;
        seen
    })
}

/// Ends a gateway that serves HTTP, so that its record is complete.
fn end(door: &mut Door) {
    door.gateway.signal(Signal::TERM);
    assert!(door.gateway.wait_exit().success(), "{}", door.gateway.log());
}

#[test]
fn unknown_tools_fill_the_disk() {
    let setup = Setup::echo().role("user").roles("[rbac.roles.user]\npermissions = []\n").rate_limits("");
    let mut door = Door::open(setup, "");
    let eve = door.anyone().bearer(&mint("eve", "user", 3600)).hello(NEWEST);
    let text = "A".repeat(60_000);
    let seen = tally((0..1_500).map(|_| code(&eve.call("nope", json!({ "d": text })))));
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [-32_602, -32_004], "{seen:?}");
    assert!(seen[&-32_602] <= 1_100, "{seen:?}");
    // A caller who did nothing wrong is not limited by it.
    let ada = door.client("ada").hello(NEWEST);
    assert_eq!(code(&ada.call("nope", json!({}))), -32_602);
    end(&mut door);
    assert!(size(&door.gateway.setup) < 20 * MIB, "{} bytes", size(&door.gateway.setup));
    let rows = door.gateway.audit();
    let of = |name: &str| rows.iter().filter(|row| row["subject"] == name).cloned().collect::<Vec<_>>();
    assert_eq!((calls(&of("eve")), of("ada").len()), (1_500, 1), "each is counted");
    assert!(of("eve").len() < 1_150, "{} rows", of("eve").len());
    let longest = rows.iter().map(|row| row["arguments"].to_string().len()).max().unwrap();
    assert!(longest <= 1_100, "arguments of {longest} bytes are recorded");
}

/// A budget of 20: whatever is refused before the policies are asked counts in it, by whichever name.
#[test]
fn every_way_to_be_refused_before_the_policies_costs_the_same() {
    let setup = Setup::new()
        .backend("echo", &[], "")
        .backend("second", &[], "prefix = true")
        .rate_limits("default_rpm = 20");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"whoami\"]"));
    gateway.await_log("configuration reloaded", 1);
    let mut number = 0;
    let mut attacks = |gateway: &mut Gateway| -> Vec<i64> {
        number += 1;
        let ids = [
            gateway.send("tools/call", &json!({"name": format!("no_such_{number}"), "arguments": {}})),
            gateway.send("tools/call", &json!({"arguments": {}})),
            gateway.send("tools/call", &json!({"name": 5})),
            gateway.send("tools/call", &json!({"name": "whoami", "arguments": {}})),
            gateway.send("prompts/get", &json!({"name": format!("no_such_{number}")})),
            gateway.send(&format!("vendor/m{number}"), &json!({})),
            gateway.send("completion/complete", &json!({"ref": {"type": "ref/prompt", "name": "x"}})),
        ];
        let doubled = gateway.send("ping", &json!({})) + 1_000_000;
        gateway.send_raw(&format!(
            r#"{{"jsonrpc":"2.0","id":{doubled},"method":"tools/call","params":{{"name":"echo","name":"fail","arguments":{{}}}}}}"#
        ));
        ids.into_iter().chain([doubled]).map(|id| code(&gateway.answer(id))).collect()
    };
    let own = [-32_602, -32_602, -32_602, -32_005, -32_602, -32_601, -32_602, -32_602];
    // 16 of 20.
    assert_eq!(attacks(&mut gateway), own);
    assert_eq!(attacks(&mut gateway), own);
    let third = attacks(&mut gateway);
    assert_eq!(tally(third.iter().copied())[&-32_004], 4, "{third:?}");
    assert_eq!(attacks(&mut gateway), [-32_004; 8], "whatever it is called");
    assert!(gateway.call("echo", json!({"text": "still"}))["result"].is_object());
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(calls(&rows), 4 * 8 + 1);
}

/// Guards hear neither name nor arguments of what is not there, so that no answer tells one unknown name from another.
#[test]
fn nobody_learns_what_exists_from_how_it_is_refused() {
    let roles = "[rbac.roles.user]\npermissions = [\"tools.execute\"]\nallowed_tools = [\"echo\"]\ndenied_tools = [\"secret_*\"]\n";
    let setup = Setup::echo().role("user").roles(roles);
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let strip = |mut answer: Value| {
        answer["id"] = Value::Null;
        answer.to_string().replace("secret_plans", "X").replace("other_plans", "X")
    };
    let secret = strip(gateway.call("secret_plans", json!({"a": 1})));
    assert_eq!(secret, strip(gateway.call("other_plans", json!({}))));
    let answer = gateway.call("secret_plans", json!({}));
    assert_eq!((code(&answer), reason(&answer)), (-32_602, "unknown_target"));
}

#[test]
fn what_a_limit_refuses_leaves_no_row_each() {
    let setup = Setup::echo().rate_limits("per_tool = { echo = 5 }").gateway("max_in_flight = 4000");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let text = "A".repeat(20_000);
    let ids: Vec<u64> = (0..2_000).map(|_| gateway.begin("echo", json!({ "text": text }))).collect();
    let refused = ids.iter().filter(|id| gateway.answer(**id)["error"]["code"] == -32_004).count();
    assert!(refused > 1_900, "{refused}");
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(calls(&rows), 2_000);
    let limited: Vec<&Value> = rows.iter().filter(|row| row["status"] == "rate_limited").collect();
    assert!((11..=30).contains(&limited.len()), "{} rows", limited.len());
    assert!(limited.iter().all(|row| row["arguments"].is_null() && row["subject"] == "ann"));
}

/// What is denied is known by its beginning and its digest, or one caller's denials fill the disk.
#[test]
fn what_a_role_may_not_do_is_recorded_short() {
    let setup = Setup::echo().role("user").roles("[rbac.roles.user]\npermissions = []\n");
    let mut gateway = Gateway::start(setup);
    let text = "A".repeat(60_000);
    for _ in 0..300 {
        assert_eq!(code(&gateway.call("echo", json!({ "text": text }))), -32_003);
    }
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(rows.len(), 300);
    assert!(rows.iter().all(|row| row["arguments"].to_string().len() < 1_100 && row["status"] == "denied"));
    assert!(size(&gateway.setup) < 4 * MIB);
}

#[test]
fn strangers_leave_a_row_at_every_door_and_not_more_than_a_few() {
    let mut door = Door::open(Setup::echo(), "");
    let body = request("tools/call", &tool("echo", json!({"text": "x"})));
    for number in 0..200 {
        let who = match number % 3 {
            0 => door.anyone(),
            1 => door.anyone().bearer("not.a.token"),
            _ => door.anyone().bearer(&mint("ann", "admin", -3600)),
        };
        assert_eq!(who.post(&body).status, 401);
    }
    assert_eq!(door.client("ada").with("host", "evil.example").post(&body).status / 100, 4);
    assert_eq!(door.client("ada").with("origin", "https://evil.example").post(&body).status / 100, 4);
    assert_eq!(door.anyone().get().status, 401);
    assert_eq!(door.anyone().delete().status, 401);
    end(&mut door);
    let rows = door.gateway.audit();
    let of = |status: &str| rows.iter().filter(|row| row["status"] == status).cloned().collect::<Vec<_>>();
    assert_eq!(calls(&of("unauthenticated")), 202);
    assert!((11..=22).contains(&of("unauthenticated").len()), "{}", of("unauthenticated").len());
    let first = &of("unauthenticated")[0];
    assert_eq!((&first["notes"]["address"], &first["notes"]["door"]), (&json!("127.0.0.1"), &json!("http")));
    assert_eq!((&first["method"], &first["subject"]), (&json!("POST /mcp"), &json!("")));
    assert_eq!(of("denied").len(), 2, "a page and a name that have no business here");
    // On stdio the same, by the same count.
    let setup = Setup::echo().env("SENTINEL_TOKEN", &mint("ann", "admin", -3600)).unawaited();
    let mut gateway = Gateway::spawn(setup);
    let ids: Vec<u64> = (0..100).map(|_| gateway.begin("echo", json!({"text": "A".repeat(9_000)}))).collect();
    assert!(ids.iter().all(|id| code(&gateway.answer(*id)) < 0));
    gateway.end();
    let rows = gateway.audit();
    let rows: Vec<Value> = rows.into_iter().filter(|row| row["status"] == "unauthenticated").collect();
    assert!(rows.len() <= 22, "{} rows", rows.len());
    assert!(rows.iter().all(|row| row["arguments"].is_null()));
}

#[test]
fn a_record_that_fails_is_counted_and_says_why() {
    let health = free_address();
    let setup = Setup::echo()
        .gateway(&format!("health_listen = {health:?}"))
        .env("HEALTH_TOKEN", "health-token-of-the-test")
        .more("[audit]\nmin_free_bytes = 4611686018427387904");
    let mut gateway = Gateway::start(setup);
    for name in ["echo", "echo", "nope"] {
        let answer = gateway.call(name, json!({"text": "x"}));
        assert_eq!((code(&answer), reason(&answer)), (-32_603, "audit_unavailable"), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("disk space"), "{answer}");
    }
    let metrics = get(&health, "/metrics", Some("health-token-of-the-test")).unwrap().body;
    let counted = |tool: &str| {
        let line = format!("sentinel_errors_total{{tool=\"{tool}\",error_type=\"audit\"}} ");
        let found = metrics.lines().find_map(|text| text.strip_prefix(line.as_str()));
        found.unwrap_or_else(|| panic!("no {line}:\n{metrics}")).to_owned()
    };
    assert_eq!((counted("echo").as_str(), counted("unknown").as_str()), ("2", "1"));
    let ready = get(&health, "/ready", None).unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    // It is said once, and not for each call.
    assert_eq!(gateway.log().matches("calls cannot be recorded").count(), 1, "{}", gateway.log());
    assert_eq!(gateway.log().matches("nearly full").count(), 1, "{}", gateway.log());
}

/// Needs root, as continuous integration has it in a container; elsewhere the floor itself is tested.
#[test]
fn calls_are_refused_before_the_disk_is_full_and_taken_again_when_there_is_room() {
    let setup = Setup::echo();
    let Some(disk) = SmallDisk::mount(&setup.path("disk")) else { return };
    let keys = format!("[audit]\ndir = {:?}\nmin_free_bytes = 2097152", disk.0.join("state"));
    let mut gateway = Gateway::start(setup.more(&keys));
    assert!(gateway.call("echo", json!({"text": "room"}))["result"].is_object());
    std::fs::write(disk.0.join("filler"), vec![1; 6 << 20]).unwrap();
    eventually("a refusal", || {
        (gateway.call("echo", json!({"text": "full"}))["error"]["code"] == -32_603).then_some(())
    });
    std::fs::remove_file(disk.0.join("filler")).unwrap();
    eventually("an answer", || {
        (gateway.call("echo", json!({"text": "again"}))["result"].is_object()).then_some(())
    });
    // Full to the last byte, by whatever cause: calls are refused, and nothing ends.
    gateway.reload(|_| {});
    disk.fill();
    eventually("a refusal", || {
        (gateway.call("echo", json!({"text": "x".repeat(60_000)}))["error"]["code"] == -32_603).then_some(())
    });
    disk.empty();
    eventually("an answer", || {
        (gateway.call("echo", json!({"text": "again"}))["result"].is_object()).then_some(())
    });
    gateway.end();
    drop(gateway);
    drop(disk);
}

#[test]
fn a_record_as_large_as_it_was_told_goes_on_in_its_archive() {
    let setup = Setup::echo().more("[audit]\nmax_bytes = 1048576");
    let mut gateway = Gateway::start(setup);
    let text = "A".repeat(8_000);
    for _ in 0..500 {
        gateway.call("echo", json!({ "text": text }));
    }
    gateway.end();
    let rows = gateway.audit();
    let mut ids: Vec<String> = rows.iter().map(|row| row["request_id"].to_string()).collect();
    let in_database = ids.len();
    for file in gateway.setup.files("sentinel-gateway/archive") {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            ids.push(row["request_id"].to_string());
        }
    }
    assert!(in_database < 450, "{in_database} rows stayed");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 500);
}

/// A limit for the size of a file ends a process that does not expect it (SIGXFSZ).
#[test]
fn a_limit_for_files_refuses_calls_and_ends_nothing() {
    // 512 KiB, in units of 512 bytes.
    let setup = Setup::echo()
        .first("ulimit -f 1024")
        .more("[audit]\nmax_journal_bytes = 2097152\nmax_arguments_bytes = 65536");
    let mut gateway = Gateway::start(setup);
    let text = "A".repeat(30_000);
    let mut seen = BTreeMap::<&str, u32>::new();
    eventually("a call that is refused", || {
        let answer = gateway.call("echo", json!({ "text": text }));
        let refused = answer["error"].is_object();
        *seen.entry(if refused { "refused" } else { "done" }).or_default() += 1;
        refused.then_some(())
    });
    assert!(seen["done"] > 30, "the journal goes on in a new file: {seen:?}");
    // A long answer needs a file, too.
    let large = gateway.call("big", json!({"bytes": 8 << 20}));
    assert!(large["error"].is_object(), "{:.200}", large.to_string());
    assert!(gateway.request("ping", &json!({}))["result"].is_object());
}
