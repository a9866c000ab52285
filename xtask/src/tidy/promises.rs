//! Each promise of `SECURITY.md` names the test that shows it. A test that was renamed or went would leave a promise that
//! nothing shows, so every name there must be one of a test.

use std::collections::BTreeSet;

use super::File;

/// The page with the promises.
const PAGE: &str = "SECURITY.md";

pub(super) fn check(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).and_then(|file| file.text.as_deref());
    let Some(page) = text(PAGE) else { return Vec::new() };
    let sources: Vec<(&str, &str)> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
        .collect();
    let known: BTreeSet<&str> = sources.iter().flat_map(|(_, text)| functions(text)).collect();
    let mut breaches = Vec::new();
    for (line, name) in named(page) {
        let steps: Vec<&str> = name.split("::").collect();
        let (last, way) = steps.split_last().unwrap_or((&"", &[]));
        let module = way.last().copied().unwrap_or_default();
        let stands =
            |path: &str| path.ends_with(&format!("/{module}.rs")) || path.contains(&format!("/{module}/"));
        let found = match *last {
            "*" => sources.iter().any(|(path, _)| stands(path)),
            test => known.contains(test),
        };
        if !found {
            breaches.push(format!("{PAGE}:{line}: there is no test {name}"));
        }
    }
    breaches
}

/// The names of all functions of a file.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.split("fn ").skip(1);
    starts.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
}

/// What stands between backticks and has a `::`, with its line; of `a::{b, c}` both.
fn named(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut line = 1;
    for (index, span) in page.split('`').enumerate() {
        if index % 2 == 1 && span.contains("::") && !span.contains('…') {
            match span.split_once("::{") {
                Some((way, names)) => {
                    let names = names.trim_end_matches('}').split(',');
                    found.extend(names.map(|name| (line, format!("{way}::{}", name.trim()))));
                }
                None => found.push((line, span.to_owned())),
            }
        }
        line += span.matches('\n').count();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_without_its_test_is_named() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: Some(text.to_owned()) };
        let page = "It holds. `attacks::shares::{one, two,\n three}`, `a::b::*`, `gone::*`, `x::four`, not `five`, `a::…`.";
        let files = [
            file(PAGE, page),
            file("tests/it/attacks/shares.rs", "fn one() {}\nfn three() {}"),
            file("host/src/a/b.rs", "fn unnamed() {}"),
        ];
        assert_eq!(
            check(&files),
            [
                "SECURITY.md:1: there is no test attacks::shares::two",
                "SECURITY.md:2: there is no test gone::*",
                "SECURITY.md:2: there is no test x::four",
            ]
        );
    }
}
