//! The promises of the audit: nothing lost, nothing twice, nothing open, nothing secret.
#![allow(clippy::unwrap_used, reason = "tests")]

mod crash;
mod room;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::query::{Cursor, Look, Pattern, Query, Row, after, list, render};
use super::*;
use crate::files::{self, Links};
use crate::redact::Secrets;

const ENTRY: Entry<'_> = Entry {
    rpc_id: "1",
    method: "tools/call",
    subject: "ann",
    role: "analyst",
    kind: "tool",
    tool: "read",
    backend: "files",
    session: "s1",
    arguments: r#"{"path":"notes.txt","token":"x"}"#,
    sent: None,
    generation: 7,
};

const DONE: Closing<'_> =
    Closing { status: Status::Success, error: None, latency: Duration::from_micros(1500), notes: &[] };

const LIMITS: record::Limits = record::Limits { arguments: 65536, refused: 65536 };

fn settings(dir: &TempDir) -> Settings {
    let redaction = Redaction::new(&Secrets { values: vec!["hunter22".to_owned()], ..Secrets::default() });
    Settings { redaction, ..Settings::new(dir.path().join("state")) }
}

/// Runs a phase in a runtime of its own. When it ends, everything the phase left running is gone, as after a kill.
fn phase<T>(work: impl Future<Output = T>) -> T {
    let runtime = Runtime::new().unwrap();
    let result = runtime.block_on(work);
    drop(runtime);
    result
}

async fn rows(settings: &Settings) -> Vec<Row> {
    list(&settings.store, &Query { limit: 100_000, ..Query::default() }).await.unwrap()
}

fn count(rows: &[Row]) -> HashMap<&str, usize> {
    rows.iter().fold(HashMap::new(), |mut counts, row| {
        *counts.entry(row.status.as_str()).or_default() += 1;
        counts
    })
}

fn folders(settings: &Settings) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(settings.dir.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir() && !path.ends_with("damaged")).collect()
}

/// Nobody else writes, so there is nothing to wait for.
fn append(journal: &Journal, record: &[u8], admission: Admission) -> Result<u64, AuditError> {
    let turn = journal.append(record, admission)?;
    journal.settle(turn).now_or_never().unwrap()
}

fn put(
    journal: &Journal,
    redactor: &Redaction,
    call: u64,
    entry: Option<&Entry<'_>>,
    closing: Option<&Closing<'_>>,
) {
    record::build((&redactor.current(), LIMITS), call, entry, closing, |bytes| {
        append(journal, bytes, Admission::Ending)
    })
    .unwrap();
}

#[test]
fn intent_and_outcome_become_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let id = audit.next_id();
        audit.intent(id, &ENTRY).await.unwrap();
        let notes = [("rate-limit".to_owned(), "3 left".to_owned())];
        audit.outcome(id, &Closing { error: Some("bad hunter22\0"), notes: &notes, ..DONE }).await.unwrap();
        let refused = audit.next_id();
        let closing = Closing { status: Status::Denied, ..DONE };
        audit
            .refused(refused, &Entry { tool: "x\u{1b}[2J", arguments: "", ..ENTRY }, &closing)
            .await
            .unwrap();
        audit.close().await.unwrap();
        let rows = rows(&settings).await;
        assert_eq!(rows.len(), 2);
        let first = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(first["request_id"], id.to_string());
        assert_eq!(first["arguments"], serde_json::json!({"path": "notes.txt", "token": "[redacted]"}));
        assert_eq!(first["error"], "bad [redacted]\u{2400}");
        assert_eq!(first["latency_ms"], 1.5);
        assert_eq!(first["notes"]["rate-limit"], "3 left");
        for (key, value) in [("subject", "ann"), ("role", "analyst"), ("tool", "read"), ("status", "success")]
        {
            assert_eq!(first[key], value);
        }
        let second = serde_json::to_value(&rows[1]).unwrap();
        assert_eq!((&second["status"], &second["arguments"]), (&"denied".into(), &serde_json::Value::Null));
        let table = render(&rows, &Look { zone: jiff::tz::TimeZone::UTC, colour: false, heading: true });
        assert_eq!(table.lines().count(), 3);
        assert!(table.contains(r"x\u{1b}[2J") && !table.contains('\u{1b}'), "{table}");
    });
    assert!(folders(&settings).is_empty(), "an orderly end leaves no journal");
}

