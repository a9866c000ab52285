//! Which edits the rules of a backend make to a call, a result and a list.

use std::collections::{HashMap, HashSet};

use sentinel_plugin_sdk::names::{self, Names};

/// The rules of all backends.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    backends: HashMap<String, Backend>,
}

/// The rules of one backend.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    pub(crate) name: String,
    /// Edits of the arguments; their pointers start at `params`.
    pub(crate) arguments: Vec<Op>,
    /// Edits of the result; their pointers start at the result.
    pub(crate) results: Vec<Op>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) tools: ToolEdits,
}

/// The rules about the entries of a list.
#[derive(Debug, Default)]
pub(crate) struct ToolEdits {
    edits: Vec<ToolEdit>,
    /// By the name that the backend gives the tool, or what is shown of it.
    exact: HashMap<String, usize>,
    /// Those that name tools otherwise, in the order of the file.
    others: Vec<(names::Rules, usize)>,
}

/// An edit for some tools.
#[derive(Debug)]
pub(crate) struct Op {
    /// The tools it is for, by any of their names; none fits all.
    pub(crate) tool: Option<names::Rules>,
    pub(crate) action: Action,
}

/// One edit. The values are JSON texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Set { pointer: String, json: String },
    Default { pointer: String, json: String },
    Remove { pointer: String },
    Rename { pointer: String, to: String },
}

/// How a tool is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolEdit {
    pub(crate) rename: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) hide: bool,
}

/// The edits of a list, by the index of the entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    pub(crate) edits: Vec<(u32, &'a ToolEdit)>,
    /// New names that another tool of the list has and keeps: its tool goes on under the old one.
    pub(crate) taken: Vec<(u32, &'a str)>,
}

impl Rules {
    /// The rules by the name of the backend.
    pub(crate) fn new(backends: HashMap<String, Backend>) -> Self {
        Self { backends }
    }

    /// The rules of a backend, if it has any.
    pub(crate) fn of(&self, backend: &str) -> Option<&Backend> {
        self.backends.get(backend)
    }
}

impl Backend {
    /// The edits of a call's arguments, in order. A call may come without arguments; then an edit that
    /// writes into them is preceded by one that makes them.
    pub(crate) fn on_call<'a>(&'a self, tool: &'a Names<'a>) -> impl Iterator<Item = Action> + 'a {
        let writes = |op: &&Op| matches!(op.action, Action::Set { .. } | Action::Default { .. });
        let whole = self
            .arguments
            .iter()
            .filter(|op| op.fits(tool))
            .find(writes)
            .map(|_| Action::Default { pointer: "/arguments".to_owned(), json: "{}".to_owned() });
        whole.into_iter().chain(fitting(&self.arguments, tool).cloned())
    }

    /// The edits of a tool's result, in order.
    pub(crate) fn on_result<'a>(&'a self, tool: &'a Names<'a>) -> impl Iterator<Item = &'a Action> + 'a {
        fitting(&self.results, tool)
    }

    /// The edits of a list of tools that has these names. No rename makes two tools share a name.
    pub(crate) fn on_list(&self, listed: &[String]) -> Plan<'_> {
        let edits: Vec<Option<&ToolEdit>> = listed.iter().map(|own| self.tools.of(&self.name, own)).collect();
        let target = |index: usize| edits[index].and_then(|edit| edit.rename.as_deref());
        let keeps = |index: &usize| edits[*index].is_none_or(|edit| !edit.hide && edit.rename.is_none());
        let mut used: HashSet<&str> = (0..listed.len()).filter(keeps).map(|index| &*listed[index]).collect();
        // Two entries may name the same tool, one of them in other characters; a new name is given once.
        let mut given: HashSet<&str> = HashSet::new();
        // A rename that is given up takes a name, and so may stop another: until nothing changes.
        let mut given_up: HashSet<usize> = (0..listed.len())
            .filter(|index| target(*index).is_some_and(|name| !given.insert(name)))
            .collect();
        used.extend(given_up.iter().map(|index| &*listed[*index]));
        loop {
            let before = given_up.len();
            for (index, name) in listed.iter().enumerate() {
                if target(index).is_some_and(|target| used.contains(target)) && given_up.insert(index) {
                    used.insert(name);
                }
            }
            if given_up.len() == before {
                break;
            }
        }
        let mut plan = Plan::default();
        for (number, index) in (0u32..).zip(0..listed.len()) {
            let Some(edit) = edits[index] else { continue };
            if let Some(target) = target(index).filter(|_| given_up.contains(&index)) {
                plan.taken.push((number, target));
            }
            plan.edits.push((number, edit));
        }
        plan
    }
}

impl ToolEdits {
    /// The entries of the file, in its order, with what each says of its tools.
    pub(crate) fn new(backend: &str, entries: Vec<(String, ToolEdit)>) -> Self {
        let mut edits = Self::default();
        for (tool, edit) in entries {
            let index = edits.edits.len();
            edits.edits.push(edit);
            let prefixed = tool.strip_prefix(backend).is_some_and(|rest| rest.starts_with('_'));
            if prefixed || tool.contains(['*', '/']) {
                edits.others.push((names::Rules::new([tool.as_str()]), index));
            }
            edits.exact.entry(tool).or_insert(index);
        }
        edits
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The rule for a tool. One with its own name comes before one with the name that is shown, and that before a
    /// pattern.
    fn of(&self, backend: &str, own: &str) -> Option<&ToolEdit> {
        let shown = names::safe(own);
        let named = self.exact.get(own).filter(|_| !own.contains(['*', '/']));
        let index = named.or_else(|| self.exact.get(&*shown)).copied().or_else(|| {
            let tool = Names { shown: &shown, own, backend };
            self.others.iter().find(|(rules, _)| rules.hits(&tool)).map(|(_, index)| *index)
        })?;
        self.edits.get(index)
    }
}

impl Plan<'_> {
    /// Whether the entry may take its new name.
    pub(crate) fn may_rename(&self, index: u32) -> bool {
        self.taken.iter().all(|(taken, _)| *taken != index)
    }
}

