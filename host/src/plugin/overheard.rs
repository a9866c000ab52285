//! What the plugins of this process said, step by step: for a command that makes one call and shows it to a person.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

/// The most steps that are kept.
const MOST: usize = 4_096;

static STEPS: OnceLock<Mutex<Vec<Step>>> = OnceLock::new();

/// One question to one plugin.
#[derive(Clone, Debug)]
pub struct Step {
    pub plugin: Arc<str>,
    /// What it was asked: `check`, `on-request`.
    pub hook: &'static str,
    /// What it said: `allow`, `deny`, `fault`.
    pub said: &'static str,
    pub took: Duration,
}

/// From now on every question is remembered. A process that serves clients never does this.
pub(crate) fn overhear() {
    STEPS.get_or_init(Mutex::default);
}

/// The questions since the last time, in their order; empty unless [`overhear`] was called.
#[must_use]
pub(crate) fn overheard() -> Vec<Step> {
    STEPS.get().map(|steps| std::mem::take(&mut *steps.lock())).unwrap_or_default()
}

pub(super) fn note(plugin: &Arc<str>, hook: &'static str, said: &'static str, took: Duration) {
    if let Some(steps) = STEPS.get() {
        let mut steps = steps.lock();
        if steps.len() < MOST {
            steps.push(Step { plugin: plugin.clone(), hook, said, took });
        }
    }
}