#[test]
fn a_full_journal_refuses_calls_until_the_store_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&dir);
    settings.max_journal_bytes = 2000;
    // A folder where the database should be: connecting fails until it is gone.
    files::Trust::default().private_dir(&settings.dir, Links::Followed).unwrap();
    std::fs::create_dir(settings.dir.join("audit.db")).unwrap();
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let mut open = Vec::new();
        let error = loop {
            let id = audit.next_id();
            match audit.intent(id, &ENTRY).await {
                Ok(()) => open.push(id),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AuditError::Full { limit: 2000, .. }), "{error}");
        let health = audit.status();
        assert!(!health.healthy && health.backlog_bytes >= 2000, "{health:?}");
        assert!(audit.refused(audit.next_id(), &ENTRY, &DONE).await.is_err());
        for id in &open {
            audit.outcome(*id, &DONE).await.unwrap();
        }
        std::fs::remove_dir(settings.dir.join("audit.db")).unwrap();
        audit.flush().await;
        assert_eq!(audit.status(), Health { healthy: true, reason: None, backlog_bytes: 0 });
        audit.refused(audit.next_id(), &ENTRY, &DONE).await.unwrap();
        audit.close().await.unwrap();
        assert_eq!(rows(&settings).await.len(), open.len() + 1);
    });
}

#[test]
fn two_instances_share_one_database() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let (one, two) = tokio::join!(Audit::open(settings.clone()), Audit::open(settings.clone()));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(folders(&settings).len(), 2);
        let work = |audit: Audit| async move {
            for _ in 0..2000 {
                let id = audit.next_id();
                audit.intent(id, &ENTRY).await.unwrap();
                tokio::task::yield_now().await;
                audit.outcome(id, &DONE).await.unwrap();
            }
            audit.close().await.unwrap();
        };
        let (first, second) = tokio::join!(tokio::spawn(work(one)), tokio::spawn(work(two)));
        first.unwrap();
        second.unwrap();
        let rows = rows(&settings).await;
        assert_eq!(count(&rows), HashMap::from([("success", 4000)]));
        let ids: std::collections::HashSet<&str> = rows.iter().map(|row| row.request_id.as_str()).collect();
        assert_eq!(ids.len(), 4000);
    });
}

#[test]
fn strict_mode_waits_for_the_disk_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { mode: Mode::Strict, ..settings(&dir) };
    phase(async {
        let (journal, _) = prepare(&settings, Uuid::now_v7()).unwrap();
        let journal = Arc::new(journal);
        let first = append(&journal, b"{}", Admission::New).unwrap();
        let mut waiting = Box::pin(journal.wait_synced(first));
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context))).await;
        assert!(polled.is_pending(), "nothing is synced before the syncer runs");
        syncer::start(Arc::clone(&journal)).unwrap();
        waiting.await.unwrap();
        assert_eq!(journal.synced.borrow().upto, first);
        // A file that can be written and not synced: the sync fails, and with it everything after.
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        journal.writer().file = Arc::new(null);
        let second = append(&journal, b"{}", Admission::New).unwrap();
        assert!(matches!(journal.wait_synced(second).await, Err(AuditError::Poisoned(_))));
        assert!(matches!(append(&journal, b"{}", Admission::Ending), Err(AuditError::Poisoned(_))));
        assert!(journal.complaint().unwrap().contains("synced"));
    });
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let id = audit.next_id();
        audit.intent(id, &ENTRY).await.unwrap();
        audit.outcome(id, &DONE).await.unwrap();
        audit.close().await.unwrap();
        assert_eq!(count(&rows(&settings).await).get("success"), Some(&1));
    });
}

