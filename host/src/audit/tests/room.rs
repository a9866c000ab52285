//! How much room the record takes: what leaves it, what is refused for want of room, and what shares a row.

use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;

use super::*;

const MIB: u64 = 1 << 20;

fn database(settings: &Settings) -> PathBuf {
    settings.dir.join("audit.db")
}

/// Records calls with arguments of 2 KiB, and waits until all that may leave has left.
async fn fill(settings: &Settings, calls: usize) -> Vec<Row> {
    let audit = Audit::open(settings.clone()).await.unwrap();
    let arguments = format!(r#"{{"text":"{}"}}"#, "x".repeat(2048));
    for _ in 0..calls {
        let id = audit.next_id();
        audit.intent(id, &Entry { arguments: &arguments, ..ENTRY }).await.unwrap();
        audit.outcome(id, &DONE).await.unwrap();
    }
    audit.flush().await;
    audit.close().await.unwrap();
    rows(settings).await
}

fn archived(settings: &Settings) -> Vec<serde_json::Value> {
    let Ok(entries) = std::fs::read_dir(settings.dir.join("archive")) else { return Vec::new() };
    let mut lines = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(path).unwrap();
        lines.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
    }
    lines
}

fn limited(dir: &TempDir, when_full: WhenFull) -> Settings {
    Settings { keep: Keep { max_age: None, max_bytes: Some(MIB), when_full }, ..settings(dir) }
}

#[test]
fn what_is_too_much_goes_into_the_archive_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let settings = limited(&dir, WhenFull::Archive);
    let mut ids = Vec::new();
    phase(async {
        // Twice: what the second one finds is larger than the limit from the beginning.
        fill(&settings, 600).await;
        let left = fill(&settings, 900).await;
        assert!(left.len() >= 50, "{} rows are left", left.len());
        ids.extend(left.iter().map(|row| row.request_id.clone()));
    });
    let archived = archived(&settings);
    assert!(archived.len() > 500, "{}", archived.len());
    assert_eq!(archived[0]["arguments"]["text"].as_str().unwrap().len(), 2048);
    assert_eq!((&archived[0]["status"], &archived[0]["subject"]), (&"success".into(), &"ann".into()));
    ids.extend(archived.iter().map(|row| row["request_id"].as_str().unwrap().to_owned()));
    assert_eq!(ids.len(), 1_500);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1_500, "each is in one place");
    // The last rows of a run come after the ingester's last turn.
    let length = database(&settings).metadata().unwrap().len();
    assert!(length < 3 * MIB, "the file has {length} bytes");
}

#[test]
fn what_is_too_much_may_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = limited(&dir, WhenFull::Delete);
    phase(async {
        fill(&settings, 900).await;
        let left = fill(&settings, 200).await;
        assert!((50..700).contains(&left.len()), "{} rows are left", left.len());
    });
    assert!(!settings.dir.join("archive").exists());
}

#[test]
fn nothing_leaves_unless_somebody_said_so() {
    let dir = tempfile::tempdir().unwrap();
    phase(async { assert_eq!(fill(&settings(&dir), 900).await.len(), 900) });
}

#[test]
fn what_is_too_old_leaves_but_not_what_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&dir);
    phase(async { fill(&settings, 500).await });
    let connection = Connection::open(database(&settings)).unwrap();
    let old = "UPDATE audit_calls SET time = '2001-01-01T00:00:00.000000Z' WHERE call <= 450";
    assert_eq!(connection.execute(old, []).unwrap(), 450);
    let open = "UPDATE audit_calls SET status = 'pending' WHERE call = 7";
    connection.execute(open, []).unwrap();
    drop(connection);
    settings.keep.max_age = Some(Duration::from_secs(86_400));
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while rows(&settings).await.len() > 51 {
            assert!(Instant::now() < deadline, "old rows are still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        audit.close().await.unwrap();
        let left = rows(&settings).await;
        assert_eq!(count(&left), HashMap::from([("success", 50), ("pending", 1)]));
    });
    assert_eq!(archived(&settings).len(), 449);
}

#[test]
fn without_an_archive_to_go_to_rows_stay() {
    let dir = tempfile::tempdir().unwrap();
    let settings = limited(&dir, WhenFull::Archive);
    phase(async { fill(&settings, 10).await });
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, settings.dir.join("archive")).unwrap();
    phase(async { assert_eq!(fill(&settings, 900).await.len(), 910) });
    assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_line_that_a_crash_left_is_not_continued() {
    let dir = tempfile::tempdir().unwrap();
    let settings = limited(&dir, WhenFull::Archive);
    phase(async { fill(&settings, 900).await });
    let archive = settings.dir.join("archive");
    let file = std::fs::read_dir(&archive).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read_to_string(&file).unwrap().lines().count();
    let mut open = files::open_private(&file).unwrap();
    std::io::Write::write_all(&mut open, b"{\"half").unwrap();
    // The same file, as the same gateway would go on with it.
    let store = phase(async { rows(&settings).await });
    retention::tests::archive(&settings, &file).add(&store[..1]).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[whole]), (whole + 2, "{\"half"));
    assert!(serde_json::from_str::<serde_json::Value>(lines[whole + 1]).is_ok());
}

