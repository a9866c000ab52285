//! Files that import each other in a circle. A reader of one of them has to read them all, and none can be moved alone.
//!
//! Compared are the children of one module, each with everything below it: `a.rs` and `a/b.rs` are one. A name that the
//! parent only passes on (`pub use child::Name`) counts as its child's.

use std::collections::{BTreeMap, BTreeSet};

use super::File;
use super::layers::tokens;
use super::source::{code_only, is_test_file, without_tests};

/// The crates whose files are looked at: where their source is.
const CRATES: [&str; 3] = ["host/src/", "xtask/src/", "tests/bench/src/"];

/// Circles that are known, by the module and those of its files that may be in it: a circle that becomes smaller stays known,
/// one that takes in another file does not. An entry with no circle left is a breach, so that the list only becomes shorter.
const KNOWN: &[(&str, &[&str])] = &[];

/// Each circle once, with what imports what in it.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let found = CRATES.iter().flat_map(|root| circles(root, &Sources::of(root, files))).collect();
    judge(found, KNOWN)
}

/// What breaks the rule: the circles that nobody knows, and the entries that name none any more.
fn judge(found: Vec<Circle>, known: &[(&str, &[&str])]) -> Vec<String> {
    let is_of = |circle: &Circle, (module, files): &(&str, &[&str])| {
        circle.module == *module && circle.files.iter().all(|file| files.contains(&file.as_str()))
    };
    let stale = known.iter().filter(|entry| !found.iter().any(|circle| is_of(circle, entry))).map(
        |(module, files)| {
            format!(
                "{module}: {} are no circle any more; take them out of KNOWN in {}",
                files.join(", "),
                file!()
            )
        },
    );
    let mut breaches: Vec<String> = stale.collect();
    for circle in found {
        if !known.iter().any(|entry| is_of(&circle, entry)) {
            breaches.push(format!(
                "{}: its files import each other in a circle: {}",
                circle.module,
                circle.uses.join("; ")
            ));
        }
    }
    breaches
}

/// Files of one module that import each other.
#[derive(Debug)]
struct Circle {
    /// The folder, from the root of the project.
    module: String,
    files: BTreeSet<String>,
    /// Which uses which, for people.
    uses: Vec<String>,
}

type Path = Vec<String>;

/// The files of a crate by their module path; the root itself (`lib.rs`, `main.rs`) is the empty one.
struct Sources(BTreeMap<Path, Names>);

/// What a file names of its own crate.
#[derive(Default)]
struct Names {
    /// Imports: what a name here stands for.
    imported: BTreeMap<String, Path>,
    /// Everything that is named, imports included.
    named: BTreeSet<Path>,
}

impl Sources {
    fn of(root: &str, files: &[File]) -> Self {
        let mut found = BTreeMap::<Path, String>::new();
        for file in files.iter().filter(|file| !is_test_file(&file.path)) {
            let Some(path) = file.path.strip_prefix(root).and_then(|path| path.strip_suffix(".rs")) else {
                continue;
            };
            let Some(text) = &file.text else { continue };
            let steps: Path = path.split('/').map(str::to_owned).collect();
            let steps = if matches!(path, "lib" | "main") { Path::new() } else { steps };
            found.entry(steps).or_default().push_str(&without_tests(&code_only(text)));
        }
        let known: BTreeSet<Path> = found.keys().cloned().collect();
        Self(found.into_iter().map(|(at, code)| (at.clone(), Names::of(&code, &at, &known))).collect())
    }

    /// The file that a path leads to, followed through what parents pass on.
    fn leads_to(&self, path: &[String]) -> Option<Path> {
        let mut path = path.to_vec();
        // Bounded: names that stand for each other do not compile, and would not end.
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
            let (file, rest) = path.split_at(length);
            let passed_on = rest.first().and_then(|name| self.0[file].imported.get(name));
            match passed_on {
                Some(meant) if meant.starts_with(file) && meant[..] != path[..] => {
                    path = meant.iter().chain(&rest[1..]).cloned().collect();
                }
                _ => return Some(file.to_vec()),
            }
        }
        None
    }
}

