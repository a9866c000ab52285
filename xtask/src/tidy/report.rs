//! Places to look again: what is large. None of it is a mistake by itself, so it is printed and nothing fails.
//!
//! What is read is the text as rustfmt leaves it, without comments, the content of strings, and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::File;
use super::layers::tokens;
use super::source::{code_only, is_test_file, without_tests};

/// The folders that are looked at.
const FOLDERS: [&str; 4] = ["host/src/", "plugins/", "xtask/src/", "tests/bench/src/"];
const MAX_FILE: usize = 400;
const MAX_FUNCTION: usize = 60;
const MAX_PARAMETERS: usize = 6;
const MAX_FIELDS: usize = 12;

/// Something that is larger than it should be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Large {
    size: usize,
    /// `path:line: name`, or the path alone.
    what: String,
}

/// The whole report.
pub(super) fn report(files: &[File]) -> String {
    let (mut long_files, mut long_functions, mut many_parameters, mut many_fields) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for File { path, text } in files {
        let Some(text) = text.as_deref().filter(|_| is_looked_at(path)) else { continue };
        let code = without_tests(&code_only(text));
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > MAX_FILE {
            long_files.push(Large { size: lines, what: path.clone() });
        }
        for item in items(&code) {
            let what = format!("{path}:{}: {}", item.line, item.name);
            let (list, most) = match item.kind {
                Kind::Lines => (&mut long_functions, MAX_FUNCTION),
                Kind::Parameters => (&mut many_parameters, MAX_PARAMETERS),
                Kind::Fields => (&mut many_fields, MAX_FIELDS),
            };
            if item.size > most {
                list.push(Large { size: item.size, what });
            }
        }
    }
    let mut text = String::new();
    for (title, mut list) in [
        (format!("files of more than {MAX_FILE} lines of code"), long_files),
        (format!("functions of more than {MAX_FUNCTION} lines of code"), long_functions),
        (format!("functions of more than {MAX_PARAMETERS} parameters"), many_parameters),
        (format!("structs of more than {MAX_FIELDS} fields"), many_fields),
    ] {
        list.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.what.cmp(&b.what)));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {}", title, list.len());
        for Large { size, what } in &list {
            let _ = writeln!(text, "{size:7}  {what}");
        }
    }
    let unused = unnamed(files);
    let _ = writeln!(
        text,
        "`pub` items of the library that neither the binary nor benches, tests and fuzz targets name: at least {}",
        unused.len()
    );
    let mut modules = BTreeMap::<&str, usize>::new();
    for item in &unused {
        let module = item.trim_start_matches("host/src/").split(['/', '.']).next().unwrap_or_default();
        *modules.entry(module).or_default() += 1;
    }
    for (module, count) in modules {
        let _ = writeln!(text, "{count:7}  {module}");
    }
    text
}

fn is_looked_at(path: &str) -> bool {
    path.ends_with(".rs") && FOLDERS.iter().any(|folder| path.starts_with(folder)) && !is_test_file(path)
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Lines,
    Parameters,
    Fields,
}

/// One measure of a function or struct.
#[derive(Debug)]
struct Item {
    line: usize,
    name: String,
    kind: Kind,
    size: usize,
}

/// All measures of a file.
fn items(code: &str) -> Vec<Item> {
    let tokens = tokens(code);
    let token = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let filled: BTreeSet<usize> = (1..)
        .zip(code.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, _)| number)
        .collect();
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let (line, name) = (tokens[at].0, token(at + 1).to_owned());
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        match token(at) {
            "fn" => {
                let open = past_generics(&token, at + 2);
                let Some((parameters, close)) = group(&token, open) else { continue };
                let size = parameters.iter().filter(|one| !is_receiver(one)).count();
                found.push(Item { line, name: name.clone(), kind: Kind::Parameters, size });
                // A function of a trait may have no body. `[u8; 4]` as a result has a `;` of its own.
                let mut depth = 0_usize;
                let body = (close + 1..tokens.len()).find(|&at| {
                    match token(at) {
                        "(" | "[" => depth += 1,
                        ")" | "]" => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    depth == 0 && matches!(token(at), "{" | ";")
                });
                let Some(body) = body.filter(|&at| token(at) == "{") else { continue };
                let Some((_, end)) = group(&token, body) else { continue };
                let size = filled.range(line..=tokens[end].0).count();
                found.push(Item { line, name, kind: Kind::Lines, size });
            }
            "struct" => {
                let body = (past_generics(&token, at + 2)..tokens.len())
                    .find(|&at| matches!(token(at), "{" | ";" | "("))
                    .filter(|&at| token(at) == "{");
                let Some((fields, _)) = body.and_then(|body| group(&token, body)) else { continue };
                found.push(Item { line, name, kind: Kind::Fields, size: fields.len() });
            }
            _ => {}
        }
    }
    found
}

