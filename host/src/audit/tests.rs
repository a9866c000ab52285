//! The promises of the audit: nothing lost, nothing twice, nothing open, nothing secret.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::io::Write as _;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::query::{Cursor, Query, Row, after, list, render};
use super::store::Store;
use super::*;

const ENTRY: Entry<'_> = Entry {
    rpc_id: "1",
    method: "tools/call",
    subject: "ann",
    role: "analyst",
    kind: "tool",
    tool: "read",
    backend: "files",
    session: "s1",
    arguments: r#"{"path":"/tmp","token":"x"}"#,
};

const DONE: Closing<'_> =
    Closing { status: Status::Success, error: None, latency: Duration::from_micros(1500), notes: &[] };

fn settings(dir: &TempDir) -> Settings {
    Settings {
        mode: Mode::Process,
        dir: dir.path().to_owned(),
        store: StoreSettings::Sqlite { path: dir.path().join("audit.db") },
        redact_keys: Vec::new(),
        secret_values: vec!["hunter22".to_owned()],
        max_arguments_bytes: 65536,
        max_journal_bytes: 1 << 30,
    }
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

/// An instance without a mover, as if it died before it could move anything.
fn dead_journal(settings: &Settings, write: impl FnOnce(&Journal, &Redactor)) -> PathBuf {
    let (journal, _) = prepare(settings, Uuid::now_v7()).unwrap();
    write(&journal, &Redactor::new(&[], &settings.secret_values, 65536));
    journal.folder.clone()
}

fn put(
    journal: &Journal,
    redactor: &Redactor,
    call: u64,
    entry: Option<&Entry<'_>>,
    closing: Option<&Closing<'_>>,
) {
    record::build(redactor, call, entry, closing, |bytes| journal.append(bytes, Admission::Ending)).unwrap();
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
        assert_eq!(first["arguments"], serde_json::json!({"path": "/tmp", "token": "[redacted]"}));
        assert_eq!(first["error"], "bad [redacted]\u{2400}");
        assert_eq!(first["latency_ms"], 1.5);
        assert_eq!(first["notes"]["rate-limit"], "3 left");
        for (key, value) in [("subject", "ann"), ("role", "analyst"), ("tool", "read"), ("status", "success")]
        {
            assert_eq!(first[key], value);
        }
        let second = serde_json::to_value(&rows[1]).unwrap();
        assert_eq!((&second["status"], &second["arguments"]), (&"denied".into(), &serde_json::Value::Null));
        let table = render(&rows);
        assert_eq!(table.lines().count(), 3);
        assert!(table.contains(r"x\u{1b}[2J") && !table.contains('\u{1b}'), "{table}");
    });
    assert!(folders(&settings).is_empty(), "an orderly end leaves no journal");
}

#[test]
fn the_next_start_completes_what_a_kill_left() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    // Half is in the store before the kill; the mover may or may not get some of the rest.
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let ids: Vec<CallId> = (0..300).map(|_| audit.next_id()).collect();
        for id in &ids[..200] {
            audit.intent(*id, &ENTRY).await.unwrap();
        }
        for id in &ids[..100] {
            audit.outcome(*id, &DONE).await.unwrap();
        }
        audit.flush().await;
        assert_eq!(count(&rows(&settings).await), HashMap::from([("success", 100), ("pending", 100)]));
        for id in &ids[100..150] {
            audit.outcome(*id, &DONE).await.unwrap();
        }
        for id in &ids[200..] {
            audit.intent(*id, &ENTRY).await.unwrap();
        }
        audit.outcome(ids[299], &DONE).await.unwrap();
    });
    assert_eq!(folders(&settings).len(), 1);
    phase(async {
        Audit::open(settings.clone()).await.unwrap().close().await.unwrap();
        let rows = rows(&settings).await;
        assert_eq!(count(&rows), HashMap::from([("success", 151), ("unknown", 149)]));
        let died = rows.iter().find(|row| row.status == "unknown").unwrap();
        assert_eq!(died.error.as_deref(), Some("the gateway died before the outcome was known"));
    });
    assert!(folders(&settings).is_empty());
}

#[test]
fn a_torn_tail_is_dropped_and_everything_before_it_kept() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let folder = dead_journal(&settings, |journal, redactor| {
        put(journal, redactor, 1, Some(&ENTRY), Some(&DONE));
        put(journal, redactor, 2, Some(&ENTRY), None);
        put(journal, redactor, 2, None, Some(&DONE));
    });
    let segment = journal::segment_path(&folder, 1);
    let whole = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &whole[..whole.len() - 5]).unwrap();
    phase(async {
        Audit::open(settings.clone()).await.unwrap().close().await.unwrap();
        assert_eq!(count(&rows(&settings).await), HashMap::from([("success", 1), ("unknown", 1)]));
    });
    assert!(folders(&settings).is_empty() && !settings.dir.join("journal/damaged").exists());
}

#[test]
fn a_damaged_journal_is_kept_as_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let folder = dead_journal(&settings, |journal, redactor| {
        for call in 1..=3 {
            put(journal, redactor, call, Some(&ENTRY), Some(&DONE));
        }
    });
    let segment = journal::segment_path(&folder, 1);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    phase(async {
        Audit::open(settings.clone()).await.unwrap().close().await.unwrap();
        assert_eq!(rows(&settings).await.len(), 1);
    });
    let kept = settings.dir.join("journal/damaged").join(folder.file_name().unwrap());
    assert_eq!(std::fs::read(journal::segment_path(&kept, 1)).unwrap(), bytes);
}

