//! Reads the schemas of a backend's tools when they are listed, and says what is wrong with them.

use std::collections::HashMap;
use std::sync::Arc;

use sentinel_names::Names;

use crate::config::{self, Arguments};
use crate::mcp::catalog::{Offer, Offers};
use crate::mcp::message;
use crate::mcp::schema::{ArgumentSchema, Notice, Room};
use crate::mcp::splice;

/// Tools of one list that are named in the log; the others are counted.
const NAMED: usize = 20;
/// The stack for reading schemas: they may be as deep as JSON allows, and each level takes some stack frames to
/// compile.
const STACK: usize = 64 << 20;

/// The schemas of a server's tools as it lists them, by its own names.
pub(super) type Own = HashMap<String, Option<String>>;

/// Those schemas of a list, before rewriters have changed anything.
pub(super) fn own(tools: &[Offer]) -> Own {
    let schema = |tool: &Offer| splice::get(tool.item.get(), "/inputSchema").map(str::to_owned);
    tools.iter().map(|tool| (tool.upstream.clone(), schema(tool))).collect()
}

/// Whose tools they are, and what the operator said about them; nothing, if they come from the configuration itself.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) settings: Option<&'a config::Backend>,
}

/// Reads the schemas of all tools. Those that are as they were before are not read again.
pub(super) fn read(backend: Owner<'_>, shaped: &mut Offers, own: &Own, before: &Offers) {
    let tools = &shaped.tools;
    let all = std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().name("schemas".to_owned()).stack_size(STACK);
        let reading = reading.spawn_scoped(scope, || all(backend, tools, own, before));
        reading.ok().and_then(|reading| reading.join().ok())
    });
    match all {
        Some(all) => shaped.arguments = all,
        // Without its schema every tool refuses its calls.
        None => {
            tracing::error!(backend = %backend.name, "the schemas of the server's tools cannot be read, so calls of them are refused")
        }
    }
}

fn all(
    backend: Owner<'_>,
    tools: &[Offer],
    own: &Own,
    before: &Offers,
) -> HashMap<String, Arc<ArgumentSchema>> {
    let mut room = Room::default();
    let mut all: HashMap<String, Arc<ArgumentSchema>> = HashMap::with_capacity(tools.len());
    let mut said = 0_usize;
    let strict = backend.settings.is_some_and(|settings| settings.strict_schemas);
    for tool in tools {
        // Of two with one name the first is shown.
        if all.contains_key(&tool.name) {
            continue;
        }
        let text = splice::get(tool.item.get(), "/inputSchema");
        // A rewriter may show clients another schema; what it makes of their arguments has to fit the server's own.
        let own = own.get(&tool.upstream).map(Option::as_deref).filter(|own| *own != text);
        let known = before.arguments.get(&tool.name).filter(|known| known.is(text, &mut room));
        let known = known.filter(|known| known.of_server().text() == own.unwrap_or(text).unwrap_or("{}"));
        let schema = known.cloned().unwrap_or_else(|| {
            let text = text.map(|text| message::raw(text.to_owned()));
            let names = Names { shown: &tool.name, own: &tool.upstream, backend: backend.name };
            let wanted = backend.settings.map_or(Arguments::Refuse, |settings| settings.arguments(&names));
            if wanted == Arguments::Off {
                return Arc::new(ArgumentSchema::unchecked(text));
            }
            let (schema, notices) = ArgumentSchema::read(text, strict, &mut room);
            let schema = if wanted == Arguments::Warn { schema.advising() } else { schema };
            let schema = match own {
                Some(own) => {
                    let own = own.map(|own| message::raw(own.to_owned()));
                    let (own, _) = ArgumentSchema::read(own, strict, &mut room);
                    let own = if wanted == Arguments::Warn { own.advising() } else { own };
                    schema.in_place_of(Arc::new(own))
                }
                None => schema,
            };
            if !notices.is_empty() {
                said += 1;
            }
            if said <= NAMED {
                notices.iter().for_each(|notice| say(backend, &tool.name, notice));
            }
            Arc::new(schema)
        });
        all.insert(tool.name.clone(), schema);
    }
    if said > NAMED {
        let more = said - NAMED;
        tracing::warn!(backend = %backend.name, "the schemas of {more} more tools of the server have flaws or cannot be used");
    }
    all
}

fn say(backend: Owner<'_>, tool: &str, notice: &Notice) {
    match notice {
        Notice::Unusable(_) => tracing::error!(backend = %backend.name, tool = ?tool, "{notice}"),
        Notice::Flawed(_) | Notice::Heavy(_) | Notice::Unchecked(_) => {
            tracing::warn!(backend = %backend.name, tool = ?tool, "{notice}")
        }
    }
}
