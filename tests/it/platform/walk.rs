//! `plugins/README.md` holds word for word: its commands are run in an empty folder outside the repository, by the real binary
//! and cargo, and what it shows of their output comes out.

use std::path::Path;

use super::made::clean;

/// A command block of the page with what it shows of the output.
struct Step {
    commands: String,
    shown: Vec<String>,
}

/// The fenced blocks of a page: each `sh` with the `text` after it.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match kind {
            "sh" => steps.push(Step { commands: block.join("\n"), shown: Vec::new() }),
            "text" => {
                let step = steps.last_mut().unwrap();
                step.shown = block.into_iter().map(|line| line.trim().to_owned()).collect();
            }
            _ => {}
        }
    }
    steps
}

#[test]
fn the_page_for_authors_holds_word_for_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("plugins/README.md")).unwrap();
    let steps = steps(&page);
    assert!(steps.len() >= 6, "the page has lost its commands");
    let dir = tempfile::Builder::new().prefix("sentinel-it-author-").tempdir().unwrap();
    assert!(!dir.path().starts_with(root));
    // All in one shell, as a person would; a mark after each block tells the outputs apart.
    let mark = "---- end of block ";
    let script: Vec<String> =
        steps.iter().enumerate().map(|(n, step)| format!("{}\necho '{mark}{n}'", step.commands)).collect();
    let script = format!("set -eu\nexec 2>&1\n{}", script.join("\n"));
    let ran = clean("bash", dir.path()).args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}");
    let mut rest = said.as_str();
    for (n, step) in steps.iter().enumerate() {
        let (block, after) = rest.split_once(&format!("{mark}{n}\n")).unwrap();
        rest = after;
        let mut left = block;
        for line in &step.shown {
            let at = left.find(line.as_str());
            let at =
                at.unwrap_or_else(|| panic!("block {n} does not show {line:?}, in this order:\n{block}"));
            left = &left[at + line.len()..];
        }
    }
}
