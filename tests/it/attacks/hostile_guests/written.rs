//! A guard in WebAssembly text whose parts are replaced one at a time. The parts that are not are well behaved.

use std::path::{Path, PathBuf};

use sentinel_gateway::config::Bounds;
use sentinel_gateway::plugin::Engine;
use sentinel_gateway::state::Clock;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::*;

/// Where the guest keeps what it says; the heap begins behind it.
pub(crate) const WORDS: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct Written {
    world: &'static str,
    /// Bodies of functions.
    configure: String,
    after_configure: String,
    check: String,
    after_check: String,
    settle: String,
    /// Of a rewriter: what it does to a list.
    catalog: String,
    realloc: String,
    /// The memory that the host knows.
    memory: String,
    /// Further fields of the module.
    more: String,
    role: &'static str,
    /// What is written in the contract that it is made for, in the place of what.
    contract: Option<(&'static str, &'static str)>,
    pub(crate) settings: sentinel_gateway::config::Plugin,
}

/// A guard that lets everything pass. Its results are zeros: `ok`, and no permit.
pub(crate) fn guard() -> Written {
    Written {
        world: "guard",
        configure: "(i32.const 512)".to_owned(),
        after_configure: String::new(),
        check: "(call $drop (local.get $call)) (i32.const 512)".to_owned(),
        after_check: String::new(),
        settle: "(call $drop (local.get $call))".to_owned(),
        catalog: "(call $drop-catalog (local.get $catalog)) (i32.const 512)".to_owned(),
        realloc: "(local $at i32)
            (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
            (global.set $heap (i32.add (local.get $at) (local.get $size)))
            (local.get $at)"
            .to_owned(),
        memory: "2".to_owned(),
        more: String::new(),
        role: "admission",
        contract: None,
        settings: guard_settings("written"),
    }
}

/// A filter of lists, whose parameters are lists and whose result is one.
pub(crate) fn list_filter() -> Written {
    Written {
        world: "list-filter",
        role: "visibility",
        check: "(call $drop (local.get $call)) (i32.const 512)".to_owned(),
        settings: settings("written", Stage::Guard, json!({})),
        ..guard()
    }
}

/// An authenticator that knows nobody.
pub(crate) fn authenticator() -> Written {
    Written {
        world: "authenticator",
        role: "authentication",
        check: "(call $drop-request (local.get $request)) (i32.const 512)".to_owned(),
        settings: settings("written", Stage::Authenticate, json!({})),
        ..guard()
    }
}

/// A rewriter that changes nothing. What it does to requests is its check.
pub(crate) fn rewriter() -> Written {
    Written {
        world: "rewriter",
        role: "rewriting",
        check: "(call $drop (local.get $call)) (call $drop-patch (local.get $patch)) (i32.const 512)"
            .to_owned(),
        settings: settings("written", Stage::Rewrite, json!({})),
        ..guard()
    }
}

macro_rules! parts {
    ($($part:ident)*) => {
        $(pub(crate) fn $part(mut self, text: &str) -> Self {
            self.$part = text.to_owned();
            self
        })*
    };
}

impl Written {
    parts! { configure after_configure check after_check catalog realloc memory more }

    pub(crate) fn settings(mut self, change: impl FnOnce(&mut sentinel_gateway::config::Plugin)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Made for a contract that differs in this.
    pub(crate) fn contract(mut self, ours: &'static str, theirs: &'static str) -> Self {
        self.contract = Some((ours, theirs));
        self
    }

    fn text(&self) -> String {
        let Self { configure, after_configure, check, after_check, settle, realloc, memory, more, .. } = self;
        let catalog = &self.catalog;
        let imports = match self.role {
            "authentication" => "(import \"sentinel:plugin/view@0.1.0\" \"[resource-drop]request\" (func $drop-request (param i32)))",
            "rewriting" => {
                "(import \"sentinel:plugin/view@0.1.0\" \"[resource-drop]response\" (func $drop-response (param i32)))
                (import \"sentinel:plugin/view@0.1.0\" \"[resource-drop]patch\" (func $drop-patch (param i32)))
                (import \"sentinel:plugin/view@0.1.0\" \"[resource-drop]catalog\" (func $drop-catalog (param i32)))
                (import \"sentinel:plugin/view@0.1.0\" \"[method]patch.set\" (func $set (param i32 i32 i32 i32 i32)))
                (import \"sentinel:plugin/view@0.1.0\" \"[method]catalog.hide\" (func $hide (param i32 i32)))
                (import \"sentinel:plugin/view@0.1.0\" \"[method]catalog.rename\" (func $rename (param i32 i32 i32 i32)))"
            }
            _ => "",
        };
        let asked = match self.role {
            "visibility" => format!(
                "(func (export \"sentinel:plugin/visibility@0.1.0#visible\")
                    (param $call i32) (param $entries i32) (param $count i32) (result i32) {check})
                (func (export \"cabi_post_sentinel:plugin/visibility@0.1.0#visible\") (param i32) {after_check})"
            ),
            "authentication" => format!(
                "(func (export \"sentinel:plugin/authentication@0.1.0#authenticate\") (param $request i32) (result i32) {check})
                (func (export \"cabi_post_sentinel:plugin/authentication@0.1.0#authenticate\") (param i32) {after_check})"
            ),
            "rewriting" => format!(
                "(func (export \"sentinel:plugin/rewriting@0.1.0#on-request\") (param $call i32) (param $patch i32) (result i32) {check})
                (func (export \"cabi_post_sentinel:plugin/rewriting@0.1.0#on-request\") (param i32) {after_check})
                (func (export \"sentinel:plugin/rewriting@0.1.0#on-response\")
                    (param $call i32) (param $response i32) (param $patch i32) (result i32)
                    (call $drop (local.get $call)) (call $drop-response (local.get $response))
                    (call $drop-patch (local.get $patch)) (i32.const 512))
                (func (export \"sentinel:plugin/rewriting@0.1.0#on-catalog\") (param $catalog i32) (result i32) {catalog})"
            ),
            _ => format!(
                "(func (export \"sentinel:plugin/admission@0.1.0#check\") (param $call i32) (result i32) {check})
                (func (export \"cabi_post_sentinel:plugin/admission@0.1.0#check\") (param i32) {after_check})
                (func (export \"sentinel:plugin/admission@0.1.0#settle\")
                    (param $call i32) (param i64) (param i32) (param i64) {settle})"
            ),
        };
        format!(
            "(module {imports}
                (import \"sentinel:plugin/view@0.1.0\" \"[resource-drop]call\" (func $drop (param i32)))
                (import \"sentinel:plugin/view@0.1.0\" \"[method]call.name\" (func $name (param i32 i32)))
                (import \"sentinel:plugin/log@0.1.0\" \"emit\" (func $emit (param i32 i32 i32)))
                (import \"sentinel:plugin/counters@0.1.0\" \"window-add\"
                    (func $add (param i32 i32 i32 i32 i32)))
                (memory (export \"memory\") {memory})
                (global $heap (mut i32) (i32.const 8192))
                (global $calls (mut i32) (i32.const 0))
                (data (i32.const {WORDS}) \"words of the guest\")
                (func $realloc (export \"cabi_realloc\")
                    (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32) {realloc})
                (func (export \"sentinel:plugin/lifecycle@0.1.0#configure\") (param i32 i32) (result i32) {configure})
                (func (export \"cabi_post_sentinel:plugin/lifecycle@0.1.0#configure\") (param i32) {after_configure})
                {asked}
                {more})"
        )
    }

    fn component(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}"));
        let mut resolve = wit_parser::Resolve::default();
        let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/0.1");
        let copy = tempfile::tempdir().unwrap();
        let contract = match self.contract {
            None => contract,
            Some((ours, theirs)) => {
                for file in ["types.wit", "host.wit", "roles.wit"] {
                    let text = std::fs::read_to_string(contract.join(file)).unwrap();
                    std::fs::write(copy.path().join(file), text.replace(ours, theirs)).unwrap();
                }
                copy.path().to_owned()
            }
        };
        let (package, _) = resolve.push_dir(contract).unwrap();
        let world = resolve.select_world(&[package], Some(self.world)).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }

    /// Writes it where a gateway can find it.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name).with_extension("wasm");
        std::fs::write(&path, self.component()).unwrap();
        path
    }

    pub(crate) fn load(&self) -> Result<Plugin, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        load_from(&self.write(dir.path(), "written"), &self.settings, &Store::new())
    }

    /// With memories kept apart by checks, where a module may have several.
    pub(crate) fn load_checked(&self) -> Result<Plugin, LoadError> {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        let engine = ENGINE.get_or_init(|| Engine::bounded(Bounds::Checked).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = self.write(dir.path(), "written");
        Plugin::load(engine, &path, &self.settings, &Store::new(), &Clock::real())
    }

    pub(crate) fn loaded(&self, name: &str) -> Arc<Plugin> {
        Arc::new(self.load().unwrap_or_else(|error| panic!("{name}: {error}")))
    }
}

/// A component that was written whole.
pub(crate) fn whole(text: &str) -> Result<Plugin, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("written.wasm");
    std::fs::write(&path, wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    load_from(&path, &guard_settings("written"), &Store::new())
}