#[test]
fn segments_rotate_and_all_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let (journal, _) = prepare(&settings, Uuid::now_v7()).unwrap();
    let journal = journal.with_segment_bytes(1000);
    let redactor = Redaction::default();
    for call in 1..=50 {
        put(&journal, &redactor, call, Some(&ENTRY), Some(&DONE));
    }
    let folder = journal.folder.clone();
    assert!(reader::segments(&folder).unwrap().len() > 10);
    let mode = |path: &Path| {
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
    };
    assert_eq!((mode(&folder), mode(&journal::segment_path(&folder, 1))), (0o700, 0o600));
    phase(async {
        let progress = Arc::new(Progress::new(0));
        let journal = Arc::new(journal);
        let keep = retention::Retention::new(&settings, &journal.instance);
        let store = settings.store.clone();
        let mover = ingest::run(Arc::clone(&journal), store, Vec::new(), Arc::clone(&progress), keep);
        let mover = tokio::spawn(mover);
        progress.wait_moved(50).await;
        put(&journal, &redactor, 51, Some(&ENTRY), Some(&DONE));
        progress.wait_moved(51).await;
        assert!(reader::segments(&folder).unwrap().len() <= 2, "moved segments are deleted");
        journal.close();
        mover.await.unwrap();
        assert_eq!(rows(&settings).await.len(), 51);
        assert_eq!(mode(&settings.dir.join("audit.db")), 0o600);
    });
}

#[test]
fn a_failed_write_is_refused_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let (journal, _) = prepare(&settings, Uuid::now_v7()).unwrap();
    let real = Arc::clone(&journal.writer().file);
    // Every write to this device fails as on a full disk; it cannot be cut either.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    journal.writer().file = Arc::new(full);
    assert!(matches!(append(&journal, b"{}", Admission::New), Err(AuditError::Write(_))));
    assert!(journal.complaint().is_some());
    journal.writer().file = real;
    assert!(matches!(append(&journal, b"{}", Admission::New), Err(AuditError::Poisoned(_))));
    assert_eq!((journal.last(), journal.backlog()), (0, 0));
}

#[test]
fn a_reader_that_follows_gets_every_finished_call_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let call = async |audit: &Audit| {
            let id = audit.next_id();
            audit.refused(id, &ENTRY, &DONE).await.unwrap();
            audit.flush().await;
            id.to_string()
        };
        let first = [call(&audit).await, call(&audit).await, call(&audit).await];
        let slow = audit.next_id();
        audit.intent(slow, &ENTRY).await.unwrap();
        let mut cursor = Cursor::new(Query { limit: 2, ..Query::default() });
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.request_id).collect::<Vec<_>>();
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), first[1..]);
        assert!(after(&settings.store, &mut cursor).await.unwrap().is_empty());
        let next = call(&audit).await;
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), [next]);
        audit.outcome(slow, &DONE).await.unwrap();
        audit.flush().await;
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), [slow.to_string()]);
        let none = Query { limit: 9, tool: Some("other".to_owned().into()), ..Query::default() };
        assert!(list(&settings.store, &none).await.unwrap().is_empty());
        let some = Query {
            limit: 2,
            statuses: vec!["success".to_owned()],
            since: Some(jiff::Timestamp::UNIX_EPOCH),
            ..Query::default()
        };
        assert_eq!(list(&settings.store, &some).await.unwrap().len(), 2);
        audit.close().await.unwrap();
    });
}

/// What the database finds and what a follower picks out are the same rows.
#[test]
fn a_pattern_means_the_same_to_the_database_and_to_whoever_follows() {
    const NAMES: [&str; 8] = ["read", "Read", "read_all", "readXall", "r[e]ad", "a?b", "50%", "back\\slash"];
    const PATTERNS: [&str; 14] = [
        "read", "read*", "*", "*a*", "read_all", "read_*", "r[e]*", "r[e]ad", "a?*", "5*%", "*%", "back\\*",
        "READ*", "",
    ];
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        for name in NAMES {
            let refused = [Status::Denied, Status::Killed][name.len() % 2];
            let entry = Entry { tool: name, backend: name, subject: name, role: name, ..ENTRY };
            audit.refused(audit.next_id(), &entry, &Closing { status: refused, ..DONE }).await.unwrap();
        }
        audit.close().await.unwrap();
        let all = rows(&settings).await;
        for text in PATTERNS {
            let pattern = || Some(Pattern::from(text.to_owned()));
            let base = Query { limit: 100, ..Query::default() };
            for query in [
                Query { tool: pattern(), ..base.clone() },
                Query { backend: pattern(), ..base.clone() },
                Query { subject: pattern(), ..base.clone() },
                Query { role: pattern(), ..base.clone() },
                Query { role: pattern(), statuses: vec!["killed".to_owned()], ..base.clone() },
                Query { tool: pattern(), since: Some(all[3].time.parse().unwrap()), ..base.clone() },
                Query { tool: pattern(), until: Some(all[3].time.parse().unwrap()), ..base },
            ] {
                let found = list(&settings.store, &query).await.unwrap();
                let found: Vec<&str> = found.iter().map(|row| row.tool.as_str()).collect();
                let fits: Vec<&str> =
                    all.iter().filter(|row| query.fits(row)).map(|row| row.tool.as_str()).collect();
                assert_eq!(found, fits, "{query:?}");
            }
        }
        let one = Query { limit: 9, tool: Some("read_*".to_owned().into()), ..Query::default() };
        assert_eq!(
            list(&settings.store, &one).await.unwrap().len(),
            1,
            "nothing but the star stands for more"
        );
    });
}

