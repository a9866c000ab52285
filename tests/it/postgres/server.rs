//! A PostgreSQL server of the test's own, from Debian's package.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::real_servers::free_port;
use crate::support::{eventually, within};

/// The password of its superuser; it must appear nowhere else.
pub(crate) const PASSWORD: &str = "leaf-4711-of-the-tests";

/// Its files, and its process while it is up. All are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    /// Who runs it: PostgreSQL refuses to run as root.
    user: Option<(u32, u32)>,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// Made, but not up.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sentinel-pg-").tempdir().unwrap();
        let user = rustix::process::geteuid().is_root().then(postgres_user);
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let database = Self { dir, programs: programs(), user, port: free_port(), process: None };
        let password = database.dir.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut initdb = database.command("initdb");
        initdb.args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        let output = initdb.arg("--pwfile").arg(password).arg(database.data()).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        database
    }

    pub(crate) fn start() -> Self {
        let mut database = Self::new();
        database.up();
        database
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it and waits until it answers.
    pub(crate) fn up(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""]);
        // Kept before anything can fail, so that it is ended in any case.
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        eventually("PostgreSQL", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL ended: {}", fs::read_to_string(self.log()).unwrap());
            self.query("SELECT 1").ok()
        });
    }

    /// Ends it in order.
    pub(crate) fn down(&mut self) {
        self.end(Signal::INT);
    }

    /// Ends it as a crash would: it recovers at the next start.
    pub(crate) fn crash(&mut self) {
        self.end(Signal::QUIT);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        ask_to_end(&process, signal);
        eventually("the end of PostgreSQL", || process.try_wait().unwrap());
    }

    /// Rows as lines, columns divided by `|`.
    pub(crate) fn query(&self, sql: &str) -> Result<String, String> {
        let mut psql = self.command("psql");
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--dbname", &self.url(), "--command", sql]);
        let output = psql.env("PGCONNECT_TIMEOUT", "5").output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        ask_to_end(&process, Signal::QUIT);
        // It ends its children first, at the latest after five seconds; a failing test must not panic here again.
        within(Duration::from_secs(10), || process.try_wait().transpose());
        let _ = process.kill().and_then(|()| process.wait());
    }
}

/// It fails only if the server has ended by itself.
fn ask_to_end(process: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The folder of the newest version; Debian keeps it out of the search path.
fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs): &(u32, PathBuf)| programs.join("initdb").is_file())
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file());
    versions
        .pop()
        .map(|(_, programs)| programs)
        .or_else(on_path)
        .expect("PostgreSQL is missing: run `cargo xtask test`, or install the package postgresql")
}

/// The user that the package made.
fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let line = line.expect("there is no user postgres to run PostgreSQL as");
    let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
    (ids.next().unwrap(), ids.next().unwrap())
}
