//! Traces and metrics: what a collector gets, what servers are told of the trace, and that calls go on without either.

mod away;
mod collector;

use serde_json::{Value, json};

use self::collector::{Collector, Seen};
use crate::http_door::client::{Door, NEWEST, request, tool};
use crate::support::{Gateway, Setup, code, eventually, free_address, get, said};
use crate::world::web::Web;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A server that says what it was told in `_meta`, and fails in its own ways.
const SAYS: &str = r#"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("meta", "bad", "worse")]
def call(id, params):
    name = params["name"]
    if name == "bad": result(id, {"content": [], "isError": True})
    elif name == "worse": error(id, -32055, "the words of a server")
    else: text(id, json.dumps(params.get("_meta")))
"#;

fn start(more: &str) -> Gateway {
    let mut gateway = Gateway::start(Setup::new().scripted("srv", SAYS, "").more(more));
    gateway.await_tool("meta");
    gateway
}

fn call(gateway: &mut Gateway, name: &str, meta: &Value) -> Value {
    gateway
        .request("tools/call", &json!({"name": name, "arguments": {"x": "hidden-argument"}, "_meta": meta}))
}

/// What the server was told.
fn told(answer: &Value) -> Value {
    serde_json::from_str(said(answer)).unwrap()
}

fn of_calls(spans: &[Seen]) -> Vec<&Seen> {
    spans
        .iter()
        .filter(|span| span.name().starts_with("tools/call") && !span.said("sentinel.call.id").is_empty())
        .collect()
}

#[test]
fn a_call_is_one_trace() {
    let collector = Collector::start();
    let more = collector.section("attributes = { \"deployment.environment.name\" = \"test\" }");
    let mut gateway = start(&more);
    let meta =
        json!({"traceparent": traceparent("01"), "tracestate": "a=1", "baggage": "b=2", "progressToken": 7});
    let answer = call(&mut gateway, "meta", &meta);
    let told = told(&answer);
    gateway.end();
    let spans = collector.spans();
    let [whole] = of_calls(&spans)[..] else { panic!("{spans:#?}") };
    assert_eq!((whole.trace(), whole.parent()), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!(
        (whole.name(), whole.span.kind, whole.failed()),
        ("tools/call meta", 2, false),
        "kind: server"
    );
    assert_eq!(whole.span.trace_state, "a=1");
    for (key, value) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.tool.name", "meta"),
        ("gen_ai.operation.name", "execute_tool"),
        ("mcp.protocol.version", "2025-11-25"),
        ("network.transport", "pipe"),
        ("sentinel.backend", "srv"),
        ("error.type", ""),
    ] {
        assert_eq!(whole.said(key), value, "{key}: {whole:#?}");
    }
    assert!(whole.said("jsonrpc.request.id").parse::<u64>().is_ok());
    // Its parts: what plugins said, and what the server was asked.
    let parts: Vec<&Seen> = spans.iter().filter(|span| span.parent() == whole.id()).collect();
    assert!(parts.iter().all(|part| part.trace() == TRACE));
    for plugin in ["rate-limit", "rbac", "circuit-breaker"] {
        let name = format!("plugin {plugin} check");
        let part =
            parts.iter().find(|part| part.name() == name).unwrap_or_else(|| panic!("{name}: {spans:#?}"));
        assert_eq!(
            (part.said("sentinel.plugin.verdict"), part.span.kind),
            ("allow".to_owned(), 1),
            "kind: internal"
        );
    }
    let server = parts.iter().find(|part| part.span.kind == 3).expect("kind: client");
    assert_eq!((server.name(), server.said("network.transport")), ("tools/call meta", "pipe".to_owned()));
    assert!(server.span.end_time_unix_nano <= whole.span.end_time_unix_nano);
    assert!(server.span.start_time_unix_nano >= whole.span.start_time_unix_nano);
    // The server is told of the span that it is asked in; the rest of what the client said is there still.
    assert_eq!(told["traceparent"], format!("00-{TRACE}-{}-01", server.id()));
    assert_eq!((&told["tracestate"], &told["baggage"]), (&json!("a=1"), &json!("b=2")));
    assert!(told["progressToken"].is_number());
    // A list is a trace, too.
    let list = spans.iter().find(|span| span.name() == "tools/list" && span.span.kind == 2).unwrap();
    assert!(list.parent().is_empty() && spans.iter().any(|span| span.name() == "plugin rbac visible"));
    // Who sends, and what is in none of it.
    let resource = |key: &str| whole.resource.iter().find(|(name, _)| name == key).unwrap().1.clone();
    assert_eq!(resource("service.name"), "sentinel-gateway");
    assert_eq!(resource("deployment.environment.name"), "test");
    for taken in collector.taken() {
        assert_eq!(taken.headers["content-type"], "application/x-protobuf");
        assert!(!String::from_utf8_lossy(&taken.body).contains("hidden-argument"));
    }
    // The record has the same name for the call.
    let ids: Vec<String> =
        gateway.audit().iter().map(|row| row["request_id"].as_str().unwrap_or("").to_owned()).collect();
    assert!(ids.contains(&whole.said("sentinel.call.id")), "{ids:?} {whole:?}");
}

