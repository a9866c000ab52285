//! The record in PostgreSQL: a database that is down delays no call, and what was answered arrives exactly once,
//! whatever dies in between, the database or the gateway.
#![allow(clippy::unwrap_used, reason = "tests")]

pub(crate) mod server;

use rustix::process::Signal;
use serde_json::json;

use self::server::{PASSWORD, Postgres};
use crate::support::{Gateway, Setup, eventually};

fn setup(database: &Postgres) -> Setup {
    Setup::echo().env("DATABASE_URL", &database.url())
}

/// Calls `echo` with each of these numbers and expects each of them back.
fn echo(gateway: &mut Gateway, numbers: std::ops::Range<u32>) {
    gateway.await_tool("echo");
    for number in numbers {
        let text = format!("call {number}");
        let reply = gateway.call("echo", json!({"text": text}));
        assert!(reply["result"].to_string().contains(&text), "{reply}: {}", gateway.log());
    }
}

/// Waits until so many calls are recorded with this status.
fn await_rows(database: &Postgres, status: &str, count: u32) {
    let sql = format!("SELECT count(*) FROM audit_calls WHERE status = '{status}' AND tool <> 'calls'");
    eventually(&format!("{count} rows with the status {status}"), || {
        (database.query(&sql) == Ok(count.to_string())).then_some(())
    });
}

/// The numbers of `echo` calls on record, with how often; all of a range once is what it must be.
fn recorded_once(database: &Postgres, numbers: std::ops::Range<u32>) {
    let rows =
        database.query("SELECT arguments FROM audit_calls WHERE tool = 'echo' ORDER BY time, call").unwrap();
    let expected: Vec<String> =
        numbers.map(|number| json!({"text": format!("call {number}")}).to_string()).collect();
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn every_call_is_a_row_with_who_what_and_how_it_ended() {
    let database = Postgres::start();
    let mut gateway = Gateway::start(setup(&database));
    echo(&mut gateway, 0..3);
    gateway.call("fail", json!({}));
    gateway.call("no_such_tool", json!({"text": "x"}));
    await_rows(&database, "success", 3);
    let columns = "tool, status, subject, role, backend, kind, method, latency_ms > 0, request_id <> ''";
    let sql =
        format!("SELECT DISTINCT {columns} FROM audit_calls WHERE tool IN ('echo', 'fail') ORDER BY tool");
    let rows = database.query(&sql).unwrap();
    assert_eq!(
        rows.lines().collect::<Vec<_>>(),
        ["echo|success|ann|admin|echo|tool|tools/call|t|t", "fail|error|ann|admin|echo|tool|tools/call|t|t",]
    );
    // The command reads the same record.
    gateway.end();
    let listed = gateway.audit();
    assert_eq!(database.query("SELECT count(*) FROM audit_calls").unwrap(), listed.len().to_string());
    recorded_once(&database, 0..3);
    // A journal that is in the database as a whole is gone, with its position.
    assert_eq!(database.query("SELECT count(*) FROM journal_position").unwrap(), "0");
    assert!(!gateway.log().contains(PASSWORD), "the log holds the database's password:\n{}", gateway.log());
}

#[test]
fn a_database_that_is_down_delays_no_call_and_gets_every_row_later() {
    let mut database = Postgres::new();
    let mut gateway = Gateway::start(setup(&database));
    echo(&mut gateway, 0..10);
    gateway.await_log("the audit database is behind", 1);
    assert!(!gateway.log().contains(PASSWORD), "{}", gateway.log());
    database.up();
    await_rows(&database, "success", 10);

    // Once more, in the middle.
    database.down();
    echo(&mut gateway, 10..20);
    database.up();
    await_rows(&database, "success", 20);
    gateway.end();
    recorded_once(&database, 0..20);
}

#[test]
fn a_database_that_crashes_loses_and_doubles_nothing() {
    let mut database = Postgres::start();
    let mut gateway = Gateway::start(setup(&database));
    for round in 0..3 {
        echo(&mut gateway, round * 30..round * 30 + 15);
        // Whatever commit is under way is cut off.
        database.crash();
        echo(&mut gateway, round * 30 + 15..round * 30 + 30);
        database.up();
    }
    await_rows(&database, "success", 90);
    gateway.end();
    recorded_once(&database, 0..90);
}

#[test]
fn a_gateway_that_is_killed_leaves_its_rows_to_the_next() {
    let mut database = Postgres::start();
    let mut gateway = Gateway::start(setup(&database));
    echo(&mut gateway, 0..20);
    // Some rows are in the database, some only in the journal, and one call has not ended.
    database.down();
    echo(&mut gateway, 20..40);
    gateway.begin("slow", json!({"ms": 60_000}));
    // The backend has it, so its intent is on record.
    eventually("the slow call", || (gateway.counted("", "slow") == 1).then_some(()));
    let mut gateway = gateway.crash_and_restart();
    // The next one starts without its database, too, and dies before it could adopt anything.
    echo(&mut gateway, 40..50);
    gateway.signal(Signal::KILL);
    gateway.wait_exit();
    database.up();
    let mut gateway = Gateway::start(gateway.into_setup());
    echo(&mut gateway, 50..60);
    await_rows(&database, "success", 60);
    await_rows(&database, "unknown", 1);
    let open = database.query("SELECT tool, error FROM audit_calls WHERE status = 'unknown'").unwrap();
    assert_eq!(open, "slow|the gateway died before the outcome was known");
    gateway.end();
    recorded_once(&database, 0..60);
    assert_eq!(database.query("SELECT count(DISTINCT instance) FROM audit_calls").unwrap(), "3");
    assert_eq!(database.query("SELECT count(*) FROM journal_position").unwrap(), "0");

    // Nothing is replayed by a start that has nothing to adopt.
    let mut gateway = Gateway::start(gateway.into_setup());
    echo(&mut gateway, 60..61);
    gateway.end();
    recorded_once(&database, 0..61);
}

/// Text that no database makes shorter.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_record_as_large_as_it_was_told_goes_on_in_its_archive() {
    const CALLS: u64 = 500;
    let database = Postgres::start();
    let mut gateway =
        Gateway::start(setup(&database).more("[audit]\nmax_bytes = 1048576\nmax_arguments_bytes = 65536"));
    for number in 0..CALLS {
        gateway.call("echo", json!({"text": noise(number, 8_000)}));
    }
    let count = || database.query("SELECT count(*) FROM audit_calls").unwrap().parse::<u64>().unwrap();
    eventually("rows to leave", || (count() < 300).then_some(()));
    gateway.end();
    let mut ids: Vec<String> =
        database.query("SELECT request_id FROM audit_calls").unwrap().lines().map(str::to_owned).collect();
    assert!(ids.len() > 50, "{} rows are left", ids.len());
    for file in gateway.setup.files("sentinel-gateway/archive") {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(row["time"].as_str().unwrap().ends_with('Z'), "{row}");
            ids.push(row["request_id"].as_str().unwrap().to_owned());
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len() as u64, CALLS, "each row is in the database or in the archive");
}

