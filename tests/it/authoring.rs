//! A plugin needs nothing of this repository but the WIT: the same source, built by `cargo component` and by plain
//! cargo for `wasm32-wasip2`, loads and decides. Both import WASI, so both need it asked for and granted.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use sentinel_gateway::config;
use sentinel_gateway::plugin::Verdict;
use sentinel_gateway::state::Store;

use crate::guests::{alone, artifact, call, guard_settings, load_from, missing};

/// The two ways to build it, by the names that `cargo xtask test` gives the artifacts.
const BUILDS: [&str; 2] = ["component-cargo-component", "component-wasip2"];
const MANIFEST: &str = "name = \"forbidden\"\n\n[request]\nwasi = true\n";

fn settings(grants: &[&str]) -> config::Plugin {
    let mut settings = guard_settings("forbidden");
    settings.grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
    settings
}

#[test]
fn a_plugin_of_the_component_ecosystem_loads_and_decides() {
    for build in BUILDS {
        let (_dir, wasm) = alone(&artifact(build, "cargo xtask test"), Some(MANIFEST));
        let plugin = load_from(&wasm, &settings(&["wasi"]), &Store::new()).unwrap();
        let refusal = plugin.check(&call("forbidden_x")).unwrap().unwrap_err();
        assert_eq!(refusal.reason, "forbidden", "{build}");
        assert_eq!(refusal.message, "The tool forbidden_x is forbidden.", "{build}");
        assert_eq!(plugin.check(&call("order")).unwrap().unwrap(), Verdict::Allow(None), "{build}");
    }
}

#[test]
fn wasi_needs_the_manifest_and_the_grant() {
    for build in BUILDS {
        let (_dir, wasm) = alone(&artifact(build, "cargo xtask test"), None);
        let (interface, who, _) = missing(load_from(&wasm, &settings(&["wasi"]), &Store::new()));
        assert!(interface.starts_with("wasi:"), "{build}: {interface}");
        assert_eq!(who, "its manifest does not ask for", "{build}");

        fs::write(wasm.with_extension("toml"), MANIFEST).unwrap();
        let (interface, who, fix) = missing(load_from(&wasm, &settings(&[]), &Store::new()));
        assert!(interface.starts_with("wasi:"), "{build}: {interface}");
        assert_eq!(who, "the configuration does not grant", "{build}");
        assert!(fix.contains("grants = [\"wasi\"]"), "{build}: {fix}");
    }
}
