//! Which edits the rules of a backend make to a call, a result and a list.

use std::collections::{HashMap, HashSet};

use crate::check;

/// The rules of all backends.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    backends: HashMap<String, Backend>,
}

/// The rules of one backend.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    /// Edits of the arguments; their pointers start at `params`.
    pub(crate) arguments: Vec<Op>,
    /// Edits of the result; their pointers start at the result.
    pub(crate) results: Vec<Op>,
    pub(crate) headers: Vec<(String, String)>,
    /// By the name that the backend gives the tool.
    pub(crate) tools: HashMap<String, ToolEdit>,
}

/// An edit for some tools.
#[derive(Debug)]
pub(crate) struct Op {
    /// A pattern for the backend's name of the tool; none fits all.
    pub(crate) tool: Option<String>,
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

/// What is to be done to a list, by the index of the entry.
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
    pub(crate) fn on_call<'a>(&'a self, tool: &'a str) -> impl Iterator<Item = Action> + 'a {
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
    pub(crate) fn on_result<'a>(&'a self, tool: &'a str) -> impl Iterator<Item = &'a Action> + 'a {
        fitting(&self.results, tool)
    }

    /// The edits of a list of tools that has these names. No rename makes two tools share a name.
    pub(crate) fn on_list(&self, names: &[String]) -> Plan<'_> {
        let keeps =
            |name: &&String| self.tools.get(*name).is_none_or(|edit| !edit.hide && edit.rename.is_none());
        let mut used: HashSet<&str> = names.iter().filter(keeps).map(String::as_str).collect();
        // A rename that is given up takes a name, and so may stop another: until nothing changes.
        let mut given_up: HashSet<&str> = HashSet::new();
        loop {
            let before = given_up.len();
            for name in names {
                let target = self.tools.get(name).and_then(|edit| edit.rename.as_deref());
                if target.is_some_and(|target| used.contains(target)) && given_up.insert(name) {
                    used.insert(name);
                }
            }
            if given_up.len() == before {
                break;
            }
        }
        let mut plan = Plan::default();
        for (index, name) in (0u32..).zip(names) {
            let Some(edit) = self.tools.get(name) else { continue };
            if let Some(target) = edit.rename.as_deref().filter(|_| given_up.contains(name.as_str())) {
                plan.taken.push((index, target));
            }
            plan.edits.push((index, edit));
        }
        plan
    }
}

impl Plan<'_> {
    /// Whether the entry may take its new name.
    pub(crate) fn may_rename(&self, index: u32) -> bool {
        self.taken.iter().all(|(taken, _)| *taken != index)
    }
}

impl Op {
    fn fits(&self, tool: &str) -> bool {
        self.tool.as_deref().is_none_or(|glob| check::matches(glob, tool))
    }
}

fn fitting<'a>(ops: &'a [Op], tool: &'a str) -> impl Iterator<Item = &'a Action> + 'a {
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
            files.on_call("read_file").collect::<Vec<_>>(),
            [set("/arguments", "{}"), set("/arguments/limit", "10"), remove.clone(), rename.clone()]
        );
        assert_eq!(files.on_call("write").collect::<Vec<_>>(), [remove, rename]);
        let results: Vec<_> = files.on_result("any").cloned().collect();
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
            let backend = Backend { tools, ..Backend::default() };
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
