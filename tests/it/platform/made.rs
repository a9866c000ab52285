//! Runs the author's tools as an author does, in a folder outside the repository.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::support::target;

/// A shell or a command with nothing of this test's environment but what cargo needs.
pub(super) fn clean(program: &str, folder: &Path) -> Command {
    let bin = Path::new(env!("CARGO_BIN_EXE_sentinel-gateway")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let home = std::env::var("HOME").unwrap_or_default();
    let of = |name: &str, folder: &str| std::env::var(name).unwrap_or_else(|_| format!("{home}/{folder}"));
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", home_of(folder))
        .env("CARGO_HOME", of("CARGO_HOME", ".cargo"))
        .env("RUSTUP_HOME", of("RUSTUP_HOME", ".rustup"))
        // The crates that the SDK uses are there: this workspace was built with them.
        .env("CARGO_NET_OFFLINE", "true")
        // Between two runs only the plugin itself is compiled again.
        .env("CARGO_TARGET_DIR", target().join("tmp/author"));
    command
}

/// A home for what is started there; nothing of it may end up among the files of the repository.
fn home_of(folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    if folder == root { target().join("tmp/author-home") } else { folder.to_owned() }
}

/// Runs the gateway's program; whether it ended well, and what it said.
pub(super) fn run(folder: &Path, args: &[&str]) -> (bool, String) {
    let ran = clean(env!("CARGO_BIN_EXE_sentinel-gateway"), folder).args(args).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The component of a new project for this role, made once: in the folder of its project.
pub(super) fn built(role: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // One for each run of the tests: its process has made it, or nobody has.
    let folder = target().join(format!("tmp/author-{}", std::process::id()));
    let project = folder.join(format!("a-{role}"));
    let wasm = project.join(format!("dist/a-{role}.wasm"));
    if !wasm.is_file() {
        std::fs::create_dir_all(&folder).unwrap();
        let (made, said) = run(&folder, &["plugin", "new", &format!("a-{role}"), "--role", role]);
        assert!(made, "{said}");
        let (built, said) = run(&project, &["plugin", "build"]);
        assert!(built, "{said}");
    }
    wasm
}
