//! What people read of a gateway that runs, with fixed values.

use super::super::{Change, Generation, Record, Running, Switch};
use super::*;

const NOW: i64 = 1_795_672_800_000;

fn before(seconds: i64) -> Time {
    Time::from_ms(NOW - seconds * 1_000)
}

fn backend(name: &str, state: &str) -> BackendStatus {
    BackendStatus {
        name: name.to_owned(),
        state: state.to_owned(),
        why: None,
        since: before(11_530),
        pid: Some(4_250),
        starts: 1,
        in_flight: 0,
        switched_off: false,
        last_error: None,
        last_error_at: None,
    }
}

fn busy() -> Status {
    let endpoint = EndpointStatus {
        mount: None,
        sessions: 1,
        tools: 12,
        backends: vec![
            BackendStatus { in_flight: 2, ..backend("files", "ready") },
            BackendStatus {
                why: Some("exited with code 9\nsecond line; it is tried again within 4 s".to_owned()),
                pid: None,
                since: before(12),
                starts: 3,
                ..backend("weather", "down")
            },
            BackendStatus {
                switched_off: true,
                last_error: Some("the connection was closed".to_owned()),
                last_error_at: Some(before(3_700)),
                ..backend("n8n", "ready")
            },
            BackendStatus { pid: None, since: before(90), ..backend("old", "stopped") },
        ],
    };
    let mount = EndpointStatus {
        mount: Some("/mcp/dev".to_owned()),
        sessions: 2,
        tools: 1,
        backends: vec![BackendStatus {
            why: Some("starting, waiting for its tools".to_owned()),
            since: Time::from_ms(NOW - 350),
            starts: 0,
            ..backend("dev", "starting")
        }],
    };
    let order = OffStatus {
        what: Switch::Tool("delete_*".to_owned()),
        origin: Origin::Order,
        mount: None,
        since: Some(before(600)),
        by: Some("ann".to_owned()),
        why: Some("it deletes what it should not".to_owned()),
    };
    let file = OffStatus {
        what: Switch::Backend("n8n".to_owned()),
        origin: Origin::File,
        mount: None,
        since: None,
        by: None,
        why: None,
    };
    let call = |name: &str, seconds| CallStatus {
        id: "0001-7".to_owned(),
        subject: "bob".to_owned(),
        method: "tools/call".to_owned(),
        name: name.to_owned(),
        backend: "files".to_owned(),
        since: before(seconds),
    };
    let refused = |seconds, subject: &str, asked: &str, why: &str| RefusedStatus {
        at: before(seconds),
        subject: subject.to_owned(),
        role: if subject.is_empty() { String::new() } else { "viewer".to_owned() },
        door: "http".to_owned(),
        status: if subject.is_empty() { "unauthenticated" } else { "denied" }.to_owned(),
        asked: asked.to_owned(),
        why: why.to_owned(),
    };
    Status {
        version: "0.1.0".to_owned(),
        pid: 4_242,
        config: "/etc/sentinel/sentinel.toml".to_owned(),
        now: before(0),
        started: before(11_540),
        door: "http://127.0.0.1:9200/mcp".to_owned(),
        mode: "jwt".to_owned(),
        generation: Generation { number: 3, since: before(300), older: vec![1, 2] },
        record: Record { healthy: false, reason: Some("the disk is full".to_owned()), backlog_bytes: 812 },
        endpoints: vec![endpoint, mount],
        switched_off: vec![
            order,
            OffStatus {
                what: Switch::All,
                origin: Origin::Order,
                mount: None,
                since: Some(before(5)),
                by: Some("ann".to_owned()),
                why: None,
            },
            OffStatus { mount: Some("/mcp/dev".to_owned()), ..file.clone() },
            file,
        ],
        in_flight: 3,
        calls: vec![call("read_file", 7), call("search", 0)],
        refused: vec![
            refused(
                4,
                "eve",
                "tools/call delete_all",
                "The role \"viewer\" is denied the tool \"delete_all\".",
            ),
            refused(75, "", "POST /mcp", "it brings no credential\u{1b}[31m"),
        ],
        running: Some(Running { who: "ann".to_owned(), what: "config.apply".to_owned(), since: before(2) }),
    }
}