#[test]
fn a_call_that_fails_says_why() {
    let collector = Collector::start();
    let setup = Setup::new().scripted("srv", SAYS, "").more(&collector.section(""));
    let setup = setup.roles("[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [\"meta\"]");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("bad");
    call(&mut gateway, "bad", &json!({}));
    call(&mut gateway, "worse", &json!({}));
    assert_eq!(code(&call(&mut gateway, "meta", &json!({}))), -32003);
    call(&mut gateway, "nothing", &json!({}));
    gateway.end();
    let spans = collector.spans();
    let find = |kind: i32, name: &str| {
        let found = spans.iter().find(|span| span.span.kind == kind && span.name() == name);
        found.unwrap_or_else(|| panic!("{name}: {spans:#?}"))
    };
    for (kind, name, error, code) in [
        (2, "tools/call bad", "tool_error", ""),
        (3, "tools/call bad", "tool_error", ""),
        (2, "tools/call worse", "-32055", "-32055"),
        (3, "tools/call worse", "-32055", "-32055"),
        (2, "tools/call meta", "denied", ""),
        (2, "tools/call", "unknown_target", ""),
    ] {
        let span = find(kind, name);
        assert!(span.failed(), "{span:?}");
        assert_eq!(
            (&*span.said("error.type"), &*span.said("rpc.response.status_code")),
            (error, code),
            "{span:?}"
        );
    }
    assert!(
        !spans.iter().any(|span| span.span.kind == 3 && span.name() == "tools/call meta"),
        "it was not asked"
    );
    assert!(!find(1, "plugin rbac check").said("sentinel.plugin.verdict").is_empty());
    assert!(spans.iter().any(|span| span.said("sentinel.plugin.verdict") == "deny" && !span.failed()));
    for taken in collector.taken() {
        let text = String::from_utf8_lossy(&taken.body).into_owned();
        assert!(!text.contains("the words of a server"), "{text}");
    }
}