#[test]
fn without_room_new_calls_are_refused_and_those_under_way_end() {
    let dir = tempfile::tempdir().unwrap();
    let plenty = settings(&dir);
    let none = Settings { min_free_bytes: Some(u64::MAX), ..plenty.clone() };
    phase(async {
        let audit = Audit::open(none).await.unwrap();
        let id = audit.next_id();
        let error = audit.intent(id, &ENTRY).await.unwrap_err();
        assert!(matches!(error, AuditError::Space { .. }), "{error}");
        assert!(error.to_string().contains("audit.min_free_bytes"), "{error}");
        assert!(error.for_callers().contains("disk space"));
        assert!(audit.refused(id, &ENTRY, &DONE).await.is_err());
        let health = audit.status();
        assert!(!health.healthy && health.reason.unwrap().contains("bytes are free"));
        audit.outcome(id, &DONE).await.unwrap();
        audit.close().await.unwrap();
    });
    phase(async {
        let audit = Audit::open(plenty).await.unwrap();
        audit.intent(audit.next_id(), &ENTRY).await.unwrap();
        audit.close().await.unwrap();
    });
}

#[test]
fn refusals_in_crowds_share_a_row_that_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let limited = Closing { status: Status::RateLimited, error: Some("slow down"), ..DONE };
        for _ in 0..5_000 {
            audit.refused_often(audit.next_id(), "eve", &ENTRY, &limited).await.unwrap();
        }
        audit.refused_often(audit.next_id(), "bob", &ENTRY, &limited).await.unwrap();
        audit.close().await.unwrap();
        let rows = rows(&settings).await;
        assert_eq!(count(&rows), HashMap::from([("rate_limited", 12)]));
        assert!(
            rows.iter().all(|row| row.arguments.is_none()),
            "nobody reads what was sent a thousand times"
        );
        let shared: Vec<&Row> = rows.iter().filter(|row| row.notes.is_some()).collect();
        let [shared] = shared.as_slice() else { panic!("{shared:?}") };
        assert_eq!(serde_json::to_value(shared).unwrap()["notes"]["refusals"], "4990");
    });
}

#[test]
fn a_shared_row_of_a_gateway_that_died_is_there_without_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let closing = Closing { status: Status::Unauthenticated, ..DONE };
        for _ in 0..50 {
            audit.refused_often(audit.next_id(), "10.0.0.1", &ENTRY, &closing).await.unwrap();
        }
        audit.flush().await;
    });
    phase(async {
        Audit::open(settings.clone()).await.unwrap().close().await.unwrap();
        assert_eq!(count(&rows(&settings).await), HashMap::from([("unauthenticated", 10), ("unknown", 1)]));
    });
}

#[test]
fn what_is_refused_is_recorded_short() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { max_arguments_bytes: 64 << 10, ..settings(&dir) };
    phase(async {
        let audit = Audit::open(settings.clone()).await.unwrap();
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000));
        let error = "e".repeat(60_000);
        let (done, refused) = (audit.next_id(), audit.next_id());
        let entry = Entry { arguments: &long, ..ENTRY };
        audit.intent(done, &entry).await.unwrap();
        audit.outcome(done, &DONE).await.unwrap();
        let closing = Closing { status: Status::Denied, error: Some(&error), ..DONE };
        audit.refused(refused, &entry, &closing).await.unwrap();
        audit.close().await.unwrap();
        let rows = rows(&settings).await;
        let length = |row: &Row| row.arguments.as_ref().unwrap().get().len();
        assert_eq!(length(&rows[0]), long.len(), "what was done is recorded as it was");
        assert!(length(&rows[1]) < 1_024 && rows[1].error.as_ref().unwrap().len() <= 1_027);
        let cut = serde_json::to_value(&rows[1]).unwrap()["arguments"].clone();
        assert_eq!(
            cut["blake3"],
            blake3::hash(long.as_bytes()).to_hex().as_str(),
            "and still it is known by its digest"
        );
    });
}

/// What was there before is not taken over if others could write it.
#[test]
fn a_record_that_is_open_to_others_is_not_continued() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    phase(async { fill(&settings, 3).await });
    let folder = settings.dir.join("journal").join(Uuid::now_v7().simple().to_string());
    journal::create_folder(&folder).unwrap();
    std::fs::write(journal::segment_path(&folder, 1), "").unwrap();
    let chmod = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, mode, good) in [
        (journal::segment_path(&folder, 1), 0o666, 0o600),
        (folder, 0o777, 0o700),
        (settings.dir.clone(), 0o777, 0o700),
        (settings.dir.join("journal"), 0o755, 0o700),
        (database(&settings), 0o666, 0o600),
    ] {
        chmod(&path, mode);
        let error = phase(Audit::open(settings.clone())).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("chmod"), "{error}");
        let found = open_to_others(&settings.dir, &settings.store, &settings.trust);
        assert!(found.iter().any(|finding| finding.path == path), "{found:?}");
        chmod(&path, good);
    }
    assert_eq!(open_to_others(&settings.dir, &settings.store, &settings.trust), []);
    phase(async { Audit::open(settings.clone()).await.unwrap().close().await.unwrap() });
}
