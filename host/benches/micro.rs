//! What single steps cost: a plugin call, the chain of five, the envelope, the journal.
#![allow(clippy::unwrap_used, reason = "a bench that cannot set itself up should stop")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use divan::{Bencher, black_box};
use sentinel_gateway::app::plugins::{self, Loaded};
use sentinel_gateway::audit::{Audit, Closing, Entry, Settings, Status};
use sentinel_gateway::call::Json;
use sentinel_gateway::call::{About, Call, Credential, Outcome, Principal, Target, TargetKind};
use sentinel_gateway::config::{self, Config, Isolation};
use sentinel_gateway::mcp::catalog::{Catalog, List, Offer, Offers, Owners, Part, Standing};
use sentinel_gateway::mcp::schema::ArgumentSchema;
use sentinel_gateway::mcp::{envelope, message, splice};
use sentinel_gateway::plugin::{Engine, Plugin, Verdict};
use sentinel_gateway::policy::{Caller, KillSwitch, Policy};
use sentinel_gateway::redact::{Redaction, Secrets};
use sentinel_gateway::state::{Clock, Store};

fn main() {
    divan::main();
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const CONFIG: &str = r#"
[auth]
[rate_limits]
default_rpm = 1000000000
[rbac.roles.admin]
permissions = ["*"]
[[backends]]
name = "echo"
type = "stdio"
command = "true"
[[backends.rewrite.arguments]]
default = "/limit"
value = 10
"#;

struct Bench {
    config: Config,
    policy: Policy,
    loaded: Loaded,
    caller: Caller,
    schema: ArgumentSchema,
    call: Arc<Call>,
}

/// The plugins that were built with this.
fn folder() -> PathBuf {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(profile).join("plugins")
}

fn token() -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let claims = serde_json::json!({
        "sub": "bench", "role": "admin", "iss": "sentinel-gateway", "aud": "sentinel-api", "iat": now, "exp": now + 3600
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let token = token();
    let env = |name: &str| match name {
        "JWT_SECRET_KEY" => Some(SECRET.to_owned()),
        "SENTINEL_TOKEN" => Some(token.clone()),
        "HOME" => Some("/tmp".to_owned()),
        _ => None,
    };
    let mut config = config::parse(CONFIG, Path::new("bench.toml"), &env).unwrap();
    config.gateway.plugin_dir = Some(folder());
    let (store, clock) = (Store::new(), Clock::real());
    let loaded = plugins::load(&config, &store, &clock).unwrap();
    let policy = Policy::new(loaded.chain.clone(), KillSwitch::new(&config.kill_switch), clock);
    let caller = Caller::new(Credential { door: "stdio", bearer: Some(token), attrs: Vec::new() });
    let principal = policy.identify(&caller).unwrap();
    let name: Arc<str> = "echo".into();
    let target = Target { kind: TargetKind::Tool, name: name.clone(), backend: name.clone(), upstream: name };
    let params = Json::from(r#"{"name":"echo","arguments":{"text":"hello hello hello hello hello hello"}}"#);
    let call = Arc::new(Call {
        id: "bench-1".to_owned(),
        method: "tools/call".to_owned(),
        target,
        principal,
        params,
        session: "bench".into(),
        door: "stdio",
        about: About::default(),
    });
    let schema = message::raw(
        r#"{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}"#.to_owned(),
    );
    Bench { config, policy, loaded, caller, schema: ArgumentSchema::new(Some(schema)), call }
});

fn plugin(name: &str) -> Arc<Plugin> {
    BENCH.loaded.chain.plugins().find(|plugin| plugin.name() == name).unwrap().clone()
}

/// By another caller each time, so that no answer is known.
#[divan::bench(args = ["rate-limit", "rbac"])]
fn plugin_call_warm(bencher: Bencher<'_, '_>, name: &str) {
    let plugin = plugin(name);
    let anew = || {
        let principal = Arc::new(Principal::clone(&BENCH.call.principal));
        Arc::new(Call { principal, ..Call::clone(&BENCH.call) })
    };
    bencher.with_inputs(anew).bench_local_refs(|call| plugin.check(black_box(call)).unwrap().unwrap());
}

#[divan::bench]
fn plugin_call_known_rbac(bencher: Bencher<'_, '_>) {
    let plugin = plugin("rbac");
    bencher.bench_local(|| plugin.check(black_box(&BENCH.call)).unwrap().unwrap());
}

#[divan::bench]
fn plugin_call_warm_breaker_check_and_settle(bencher: Bencher<'_, '_>) {
    let plugin = plugin("circuit-breaker");
    bencher.bench_local(|| {
        let Verdict::Allow(Some(permit)) = plugin.check(&BENCH.call).unwrap().unwrap() else {
            panic!("the breaker gave no permit");
        };
        plugin.settle(&BENCH.call, permit, Outcome::Success, Duration::from_micros(50)).unwrap();
    });
}

#[divan::bench]
fn plugin_call_fresh_instance(bencher: Bencher<'_, '_>) {
    let mut settings = BENCH.config.plugins.iter().find(|plugin| plugin.name == "rbac").unwrap().clone();
    settings.isolation = Isolation::Call;
    let wasm = BENCH.config.gateway.plugin_dir.as_ref().unwrap().join("rbac.wasm");
    let engine = Engine::new().unwrap();
    let plugin = Plugin::load(&engine, &wasm, &settings, &Store::new(), &Clock::real()).unwrap();
    bencher.bench_local(|| plugin.check(black_box(&BENCH.call)).unwrap().unwrap());
}

#[divan::bench]
fn chain_of_five_with_schema_check(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        let bench = &*BENCH;
        bench.policy.identify(&bench.caller).unwrap();
        let permitted = bench.policy.decide(&bench.call, Some(&bench.schema)).unwrap();
        let prepared = bench.loaded.rewriters.request(&permitted).unwrap();
        permitted.settle(Outcome::Success, Duration::from_micros(50));
        prepared
    });
}

