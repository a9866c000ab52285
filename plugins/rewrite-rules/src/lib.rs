//! Reshapes what goes to a backend, what comes back and what its list shows, by the operator's rules.
//!
//! The rules are checked when they are configured; here they are only looked up and handed to the gateway,
//! which makes all edits of a message together or none of them.

mod check;
mod config;
mod decide;

use sentinel_plugin_sdk::names::Names;
use sentinel_plugin_sdk::{
    Call, Catalog, ConfigError, Configured, Facts, Hooks, Interest, Lifecycle, Patch, Refusal, Response,
    Reuse, Rewriting, TargetKind, log,
};

use decide::{Action, Backend, Rules};

/// The plugin.
#[derive(Debug)]
pub struct RewriteRules;

static RULES: Configured<Rules> = Configured::of("rewrite-rules");

impl Lifecycle for RewriteRules {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        RULES.read(&json, config::read)
    }
}

impl Rewriting for RewriteRules {
    fn on_request(call: &Call, edits: &Patch) -> Result<(), Refusal> {
        with_rules(&call.backend(), |backend| {
            for (name, value) in &backend.headers {
                edits.set_header(name, value);
            }
            if !backend.arguments.is_empty() && call.kind() == TargetKind::Tool {
                with_names(call, backend, |tool| {
                    for action in backend.on_call(tool) {
                        record(edits, &action);
                    }
                });
            }
        })
    }

    fn on_response(call: &Call, response: &Response, edits: &Patch) -> Result<(), Refusal> {
        with_rules(&call.backend(), |backend| {
            // A JSON-RPC error has no result to edit.
            let editable = call.kind() == TargetKind::Tool && response.error_code().is_none();
            if !backend.results.is_empty() && editable {
                with_names(call, backend, |tool| {
                    for action in backend.on_result(tool) {
                        record(edits, action);
                    }
                });
            }
        })
    }

    fn on_catalog(entries: &Catalog) -> Result<(), Refusal> {
        let name = entries.backend();
        with_rules(&name, |backend| {
            if !backend.tools.is_empty() && entries.kind() == TargetKind::Tool {
                edit_list(&name, backend, entries);
            }
        })
    }
}

impl Interest for RewriteRules {
    fn hooks_for(backend: String) -> Hooks {
        match RULES.get() {
            Ok(rules) => rules.of(&backend).map_or(Hooks::empty(), wanted),
            Err(_) => Hooks::ON_REQUEST | Hooks::ON_RESPONSE | Hooks::ON_CATALOG,
        }
    }
}

impl Reuse for RewriteRules {
    // The rules of a tool of a backend are the same for every call of it.
    fn depends_on() -> Facts {
        Facts::TARGET
    }
}

/// The hooks that have something to do for a backend of these rules.
fn wanted(backend: &Backend) -> Hooks {
    let when = |wanted, hook| if wanted { hook } else { Hooks::empty() };
    when(!backend.headers.is_empty() || !backend.arguments.is_empty(), Hooks::ON_REQUEST)
        | when(!backend.results.is_empty(), Hooks::ON_RESPONSE)
        | when(!backend.tools.is_empty(), Hooks::ON_CATALOG)
}

fn with_rules(backend: &str, edit: impl FnOnce(&Backend)) -> Result<(), Refusal> {
    if let Some(backend) = RULES.get()?.of(backend) {
        edit(backend);
    }
    Ok(())
}

fn with_names(call: &Call, backend: &Backend, edit: impl FnOnce(&Names<'_>)) {
    let (shown, own) = (call.name(), call.upstream_name());
    edit(&Names { shown: &shown, own: &own, backend: &backend.name });
}

fn record(edits: &Patch, action: &Action) {
    match action {
        Action::Set { pointer, json } => edits.set(pointer, json),
        Action::Default { pointer, json } => edits.set_default(pointer, json),
        Action::Remove { pointer } => edits.remove(pointer),
        Action::Rename { pointer, to } => edits.rename(pointer, to),
    }
}

fn edit_list(name: &str, backend: &Backend, entries: &Catalog) {
    let names: Vec<String> = (0..entries.len()).map(|index| entries.name(index)).collect();
    let plan = backend.on_list(&names);
    for (_, target) in &plan.taken {
        let message =
            format!("the backend {name:?} has a tool {target:?} already; no other is renamed to that");
        log::emit(log::Level::Warn, &message);
    }
    for (index, edit) in &plan.edits {
        if edit.hide {
            entries.hide(*index);
        }
        for (key, text) in [("/title", &edit.title), ("/description", &edit.description)] {
            if let Some(text) = text {
                entries.set(*index, key, &serde_json::Value::from(text.as_str()).to_string());
            }
        }
        if let Some(target) = edit.rename.as_ref().filter(|_| plan.may_rename(*index)) {
            entries.rename(*index, target);
        }
    }
}

sentinel_plugin_sdk::export!(RewriteRules: rewriting, interest, reuse);
