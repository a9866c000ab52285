//! Which server has the resource that a result links to?
//!
//! A tool may name resources that are in no list (MCP "Resource Links"), often some that it has just made. Only the server
//! that named one can read it, so that is remembered: for the caller who got the result, and for nobody else. What a server
//! lists is found before that, so no server gets another's resources by naming them.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem;
use parking_lot::Mutex;
use serde_json::value::RawValue;

use crate::call::shares::Crowd;
use crate::call::{Call, Principal, Share};
use crate::mcp::splice;

/// How many links are remembered. Beyond them the oldest of the caller who was given most goes first.
const MAX_LINKS: usize = 8_192;
/// Longest address that is remembered.
const MAX_URI: usize = 2 << 10;
/// Links of one result that are remembered.
const MAX_OF_ONE: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By caller and address: the server that named it to this caller, and the link's number among all.
    backends: HashMap<Link, (Arc<str>, u64)>,
    by_owner: Crowd<Share, Link>,
    noted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Link {
    owner: Arc<str>,
    uri: Arc<str>,
}

impl Links {
    /// Remembers what a result links to. Most results link to nothing, and cost one search for a word.
    pub(super) fn note(&self, call: &Call, result: &str) {
        if memmem::find(result.as_bytes(), b"\"uri\"").is_none() {
            return;
        }
        let uris = linked(result);
        if uris.is_empty() {
            return;
        }
        let (owner, backend): (Arc<str>, _) = (call.principal.identity().into(), &call.target.backend);
        let share = call.principal.share();
        let mut known = self.0.lock();
        for uri in uris {
            let link = Link { owner: owner.clone(), uri: uri.into() };
            match known.backends.get(&link).cloned() {
                // A link that one server named stays that server's, even if another one names it, too.
                Some((first, _)) if first != *backend => continue,
                Some((_, number)) => drop(known.by_owner.remove(number)),
                None => {}
            }
            known.noted += 1;
            let at = known.noted;
            let number = known.by_owner.insert(share, at, link.clone());
            known.backends.insert(link, (backend.clone(), number));
        }
        while known.by_owner.len() > MAX_LINKS {
            let oldest = known.by_owner.largest().next().and_then(|(_, owner)| known.by_owner.first(owner));
            let Some(number) = oldest.map(|(number, _)| number) else { return };
            if let Some(gone) = known.by_owner.remove(number) {
                known.backends.remove(&gone);
            }
        }
    }

    /// The server that named this address to this caller.
    pub(super) fn backend(&self, uri: &str, who: &Principal) -> Option<Arc<str>> {
        let known = self.0.lock();
        if known.backends.is_empty() {
            return None;
        }
        let link = Link { owner: who.identity().into(), uri: uri.into() };
        known.backends.get(&link).map(|(backend, _)| backend.clone())
    }
}

/// The addresses that stand where results have links: in the content of tools and prompts, and beside what was read.
fn linked(result: &str) -> Vec<String> {
    let list = |pointer: &str| -> Vec<&RawValue> {
        splice::get(result, pointer).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
    };
    let mut blocks = list("/content");
    blocks.extend(list("/result/content"));
    let contents = list("/contents");
    let messages = list("/messages");
    let of_messages = messages.iter().filter_map(|message| splice::get(message.get(), "/content"));
    let of_blocks = blocks.iter().map(|block| block.get()).chain(of_messages).filter_map(|block| {
        match splice::get(block, "/type")? {
            "\"resource_link\"" => splice::get(block, "/uri"),
            "\"resource\"" => splice::get(block, "/resource/uri"),
            _ => None,
        }
    });
    let of_contents = contents.iter().filter_map(|part| splice::get(part.get(), "/uri"));
    let uris = of_blocks.chain(of_contents).filter_map(|uri| serde_json::from_str::<String>(uri).ok());
    uris.filter(|uri| !uri.is_empty() && uri.len() <= MAX_URI).take(MAX_OF_ONE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::sample;

    fn call(subject: &str, backend: &str) -> Call {
        sample::call(sample::principal(subject, "r"), sample::tool("make", backend))
    }

    fn link(uri: &str) -> String {
        format!(r#"{{"content":[{{"type":"text","text":"x"}},{{"type":"resource_link","uri":"{uri}"}}]}}"#)
    }

    #[test]
    fn a_link_leads_its_caller_to_the_server_that_named_it_first() {
        let (links, ann, bob) = (Links::default(), call("ann", "one"), call("bob", "two"));
        links.note(&ann, &link("report://42"));
        assert_eq!(links.backend("report://42", &ann.principal).as_deref(), Some("one"));
        assert_eq!(links.backend("report://42", &bob.principal), None, "it was not named to bob");
        links.note(&call("ann", "two"), &link("report://42"));
        assert_eq!(links.backend("report://42", &ann.principal).as_deref(), Some("one"));
        links.note(&bob, &link("report://42"));
        assert_eq!(links.backend("report://42", &bob.principal).as_deref(), Some("two"));
    }

    #[test]
    fn links_are_found_wherever_results_have_them_and_nowhere_else() {
        let found = |result: &str| linked(result);
        assert_eq!(found(&link("a:1")), ["a:1"]);
        assert_eq!(found(r#"{"content":[{"type":"resource","resource":{"uri":"a:2","text":""}}]}"#), ["a:2"]);
        let prompt = r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"a:3"}}]}"#;
        assert_eq!(found(prompt), ["a:3"]);
        assert_eq!(
            found(r#"{"contents":[{"uri":"dir:/a","text":""},{"uri":"dir:/b"}]}"#),
            ["dir:/a", "dir:/b"]
        );
        assert_eq!(found(r#"{"result":{"content":[{"type":"resource_link","uri":"a:4"}]}}"#), ["a:4"]);
        for nothing in [
            r#"{"structuredContent":{"type":"resource_link","uri":"a:5"}}"#,
            r#"{"content":[{"type":"text","text":"\"uri\"","uri":"a:6"}]}"#,
            r#"{"content":{"type":"resource_link","uri":"a:7"}}"#,
            r#"{"content":[{"type":"resource_link","uri":7},3,null]}"#,
            "[]",
        ] {
            assert_eq!(found(nothing), [""; 0], "{nothing}");
        }
        assert_eq!(found(&link(&"x".repeat(MAX_URI + 1))), [""; 0]);
    }

    #[test]
    fn nobody_pushes_out_the_links_of_others() {
        let (links, ann, eve) = (Links::default(), call("ann", "a"), call("eve", "a"));
        links.note(&ann, &link("anns:1"));
        for number in 0..=MAX_LINKS {
            links.note(&eve, &link(&format!("eves:{number}")));
        }
        assert!(links.backend("anns:1", &ann.principal).is_some());
        assert_eq!(links.backend("eves:0", &eve.principal), None);
        // One that is named again stays.
        links.note(&eve, &link("eves:1"));
        links.note(&eve, &link("eves:last"));
        assert!(links.backend("eves:1", &eve.principal).is_some());
        assert_eq!(links.backend("eves:2", &eve.principal), None);
    }
}
