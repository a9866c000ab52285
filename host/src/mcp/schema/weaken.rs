//! After something was left out: a schema may only accept more than its author meant, never less. So where less under a
//! keyword means more outside of it (`not`, `oneOf`, `if`), the keyword goes as well or becomes one that can bear it.

use super::keyword;
use super::node::{Id, Node};

const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];

pub(super) fn weaken(nodes: &mut Vec<Node>) {
    let mut owners: Vec<Vec<(Id, &'static str)>> = vec![Vec::new(); nodes.len()];
    for (id, node) in nodes.iter().enumerate() {
        for (keyword, word) in &node.words {
            for under in word.ids() {
                owners[under].push((id, keyword));
            }
        }
    }
    let mut open: Vec<Id> = Vec::new();
    for (id, node) in nodes.iter_mut().enumerate() {
        forget_unevaluated(node);
        if node.cut || node.lost {
            open.push(id);
        }
    }
    // Each node is opened again at most twice: once for each of its two marks.
    while let Some(under) = open.pop() {
        let Node { cut, lost, .. } = nodes[under];
        for (id, keyword) in owners[under].clone() {
            let before = (nodes[id].cut, nodes[id].lost);
            if cut {
                accepts_more(nodes, id, keyword);
            }
            if lost && keyword::is_in_place(keyword) {
                nodes[id].lost = true;
            }
            forget_unevaluated(&mut nodes[id]);
            if (nodes[id].cut, nodes[id].lost) != before {
                open.push(id);
            }
        }
    }
}

/// What has been looked at is not known any more, so what has not been is not either.
fn forget_unevaluated(node: &mut Node) {
    if node.lost {
        for keyword in UNEVALUATED {
            node.cut |= node.remove(keyword);
        }
    }
}

/// A schema under this keyword accepts more than it should.
fn accepts_more(nodes: &mut Vec<Node>, id: Id, keyword: &'static str) {
    nodes[id].cut = true;
    match keyword {
        "not" => {
            nodes[id].remove("not");
        }
        // More than one may fit now, though only one was meant to.
        "oneOf" => {
            if let Some(word) = nodes[id].get("oneOf").cloned() {
                nodes[id].remove("oneOf");
                let any = Node { words: vec![("anyOf", word)], cut: true, ..Node::default() };
                nodes.push(any);
                let any = nodes.len() - 1;
                nodes[id].all_of(any);
            }
        }
        "if" => {
            for keyword in ["if", "then", "else"] {
                nodes[id].lost |= nodes[id].remove(keyword);
            }
        }
        "contains" => {
            nodes[id].remove("maxContains");
        }
        _ => {}
    }
}
