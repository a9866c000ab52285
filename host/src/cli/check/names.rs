//! The part of `check --probe` about names and sizes.

use std::fmt::Write;

use sentinel_gateway::app::names::{Met, Names, Size, tokens};

/// Everything clients will see of tools, with what it costs a model to have them in its context.
pub(super) fn text(names: &Names) -> String {
    let mut text = String::new();
    if !names.tools.is_empty() {
        text.push_str("\ntools, as clients see them\n");
    }
    for tool in &names.tools {
        let own = format!("{}/{}", tool.backend, tool.own.escape_debug());
        let _ = writeln!(text, "  {:<34} is {own:<40} {}", tool.shown, size(tool.bytes));
    }
    if !names.met.is_empty() {
        text.push_str("\nnames that more than one server gives to a tool\n");
    }
    names.met.iter().for_each(|met| collision(&mut text, met));
    if !names.backends.is_empty() {
        text.push_str("\ntools by server\n");
    }
    for (backend, Size { entries, bytes }) in &names.backends {
        let _ = writeln!(text, "  {backend:<18} {entries:>6}  {}", size(*bytes));
    }
    text.push_str("\nall lists\n");
    for (list, Size { entries, bytes }) in names.lists.iter().filter(|(_, size)| size.entries > 0) {
        let _ = writeln!(text, "  {list:<18} {entries:>6}  {}", size(*bytes));
    }
    text
}

fn collision(text: &mut String, met: &Met) {
    let owner = met.owner.as_ref().map_or_else(
        || "is shown as nobody's".to_owned(),
        |owner| format!("is the one of {owner}, which stands first in the file"),
    );
    let others: Vec<String> =
        met.others.iter().map(|(backend, shown)| format!("{backend}'s is {shown}")).collect();
    let _ = writeln!(text, "  {:<34} {owner}; {}", met.name.escape_debug().to_string(), others.join(", "));
}

/// The tokens are an estimate, so they are given like one.
fn size(bytes: usize) -> String {
    format!("{bytes} bytes, about {} tokens", tokens(bytes))
}