#[test]
fn replaying_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let folder = dead_journal(&settings, |journal, redactor| {
        for call in 1..=1200 {
            put(journal, redactor, call, Some(&ENTRY), None);
        }
        for call in 1..=1000 {
            put(journal, redactor, call, None, Some(&DONE));
        }
    });
    // What a crash after the last commit and before the removal of the folder leaves: all rows, and the journal.
    let segment = std::fs::read(journal::segment_path(&folder, 1)).unwrap();
    for _ in 0..2 {
        phase(async { Audit::open(settings.clone()).await.unwrap().close().await.unwrap() });
        assert!(!folder.exists());
        journal::create_private(&folder).unwrap();
        std::fs::File::create(journal::segment_path(&folder, 1)).unwrap().write_all(&segment).unwrap();
    }
    phase(async {
        Audit::open(settings.clone()).await.unwrap().close().await.unwrap();
        assert_eq!(count(&rows(&settings).await), HashMap::from([("success", 1000), ("unknown", 200)]));
    });
}

#[test]
fn a_position_between_batches_and_an_earlier_open_row_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let folder = dead_journal(&settings, |journal, redactor| {
        put(journal, redactor, 1, Some(&ENTRY), None);
        put(journal, redactor, 1, None, Some(&DONE));
        put(journal, redactor, 2, Some(&ENTRY), Some(&DONE));
    });
    phase(async {
        let instance = Uuid::try_parse(folder.file_name().unwrap().to_str().unwrap()).unwrap();
        let store = Store::open(&settings.store).await.unwrap();
        let half = reader::Reader::new(&folder, 1).batch(1, None).unwrap();
        store.apply(instance, &half).await.unwrap();
        store.apply(instance, &half).await.unwrap();
        assert_eq!(store.position(&instance.simple().to_string()).await.unwrap(), 1);
        // As if the last commit of the dead instance became visible after its position was read.
        let all = reader::Reader::new(&folder, 1).batch(10, None).unwrap();
        store.apply(instance, &all).await.unwrap();
        assert_eq!(count(&rows(&settings).await), HashMap::from([("success", 2)]));
        store.close().await;
    });
}

#[test]
fn a_full_journal_refuses_calls_until_the_store_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&dir);
    settings.max_journal_bytes = 2000;
    // A folder where the database should be: connecting fails until it is gone.
    std::fs::create_dir(dir.path().join("audit.db")).unwrap();
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
        std::fs::remove_dir(dir.path().join("audit.db")).unwrap();
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
fn a_living_instance_is_not_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let living = Audit::open(settings.clone()).await.unwrap();
        let id = living.next_id();
        living.intent(id, &ENTRY).await.unwrap();
        living.flush().await;
        Audit::open(settings.clone()).await.unwrap().close().await.unwrap();
        assert_eq!(count(&rows(&settings).await), HashMap::from([("pending", 1)]));
        living.outcome(id, &DONE).await.unwrap();
        living.close().await.unwrap();
        assert_eq!(count(&rows(&settings).await), HashMap::from([("success", 1)]));
    });
}

#[test]
fn strict_mode_waits_for_the_disk_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { mode: Mode::Strict, ..settings(&dir) };
    phase(async {
        let (journal, _) = prepare(&settings, Uuid::now_v7()).unwrap();
        let journal = Arc::new(journal);
        let first = journal.append(b"{}", Admission::New).unwrap();
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
        let second = journal.append(b"{}", Admission::New).unwrap();
        assert!(matches!(journal.wait_synced(second).await, Err(AuditError::Poisoned(_))));
        assert!(matches!(journal.append(b"{}", Admission::Ending), Err(AuditError::Poisoned(_))));
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
    let redactor = Redactor::new(&[], &[], 65536);
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
        let progress = Arc::new(Progress::new(&[]));
        let journal = Arc::new(journal);
        let mover =
            mover::run(Arc::clone(&journal), settings.store.clone(), Vec::new(), Arc::clone(&progress));
        let mover = tokio::spawn(mover);
        progress.wait_moved(50).await;
        put(&journal, &redactor, 51, Some(&ENTRY), Some(&DONE));
        progress.wait_moved(51).await;
        // The mover deletes after it has said how far it is; it says so again for the next record.
        put(&journal, &redactor, 52, Some(&ENTRY), Some(&DONE));
        progress.wait_moved(52).await;
        assert!(reader::segments(&folder).unwrap().len() <= 2, "moved segments are deleted");
        journal.close();
        mover.await.unwrap();
        assert_eq!(rows(&settings).await.len(), 52);
        assert_eq!(mode(&dir.path().join("audit.db")), 0o600);
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
    assert!(matches!(journal.append(b"{}", Admission::New), Err(AuditError::Write(_))));
    assert!(journal.complaint().is_some());
    journal.writer().file = real;
    assert!(matches!(journal.append(b"{}", Admission::New), Err(AuditError::Poisoned(_))));
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
        let mut cursor = Cursor::new(2);
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.request_id).collect::<Vec<_>>();
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), first[1..]);
        assert!(after(&settings.store, &mut cursor).await.unwrap().is_empty());
        let next = call(&audit).await;
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), [next]);
        audit.outcome(slow, &DONE).await.unwrap();
        audit.flush().await;
        assert_eq!(ids(after(&settings.store, &mut cursor).await.unwrap()), [slow.to_string()]);
        let none = Query { limit: 9, tool: Some("other".to_owned()), ..Query::default() };
        assert!(list(&settings.store, &none).await.unwrap().is_empty());
        let some = Query {
            limit: 2,
            status: Some("success".to_owned()),
            since: Some(jiff::Timestamp::UNIX_EPOCH),
            tool: None,
        };
        assert_eq!(list(&settings.store, &some).await.unwrap().len(), 2);
        audit.close().await.unwrap();
    });
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
