//! The file of a plan.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Most stages, and most commands of each part of one.
const STAGES: usize = 64;
const COMMANDS: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) name: String,
    /// The environment of the executor that runs its commands.
    pub(super) environment: String,
    pub(super) stages: Vec<Stage>,
    #[serde(skip)]
    pub(super) digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub(super) name: String,
    /// Whole command lines, each of which has to end well before the next.
    pub(super) commands: Vec<String>,
    /// The same, run after them: what shows that the stage did what it should.
    #[serde(default)]
    validate: Vec<String>,
    /// The way back from this stage.
    #[serde(default)]
    rollback: Vec<String>,
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Command,
    Validate,
    Rollback,
}

/// One command of a plan.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) stage: String,
    pub(super) part: Part,
    pub(super) index: usize,
    pub(super) line: String,
}

impl Step {
    /// Where it stands in the file; also what the state knows it by.
    pub(super) fn place(&self) -> String {
        let part = match self.part {
            Part::Command => "commands",
            Part::Validate => "validate",
            Part::Rollback => "rollback",
        };
        format!("{}.{part}[{}]", self.stage, self.index)
    }
}

impl Plan {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = super::read(path)?;
        let mut plan: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let hash = Sha256::digest(text.as_bytes());
        plan.digest = hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        ensure!(!plan.stages.is_empty(), "{} has no stages", path.display());
        ensure!(plan.stages.len() <= STAGES, "{}: {STAGES} stages at most", path.display());
        let mut names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            anyhow::bail!("{}: two stages are called {:?}", path.display(), twice[0]);
        }
        for stage in &plan.stages {
            ensure!(
                !stage.commands.is_empty(),
                "{}: the stage {:?} has no commands",
                path.display(),
                stage.name
            );
            let longest = stage.commands.len().max(stage.validate.len()).max(stage.rollback.len());
            ensure!(longest <= COMMANDS, "{}: {:?}: {COMMANDS} commands at most", path.display(), stage.name);
        }
        Ok(plan)
    }

    /// Every command, in the order of the file.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.stages.iter().flat_map(|stage| {
            let parts = [Part::Command, Part::Validate, Part::Rollback];
            parts.into_iter().flat_map(|part| stage.steps(part))
        })
    }

    /// The commands with their validation, stage by stage.
    pub(super) fn way_there(&self) -> Vec<Step> {
        self.steps().filter(|step| step.part != Part::Rollback).collect()
    }

    /// The ways back from these stages, the last first.
    pub(super) fn way_back(&self, touched: impl Fn(&str) -> bool) -> Vec<Step> {
        let stages = self.stages.iter().rev().filter(|stage| touched(&stage.name));
        stages.flat_map(|stage| stage.steps(Part::Rollback)).collect()
    }
}

impl Stage {
    fn steps(&self, part: Part) -> Vec<Step> {
        let lines = match part {
            Part::Command => &self.commands,
            Part::Validate => &self.validate,
            Part::Rollback => &self.rollback,
        };
        let step = |(index, line): (usize, &String)| Step {
            stage: self.name.clone(),
            part,
            index,
            line: line.clone(),
        };
        lines.iter().enumerate().map(step).collect()
    }
}