/// Behind the `<…>` that begins here, if one does.
fn past_generics<'a>(token: &impl Fn(usize) -> &'a str, at: usize) -> usize {
    let (mut depth, mut at) = (0_usize, at);
    loop {
        match token(at) {
            "<" => depth += 1,
            ">" if token(at - 1) != "-" => depth = depth.saturating_sub(1),
            "" => return at,
            _ => {}
        }
        if depth == 0 {
            return if token(at) == ">" { at + 1 } else { at };
        }
        at += 1;
    }
}

/// The parts between the commas of the group that opens at `open`, and where it closes.
fn group<'a>(token: &impl Fn(usize) -> &'a str, open: usize) -> Option<(Vec<Vec<&'a str>>, usize)> {
    let (mut depth, mut angles) = (0_usize, 0_usize);
    let mut parts = vec![Vec::new()];
    for at in open.. {
        match token(at) {
            "" => return None,
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth -= 1;
                if depth == 0 {
                    parts.retain(|part| !part.is_empty());
                    return Some((parts, at));
                }
            }
            "<" => angles += 1,
            ">" if token(at - 1) != "-" => angles = angles.saturating_sub(1),
            "," if depth == 1 && angles == 0 => {
                parts.push(Vec::new());
                continue;
            }
            _ => {}
        }
        if at > open
            && let Some(part) = parts.last_mut()
        {
            part.push(token(at));
        }
    }
    None
}

/// Whether a parameter is `self`, however it is taken.
fn is_receiver(parameter: &[&str]) -> bool {
    parameter.iter().take_while(|token| **token != ":").any(|token| *token == "self")
}

/// Whether a file is of the binary, which is a crate of its own beside the library.
fn is_binary(path: &str) -> bool {
    path == "host/src/main.rs" || path == "host/src/cli.rs" || path.starts_with("host/src/cli/")
}

