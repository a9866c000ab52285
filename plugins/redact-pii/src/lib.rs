//! Takes personal data and keys out of what servers say to callers: results, errors, lists, progress, questions, instructions.
//!
//! What is looked at is text as it reads, not as it is spelled: JSON escapes hide nothing. What cannot be looked at whole
//! reaches nobody.

mod config;
mod decide;
mod find;
mod json;

use std::collections::BTreeMap;

use sentinel_plugin_sdk::{
    Call, Catalog, ConfigError, Configured, Hooks, Interest, Lifecycle, Patch, Refusal, Response, Rewriting,
    Sieving, log, secrets,
};
use serde_json::value::RawValue;

use decide::Redactor;

/// The plugin.
#[derive(Debug)]
pub struct RedactPii;

static REDACTOR: Configured<Redactor> = Configured::of("redact-pii");

impl Lifecycle for RedactPii {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        REDACTOR.read(&json, |config| config::read(config, secrets::get))
    }
}

impl Rewriting for RedactPii {
    fn on_request(_call: &Call, _edits: &Patch) -> Result<(), Refusal> {
        Ok(())
    }

    fn on_response(call: &Call, response: &Response, edits: &Patch) -> Result<(), Refusal> {
        // An error of the server has no result; it comes to `sieve`.
        if response.error_code().is_some() {
            return Ok(());
        }
        let redactor = REDACTOR.get()?;
        let Some(body) = response.body(u32::MAX) else {
            return Err(Refusal::new("personal_data", "The answer cannot be looked at."));
        };
        if let Some(changed) = redactor.json(&call.backend(), &body)? {
            edits.set("", &changed);
        }
        Ok(())
    }

    fn on_catalog(entries: &Catalog) -> Result<(), Refusal> {
        let (redactor, backend) = (REDACTOR.get()?, entries.backend());
        for index in 0..entries.len() {
            let Some(item) = entries.item(index, "") else { continue };
            match redactor.json(&backend, &item) {
                Ok(None) => {}
                Ok(Some(changed)) if edit(entries, index, &item, &changed) => {}
                // Its name cannot be shown, or nothing of it may be.
                Ok(Some(_)) | Err(_) => {
                    let message = format!(
                        "an entry of the list of {backend:?} holds personal data in its name, so it is hidden"
                    );
                    log::emit(log::Level::Warn, &message);
                    entries.hide(index);
                }
            }
        }
        Ok(())
    }
}

impl Sieving for RedactPii {
    fn sieve(call: &Call, _at: String, json: String) -> Result<Option<String>, Refusal> {
        REDACTOR.get()?.json(&call.backend(), &json)
    }
}

impl Interest for RedactPii {
    fn hooks_for(backend: String) -> Hooks {
        match REDACTOR.get() {
            Ok(redactor) if redactor.of(&backend).is_none() => Hooks::empty(),
            Ok(_) => Hooks::ON_RESPONSE | Hooks::ON_CATALOG,
            Err(_) => Hooks::ON_REQUEST | Hooks::ON_RESPONSE | Hooks::ON_CATALOG,
        }
    }
}

/// Writes the members of an entry that changed. False if its name or its keys did: those are not for a plugin to change.
fn edit(entries: &Catalog, index: u32, before: &str, after: &str) -> bool {
    type Members = BTreeMap<String, Box<RawValue>>;
    let read = |text| serde_json::from_str::<Members>(text).unwrap_or_default();
    let (before, after) = (read(before), read(after));
    let same = |key: &str| before.get(key).map(|it| it.get()) == after.get(key).map(|it| it.get());
    if !before.keys().eq(after.keys()) || !same("name") || !same("uri") || !same("uriTemplate") {
        return false;
    }
    for (key, value) in after.iter().filter(|(key, _)| !same(key)) {
        let pointer = sentinel_plugin_sdk::fields::below("", key);
        entries.set(index, &pointer, value.get());
    }
    true
}

sentinel_plugin_sdk::export!(RedactPii: rewriting, sieving, interest);
