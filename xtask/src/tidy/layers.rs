//! The layers of the gateway: which module may use which. A module that stands in no row is a breach, too,
//! so that the table cannot fall behind the code.

use std::collections::BTreeSet;

use super::File;
use super::source::{code_only, is_test_file, without_tests};

/// Words and small tools: what everything above may use, once it stands.
const WORDS: [&str; 4] = ["text", "call", "mcp", "redact"];
/// Settings: the same, one step up.
const SETTINGS: [&str; 5] = ["files", "outbound", "telemetry", "config", "openapi"];

/// Each module with those it may use besides `WORDS` and `SETTINGS` that stand above it; itself is understood. The names are
/// those of section "Layers" in `host/ARCHITECTURE.md`, from the words at the bottom to the assembly at the top.
const LAYERS: [(&str, &[&str]); 30] = [
    ("text", &[]),
    ("call", &[]),
    ("mcp", &[]),
    ("redact", &[]),
    // Programs that may be run, and what permits it: words of the gateway and of the executor.
    ("command", &[]),
    ("capability", &[]),
    // Used by everything that reads files which decide something, or that writes a record.
    ("files", &[]),
    // What all HTTP clients have in common.
    ("outbound", &[]),
    ("telemetry", &[]),
    ("config", &["command", "capability"]),
    // Documents of other APIs, and of our routes: words and trees, no files.
    ("openapi", &[]),
    // The walls around a child.
    ("sandbox", &[]),
    ("queue", &[]),
    // A child of our own program; it knows nothing of what it is asked.
    ("confined", &[]),
    ("session", &[]),
    ("state", &[]),
    // Which route of the HTTP API a request is for, and what it says.
    ("route", &[]),
    ("plugin", &["state", "confined"]),
    ("policy", &["queue", "state", "plugin", "confined"]),
    ("approval", &["state", "plugin"]),
    ("audit", &["state", "plugin"]),
    // The words between an operator and the gateway: whoever acts on them holds a permit.
    ("control", &["policy", "approval"]),
    ("rewrite", &["policy", "plugin"]),
    ("backend", &["queue", "policy", "route", "sandbox", "command", "capability"]),
    // A backend that is itself a component; the one place where a backend meets plugins.
    ("backend::wasm", &["queue", "policy", "plugin"]),
    (
        "pipeline",
        &[
            "session",
            "state",
            "plugin",
            "policy",
            "approval",
            "audit",
            "control",
            "rewrite",
            "backend",
            "route",
            "capability",
        ],
    ),
    ("door", &["queue", "pipeline", "session", "control", "route", "approval", "capability", "command"]),
    // A process of its own: it knows nothing of calls, plugins and doors.
    ("executor", &["command", "capability", "sandbox"]),
    ("cli", &["app", "audit", "plugin", "confined", "control", "executor", "capability", "command"]),
    ("main", &["cli", "app"]),
];

/// The only module that sees everything.
const ASSEMBLY: &str = "app";

pub(super) fn check(files: &[File]) -> Vec<String> {
    let sources: Vec<(&str, &str)> = files
        .iter()
        .filter(|file| !is_test_file(&file.path))
        .filter_map(|file| {
            let path = file.path.strip_prefix("host/src/")?.strip_suffix(".rs")?;
            Some((path, file.text.as_deref()?))
        })
        .collect();
    let modules: BTreeSet<&str> = sources.iter().filter_map(|(path, _)| path.split('/').next()).collect();
    let mut breaches = Vec::new();
    for module in modules.iter().filter(|&&module| module != "lib" && module != ASSEMBLY) {
        if !LAYERS.iter().any(|(name, _)| name == module) {
            breaches.push(format!("host/src/{module}.rs: stands in no layer; see LAYERS in {}", file!()));
        }
    }
    for (path, text) in &sources {
        let steps: Vec<&str> = path.split('/').collect();
        let Some(allowed) = allowed(&steps) else { continue };
        let code = without_tests(&code_only(text));
        for (line, used) in uses(&code, steps.len()) {
            let known = modules.contains(used.as_str()) && used != "lib";
            if known && used != steps[0] && !allowed.contains(&used.as_str()) {
                breaches.push(format!("host/src/{path}.rs:{line}: `{}` may not use `{used}`", steps[0]));
            }
        }
    }
    breaches
}

/// What a file may use, by the row with the longest matching name; none if it may use everything.
fn allowed(steps: &[&str]) -> Option<Vec<&'static str>> {
    let deep = steps.get(..2).map(|steps| steps.join("::"));
    let row = |name: &str| LAYERS.iter().position(|(module, _)| *module == name);
    let at = deep.and_then(|name| row(&name)).or_else(|| row(steps[0]))?;
    let (name, besides) = LAYERS[at];
    // `main` starts what `cli` does, and knows nothing else.
    let common = WORDS.into_iter().chain(SETTINGS).filter(|_| name != "main");
    let above = common.filter(|module| row(module).is_some_and(|module| module < at));
    Some(above.chain(besides.iter().copied()).collect())
}

