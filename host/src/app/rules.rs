//! Tells the operator of names in rules that mean no tool: a rule that was typed wrong denies, limits or switches off
//! nothing, and nothing else would say so.

use std::collections::HashSet;
use std::sync::Arc;

use sentinel_names::{Names, Rules, backend_part, fits, safe};

use crate::backend::Registry;
use crate::config::{Problem, Rule, nearest};
use crate::mcp::catalog::{Catalog, List};

/// The tools behind one endpoint, as far as they are known.
#[derive(Debug)]
pub(super) struct Known {
    catalog: Arc<Catalog>,
    /// All tools that the servers list, hidden ones included: backend and own name.
    own: Vec<(Arc<str>, String)>,
    /// Backends that have not been listed: any name may be theirs.
    unlisted: Vec<Arc<str>>,
}

impl Known {
    pub(super) fn of(registry: &Registry, catalog: Arc<Catalog>) -> Self {
        let unlisted = registry.unlisted().iter().map(|backend| backend.name().clone()).collect();
        Self { catalog, own: registry.own_tools(), unlisted }
    }

    /// The rules that mean nothing.
    pub(super) fn unmatched(&self, rules: &[Rule]) -> Vec<Problem> {
        rules.iter().filter_map(|rule| self.problem(rule)).collect()
    }

    fn problem(&self, rule: &Rule) -> Option<Problem> {
        if self.may_be_unlisted(rule) {
            return None;
        }
        let compiled = Rules::new([rule.pattern.as_str()]);
        let concerns = |backend: &str| rule.of_backend.as_deref().is_none_or(|only| only == backend);
        let tools = || self.catalog.list(List::Tools).iter().filter(|entry| concerns(&entry.backend));
        let own = || self.own.iter().filter(|(backend, _)| concerns(backend));
        let means =
            |names: &Names<'_>| if rule.allows { compiled.grants(names) } else { compiled.hits(names) };
        let listed = |(backend, own): &(Arc<str>, String)| {
            means(&Names { shown: &safe(own), own, backend })
                && !tools().any(|entry| *entry.upstream == **own)
        };
        if tools().any(|entry| means(&entry.names())) || own().any(listed) {
            return None;
        }
        let pattern = &rule.pattern;
        let namesake = tools().find(|entry| compiled.hits(&entry.names()));
        let (message, hint) = match namesake {
            Some(entry) => (
                format!(
                    "{pattern:?} allows no tool: \"{}\" of the backend {:?} is shown as {:?}",
                    entry.upstream.escape_debug(),
                    entry.backend,
                    entry.shown
                ),
                Some(format!(
                    "to allow that one, write \"{}/{}\"",
                    entry.backend,
                    entry.upstream.escape_debug()
                )),
            ),
            None => (format!("{pattern:?} means no tool of any backend"), self.meant(rule)),
        };
        Some(Problem { key: rule.key.clone(), line: rule.line, message, hint })
    }

    /// Whether what the rule means may be a tool of a backend that has not been listed.
    fn may_be_unlisted(&self, rule: &Rule) -> bool {
        self.unlisted.iter().any(|backend| match (&rule.of_backend, backend_part(&rule.pattern)) {
            (Some(only), _) => *only == **backend,
            (None, Some(part)) => fits(part, backend),
            (None, None) => true,
        })
    }

    fn meant(&self, rule: &Rule) -> Option<String> {
        /// More names than that are not compared letter by letter.
        const MOST: usize = 2_000;
        let tools = self.catalog.list(List::Tools).iter().take(MOST);
        let names = tools.flat_map(|entry| [&*entry.shown, &*entry.upstream]);
        let pattern = rule.pattern.split_once('/').map_or(rule.pattern.as_str(), |(_, own)| own);
        nearest(pattern, names).map(|near| format!("did you mean \"{}\"?", near.escape_debug()))
    }
}

/// Looks at the rules of a generation once its backends are up or given up, and again when a late one is up. Says of each
/// only once that it means nothing.
pub(super) async fn watch(registry: Arc<Registry>, rules: Arc<[Rule]>) {
    let mut told: HashSet<(String, String)> = HashSet::new();
    let mut merges = registry.merges();
    let mut unlisted = usize::MAX;
    loop {
        merges.borrow_and_update();
        let missing = registry.unlisted();
        let ready = !registry.is_patient() && !registry.are_coming(&missing);
        // Fewer than before, or never looked at: only then something new can be found.
        if ready && missing.len() < unlisted {
            unlisted = missing.len();
            let known = Known::of(&registry, registry.catalog());
            let rules = rules.clone();
            // With many rules and many tools this takes long, so it runs where it delays no call.
            let found =
                tokio::task::spawn_blocking(move || known.unmatched(&rules)).await.unwrap_or_default();
            for problem in found {
                if told.insert((problem.key.clone(), problem.message.clone())) {
                    tracing::warn!("{problem}");
                }
            }
        }
        if merges.changed().await.is_err() {
            return;
        }
    }
}
