//! The names that rules name tools and backends by: whether they can mean anything, and a list of them, so that it can be
//! told which mean nothing once the backends are there.

use std::collections::HashSet;

use sentinel_names::{backend_part, check, fits};
use serde_json::{Map, Value};

use super::super::Rule;
use super::super::raw::{Raw, RawKillSwitch};
use super::Checker;
use crate::config::problem::nearest;

impl Checker<'_> {
    /// Every name and pattern of the file's rules.
    pub(super) fn rules(&mut self, raw: &Raw) -> Vec<Rule> {
        let backends = raw.backends.iter().map(|backend| backend.name.as_deref());
        let upstreams = raw.upstreams.iter().map(|upstream| upstream.name.as_deref());
        let engines = raw.engines.iter().map(|engine| engine.name.as_deref());
        let all: Vec<Option<&str>> = backends.chain(upstreams).chain(engines).collect();
        let names: Vec<&str> = all.iter().copied().flatten().collect();
        // While a name is missing it cannot be said that this one is unknown.
        let gone = |gone: &String| matches!(gone.as_str(), "/backends" | "/upstreams" | "/engines");
        let complete = names.len() == all.len() && !self.pruned.iter().any(gone);
        let known = complete.then_some(names.as_slice());
        let mut rules = Vec::new();
        for (role, rule) in &raw.rbac.roles {
            let at = format!("/rbac/roles/{}", escaped(role));
            self.collect(&mut rules, &format!("{at}/denied_tools"), &rule.denied_tools, known);
            let first = rules.len();
            let allowed = rule.allowed_tools.as_deref().unwrap_or_default();
            self.collect(&mut rules, &format!("{at}/allowed_tools"), allowed, known);
            rules.iter_mut().skip(first).for_each(|rule| rule.allows = true);
        }
        for (index, scope) in raw.rbac.scopes.iter().enumerate() {
            self.collect(&mut rules, &format!("/rbac/scopes/{index}/tools"), &scope.tools, known);
        }
        for tool in raw.rate_limits.per_tool.keys() {
            rules.extend(self.rule(&format!("/rate_limits/per_tool/{}", escaped(tool)), tool, known));
        }
        self.collect(&mut rules, "/kill_switch/disabled_tools", &raw.kill_switch.disabled_tools, known);
        if let Some(known) = known {
            self.disabled_backends(&raw.kill_switch, known);
        }
        for (index, backend) in raw.backends.iter().enumerate() {
            let Some(name) = &backend.name else { continue };
            for tool in backend.tools.keys() {
                let rule = self.rule(&format!("/backends/{index}/tools/{}", escaped(tool)), tool, known);
                rules.extend(rule.map(|rule| Rule { of_backend: Some(name.clone()), ..rule }));
            }
        }
        for (index, backend) in raw.backends.iter().enumerate() {
            let (Some(name), Some(rewrite)) = (&backend.name, &backend.rewrite) else { continue };
            let lists =
                [("arguments", &rewrite.arguments), ("results", &rewrite.results), ("tools", &rewrite.tools)];
            for (key, list) in lists {
                let tool =
                    |edit: &Map<String, Value>| edit.get("tool").and_then(Value::as_str).map(str::to_owned);
                for (place, tool) in
                    list.iter().map(tool).enumerate().filter_map(|(place, tool)| Some((place, tool?)))
                {
                    let at = format!("/backends/{index}/rewrite/{key}/{place}/tool");
                    let rule = self.rule(&at, &tool, known);
                    rules.extend(rule.map(|rule| Rule { of_backend: Some(name.clone()), ..rule }));
                }
            }
        }
        rules
    }

    fn collect(&mut self, rules: &mut Vec<Rule>, at: &str, patterns: &[String], known: Option<&[&str]>) {
        for (index, pattern) in patterns.iter().enumerate() {
            rules.extend(self.rule(&format!("{at}/{index}"), pattern, known));
        }
    }

    /// None if it cannot mean anything, which is reported.
    fn rule(&mut self, at: &str, pattern: &str, known: Option<&[&str]>) -> Option<Rule> {
        if let Err(why) = check(pattern) {
            self.problem(
                at,
                format!("{pattern:?} {why}"),
                "a name of a tool, `*` in it for anything, or backend/tool",
            );
            return None;
        }
        if let (Some(backend), Some(known)) = (backend_part(pattern), known)
            && !known.iter().any(|name| fits(backend, name))
        {
            let meant = nearest(backend, known.iter().copied());
            let rest = pattern.get(backend.len()..).unwrap_or_default();
            let hint = match meant {
                Some(near) => format!("did you mean \"{near}{rest}\"?"),
                None => {
                    format!("what stands before `/` is the name of a backend; there are {}", listed(known))
                }
            };
            self.problem(at, format!("there is no backend {backend:?}"), hint);
            return None;
        }
        let place = self.document.problem(at, String::new(), None);
        let (key, line, pattern) = (place.key, place.line, pattern.to_owned());
        Some(Rule { key, line, pattern, allows: false, of_backend: None })
    }

    fn disabled_backends(&mut self, switch: &RawKillSwitch, known: &[&str]) {
        let mut seen = HashSet::new();
        for (index, pattern) in switch.disabled_backends.iter().enumerate() {
            if known.iter().any(|name| fits(pattern, name)) || !seen.insert(pattern) {
                continue;
            }
            let hint = match nearest(pattern, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the backends are: {}", listed(known)),
            };
            self.problem(
                &format!("/kill_switch/disabled_backends/{index}"),
                format!("there is no backend {pattern:?}"),
                hint,
            );
        }
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// RFC 6901, section 3: how a key stands in a JSON pointer.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