impl Op {
    fn fits(&self, tool: &Names<'_>) -> bool {
        self.tool.as_ref().is_none_or(|rules| rules.hits(tool))
    }
}

fn fitting<'a>(ops: &'a [Op], tool: &'a Names<'a>) -> impl Iterator<Item = &'a Action> + 'a {
    ops.iter().filter(move |op| op.fits(tool)).map(|op| &op.action)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::config::read;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn rules(backend: &Value) -> Rules {
        read(json!({"backends": {"files": backend}})).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn tool(name: &str) -> Names<'_> {
        Names { shown: name, own: name, backend: "files" }
    }

    #[test]
    fn a_tool_is_named_by_any_of_its_names() {
        let rules = rules(&json!({
            "arguments": [{"tool": "two_echo", "remove": "/a"}, {"tool": "files/echo", "remove": "/b"}],
            "tools": [
                {"tool": "files_drop_all", "hide": true},
                {"tool": "files/tell", "title": "T"},
                {"tool": "read_*", "description": "R"},
                {"tool": "read_file", "title": "R"},
                {"tool": "drop_it", "hide": true},
            ],
        }));
        let files = rules.of("files").unwrap();
        let removes = |names: &Names<'_>| files.on_call(names).count();
        assert_eq!(removes(&Names { shown: "two_echo", own: "other", backend: "files" }), 1);
        assert_eq!(removes(&Names { shown: "files_echo", own: "echo", backend: "files" }), 1);
        assert_eq!(removes(&tool("echo")), 1);
        let listed = names(&["drop.all", "tell", "read_dir", "read_file", "drop.it", "other"]);
        let plan = files.on_list(&listed);
        let seen: Vec<_> =
            plan.edits.iter().map(|(index, edit)| (*index, edit.hide, edit.title.as_deref())).collect();
        assert_eq!(
            seen,
            [
                (0, true, None),
                (1, false, Some("T")),
                (2, false, None),
                (3, false, Some("R")),
                (4, true, None)
            ]
        );
    }

    #[test]
    fn edits_come_in_order_for_the_tools_they_name() {
        let rules = rules(&json!({
            "arguments": [
                {"tool": "read_*", "default": "/limit", "value": 10},
                {"remove": "/debug"},
                {"rename": "/path", "to": "file"},
            ],
            "results": [{"set": "/structuredContent/a~1b", "value": null}],
        }));
        let files = rules.of("files").unwrap();
        let set = |pointer: &str, json: &str| Action::Default {
            pointer: pointer.to_owned(),
            json: json.to_owned(),
        };
        let remove = Action::Remove { pointer: "/arguments/debug".to_owned() };
        let rename = Action::Rename { pointer: "/arguments/path".to_owned(), to: "file".to_owned() };
        assert_eq!(
            files.on_call(&tool("read_file")).collect::<Vec<_>>(),
            [set("/arguments", "{}"), set("/arguments/limit", "10"), remove.clone(), rename.clone()]
        );
        assert_eq!(files.on_call(&tool("write")).collect::<Vec<_>>(), [remove, rename]);
        let results: Vec<_> = files.on_result(&tool("any")).cloned().collect();
        let null = Action::Set { pointer: "/structuredContent/a~1b".to_owned(), json: "null".to_owned() };
        assert_eq!(results, [null]);
        assert!(rules.of("other").is_none());
    }

    #[test]
    fn a_new_name_that_is_taken_is_not_given() {
        let rules = rules(&json!({"tools": [
            {"tool": "read_file", "rename": "read", "description": "Reads."},
            {"tool": "old", "hide": true},
            {"tool": "new", "rename": "old"},
        ]}));
        let files = rules.of("files").unwrap();
        let plan = files.on_list(&names(&["read_file", "old", "new"]));
        assert_eq!((plan.edits.len(), plan.taken.len()), (3, 0));
        let clash = files.on_list(&names(&["read", "read_file"]));
        assert_eq!(clash.taken, [(1, "read")]);
        assert!(!clash.may_rename(1) && clash.may_rename(0));
        assert_eq!(clash.edits[0].1.description.as_deref(), Some("Reads."));
    }

    proptest! {
        /// Whatever the backend lists, the names that are shown differ.
        #[test]
        fn names_stay_unique(
            listed in proptest::collection::hash_set("[a-f]", 0..6),
            targets in proptest::collection::hash_map("[a-f]", "[a-f]", 0..6),
        ) {
            let tools = targets.into_iter().map(|(tool, target)| {
                (tool, ToolEdit { rename: Some(target), ..ToolEdit::default() })
            });
            let mut seen = HashSet::new();
            // The configuration allows no target twice.
            let tools = tools.filter(|(_, edit)| seen.insert(edit.rename.clone())).collect();
            let backend = Backend { tools: ToolEdits::new("files", tools), ..Backend::default() };
            let listed: Vec<String> = listed.into_iter().collect();
            let plan = backend.on_list(&listed);
            let mut shown = listed.clone();
            for (index, edit) in &plan.edits {
                if let Some(name) = edit.rename.as_ref().filter(|_| plan.may_rename(*index)) {
                    shown[usize::try_from(*index).unwrap()] = name.clone();
                }
            }
            let unique: HashSet<_> = shown.iter().collect();
            prop_assert_eq!(unique.len(), listed.len(), "{:?} -> {:?}", listed, shown);
        }
    }
}
