//! What a call costs in allocations, from the line of the client to the line of the answer, with all five plugins and the
//! record: a number that is the same on every machine, where a time is not.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sentinel_gateway::app::plugins;
use sentinel_gateway::audit::{Audit, Settings};
use sentinel_gateway::backend::{Common, Registry};
use sentinel_gateway::call::Credential;
use sentinel_gateway::config;
use sentinel_gateway::door::mcp::conversation::{Conversation, Endpoint};
use sentinel_gateway::door::mcp::line::{self, Out, Outbox};
use sentinel_gateway::door::mcp::subscribers::Subscribers;
use sentinel_gateway::door::mcp::suspend::SuspendedCalls;
use sentinel_gateway::pipeline::{Caller, Pipeline};
use sentinel_gateway::policy::{KillSwitch, Policy};
use sentinel_gateway::redact::{Redaction, Secrets};
use sentinel_gateway::session::Session;
use sentinel_gateway::state::{Clock, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{SECRET, fixture, mint, target};

/// Calls that are counted one by one. The smallest number counts: what goes on in the background (a batch of records, a
/// list that is read again) may fall into some of them.
const CALLS: usize = 60;

/// A gateway within this process and on this thread, spoken to as a line of stdio.
struct Inside {
    runtime: tokio::runtime::Runtime,
    conversation: Arc<Conversation>,
    out: Out,
    answers: Outbox,
    _events: mpsc::Receiver<sentinel_gateway::backend::ListChanged>,
    _folder: tempfile::TempDir,
}

impl Inside {
    fn start(recorded: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[gateway]\nhealth_listen = \"off\"\nplugin_dir = {:?}\n[auth]\nmode = \"jwt\"\n\
             [rate_limits]\ndefault_rpm = 1000000000\n[rbac.roles.admin]\npermissions = [\"*\"]\n\
             [[backends]]\nname = \"echo\"\ntype = \"stdio\"\ncommand = {:?}\nargs = [\"stdio\"]\n\
             [[backends.rewrite.arguments]]\ndefault = \"/limit\"\nvalue = 10\n",
            target().join("debug/plugins"),
            fixture(),
        );
        let token = mint("ann", "admin", 3600);
        let home = folder.path().to_string_lossy().into_owned();
        let env = |name: &str| match name {
            "JWT_SECRET_KEY" => Some(SECRET.to_owned()),
            "SENTINEL_TOKEN" => Some(token.clone()),
            "HOME" | "XDG_STATE_HOME" => Some(home.clone()),
            _ => None,
        };
        let config = config::parse(&text, Path::new("inside.toml"), &env).unwrap();
        let (store, clock) = (Store::new(), Clock::real());
        let loaded = plugins::load(&config, &store, &clock).unwrap();
        let policy = Policy::new(loaded.chain, KillSwitch::new(&config.kill_switch), clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let common = Common {
            max_message: 4 << 20,
            spool: None,
            redaction: Redaction::default(),
            safe_names: true,
            memory: std::sync::Arc::default(),
            first_lists: std::time::Duration::from_secs(8),
        };
        let rewriters = Arc::new(loaded.rewriters);
        let reshape = rewriters.clone();
        let (registry, events) = Registry::start(
            &config.backends,
            common,
            Arc::new(move |backend, list, offers| reshape.catalog(backend, list, offers)),
        );
        let settings = Settings {
            redaction: Redaction::new(&Secrets { values: vec![SECRET.to_owned()], ..Secrets::default() }),
            ..Settings::new(folder.path().join("state"))
        };
        let audit =
            if recorded { runtime.block_on(Audit::open(settings)).unwrap() } else { Audit::disabled() };
        let pipeline = Pipeline::new(Arc::new(policy), rewriters, registry, audit);
        let endpoint = Endpoint {
            pipeline: Arc::new(pipeline),
            subscribers: Subscribers::new(tokio::sync::mpsc::channel(1).0),
            suspended: SuspendedCalls::new().unwrap(),
            door: "stdio",
            sole: true,
            stopping: CancellationToken::new(),
        };
        let credential = Credential { door: "stdio", bearer: Some(token), attrs: Vec::new() };
        let caller = Arc::new(Caller::new(credential));
        let (sender, answers) = line::stream(&caller);
        let out = Out::new(sender, caller);
        let conversation = Conversation::new(endpoint, Session::new("inside", 16));
        drop(entered);
        let mut inside = Self { runtime, conversation, out, answers, _events: events, _folder: folder };
        let greeting = inside.ask(
            "initialize",
            r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#,
        );
        assert!(greeting.contains("sentinel-gateway"), "{greeting}");
        inside
    }

    /// One request and its answer.
    fn ask(&mut self, method: &str, params: &str) -> String {
        let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#);
        let answer = self.exchange(&Bytes::from(line));
        String::from_utf8(answer.to_vec()).unwrap()
    }

    fn exchange(&mut self, line: &Bytes) -> Bytes {
        let Self { runtime, conversation, out, answers, .. } = self;
        runtime.block_on(async {
            conversation.receive(line, out).await;
            answers.recv().await.unwrap().into_message().text().clone()
        })
    }

    /// The fewest allocations of a call with a text of so many bytes.
    fn count(&mut self, bytes: usize) -> u64 {
        self.count_with(bytes, "")
    }

    /// The same with further members of the params.
    fn count_with(&mut self, bytes: usize, more: &str) -> u64 {
        let text = "x".repeat(bytes);
        let params = format!(r#"{{"name":"echo","arguments":{{"text":"{text}"}}{more}}}"#);
        let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#);
        let line = Bytes::from(line);
        for _ in 0..20 {
            let answer = self.exchange(&line);
            assert!(String::from_utf8_lossy(&answer).contains(&text), "{answer:?}");
        }
        let counts = (0..CALLS).map(|_| {
            let mut answer = Bytes::new();
            let info = allocation_counter::measure(|| answer = self.exchange(&line));
            assert!(answer.len() > bytes, "every answer counts");
            info.count_total
        });
        counts.min().unwrap()
    }
}

/// The limits are what was measured, so a change that adds an allocation to every call has to change them, too.
#[test]
fn a_call_allocates_so_often_and_no_more() {
    let (mut bare, mut recorded) = (Inside::start(false), Inside::start(true));
    let found = [bare.count(100), recorded.count(100), recorded.count(10_000)];
    eprintln!(
        "allocations per call: without a record {}, with it {}, with 10 kB {}",
        found[0], found[1], found[2]
    );
    for (count, limit) in found.into_iter().zip(LIMITS) {
        assert!(count > 0 && count <= limit, "{found:?} allocations, the limits are {LIMITS:?}");
    }
    // What is not traced costs the same where others are as where none is.
    spans_on_demand(&recorded);
    let off = recorded.count(100);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let on = recorded.count_with(100, &format!(r#","_meta":{{"traceparent":"{parent}"}}"#));
    eprintln!("allocations per call: {off} without spans while others have some, {on} with spans");
    assert!(off <= found[1] + 1, "{off} allocations of a call without spans, {} before", found[1]);
    assert!(on > off && on < off + 200, "{on} allocations of a call with spans, {off} without");
}

/// Spans are made while this process runs, of no call that a client has not asked them for.
fn spans_on_demand(inside: &Inside) {
    let settings = sentinel_gateway::telemetry::otlp::Settings {
        // Nobody is there, so what is made is lost.
        endpoint: "http://127.0.0.1:9".to_owned(),
        headers: axum::http::HeaderMap::new(),
        ca: None,
        traces: true,
        metrics: false,
        sample_ratio: 0.0,
        clients_decide: true,
        timeout: std::time::Duration::from_secs(1),
        metrics_interval: std::time::Duration::from_secs(60),
        max_queue_bytes: 1 << 20,
        attributes: Vec::new(),
    };
    let _entered = inside.runtime.enter();
    sentinel_gateway::telemetry::watch(Some(&settings), &Redaction::default()).unwrap();
}

/// Without a record, with one, and that with 10 kB. The rewriter changes the arguments; they are judged once, as the server gets
/// them.
const LIMITS: [u64; 3] = [58, 58, 61];