impl Names {
    fn of(code: &str, at: &Path, known: &BTreeSet<Path>) -> Self {
        let tokens: Vec<String> = tokens(code).into_iter().map(|(_, token)| token).collect();
        let mut names = Self::default();
        let mut index = 0;
        while index < tokens.len() {
            if tokens[index] == "use"
                && tokens.get(index + 1).is_some_and(|next| is_word(next) || next == "::")
            {
                let mut trees = Vec::new();
                index = tree(&tokens, index + 1, &Path::new(), &mut trees);
                for (path, alias) in trees {
                    let Some(path) = absolute(&path, at, known) else { continue };
                    names.named.insert(path.clone());
                    names.imported.insert(alias, path);
                }
                continue;
            }
            let starts = index == 0 || tokens[index - 1] != "::";
            if starts && tokens.get(index + 1).is_some_and(|next| next == "::") {
                let mut path = vec![tokens[index].clone()];
                while tokens.get(index + 1).is_some_and(|next| next == "::")
                    && tokens.get(index + 2).is_some_and(|next| is_word(next))
                {
                    path.push(tokens[index + 2].clone());
                    index += 2;
                }
                names.named.extend(absolute(&path, at, known));
            }
            index += 1;
        }
        names
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads the tree of a `use` from `at`; where it ends. Each leaf comes with the name that it gets.
fn tree(tokens: &[String], mut at: usize, before: &Path, found: &mut Vec<(Path, String)>) -> usize {
    let mut path = before.clone();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}" && token != ";") {
                    let next = tree(tokens, at, &path, found);
                    at = next + usize::from(tokens.get(next).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => {
                let alias = tokens.get(at + 1).cloned().unwrap_or_default();
                found.push((path, alias));
                return at + 2;
            }
            "::" => {}
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    // `self` in a group is the path before it.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if let Some(alias) = path.last().cloned() {
        found.push((path, alias));
    }
    at
}

/// A path from the root of the crate; none if it leads out of the crate.
fn absolute(path: &[String], at: &[String], known: &BTreeSet<Path>) -> Option<Path> {
    let mut base = at.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|step| step == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            base.push(child.to_owned());
            if !known.contains(&base) {
                return None;
            }
            rest = &path[1..];
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The circles among the children of each module.
fn circles(root: &str, sources: &Sources) -> Vec<Circle> {
    // For each parent, which child uses which.
    let mut uses = BTreeMap::<Path, BTreeMap<String, BTreeSet<String>>>::new();
    for (from, names) in &sources.0 {
        for to in names.named.iter().filter_map(|path| sources.leads_to(path)) {
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(user), Some(used)) = (from.get(shared), to.get(shared)) {
                let children = uses.entry(from[..shared].to_vec()).or_default();
                children.entry(user.clone()).or_default().insert(used.clone());
            }
        }
    }
    let mut found = Vec::new();
    for (parent, children) in &uses {
        let mut seen = BTreeSet::new();
        for child in children.keys() {
            if seen.contains(child) {
                continue;
            }
            let mut circle = reached(children, child);
            circle.retain(|other| reached(children, other).contains(child));
            if circle.contains(child) {
                let inside = |used: &&String| circle.contains(*used);
                let uses = circle
                    .iter()
                    .map(|user| {
                        let used: Vec<&str> =
                            children[user].iter().filter(inside).map(String::as_str).collect();
                        format!("{user} uses {}", used.join(", "))
                    })
                    .collect();
                found.push(Circle {
                    module: format!("{root}{}", parent.join("/")),
                    files: circle.clone(),
                    uses,
                });
            }
            seen.extend(circle);
        }
    }
    found
}

/// Everything that is used from here, directly or not.
fn reached(children: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut next = vec![from];
    while let Some(child) = next.pop() {
        for used in children.get(child).into_iter().flatten() {
            if all.insert(used.clone()) {
                next.push(used);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let file = |&(path, text): &(&str, &str)| File {
            path: format!("host/src/{path}"),
            text: Some(text.to_owned()),
        };
        let files: Vec<_> = files.iter().map(file).collect();
        judge(circles("host/src/", &Sources::of("host/src/", &files)), &[])
    }

    #[test]
    fn a_known_circle_may_shrink_and_must_go_from_the_list_with_its_end() {
        let circle = |files: &[&str]| Circle {
            module: "host/src/door".to_owned(),
            files: files.iter().map(|&file| file.to_owned()).collect(),
            uses: vec!["a uses b".to_owned()],
        };
        let known: &[(&str, &[&str])] = &[("host/src/door", &["a", "b", "c"])];
        assert_eq!(judge(vec![circle(&["a", "b"])], known), Vec::<String>::new());
        assert_eq!(judge(vec![circle(&["a", "b", "c", "d"])], known).len(), 2);
        let ended = judge(Vec::new(), known);
        assert!(ended.len() == 1 && ended[0].contains("no circle any more"), "{ended:?}");
    }

    #[test]
    fn a_circle_is_found_however_it_is_spelled() {
        let spellings = [
            "use super::a::A;",
            "use crate::door::a;",
            "use crate::{call, door::{self, a::{A, B as C}}};",
            "fn f() { super::a::f() }",
            "use super::A;",
            "use crate::door::{A as Other};",
        ];
        for spelling in spellings {
            let parent = "mod a; mod b; pub use a::A;";
            let files = [
                ("door.rs", parent),
                ("door/a.rs", "use super::b::B;"),
                ("door/b.rs", spelling),
                ("call.rs", ""),
            ];
            let found = found(&files);
            assert_eq!(found.len(), 1, "{spelling}: {found:?}");
            assert_eq!(
                found[0],
                "host/src/door: its files import each other in a circle: a uses b; b uses a"
            );
        }
    }

    #[test]
    fn parents_children_and_one_way_imports_are_none() {
        let files = [
            ("lib.rs", "mod call; mod door;"),
            ("call.rs", ""),
            ("door.rs", "mod a; mod b; use a::f; use crate::call::Call; pub struct Door;"),
            ("door/a.rs", "mod c; use super::{Door, b::B}; use c::g; use std::b::a;"),
            ("door/a/c.rs", "use super::super::Door; use super::h;"),
            ("door/b.rs", "use crate::call; #[cfg(test)] mod tests { use super::super::a::f; }"),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
    }

    #[test]
    fn what_is_below_counts_as_its_module() {
        let files = [
            ("door.rs", ""),
            ("door/a/deep.rs", "use crate::door::b::B;"),
            ("door/b.rs", "use super::a::deep::D;"),
            ("door/a.rs", ""),
        ];
        assert_eq!(found(&files).len(), 1);
        let three = [
            ("a.rs", "use crate::b;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::a::A;"),
            ("d.rs", "use crate::a;"),
        ];
        assert_eq!(
            found(&three),
            ["host/src/: its files import each other in a circle: a uses b; b uses c; c uses a"]
        );
    }
}
