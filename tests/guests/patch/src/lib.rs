//! Shows that edits are a transaction: what the contract forbids, or a trap, changes nothing.
//!
//! Configuration: `{"do": WHAT, "in": "request" | "response" | "catalog", "bytes": N}`; `in` is `request`
//! unless given, `bytes` is the size of the `huge` edit (4 MiB unless given).

use std::sync::OnceLock;

use sentinel_plugin_sdk::{
    Call, Catalog, ConfigError, Lifecycle, Patch, Refusal, Response, Rewriting, read_config,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(rename = "do")]
    deed: Deed,
    #[serde(default, rename = "in")]
    hook: Hook,
    #[serde(default = "four_mebibytes")]
    bytes: usize,
}

const fn four_mebibytes() -> usize {
    4 << 20
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    SetName,
    BadPointer,
    BadHeader,
    Huge,
    OkThenTrap,
    BadJson,
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Hook {
    #[default]
    Request,
    Response,
    Catalog,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

fn wanted(hook: &Hook) -> Option<&'static Config> {
    CONFIG.get().filter(|config| config.hook == *hook)
}

/// A JSON string of about so many bytes.
fn huge(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes))
}

/// The deeds on a patch; `parent` is where harmless keys may be written.
fn edit(config: &Config, edits: &Patch, parent: &str) {
    match config.deed {
        Deed::SetName => edits.set("/name", "\"order\""),
        Deed::BadPointer => edits.set("no/leading/slash", "1"),
        Deed::BadHeader => edits.set_header("Content-Length", "0"),
        Deed::Huge => edits.set(&format!("{parent}/huge"), &huge(config.bytes)),
        Deed::OkThenTrap => {
            edits.set(&format!("{parent}/touched"), "true");
            panic!("guest says boom")
        }
        Deed::BadJson => edits.set(&format!("{parent}/broken"), "{not json"),
    }
}

/// A rewriter that asks for forbidden edits.
#[derive(Debug)]
pub struct Patcher;

impl Lifecycle for Patcher {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config = read_config(&json)?;
        CONFIG.set(config).map_err(|_| vec![ConfigError::new("", "configured twice")])
    }
}

impl Rewriting for Patcher {
    fn on_request(_call: &Call, edits: &Patch) -> Result<(), Refusal> {
        if let Some(config) = wanted(&Hook::Request) {
            edit(config, edits, "/arguments");
        }
        Ok(())
    }

    fn on_response(_call: &Call, _response: &Response, edits: &Patch) -> Result<(), Refusal> {
        if let Some(config) = wanted(&Hook::Response) {
            edit(config, edits, "");
        }
        Ok(())
    }

    fn on_catalog(entries: &Catalog) -> Result<(), Refusal> {
        let Some(config) = wanted(&Hook::Catalog) else { return Ok(()) };
        match config.deed {
            Deed::SetName => entries.set(0, "/name", "\"order\""),
            Deed::BadPointer => entries.set(0, "no/leading/slash", "1"),
            // A list has no headers; an entry that does not exist is the nearest mistake.
            Deed::BadHeader => entries.hide(u32::MAX),
            Deed::Huge => entries.set(0, "/description", &huge(config.bytes)),
            Deed::OkThenTrap => {
                entries.hide(0);
                panic!("guest says boom")
            }
            Deed::BadJson => entries.set(0, "/description", "{not json"),
        }
        Ok(())
    }
}

sentinel_plugin_sdk::export!(Patcher: rewriting);
