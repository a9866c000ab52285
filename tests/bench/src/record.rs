//! The gateway's own record, read and filled behind its back: is every call in it, and does a full one cost more?
//!
//! SQLite's own program does the work, or Python's, which has it built in; another copy of SQLite in this program
//! would take longer to build than all the rest.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// What `python3` runs in the place of `sqlite3`.
const PYTHON: &str = "import sqlite3,sys
d=sqlite3.connect(sys.argv[1])
for s in sys.stdin.read().split(';'):
    for r in d.execute(s): print(r[0])
d.commit()";

/// The database of a gateway whose state is in this folder.
fn database(folder: &Path) -> std::path::PathBuf {
    folder.join("sentinel-gateway/audit.db")
}

/// How many calls that ended well are in the record of a gateway that has ended.
///
/// # Errors
/// If there is no record, or nothing to read it with.
pub(crate) fn rows(folder: &Path) -> anyhow::Result<u64> {
    let sql = "SELECT count(*) FROM audit_calls WHERE status = 'success' AND method = 'tools/call'";
    let out = run(&database(folder), sql)?;
    out.trim().parse().with_context(|| format!("no number: {out}"))
}

/// Makes a database with so many rows, before the gateway starts.
///
/// # Errors
/// If the gateway makes none, or it cannot be filled.
pub(crate) fn fill(gateway: &Path, folder: &Path, config: &Path, rows: u64) -> anyhow::Result<()> {
    make(gateway, folder, config)?;
    let sql = format!(
        "PRAGMA journal_mode = WAL;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO audit_calls (instance, call, request_id, time, rpc_id, method, subject, role, kind, tool,
             backend, session, arguments, status, latency_ms, changed)
         SELECT 'filled', i, 'filled-' || i, strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + i / 100, 'unixepoch'),
             '1', 'tools/call', 'someone', 'caller', 'tool', 'tool_' || (i % 50), 'b0', 's',
             '{{\"text\":\"0123456789012345678901234567890123456789\"}}', 'success', 0.1,
             strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + i / 100, 'unixepoch') FROM n"
    );
    run(&database(folder), &sql).map(drop)
}

/// Lets a gateway start and end, which makes the database.
fn make(gateway: &Path, folder: &Path, config: &Path) -> anyhow::Result<()> {
    let mut child = Command::new(gateway)
        .arg("--config")
        .arg(config)
        .env_clear()
        .env("HOME", folder)
        .env("XDG_STATE_HOME", folder)
        .env("BENCH_SECRET", "0123456789abcdef0123456789abcdef")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let since = Instant::now();
    while run(&database(folder), "SELECT count(*) FROM audit_calls").is_err() {
        if since.elapsed() > Duration::from_secs(20) {
            bail!("the gateway made no database");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    child.wait()?;
    Ok(())
}

fn run(database: &Path, sql: &str) -> anyhow::Result<String> {
    if !database.exists() {
        bail!("there is no {}", database.display());
    }
    let mut last = anyhow::anyhow!("neither sqlite3 nor python3");
    for (program, args) in [("sqlite3", &["-batch"][..]), ("python3", &["-c", PYTHON])] {
        let child = Command::new(program)
            .args(args)
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { continue };
        child.stdin.take().context("no input")?.write_all(sql.as_bytes())?;
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        last = anyhow::anyhow!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Err(last)
}