#[test]
fn rows_that_are_too_old_are_deleted_if_somebody_said_so() {
    let database = Postgres::start();
    let setup = setup(&database).more("[audit]\nkeep_days = 30\nwhen_full = \"delete\"");
    let mut gateway = Gateway::start(setup);
    echo(&mut gateway, 0..10);
    gateway.end();
    // Four of them, whatever numbers they have.
    let oldest = "SELECT call FROM audit_calls WHERE tool = 'echo' ORDER BY call LIMIT 4";
    let aged = format!("UPDATE audit_calls SET time = now() - interval '31 days' WHERE call IN ({oldest})");
    database.query(&aged).unwrap();
    let mut gateway = Gateway::start(gateway.into_setup());
    await_rows(&database, "success", 6);
    gateway.end();
    assert!(!gateway.setup.path("sentinel-gateway/archive").exists());
}

/// A pattern means there what it means in the embedded database, and a rewriter's arguments stand in their column.
#[test]
fn the_record_is_searched_by_the_same_patterns() {
    let database = Postgres::start();
    let rules =
        "[backends.rewrite]\narguments = [{ tool = \"echo\", default = \"/text\", value = \"by default\" }]";
    let setup = Setup::new().backend("echo", &[], rules).env("DATABASE_URL", &database.url());
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    for name in ["nope_x", "nopeyx", "nope%x", "NOPE_X", "echo"] {
        gateway.call(name, json!({"n": 1}));
    }
    gateway.end();
    let named = |filters: &[&str]| {
        let output = gateway.setup.run(&[&["audit", "list", "--json"], filters].concat());
        assert!(output.status.success(), "{filters:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.map(|row| row["tool"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(named(&["--tool", "nope_*"]), ["nope_x"]);
    assert_eq!(named(&["--tool", "nope%*"]), ["nope%x"]);
    assert_eq!(named(&["--tool", "n*x"]), ["nope_x", "nopeyx", "nope%x"]);
    assert_eq!(named(&["--backend", "ec*", "--role", "admin", "--subject", "a*"]), ["echo"]);
    assert_eq!(
        named(&["--status", "invalid_args,denied", "--since", "1h", "--until", "2100-01-01"]).len(),
        4
    );
    assert!(named(&["--pending"]).is_empty());
    let sent = database.query("SELECT sent FROM audit_calls WHERE tool = 'echo'").unwrap();
    let sent: serde_json::Value = serde_json::from_str(sent.trim()).unwrap();
    assert_eq!(sent, json!({"n": 1, "text": "by default"}));
}