#[test]
fn over_http_the_headers_count_and_meta_counts_more() {
    let (collector, web) = (Collector::start(), Web::start(""));
    let door = Door::open(Setup::new().http("up", &web.url(), "").more(&collector.section("")), "");
    let client = door.client("ann").hello(NEWEST);
    eventually("the tool", || client.tools().iter().any(|name| name == "echo").then_some(()));
    let traced =
        client.with("traceparent", &traceparent("01")).with("tracestate", "a=1").with("baggage", "b=2");
    traced.call("echo", json!({"n": 1}));
    let other = "11111111111111111111111111111111";
    let mut params = tool("echo", json!({"n": 2}));
    params["_meta"] = json!({"traceparent": format!("00-{other}-2222222222222222-00")});
    traced.request("tools/call", &params);
    // Without a session as well.
    let mut params = tool("echo", json!({"n": 3}));
    params["_meta"] = json!({});
    let (stateless, body) =
        door.client("ann").with("traceparent", &traceparent("01")).modern("tools/call", &params);
    assert_eq!(stateless.post(&body).status, 200);
    let asked =
        |n: i64| web.await_request("the call", |line| line["message"]["params"]["arguments"]["n"] == n);
    let server = |trace: &str, n: usize| {
        collector.await_span("what the server was asked", |span| {
            let of_trace = collector.spans().into_iter().filter(|s| s.trace() == trace && s.span.kind == 3);
            span.trace() == trace && span.span.kind == 3 && of_trace.count() >= n
        })
    };
    let (first, second, third) = (asked(1), asked(2), asked(3));
    server(TRACE, 2);
    let ids: Vec<String> = collector.spans().iter().filter(|s| s.span.kind == 3).map(Seen::id).collect();
    for (line, trace) in [(&first, TRACE), (&second, other), (&third, TRACE)] {
        let header = line["headers"]["traceparent"].as_str().unwrap();
        assert_eq!(header, line["message"]["params"]["_meta"]["traceparent"], "the same in both places");
        let parts: Vec<&str> = header.split('-').collect();
        assert_eq!((parts[1], parts[3]), (trace, "01"), "{header}");
        eventually("its span", || {
            collector.spans().iter().any(|span| span.id() == parts[2] && span.span.kind == 3).then_some(())
        });
        assert!(!ids.is_empty());
    }
    assert_eq!(first["headers"]["tracestate"], "a=1");
    assert_eq!(first["headers"]["baggage"], "b=2");
    // `_meta` said nothing of a state, and the headers' belongs to another trace.
    assert!(second["headers"]["tracestate"].is_null(), "{second}");
    let linked = collector.await_span("the second call", |span| span.trace() == other && span.span.kind == 2);
    assert_eq!(collector::hex(&linked.span.links[0].trace_id), TRACE, "the HTTP request is linked");
    let whole = collector.await_span("the first call", |span| span.trace() == TRACE && span.span.kind == 2);
    assert_eq!((&*whole.said("network.transport"), &*whole.said("network.protocol.name")), ("tcp", "http"));
    assert!(!whole.said("mcp.session.id").is_empty());
    let up = server(TRACE, 1);
    assert_eq!(
        (up.said("server.address"), up.said("server.port")),
        ("127.0.0.1".to_owned(), web.port().to_string())
    );
}

#[test]
fn without_tracing_what_a_client_says_goes_on_as_it_came() {
    let web = Web::start("");
    let setup = Setup::new().http("up", &web.url(), "").scripted("srv", SAYS, "");
    let door = Door::open(setup, "");
    let client = door.client("ann").hello(NEWEST);
    eventually("the tool", || client.tools().iter().any(|name| name == "echo").then_some(()));
    let sent =
        |n: i64| web.await_request("the call", |line| line["message"]["params"]["arguments"]["n"] == n);
    let traced =
        client.with("traceparent", &traceparent("00")).with("tracestate", "a=1,b=2").with("baggage", "c=3");
    traced.call("echo", json!({"n": 1}));
    let line = sent(1);
    let headers = &line["headers"];
    assert_eq!(headers["traceparent"], traceparent("00"));
    assert_eq!((&headers["tracestate"], &headers["baggage"]), (&json!("a=1,b=2"), &json!("c=3")));
    assert!(line["message"]["params"]["_meta"].is_null(), "{line}");
    // What has no valid form is not passed on.
    for (n, wrong) in [(2, "00-0-0-01"), (3, &*traceparent("01").to_uppercase()), (4, &traceparent("0g"))] {
        client.with("traceparent", wrong).with("tracestate", "a=1").call("echo", json!({"n": n}));
        let line = sent(n);
        assert!(
            line["headers"]["traceparent"].is_null() && line["headers"]["tracestate"].is_null(),
            "{line}"
        );
    }
    // In `_meta` it is a matter between client and server.
    let meta = json!({"traceparent": "as it was", "baggage": "x"});
    let params = json!({"name": "meta", "arguments": {}, "_meta": meta.clone()});
    let answer = traced.post(&request("tools/call", &params)).value();
    assert_eq!(told(&answer), meta);
}