#[test]
fn a_busy_gateway_is_told_in_one_look() {
    let text = status(&busy(), &TimeZone::UTC);
    let expected = "\
Sentinel Gateway 0.1.0, process 4242, up for 3 h 12 min
  file        /etc/sentinel/sentinel.toml
  door        http://127.0.0.1:9200/mcp, mode jwt, 3 clients
  generation  3, since 2026-11-26 05:55:00; calls of 1, 2 are still under way
  record      IS NOT IN ORDER: the disk is full; 812 bytes are not in the database yet
  under way   3 calls
  command     config.apply of ann, for 2 s

BACKEND  STATE       FOR         PID   STARTS  CALLS  LAST ERROR
files    ready       3 h 12 min  4250  1       2      -
weather  down        12 s        -     3       0      exited with code 9\\nsecond line; it is tried again within 4 s
n8n      ready, off  3 h 12 min  4250  1       0      1 h 1 min ago: the connection was closed
old      stopped     1 min 30 s  -     1       0      -

BACKEND OF /mcp/dev  STATE     FOR     PID   STARTS  CALLS  LAST ERROR
dev                  starting  350 ms  4250  0       0      starting, waiting for its tools

SWITCHED OFF     BY            SINCE                WHY
tool \"delete_*\"  order of ann  2026-11-26 05:50:00  it deletes what it should not
everything       order of ann  2026-11-26 05:59:55  -
backend \"n8n\"    the file      -                    [kill_switch] of /mcp/dev
backend \"n8n\"    the file      -                    [kill_switch]

UNDER WAY             SUBJECT  BACKEND  FOR
tools/call read_file  bob      files    7 s
tools/call search     bob      files    0 ms
and 1 more

LAST REFUSED    SUBJECT       ASKED FOR              WHY
4 s ago         eve (viewer)  tools/call delete_all  denied: The role \"viewer\" is denied the tool \"delete_all\".
1 min 15 s ago  (not known)   POST /mcp              unauthenticated: it brings no credential\\u{1b}[31m
";
    assert_eq!(text, expected);
}

#[test]
fn a_quiet_gateway_takes_few_lines() {
    let quiet = Status {
        record: Record { healthy: true, reason: None, backlog_bytes: 0 },
        endpoints: vec![EndpointStatus { mount: None, sessions: 1, tools: 0, backends: Vec::new() }],
        switched_off: Vec::new(),
        in_flight: 1,
        calls: Vec::new(),
        refused: Vec::new(),
        running: None,
        ..busy()
    };
    let text = status(&quiet, &TimeZone::UTC);
    let tail: Vec<&str> = text.lines().skip(4).collect();
    assert_eq!(tail, ["  record      is written", "  under way   1 call"]);
}

#[test]
fn a_status_is_the_same_after_its_way_over_the_wire() {
    let line = serde_json::to_string(&busy()).unwrap_or_default();
    assert!(line.contains("\"now\":\"2026-11-26T06:00:00Z\""), "{line}");
    assert_eq!(serde_json::from_str::<Status>(&line).ok(), Some(busy()));
}

#[test]
fn changes_say_what_comes_of_each_key() {
    let change = |key: &str, effect| Change { key: key.to_owned(), effect };
    let some = Changes {
        applied: false,
        generation: 4,
        changes: vec![
            change("rate_limits.default_rpm", Effect::Live),
            change("backends \"files\".args", Effect::Drain),
            change("gateway.listen", Effect::Restart),
        ],
        notes: vec!["1 server is kept".to_owned()],
    };
    assert_eq!(
        changes(&some),
        "rate_limits.default_rpm: applies at once\n\
         backends \"files\".args: applies at once; calls under way end on the old server\n\
         gateway.listen: needs a restart\n1 server is kept\n"
    );
    let applied = changes(&Changes { applied: true, ..some });
    assert!(applied.contains("args: applied\n") && applied.contains("listen: refused: needs a restart\n"));
    assert_eq!(changes(&Changes::default()), "nothing: the file says what is in force\n");
}

#[test]
fn ages_have_two_units() {
    let of = |ms| age(Duration::from_millis(ms));
    let all = [of(0), of(999), of(1_000), of(61_000), of(3_600_000), of(90_000_000), of(864_000_000)];
    assert_eq!(all, ["0 ms", "999 ms", "1 s", "1 min 1 s", "1 h 0 min", "1 d 1 h", "10 d 0 h"]);
}
