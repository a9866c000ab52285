//! What the death of an instance leaves, and what the next start makes of it.

use std::io::Write as _;

use super::super::store::Store;
use super::*;

/// An instance without an ingester, as if it died before it could move anything.
fn dead_journal(settings: &Settings, write: impl FnOnce(&Journal, &Redaction)) -> PathBuf {
    let (journal, _) = prepare(settings, Uuid::now_v7()).unwrap();
    write(&journal, &settings.redaction);
    journal.folder.clone()
}

#[test]
fn the_next_start_completes_what_a_kill_left() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    // Half is in the store before the kill; the ingester may or may not get some of the rest.
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
        journal::create_folder(&folder).unwrap();
        let file = files::create_private(&journal::segment_path(&folder, 1)).unwrap();
        (&file).write_all(&segment).unwrap();
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
        let store = Store::open(&settings.store, &settings.trust).await.unwrap();
        let half = Arc::new(reader::Reader::new(&folder, 1).batch(1, None).unwrap());
        store.apply(instance, &half).await.unwrap();
        store.apply(instance, &half).await.unwrap();
        assert_eq!(store.position(&instance.simple().to_string()).await.unwrap(), 1);
        // As if the last commit of the dead instance became visible after its position was read.
        let all = Arc::new(reader::Reader::new(&folder, 1).batch(10, None).unwrap());
        store.apply(instance, &all).await.unwrap();
        assert_eq!(count(&rows(&settings).await), HashMap::from([("success", 2)]));
        store.close().await;
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
