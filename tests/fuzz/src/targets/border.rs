//! What a plugin hands over: its results, and what it asks the host for. The input is the guest's memory where it answers from.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use sentinel_gateway::call::{About, Call, Credential, Json, Principal, Target, TargetKind};
use sentinel_gateway::config::{self, Bounds, Isolation, Limits, OnFailure, Stage};
use sentinel_gateway::plugin::{
    Auth, BackendResponse, Engine, Plugin, PluginError, Refusal, Row, Verdict, fuzz,
};
use sentinel_gateway::state::{Clock, Namespace, Quota, Store};
use sentinel_names::Names;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// The cell that the guest finds the input in.
const INPUT: &str = "in";
/// No input is longer, and the guest's memory has room for it.
const MAX: usize = 1 << 14;

/// A role of the contract, as a guest plays it: its stage and world, the handles it drops, and its hooks.
struct Part {
    stage: Stage,
    world: &'static str,
    resources: &'static [&'static str],
    /// The interface, the function, and how many numbers it takes, of which the first are handles of these resources.
    hooks: &'static [(&'static str, &'static str, usize, &'static [&'static str])],
}

const PARTS: [Part; 4] = [
    Part {
        stage: Stage::Guard,
        world: "guard",
        resources: &["call"],
        hooks: &[("admission", "check", 1, &["call"])],
    },
    Part {
        stage: Stage::Guard,
        world: "list-filter",
        resources: &["call"],
        hooks: &[("visibility", "visible", 3, &["call"])],
    },
    Part {
        stage: Stage::Authenticate,
        world: "authenticator",
        resources: &["request"],
        hooks: &[("authentication", "authenticate", 1, &["request"])],
    },
    Part {
        stage: Stage::Rewrite,
        world: "rewriter",
        resources: &["call", "response", "patch", "catalog"],
        hooks: &[
            ("rewriting", "on-request", 2, &["call", "patch"]),
            ("rewriting", "on-response", 3, &["call", "response", "patch"]),
            ("rewriting", "on-catalog", 1, &["catalog"]),
        ],
    },
];