/// The modules of the root that the code names, with the line: by `crate::`, by the library's name, or by
/// enough `super::` for a file of this depth.
fn uses(code: &str, depth: usize) -> Vec<(usize, String)> {
    let tokens = tokens(code);
    let text = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut end = at + 1;
        let starts_path = at == 0 || text(at - 1) != "::";
        let root = starts_path
            && match text(at) {
                "crate" | "sentinel_gateway" => true,
                "super" => {
                    let mut steps = 1;
                    while text(end) == "::" && text(end + 1) == "super" {
                        steps += 1;
                        end += 2;
                    }
                    steps == depth
                }
                _ => false,
            };
        if root && text(end) == "::" {
            if text(end + 1) == "{" {
                group(&tokens, end + 1, &mut found);
            } else if let Some(token) = tokens.get(end + 1) {
                found.push(token.clone());
            }
        }
        at = end;
    }
    found
}

/// The first word of each path in a group that opens at `open`.
fn group(tokens: &[(usize, String)], open: usize, found: &mut Vec<(usize, String)>) {
    let mut depth = 0_usize;
    let mut first = false;
    for token in &tokens[open..] {
        match token.1.as_str() {
            "{" => {
                depth += 1;
                first = depth == 1;
            }
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            "," => first = depth == 1,
            _ if first => {
                found.push(token.clone());
                first = false;
            }
            _ => {}
        }
    }
}

/// Words, `::` and single other characters, each with its line.
pub(super) fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = if word(first) {
                rest.find(|c| !word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((number + 1, rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<String> {
        let file = |&(path, text): &(&str, &str)| File {
            path: format!("host/src/{path}"),
            text: Some(text.to_owned()),
        };
        check(&files.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn a_module_may_use_what_stands_above_it() {
        let files = [
            ("call.rs", "pub struct Call;"),
            ("mcp/envelope.rs", "use crate::call::Call;\nuse super::splice;"),
        ];
        assert_eq!(sources(&files), Vec::<String>::new());
    }

    #[test]
    fn every_spelling_of_a_path_is_seen() {
        let spellings = [
            "use crate::audit;",
            "use crate::{call::Call, audit::{self, Journal}};",
            "use crate::{\n    call,\n    audit,\n};",
            "fn f() -> crate\n    ::audit::Journal { todo }",
            "use super::super::audit::Journal;",
            "use sentinel_gateway::audit;",
        ];
        for spelling in spellings {
            let breaches = sources(&[("audit.rs", ""), ("call.rs", ""), ("policy/chain.rs", spelling)]);
            assert_eq!(breaches.len(), 1, "{spelling}: {breaches:?}");
            assert!(breaches[0].contains("`policy` may not use `audit`"), "{breaches:?}");
        }
        assert_eq!(sources(&[("audit.rs", ""), ("policy.rs", "use super::audit;")]).len(), 1);
    }

    #[test]
    fn words_that_only_look_like_modules_are_not() {
        let text = "use super::audit;\n// crate::audit\nuse tokio::{audit, b::crate_::audit};\nuse crate::call::audit;";
        assert_eq!(
            sources(&[("audit.rs", ""), ("call.rs", ""), ("policy/chain.rs", text)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn tests_may_use_everything() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::audit;\n}";
        assert_eq!(sources(&[("audit.rs", ""), ("policy.rs", text)]), Vec::<String>::new());
    }

    #[test]
    fn a_component_backend_may_use_plugins_and_the_others_may_not() {
        let files = [
            ("plugin.rs", ""),
            ("backend/wasm.rs", "use crate::plugin;"),
            ("backend/http.rs", "use crate::plugin;"),
        ];
        assert_eq!(sources(&files), ["host/src/backend/http.rs:1: `backend` may not use `plugin`"]);
    }

    #[test]
    fn a_module_without_a_layer_is_named() {
        let breaches = sources(&[("error.rs", "")]);
        assert!(breaches.len() == 1 && breaches[0].contains("stands in no layer"), "{breaches:?}");
    }

    #[test]
    fn the_table_has_no_circle() {
        for (index, (module, allowed)) in LAYERS.iter().enumerate() {
            for used in *allowed {
                let above = LAYERS[..index].iter().any(|(name, _)| name == used);
                assert!(above || *used == ASSEMBLY, "{module} uses {used}, which does not stand above it");
            }
        }
    }
}