#[test]
fn a_traceparent_that_is_wrong_begins_a_trace_of_ours() {
    let collector = Collector::start();
    let mut gateway = start(&collector.section(""));
    let wrong =
        ["nonsense".to_owned(), traceparent("01").to_uppercase(), format!("ff{}", &traceparent("01")[2..])];
    for text in &wrong {
        let told = told(&call(&mut gateway, "meta", &json!({"traceparent": text, "tracestate": "a=1"})));
        let parent = told["traceparent"].as_str().unwrap();
        assert_eq!((parent.len(), parent.contains(TRACE)), (55, false), "{told}");
        assert!(told["tracestate"].is_null(), "it belonged to the other: {told}");
    }
    gateway.end();
    let spans = collector.spans();
    let calls = of_calls(&spans);
    assert_eq!(calls.len(), wrong.len());
    assert!(calls.iter().all(|span| span.parent().is_empty() && span.trace() != TRACE));
}

#[test]
fn what_is_not_sampled_costs_no_span_and_changes_nothing() {
    let collector = Collector::start();
    let mut gateway = start(&collector.section("sample_ratio = 0"));
    let meta = json!({"traceparent": traceparent("01"), "tracestate": "a=1"});
    assert_eq!(told(&call(&mut gateway, "meta", &meta)), meta);
    gateway.end();
    assert!(collector.spans().is_empty());
    // A client may decide, if the operator lets it.
    let collector = Collector::start();
    let mut gateway = start(&collector.section("sample_ratio = 0\nclients_decide = true"));
    let unsampled = json!({"traceparent": traceparent("00").replace(TRACE, &"1".repeat(32))});
    assert_eq!(told(&call(&mut gateway, "meta", &unsampled)), unsampled);
    assert_ne!(told(&call(&mut gateway, "meta", &meta)), meta);
    assert_eq!(told(&call(&mut gateway, "meta", &json!({}))), json!({}));
    gateway.end();
    let spans = collector.spans();
    assert!(!spans.is_empty() && spans.iter().all(|span| span.trace() == TRACE), "{spans:#?}");
}

#[test]
fn secrets_are_in_no_span_and_names_have_an_end() {
    let collector = Collector::start();
    let more = collector.section("headers = { x-api-key = \"${OTLP_KEY}\" }");
    let setup = Setup::new().scripted("srv", SAYS, "").more(&more).env("OTLP_KEY", "s3cr3t-otlp-key");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("meta");
    let long = "m".repeat(5_000);
    for line in [
        json!({"jsonrpc": "2.0", "id": "id-s3cr3t-otlp-key", "method": "tools/call", "params": {"name": "meta", "arguments": {}}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "https://u:pw4u@h/?token=abcdefgh"}}),
        json!({"jsonrpc": "2.0", "id": 2, "method": format!("acme/{long}"), "params": {}}),
    ] {
        gateway.send_raw(&line.to_string());
        gateway.reply();
    }
    gateway.end();
    let taken = collector.taken();
    assert!(taken.iter().all(|taken| taken.headers["x-api-key"] == "s3cr3t-otlp-key"));
    assert!(!collector.spans().is_empty());
    for taken in taken {
        let text = String::from_utf8_lossy(&taken.body).into_owned();
        for secret in ["s3cr3t-otlp-key", "pw4u", "abcdefgh", &"m".repeat(300)] {
            assert!(!text.contains(secret), "{secret:.20}");
        }
    }
    assert!(collector.spans().iter().any(|span| span.said("jsonrpc.request.id") == "id-[redacted]"));
}

