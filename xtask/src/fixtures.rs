//! The servers and clients of other people that the tests put behind and before the gateway, installed from lockfiles with digests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::workspace::Workspace;
use crate::{encode, shell};

/// Installs the Node and the Python programs, each unless its lockfile is installed already.
///
/// # Errors
/// If an installer is missing or fails; nothing is left half installed and called done.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let folder = workspace.root.join("tests/fixtures");
    npm(&folder.join("node"), "the Node servers of the tests")?;
    npm(&folder.join("clients"), "the Node clients of the tests")?;
    npm(&folder.join("browser"), "what drives the browser of the tests")?;
    python(&folder.join("python"), "the Python servers of the tests")
}

/// Installs the official conformance suite and the Node it runs on, unless its lockfile is installed already;
/// returns the folder it is in. Apart from the servers, because no test needs its 130 MB.
///
/// # Errors
/// If npm is missing or fails.
pub(crate) fn conformance_suite(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = workspace.root.join("tests/fixtures/conformance-suite");
    npm(&folder, "the official conformance suite")?;
    Ok(folder)
}

/// Installs real OpenAPI documents and the linters of `cargo xtask openapi`, unless their lockfile is installed already; returns the
/// folder they are in. Apart from the servers, because no test needs their 100 MB.
///
/// # Errors
/// If npm is missing or fails.
pub(crate) fn openapi_corpus(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = workspace.root.join("tests/fixtures/openapi-corpus");
    npm(&folder, "OpenAPI documents and linters")?;
    Ok(folder)
}

/// Installs what validates our OpenAPI documents and asks the gateway by them, unless its lockfile is installed already; returns its
/// Python environment.
///
/// # Errors
/// If Python or pip is missing or fails.
pub(crate) fn openapi_tools(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = workspace.root.join("tests/fixtures/openapi-tools");
    python(&folder, "what asks the gateway by its OpenAPI document")?;
    Ok(folder.join(".venv"))
}

fn npm(folder: &Path, what: &str) -> anyhow::Result<()> {
    let stamp = Stamp::of(&folder.join("package-lock.json"), &folder.join("node_modules"))?;
    if stamp.holds() {
        return Ok(());
    }
    eprintln!("installing {what}");
    // npm removes what was there before.
    shell::run(
        Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder),
    )?;
    stamp.set()
}

fn python(folder: &Path, what: &str) -> anyhow::Result<()> {
    let venv = folder.join(".venv");
    let stamp = Stamp::of(&folder.join("requirements.txt"), &venv)?;
    if stamp.holds() {
        return Ok(());
    }
    eprintln!("installing {what}");
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    // Compiled now, or the first start of every server takes seconds.
    pip.args(["--compile", "--require-hashes", "--requirement", "requirements.txt"]);
    shell::run(pip.current_dir(folder))?;
    stamp.set()
}

/// A note inside an installed folder: the digest of the lockfile it was installed from.
#[derive(Debug)]
struct Stamp {
    path: PathBuf,
    digest: String,
}

impl Stamp {
    fn of(lockfile: &Path, installed: &Path) -> anyhow::Result<Self> {
        let content = fs::read(lockfile).with_context(|| format!("cannot read {}", lockfile.display()))?;
        Ok(Self { path: installed.join(".lockfile-sha256"), digest: encode::sha256(&content) })
    }

    fn holds(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.digest)
    }

    fn set(&self) -> anyhow::Result<()> {
        fs::write(&self.path, &self.digest).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_until_the_lockfile_changes() {
        let dir = tempfile::tempdir().unwrap();
        let lockfile = dir.path().join("lock");
        fs::write(&lockfile, "a").unwrap();
        let stamp = Stamp::of(&lockfile, dir.path()).unwrap();
        assert!(!stamp.holds());
        stamp.set().unwrap();
        assert!(Stamp::of(&lockfile, dir.path()).unwrap().holds());
        fs::write(&lockfile, "b").unwrap();
        assert!(!Stamp::of(&lockfile, dir.path()).unwrap().holds());
    }
}
