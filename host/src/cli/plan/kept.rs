//! What is kept of a plan, in a file beside it: which command is how far. It is on the disk before anything happens.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::file::{Plan, Step};

/// How far one command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Open,
    /// People are asked about it.
    Waiting,
    /// It was sent, and no answer is kept.
    Running,
    Done,
    Failed,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "-",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    state: State,
    /// The approval that it was asked for with last.
    approval: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// The SHA-256 of the plan.
    plan: String,
    rolled_back: bool,
    steps: BTreeMap<String, One>,
}

#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    document: Document,
}

impl Kept {
    /// What is kept of the plan in this file; nothing before it was begun.
    pub(super) fn read(plan: &Path) -> anyhow::Result<Self> {
        let mut name = plan.as_os_str().to_owned();
        name.push(".state.json");
        let path = PathBuf::from(name);
        let document = if path.exists() {
            serde_json::from_str(&super::read(&path)?).with_context(|| path.display().to_string())?
        } else {
            Document::default()
        };
        Ok(Self { path, document })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a second `plan run` away, for as long as what is returned is held.
    pub(super) fn hold(&self) -> anyhow::Result<File> {
        let path = self.path.with_extension("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => bail!("another `plan run` is at it ({})", path.display()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub(super) fn is_of(&self, plan: &Plan) -> bool {
        self.document.plan == plan.digest
    }

    pub(super) fn has_begun(&self) -> bool {
        !self.document.steps.is_empty()
    }

    pub(super) fn begin(&mut self, plan: &Plan) {
        self.document.plan.clone_from(&plan.digest);
    }

    pub(super) fn is_rolled_back(&self) -> bool {
        self.document.rolled_back
    }

    pub(super) fn roll_back(&mut self) -> anyhow::Result<()> {
        self.document.rolled_back = true;
        self.write()
    }

    /// Whether anything of this stage may have been run.
    pub(super) fn has_touched(&self, stage: &str) -> bool {
        let begun = |state: State| matches!(state, State::Running | State::Done | State::Failed);
        let own = format!("{stage}.commands[");
        self.document.steps.iter().any(|(place, one)| place.starts_with(&own) && begun(one.state))
    }

    pub(super) fn state(&self, step: &Step) -> State {
        self.document.steps.get(&step.place()).map_or(State::Open, |one| one.state)
    }

    /// The approval that a command was asked for with last.
    pub(super) fn approval(&self, step: &Step) -> Option<&str> {
        self.document.steps.get(&step.place())?.approval.as_deref()
    }

    /// Keeps how far a command is. When this returns it is on the disk.
    pub(super) fn set(&mut self, step: &Step, state: State, approval: Option<&str>) -> anyhow::Result<()> {
        let approval = approval.map(str::to_owned);
        self.document.steps.insert(step.place(), One { state, approval });
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let draft = self.path.with_extension("json.new");
        let write = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(serde_json::to_string_pretty(&self.document)?.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().with_context(|| format!("how far the plan is cannot be kept in {}", self.path.display()))
    }
}