/// A reader that follows denials begins with the newest denials, not with those among the newest calls.
#[test]
fn a_reader_that_follows_some_calls_begins_with_those() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let call = async |status: Status, tool: &str| {
            let id = audit.next_id();
            audit.refused(id, &Entry { tool, ..ENTRY }, &Closing { status, ..DONE }).await.unwrap();
            audit.flush().await;
            id.to_string()
        };
        let denied = [
            call(Status::Denied, "a").await,
            call(Status::Denied, "b").await,
            call(Status::Denied, "c").await,
        ];
        for _ in 0..20 {
            call(Status::Success, "a").await;
        }
        let wanted = Query { limit: 2, statuses: vec!["denied".to_owned()], ..Query::default() };
        let mut cursor = Cursor::new(wanted);
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.request_id).collect::<Vec<_>>();
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), denied[1..]);
        call(Status::Success, "a").await;
        let next = call(Status::Denied, "d").await;
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), [next]);
        assert!(after(&settings.store, &mut cursor).await.unwrap().is_empty());
        audit.close().await.unwrap();
    });
}

#[test]
fn what_a_rewriter_made_of_arguments_stands_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let id = audit.next_id();
        let sent = r#"{"path":"tenant/notes.txt","token":"y","n":"hunter22"}"#;
        audit.intent(id, &Entry { sent: Some(sent), ..ENTRY }).await.unwrap();
        audit.outcome(id, &DONE).await.unwrap();
        audit.close().await.unwrap();
        let rows = rows(&settings).await;
        let row = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(row["arguments"]["path"], "notes.txt");
        assert_eq!(
            row["sent"],
            serde_json::json!({"path": "tenant/notes.txt", "token": "[redacted]", "n": "[redacted]"})
        );
        // A database from before there was such a column can be read.
        let StoreSettings::Sqlite { path } = &settings.store else { panic!() };
        let older = rusqlite::Connection::open(path).unwrap();
        assert_eq!(row["generation"], 7);
        for column in ["sent", "generation"] {
            older.execute_batch(&format!("ALTER TABLE audit_calls DROP COLUMN {column}")).unwrap();
        }
        drop(older);
        let rows = self::rows(&settings).await;
        assert!(rows[0].sent.is_none() && rows[0].generation.is_none() && rows[0].status == "success");
    });
}

/// A stop that could not wait for the end of what is only tidied up afterwards is no failure.
#[test]
fn a_stop_with_everything_in_the_database_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        audit.refused(audit.next_id(), &ENTRY, &DONE).await.unwrap();
        audit.flush().await;
        audit.0.live.as_ref().unwrap().mover.lock().as_ref().unwrap().abort();
        audit.close().await.unwrap();
        assert_eq!(rows(&settings).await.len(), 1);
        // The next one finds nothing left to do, and tidies up.
        Audit::open(settings.clone()).await.unwrap().close().await.unwrap();
        assert_eq!(rows(&settings).await.len(), 1);
    });
    assert!(folders(&settings).is_empty());
}

#[test]
fn a_disabled_audit_gives_ids_and_records_nothing() {
    phase(async {
        let audit = Audit::disabled();
        let (one, two) = (audit.next_id(), Audit::disabled().next_id());
        assert_ne!(one.to_string(), two.to_string());
        audit.intent(one, &ENTRY).await.unwrap();
        assert!(audit.status().healthy);
        audit.close().await.unwrap();
    });
}