/// The guest of a part. The first byte of its input says by bits what it does before it answers (1: it logs, 2: it counts, and
/// a rewriter edits, 4: it keeps its handles, 8: its result is anywhere, 16: it is not content with its configuration), and
/// the second where its result begins; numbers for all of that follow, and the results at 32.
fn text(part: &Part) -> String {
    let mut imports = String::new();
    for resource in part.resources {
        imports += &format!(
            "(import \"sentinel:plugin/view@0.1.0\" \"[resource-drop]{resource}\" (func $drop-{resource} (param i32)))"
        );
    }
    let mut edit = "";
    if part.world == "rewriter" {
        imports += "(import \"sentinel:plugin/view@0.1.0\" \"[method]patch.set\" (func $set (param i32 i32 i32 i32 i32)))";
        edit = "(call $set (local.get $patch) (i32.load (i32.const 4108)) (i32.load (i32.const 4112))
            (i32.load (i32.const 4100)) (i32.load (i32.const 4104)))";
    }
    let mut hooks = String::new();
    for (interface, name, numbers, handles) in part.hooks {
        let drops: String = handles
            .iter()
            .enumerate()
            .map(|(at, resource)| format!("(call $drop-{resource} (local.get {at}))"))
            .collect();
        let patch = handles.iter().position(|handle| *handle == "patch");
        let edit = patch.map_or_else(String::new, |at| {
            let edit = edit.replace("$patch", &at.to_string());
            format!("(if (i32.and (i32.load8_u (i32.const 4096)) (i32.const 2)) (then {edit}))")
        });
        hooks += &format!(
            "(func (export \"sentinel:plugin/{interface}@0.1.0#{name}\") (param {}) (result i32) (local $at i32)
                (local.set $at (call $answer)) {edit}
                (if (i32.eqz (i32.and (i32.load8_u (i32.const 4096)) (i32.const 4))) (then {drops}))
                (local.get $at))",
            "i32 ".repeat(*numbers)
        );
    }
    if part.world == "guard" {
        hooks += "(func (export \"sentinel:plugin/admission@0.1.0#settle\") (param i32 i64 i32 i64)
            (call $drop-call (local.get 0)))";
    }
    format!(
        "(module {imports}
            (import \"sentinel:plugin/log@0.1.0\" \"emit\" (func $emit (param i32 i32 i32)))
            (import \"sentinel:plugin/counters@0.1.0\" \"window-add\" (func $add (param i32 i32 i32 i32 i32)))
            (import \"sentinel:plugin/cells@0.1.0\" \"get\" (func $get (param i32 i32 i32)))
            (memory (export \"memory\") 2)
            (global $heap (mut i32) (i32.const 40960))
            (global $want (mut i32) (i32.const 0))
            (data (i32.const 1024) \"{INPUT}, and more words of the guest\")
            (func (export \"cabi_realloc\") (param i32 i32 i32) (param $size i32) (result i32) (local $at i32)
                (if (result i32) (global.get $want)
                    (then (global.set $want (i32.const 0)) (i32.const 4096))
                    (else
                        (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                        (global.set $heap (i32.add (local.get $at) (local.get $size)))
                        (local.get $at))))
            (func $answer (result i32)
                (global.set $heap (i32.const 40960))
                (memory.fill (i32.const 4096) (i32.const 0) (i32.const {MAX}))
                (global.set $want (i32.const 1))
                (call $get (i32.const 1024) (i32.const {}) (i32.const 600))
                (global.set $want (i32.const 0))
                (if (i32.and (i32.load8_u (i32.const 4096)) (i32.const 1))
                    (then (call $emit (i32.load8_u (i32.const 4098)) (i32.load (i32.const 4100)) (i32.load (i32.const 4104)))))
                (if (i32.and (i32.load8_u (i32.const 4096)) (i32.const 2))
                    (then (call $add (i32.load (i32.const 4108)) (i32.load (i32.const 4112)) (i32.const 1)
                        (i32.load (i32.const 4116)) (i32.load (i32.const 4120)))))
                (if (result i32) (i32.and (i32.load8_u (i32.const 4096)) (i32.const 8))
                    (then (i32.load (i32.const 4124)))
                    (else (i32.add (i32.const 4128) (i32.and (i32.load8_u (i32.const 4097)) (i32.const 0xf8))))))
            (func (export \"sentinel:plugin/lifecycle@0.1.0#configure\") (param i32 i32) (result i32) (local $at i32)
                (local.set $at (call $answer))
                (if (result i32) (i32.and (i32.load8_u (i32.const 4096)) (i32.const 16))
                    (then (local.get $at)) (else (i32.const 512))))
            {hooks})",
        INPUT.len(),
    )
}

fn component(part: &Part) -> Vec<u8> {
    let mut module = wat::parse_str(text(part)).unwrap_or_else(|error| panic!("{error}"));
    let mut resolve = wit_parser::Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/0.1");
    let (package, _) = resolve.push_dir(contract).unwrap();
    let world = resolve.select_world(&[package], Some(part.world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// One plugin for each part, and where each finds its input.
struct Guests {
    plugins: Vec<(Plugin, Namespace)>,
    clock: Clock,
    call: Arc<Call>,
    credential: Arc<Credential>,
}

/// Its instances are used again until they fail; what an input left behind is cleared before the next.
fn settings(part: &Part) -> config::Plugin {
    config::Plugin {
        name: part.world.to_owned(),
        stage: part.stage,
        wasm: None,
        sha256: None,
        on_failure: OnFailure::Deny,
        secrets: Vec::new(),
        grants: Vec::new(),
        http: None,
        isolation: Isolation::Shared,
        // Steps are its limit: a machine that is busy is no finding.
        limits: Limits { deadline_ms: 60_000, log_lines: 4, ..Limits::default() },
        config: serde_json::json!({}),
        artifact: "",
        section: "plugins".to_owned(),
    }
}

fn guests() -> &'static Guests {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let (engine, store, clock) = (Engine::bounded(Bounds::Checked).unwrap(), Store::new(), Clock::real());
        let folder = tempfile::tempdir().unwrap();
        let load = |part: &Part| {
            let path = folder.path().join(part.world).with_extension("wasm");
            std::fs::write(&path, component(part)).unwrap();
            fuzz::compile(&engine, Bounds::Checked, &path).unwrap();
            let plugin = Plugin::load(&engine, &path, &settings(part), &store, &clock);
            let quota = Quota { keys: 1_000, bytes: 1 << 20 };
            (
                plugin.unwrap_or_else(|error| panic!("{}: {error:?}", part.world)),
                store.namespace(part.world, quota),
            )
        };
        let plugins = PARTS.iter().map(load).collect();
        Guests { plugins, clock, call: call(), credential: Arc::new(credential()) }
    })
}

fn call() -> Arc<Call> {
    Arc::new(Call {
        id: "1".to_owned(),
        method: "tools/call".to_owned(),
        target: Target {
            kind: TargetKind::Tool,
            name: "t".into(),
            backend: "b".into(),
            upstream: "t".into(),
        },
        principal: Arc::new(Principal {
            subject: "s".to_owned(),
            role: "r".to_owned(),
            issuer: None,
            audience: None,
            token_id: None,
            expires_at: None,
            claims: Vec::new(),
        }),
        params: Json::from(r#"{"name":"t","arguments":{"a":1}}"#.to_owned()),
        session: "session".into(),
        door: "stdio",
        about: About::default(),
    })
}

fn credential() -> Credential {
    Credential { door: "http", bearer: Some("token".to_owned()), attrs: Vec::new() }
}

/// The first byte chooses the part; the rest is what its guest has in its memory.
///
/// # Panics
/// An answer came across that is larger than what may come across, or the plugin did not answer any more.
pub(crate) fn crossing(data: &[u8]) {
    let Some((which, input)) = data.split_first() else { return };
    let guests = guests();
    let at = usize::from(*which) % PARTS.len();
    guests.hand(at, &input[..input.len().min(MAX)]);
    // Whatever comes of it is a value.
    if guests.ask(at).is_err() {
        // The next input is answered as if nothing had been: all zeros are a good answer of every part.
        guests.hand(at, &[]);
        let after = guests.ask(at);
        assert!(after.is_ok(), "{}: {after:?}", PARTS[at].world);
    }
}

impl Guests {
    fn hand(&self, at: usize, input: &[u8]) {
        let (cells, now) = (&self.plugins[at].1, self.clock.now_ns());
        let version = cells.cell_get(INPUT, now).unwrap().map_or(0, |(_, version)| version);
        cells.cell_swap(INPUT, version, input, u32::MAX, now).unwrap();
    }

    fn ask(&self, at: usize) -> Result<(), PluginError> {
        let plugin = &self.plugins[at].0;
        match PARTS[at].world {
            "guard" => match plugin.check(&self.call)? {
                Ok(Verdict::Allow(_)) => {}
                Ok(Verdict::Ask(request)) => {
                    let details = request.details.iter().map(|(name, value)| name.len() + value.len());
                    let roles =
                        request.thresholds.iter().flat_map(|threshold| &threshold.roles).map(String::len);
                    let names = request.thresholds.iter().map(|threshold| threshold.name.len());
                    let texts = request.reason.len() + request.summary.len();
                    let length = texts + details.sum::<usize>() + roles.sum::<usize>() + names.sum::<usize>();
                    assert!(length <= Limits::default().host_bytes, "{length} bytes came across");
                    assert!(
                        request
                            .thresholds
                            .iter()
                            .all(|threshold| threshold.approve > 0 && threshold.deny > 0)
                    );
                }
                Err(refusal) => bounded(Some(&refusal)),
            },
            "list-filter" => {
                let names = Names { shown: "t", own: "t", backend: "b" };
                let rows = [(); 3].map(|()| Row { kind: TargetKind::Tool, names });
                // Nothing at all is no answer for three rows, and a fault like any other that a guest makes.
                if let Ok(visible) = plugin.visible(&self.call, &rows) {
                    assert_eq!(visible.len(), rows.len());
                }
            }
            "authenticator" => match plugin.authenticate(&self.credential)? {
                Ok(Auth::Accepted { principal, .. }) => {
                    let claims = principal.claims.iter().map(|(name, value)| name.len() + value.len());
                    let length = principal.subject.len() + principal.role.len() + claims.sum::<usize>();
                    assert!(length <= Limits::default().host_bytes, "{length} bytes came across");
                }
                Ok(Auth::Abstain) => {}
                Err(refusal) => bounded(Some(&refusal)),
            },
            _ => {
                bounded(plugin.on_request(&self.call)?.err().as_ref());
                let answer =
                    BackendResponse { is_error: false, error_code: None, result: r#"{"a":1}"#.into() };
                bounded(plugin.on_response(&self.call, answer)?.err().as_ref());
                let offers: Arc<[_]> = Arc::from(Vec::new());
                bounded(plugin.on_catalog(&"b".into(), TargetKind::Tool, &offers)?.err().as_ref());
            }
        }
        Ok(())
    }
}

fn bounded(refusal: Option<&Refusal>) {
    let Some(refusal) = refusal else { return };
    let details = refusal.details.iter().map(|(name, value)| name.len() + value.len());
    let length = refusal.reason.len() + refusal.message.len() + details.sum::<usize>();
    assert!(length <= Limits::default().host_bytes, "{length} bytes came across");
}