#[test]
fn plugins_are_counted_for_both() {
    let (collector, health) = (Collector::start(), free_address());
    let setup = Setup::new().scripted("srv", SAYS, "").more(&collector.section("traces = false"));
    let setup = setup.gateway(&format!("health_listen = {health:?}")).env("HEALTH_TOKEN", "let-me-see");
    let setup = setup.roles("[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [\"bad\"]");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("meta");
    for name in ["meta", "meta", "bad"] {
        call(&mut gateway, name, &json!({}));
    }
    let text = get(&health, "/metrics", Some("let-me-see")).unwrap().body;
    let of = |name: &str, labels: &[&str]| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        let line = line.unwrap_or_else(|| panic!("{name} {labels:?}: {text}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let (rbac, check) = ("plugin=\"rbac\"", "hook=\"check\"");
    assert_eq!(of("sentinel_plugin_calls_total{", &[rbac, check, "verdict=\"allow\""]), 2.0);
    assert_eq!(of("sentinel_plugin_calls_total{", &[rbac, check, "verdict=\"deny\""]), 1.0);
    assert!(of("sentinel_plugin_calls_total{", &[rbac, "hook=\"visible\""]) >= 1.0);
    assert!(
        of(
            "sentinel_plugin_calls_total{",
            &["plugin=\"circuit-breaker\"", "hook=\"settle\"", "verdict=\"done\""]
        ) >= 2.0
    );
    assert_eq!(of("sentinel_plugin_duration_seconds_count{", &[rbac, check]), 3.0);
    assert!(
        text.contains("sentinel_plugin_duration_seconds_bucket{") && text.contains("le=\"0.00001\""),
        "{text}"
    );
    assert!(of("sentinel_plugin_instances{", &[rbac]) >= 1.0);
    assert!(of("sentinel_plugin_memory_bytes{", &[rbac]) >= 65_536.0);
    // What was there before has its name still.
    assert_eq!(of("sentinel_requests_total{", &["tool=\"meta\"", "status=\"success\""]), 2.0);
    gateway.end();
    let sent = collector.metrics();
    let of = |name: &str, wanted: &[(&str, &str)]| {
        let has = |labels: &[(String, String)]| {
            wanted.iter().all(|(key, value)| labels.iter().any(|(k, v)| k == key && v == value))
        };
        let found = sent.iter().find(|(metric, labels, _)| metric == name && has(labels));
        found.unwrap_or_else(|| panic!("{name} {wanted:?}: {sent:#?}")).2
    };
    let rbac = ("plugin", "rbac");
    assert_eq!(of("sentinel_plugin_calls_total", &[rbac, ("hook", "check"), ("verdict", "deny")]), 1.0);
    assert_eq!(of("sentinel_plugin_duration_seconds", &[rbac, ("hook", "check")]), 3.0);
    assert_eq!(of("sentinel_requests_total", &[("tool", "meta"), ("status", "success")]), 2.0);
    assert!(collector.spans().is_empty(), "traces = false");
}

#[test]
fn a_plugin_that_fails_is_counted_by_its_fault() {
    let (collector, health) = (Collector::start(), free_address());
    let plugin = format!(
        "[[plugins]]\nname = \"office\"\nstage = \"guard\"\nwasm = {:?}\n",
        crate::guests::guest("panic").to_str().unwrap()
    );
    let setup = Setup::new().scripted("srv", SAYS, "").more(&plugin).more(&collector.section(""));
    let setup = setup.gateway(&format!("health_listen = {health:?}")).env("HEALTH_TOKEN", "let-me-see");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("meta");
    call(&mut gateway, "meta", &json!({}));
    let text = get(&health, "/metrics", Some("let-me-see")).unwrap().body;
    for line in [
        "sentinel_plugin_faults_total{plugin=\"office\",kind=\"trap\"} 1",
        "sentinel_plugin_calls_total{plugin=\"office\",hook=\"check\",verdict=\"fault\"} 1",
        "sentinel_plugin_failures_total{plugin=\"office\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    gateway.end();
    let spans = collector.spans();
    let failed = spans.iter().find(|span| span.name() == "plugin office check").unwrap();
    assert_eq!((failed.failed(), &*failed.said("error.type")), (true, "trap"));
    let whole = spans.iter().find(|span| span.name() == "tools/call meta").unwrap();
    assert_eq!((whole.failed(), whole.id()), (true, failed.parent()));
}

#[test]
fn a_section_that_is_wrong_starts_nothing() {
    let wrong = |keys: &str| {
        let (code, said) = Setup::echo().more(&format!("[telemetry.otlp]\n{keys}")).refused(&["check"]);
        assert_eq!(code, Some(2), "{keys}: {said}");
        said
    };
    for (keys, expected) in [
        ("", "telemetry.otlp.endpoint: the section needs the address of a collector"),
        ("endpoint = \"collector:4318\"", "is not the address of a collector"),
        ("endpoint = \"ftp://127.0.0.1\"", "is not the address of a collector"),
        ("endpoint = \"http://ann:pw@127.0.0.1:4318\"", "an address must not carry a password"),
        ("endpoint = \"http://127.0.0.1:4318/?key=x\"", "what follows a ? or # cannot be kept"),
        ("endpoint = \"http://127.0.0.1:4318/v1/traces\"", "leave /v1/traces and /v1/metrics away"),
        ("endpoint = \"${NOT_SET_ANYWHERE}\"", "NOT_SET_ANYWHERE is not set"),
        ("endpoint = \"http://127.0.0.1:1\"\nheaders = { \"a b\" = \"x\" }", "cannot be set as a header"),
        ("endpoint = \"http://127.0.0.1:1\"\nsample_ratio = 1.5", "must be at most 1"),
        ("endpoint = \"http://127.0.0.1:1\"\nsample = 1.0", "unknown key"),
        ("endpoint = \"https://127.0.0.1:1\"\nca_file = \"nowhere.pem\"", "nowhere.pem"),
        ("endpoint = \"http://127.0.0.1:1\"\ntraces = false\nmetrics = false", "there is nothing to send"),
        (
            "endpoint = \"http://127.0.0.1:1\"\nattributes = { \"a b\" = \"x\" }",
            "is not a name of an attribute",
        ),
    ] {
        let said = wrong(keys);
        assert!(said.contains(expected), "{keys}: {said}");
    }
    // All at once.
    let said = wrong("traces = false\nmetrics = false\nsample_ratio = 2\nheaders = { \"\" = \"x\" }");
    for expected in ["nothing to send", "at most 1", "needs the address", "as a header"] {
        assert!(said.contains(expected), "{said}");
    }
    // One gateway sends to one collector.
    let setup = Setup::echo().more("[http]\n[[http.mounts]]\npath = \"/mcp/dev\"\nconfig = \"dev.toml\"");
    let dev = "[auth]\nmode = \"jwt\"\n[telemetry.otlp]\nendpoint = \"http://127.0.0.1:4318\"\n";
    std::fs::write(setup.path("dev.toml"), dev).unwrap();
    let (code, said) = setup.refused(&["check"]);
    assert!(code == Some(2) && said.contains("that of all endpoints together"), "{said}");
    // What is set elsewhere and has no effect is named.
    let setup = Setup::echo().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    let output = setup.run(&["check"]);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && text.contains("OTEL_EXPORTER_OTLP_ENDPOINT is set, and has no effect"),
        "{text}"
    );
}