/// The items of the library that are `pub` for nobody outside of it, as `path: name`. A name that is used for several things
/// counts as named, so there may be more.
fn unnamed(files: &[File]) -> Vec<String> {
    let mut named = BTreeSet::new();
    for File { path, text } in files {
        let Some(text) = text.as_deref().filter(|_| path.ends_with(".rs")) else { continue };
        let folders = ["host/benches/", "tests/it/", "tests/support/", "tests/fuzz/"];
        if is_binary(path) || folders.iter().any(|folder| path.starts_with(folder)) {
            named.extend(tokens(&code_only(text)).into_iter().map(|(_, token)| token));
        }
    }
    let mut found = Vec::new();
    for File { path, text } in files {
        let Some(text) = text.as_deref().filter(|_| path.ends_with(".rs") && !is_binary(path)) else {
            continue;
        };
        if !path.starts_with("host/src/") || is_test_file(path) {
            continue;
        }
        let tokens = tokens(&without_tests(&code_only(text)));
        let token = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
        for at in (0..tokens.len()).filter(|&at| token(at) == "pub") {
            let mut kind = at + 1;
            while matches!(token(kind), "async" | "unsafe")
                || (token(kind) == "const" && token(kind + 1) == "fn")
            {
                kind += 1;
            }
            let kinds = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod"];
            let name = token(kind + 1);
            if kinds.contains(&token(kind)) && !named.contains(name) {
                found.push(format!("{path}:{}: {name}", tokens[at].0));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(code: &str, kind: &Kind) -> Vec<(String, usize)> {
        let found = items(&without_tests(&code_only(code)));
        found.into_iter().filter(|item| item.kind == *kind).map(|item| (item.name, item.size)).collect()
    }

    #[test]
    fn parameters_are_counted_whatever_stands_in_their_types() {
        for (code, expected) in [
            ("fn none() {}", 0),
            ("fn two(a: HashMap<u8, u8>, b: (u8, u8)) {}", 2),
            ("fn own(&'a mut self, a: u8) {}", 1),
            ("fn boxed(self: Box<Self>, a: impl Fn(u8, u8) -> Vec<u8>, b: [u8; 4]) {}", 2),
            ("fn generic<T: Fn(u8) -> u8, U: Into<Vec<u8>>>(t: T, u: U,) -> u8 { 1 }", 2),
            ("trait A { fn declared(a: u8, b: u8, c: u8) -> [u8; 2]; }", 3),
        ] {
            let found = sizes(code, &Kind::Parameters);
            assert_eq!(found.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [expected], "{code}");
        }
    }

    #[test]
    fn lines_are_those_of_code() {
        let code = "impl A {\n    /// Words.\n    fn long() -> [u8; 4] {\n        // words\n\n        a({ 1 });\n        b(\"{\")\n    }\n    fn declared(&self);\n}\nfn next() { b() }\n";
        assert_eq!(sizes(code, &Kind::Lines), [("long".to_owned(), 4), ("next".to_owned(), 1)]);
        let tests = "#[cfg(test)]\nmod tests { fn a() {\n\n} }\n";
        assert_eq!(sizes(tests, &Kind::Lines), []);
    }

    #[test]
    fn fields_are_counted_and_those_of_tuples_are_not() {
        let code = "struct A<T: Into<B>> where T: C {\n #[d(e, f)]\n pub a: HashMap<u8, Vec<u8>>,\n b: fn(u8, u8) -> u8,\n c: T,\n}\nstruct D(u8, u8);\nstruct E;\nfn f() -> A { A { a, b, c } }";
        assert_eq!(sizes(code, &Kind::Fields), [("A".to_owned(), 3)]);
    }

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: Some(text.to_owned()) }
    }

    #[test]
    fn what_nobody_outside_names_is_listed() {
        let library = "pub fn used() {}\npub const fn unused() {}\npub(crate) fn inner() {}\npub async fn late() {}\npub use a::b;\npub struct S { pub field: u8 }\npub const TOLD: u8 = 1;\n#[cfg(test)] mod tests { pub fn helper() {} }";
        let files = [
            file("host/src/a.rs", library),
            file("host/src/main.rs", "fn main() { sentinel_gateway::a::used() }"),
            file("host/src/cli/run.rs", "pub fn told() { sentinel_gateway::a::TOLD }"),
            file("tests/it/main.rs", "// unused\nfn t() { let _: S; }"),
            file("plugins/x/src/lib.rs", "pub fn other() {}"),
        ];
        assert_eq!(unnamed(&files), ["host/src/a.rs:2: unused", "host/src/a.rs:4: late"]);
    }

    #[test]
    fn the_report_names_what_is_large_with_its_place() {
        let body = "    step();\n".repeat(61);
        let many = (0..13).map(|n| format!("    f{n}: u8,\n")).collect::<String>();
        let code = format!(
            "fn small() {{}}\nfn large() {{\n{body}}}\nfn wide(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) {{}}\nstruct Full {{\n{many}}}\n"
        );
        let long = "let a = 1;\n".repeat(401);
        let text = report(&[
            file("host/src/a.rs", &code),
            file("host/src/b.rs", &long),
            file("tests/it/c.rs", &long),
        ]);
        for expected in [
            "    401  host/src/b.rs",
            "     63  host/src/a.rs:2: large",
            "      7  host/src/a.rs:65: wide",
            "     13  host/src/a.rs:66: Full",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("small") && !text.contains("c.rs"), "{text}");
    }
}