#[divan::bench]
fn caller_known(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| BENCH.policy.identify(black_box(&BENCH.caller)).unwrap());
}

#[divan::bench]
fn schema_check(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        BENCH.schema.check(black_box(Some(r#"{"text":"hello hello hello hello hello hello"}"#))).unwrap()
    });
}

#[divan::bench]
fn rewrite_of_a_request(bencher: Bencher<'_, '_>) {
    let permitted = BENCH.policy.decide(&BENCH.call, None).unwrap();
    bencher.bench_local(|| BENCH.loaded.rewriters.request(black_box(&permitted)).unwrap());
    permitted.settle(Outcome::Success, Duration::from_micros(50));
}

#[divan::bench(args = [100, 10_000, 1_000_000])]
fn envelope_parse(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
        "x".repeat(bytes)
    );
    bencher.bench_local(|| envelope::parse(black_box(text.as_bytes())).is_ok());
}

#[divan::bench(args = [100, 10_000, 1_000_000])]
fn splice_one_key(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = format!(r#"{{"name":"a","arguments":{{"text":"{}"}}}}"#, "x".repeat(bytes));
    let edit = [splice::Edit::Set { pointer: "/name".to_owned(), json: "\"b\"".to_owned() }];
    bencher.bench_local(|| splice::apply(black_box(&text), &edit).unwrap());
}

#[divan::bench(args = [10, 1_000, 10_000])]
fn catalog_lookup(bencher: Bencher<'_, '_>, tools: usize) {
    let offer = |index: usize| Offer {
        name: format!("tool_{index}"),
        upstream: format!("tool_{index}"),
        item: message::raw(format!(r#"{{"name":"tool_{index}","inputSchema":{{"type":"object"}}}}"#)),
    };
    let offers = Offers { tools: (0..tools).map(offer).collect(), ..Offers::default() };
    let backend: Arc<str> = "echo".into();
    let part = Part { backend: &backend, always_prefix: false, standing: Standing::Listed, offers: &offers };
    let catalog = Catalog::merge(&[part], true, &mut Owners::default());
    let names: Vec<String> = (0..1_000).map(|nth| format!("tool_{}", nth * 7_919 % tools)).collect();
    let mut next = names.iter().cycle();
    bencher.bench_local(|| catalog.find(List::Tools, black_box(next.next().unwrap())).unwrap());
}

#[divan::bench]
fn audit_intent_and_outcome(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        redaction: Redaction::new(&Secrets { values: vec![SECRET.to_owned()], ..Secrets::default() }),
        max_journal_bytes: 1 << 40,
        ..Settings::new(folder.path().join("state"))
    };
    let audit = runtime.block_on(Audit::open(settings)).unwrap();
    let entry = Entry {
        rpc_id: "7",
        method: "tools/call",
        subject: "bench",
        role: "admin",
        kind: "tool",
        tool: "echo",
        backend: "echo",
        session: "bench",
        arguments: r#"{"text":"hello hello hello hello hello hello"}"#,
        sent: None,
        generation: 1,
    };
    let closing =
        Closing { status: Status::Success, error: None, latency: Duration::from_micros(50), notes: &[] };
    bencher.bench_local(|| {
        runtime.block_on(async {
            let id = audit.next_id();
            audit.intent(id, &entry).await.unwrap();
            audit.outcome(id, &closing).await.unwrap();
        });
    });
}
