//! Single promises of fidelity: sizes, whitespace, cancellation, names, and what no two parsers may read differently.

use super::corpus::{self, bare, dressed, elements, get};
use super::doors::{Door, Era, Way};
use super::{Cell, flags, mirror};
use crate::support::Setup;

const HANDSHAKE: [Era; 2] = [Era::Handshake; 2];

fn cell(client: Way, server: Way) -> Cell {
    Cell::new((client, HANDSHAKE[0]), (server, HANDSHAKE[1]))
}

/// A gateway with one mirror over a pipe, which lists these tools too.
fn with_tools(tools: &str, keys: &str, more: impl FnOnce(Setup) -> Setup) -> Door {
    let setup = Setup::new();
    let mut flags = flags(&setup, Era::Handshake);
    let list = format!(r#"{{"method":"tools/list","result":{{"tools":{tools}}}}}"#);
    std::fs::write(setup.path("tools"), dressed(&list)).unwrap();
    flags.extend(["--answers".to_owned(), setup.text("tools")]);
    Door::open(Way::Pipe, Era::Handshake, more(mirror(setup, &flags, keys)))
}

fn code(answer: &str) -> i64 {
    let error = get(answer, "error").unwrap_or_else(|| panic!("an error was expected: {}", short(answer)));
    get(error, "code").unwrap().parse().unwrap()
}

/// Fails with no more than where the texts part.
fn same(about: &str, wanted: &str, got: &str) {
    assert!(wanted == got, "{about}: {}", corpus::difference(wanted, got));
}

fn short(text: &str) -> String {
    text.chars().take(500).collect()
}

#[test]
fn an_answer_of_a_megabyte_passes_unchanged() {
    for (client, server) in [(Way::Pipe, Way::Pipe), (Way::Web, Way::Web), (Way::Web, Way::Pipe)] {
        let mut cell = cell(client, server);
        let text = "é\\u0061\\n".repeat(1 << 17);
        let result = format!(r#"{{"content":[{{"text":"{text}","type":"text"}}],"x":1.0,"y":1e400}}"#);
        assert!(result.len() > 1 << 20);
        // In the request as well: it is what the server shall say.
        let got = cell.told("tools/call", &format!(r#""reply":{result}"#), "");
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, got.id);
        same(&format!("{client:?} {server:?}"), &wanted, &got.answer);
    }
}

#[test]
fn an_answer_over_the_limit_costs_its_own_call_and_no_other() {
    for server in [Way::Web, Way::Pipe] {
        let setup = Setup::new().gateway("max_result_bytes = 4000000");
        let mut cell = Cell::within(setup, (Way::Pipe, HANDSHAKE[0]), (server, HANDSHAKE[1]));
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/vendor/ready"}"#;
        let held = format!(r#"{{"name":"mirror","before":[{ready}],"until":"go","reply":{{"held":1.0}}}}"#);
        let held = cell.door.begin("tools/call", &held);
        assert_eq!(cell.door.next(), ready);
        // Without longer results the limit is that of memory, 4 MiB.
        let large = r#"{"name":"mirror","fill":4200000,"reply":{"x":"@fill"}}"#;
        let large = cell.door.begin("tools/call", large);
        let answer = cell.door.next();
        assert_eq!(get(&answer, "id"), Some(&*large), "{server:?}: another call was hit: {}", short(&answer));
        assert_eq!(code(&answer), -32603);
        let release = r#"{"name":"mirror","release":"go","reply":{}}"#;
        let released = cell.door.ask("tools/call", release, "");
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":{held},"result":{{"held":1.0}}}}"#);
        let answer = released.before.first().cloned().unwrap_or_else(|| cell.door.next());
        assert_eq!(answer, wanted, "{server:?}");
    }
}

#[test]
fn pretty_messages_keep_their_whitespace() {
    let reply = "{\n\t\"content\" : [ ] ,\r\n  \"x\" : { \"y\" : 1.0 }\n}";
    for (client, server) in [(Way::Web, Way::Web), (Way::Web, Way::Pipe)] {
        let mut cell = cell(client, server);
        cell.received();
        let params = format!("{{\r\n  \"name\" : \"mirror\",\n\t\"reply\" : {reply}\n}}");
        let got = cell.door.ask("tools/call", &params, "");
        // A line break would end the message on a pipe; there, and only there, it becomes a space.
        let (sent, said) = match server {
            Way::Web => (params.clone(), reply.to_owned()),
            Way::Pipe => (one_line(&params), one_line(reply)),
        };
        let heard = cell.received();
        assert_eq!(get(&heard[0], "params").unwrap(), sent);
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{said}}}"#, got.id);
        // An event stream knows one kind of line break.
        assert_eq!(got.answer.replace("\r\n", "\n"), wanted.replace("\r\n", "\n"), "{server:?}");
    }
    let mut cell = cell(Way::Pipe, Way::Web);
    let got = cell.told("tools/call", &format!(r#""fill":1,"reply":{}"#, one_line(reply)), "");
    assert_eq!(get(&got.answer, "result"), Some(&*one_line(reply)));
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[test]
fn names_are_listed_as_they_are_spelled() {
    let tools = r#"[{"x":"@odd","n\u0061me":"t\u006fol","inputSchema":{"type":"object"}},{"name":"received","inputSchema":{"type":"object"}}]"#;
    let mut door = with_tools(tools, "", |setup| setup);
    let answer = door.ask("tools/list", "{}", "").answer;
    let tools = dressed(tools);
    let [wanted, got] = [&*tools, get(get(&answer, "result").unwrap(), "tools").unwrap()].map(|list| {
        let mut tools = elements(list);
        tools.sort_unstable();
        tools.join("\n")
    });
    same("the tools", &wanted, &got);
}

#[test]
fn where_a_prefix_is_put_on_only_the_name_changes() {
    let tools = r#"[{ "x" : "@odd" , "name" : "mirror" , "inputSchema" : {"type":"object"} },{"name":"received","inputSchema":{"type":"object"}}]"#;
    let mut door = with_tools(tools, "prefix = true", |setup| setup);
    let answer = door.ask("tools/list", "{}", "").answer;
    let tools = dressed(tools)
        .replace(r#""mirror""#, r#""mirror_mirror""#)
        .replace(r#""received""#, r#""mirror_received""#);
    assert_eq!(get(get(&answer, "result").unwrap(), "tools").unwrap(), tools);
    let params = dressed(r#"{ "x" : "@odd" ,	"name" : "mirror_mirror" , "arguments" : { "a" : 1.0 } }"#);
    door.ask("tools/call", &params, "");
    let answer = door.ask("tools/call", r#"{"name":"mirror_received"}"#, "").answer;
    let content = get(get(&answer, "result").unwrap(), "structuredContent").unwrap();
    let heard: Vec<String> = serde_json::from_str(get(content, "messages").unwrap()).unwrap();
    let wanted = params.replace("mirror_mirror", "mirror");
    assert!(heard.iter().any(|message| get(message, "params") == Some(&wanted)), "{heard:?}");
}

/// Parsers disagree about which of two members with one name counts: a gateway that judges one and passes on both lets the
/// server act on what nobody judged.
#[test]
fn what_the_gateway_judges_is_what_the_server_reads() {
    let tools = r#"[{"name":"mirror","inputSchema":{"type":"object","properties":{"n":{"type":"integer"}}}},{"name":"forbidden","inputSchema":{"type":"object"}}]"#;
    let mut door = with_tools(tools, "", |setup| {
        setup.roles("[rbac.roles.some]\npermissions = [\"*\"]\ndenied_tools = [\"forbidden\"]").role("some")
    });
    let forbidden = door.ask("tools/call", r#"{"name":"forbidden"}"#, "").answer;
    assert_eq!(code(&forbidden), -32003, "{forbidden}");
    let doubled = [
        r#"{"name":"mirror","name":"forbidden"}"#,
        r#"{"name":"forbidden","name":"mirror"}"#,
        r#"{"name":"mirror","n\u0061me":"forbidden"}"#,
        r#"{"name":"mirror","arguments":{"n":1},"arguments":{"n":"x"}}"#,
        r#"{"name":"mirror","arguments":{"n":"x"},"arguments":{"n":1}}"#,
        r#"{"name":"mirror","arguments":{"n":1,"n":"x"}}"#,
        r#"{"name":"mirror","arguments":{"n":"x","n":1}}"#,
    ];
    let mut done = doubled.to_vec();
    done.retain(|params| get(&door.ask("tools/call", params, "").answer, "error").is_none());
    assert!(done.is_empty(), "the server was asked for what two parsers read differently: {done:#?}");
}

/// What no machine type holds is judged by where it stands: where the schema says nothing, anything passes.
#[test]
fn arguments_that_no_type_holds_pass_where_the_schema_says_nothing() {
    let tools = r#"[{"name":"mirror","inputSchema":{"type":"object","properties":{"n":{"type":"integer"}}}},{"name":"received","inputSchema":{}}]"#;
    let mut door = with_tools(tools, "", |setup| setup);
    let params = r#"{"name":"mirror","arguments":{"n":1,"x":[1e400,"\ud800"],"y":-1E+999,"reply":{}}}"#;
    let answer = door.ask("tools/call", params, "").answer;
    assert_eq!(get(&answer, "result"), Some("{}"), "{answer}");
    let answer = door.ask("tools/call", r#"{"name":"received"}"#, "").answer;
    let content = get(get(&answer, "result").unwrap(), "structuredContent").unwrap();
    let heard: Vec<String> = serde_json::from_str(get(content, "messages").unwrap()).unwrap();
    assert!(heard.iter().any(|message| get(message, "params") == Some(params)), "{heard:?}");
    // Where it says something, nobody here can tell whether they fit; why, and where.
    for (arguments, why) in
        [(r#"{"x":1,"n":1e400}"#, "larger than a 64-bit float"), (r#"{"n":"\ud800"}"#, "surrogate")]
    {
        let params = format!(r#"{{"name":"mirror","arguments":{arguments}}}"#);
        let answer = door.ask("tools/call", &params, "").answer;
        assert_eq!(code(&answer), -32602, "{answer}");
        let error = get(&answer, "error").unwrap();
        assert_eq!(get(get(error, "data").unwrap(), "pointer"), Some(r#""/n""#), "{answer}");
        assert!(get(error, "message").unwrap().contains(why), "{answer}");
    }
}

#[test]
fn an_extension_is_offered_as_its_server_spells_it() {
    let setup = Setup::new();
    let mut flags = flags(&setup, Era::Stateless);
    let settings = dressed(r#"{ "x" : "@odd" , "n" : 1.0 }"#);
    let discovered = format!(
        r#"{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}},"extensions":{{"vendor.example/x":{settings}}}}}}}"#
    );
    std::fs::write(
        setup.path("discovered"),
        format!(r#"{{"method":"server/discover","result":{discovered}}}"#),
    )
    .unwrap();
    flags.extend(["--answers".to_owned(), setup.text("discovered")]);
    let mut door = Door::open(Way::Pipe, Era::Stateless, mirror(setup, &flags, ""));
    let params = door.meta(r#"{"_meta":{"@meta":0}}"#);
    let answer = door.ask("server/discover", &params, "").answer;
    let capabilities = get(get(&answer, "result").unwrap(), "capabilities").unwrap();
    let offered = get(capabilities, "extensions").and_then(|all| get(all, "vendor.example/x"));
    same("the settings", &settings, offered.unwrap_or(""));
}

#[test]
fn a_subscription_loses_nothing_but_its_mark() {
    let mut cell = Cell::new((Way::Pipe, Era::Handshake), (Way::Pipe, Era::Stateless));
    let answer = cell.door.ask("resources/subscribe", r#"{"uri":"mirror://a"}"#, "").answer;
    assert!(get(&answer, "result").is_some(), "{answer}");
    let params = r#"{"uri":"mirror:\/\/a","_meta":{"io.modelcontextprotocol/subscriptionId":"@subscription","vendor.example/x":"@odd"},"x":"@odd"}"#;
    let update = dressed(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{params}}}"#
    ));
    let got = cell.told("tools/call", &format!(r#""before":[{update}],"reply":{{}}"#), "");
    let heard = got.before.first().cloned().unwrap_or_else(|| cell.door.next());
    let mark = ["io.modelcontextprotocol/subscriptionId"];
    let [wanted, heard] = [&update, &heard].map(|message| bare(get(message, "params").unwrap(), &[], &mark));
    same("the params", &wanted.join("\n"), &heard.join("\n"));
}

/// Without a log level no log messages are sent; something else that names them is none.
#[test]
fn only_log_messages_are_held_back_as_such() {
    let mut cell = Cell::new((Way::Web, Era::Stateless), (Way::Pipe, Era::Stateless));
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"@token","progress":1,"x":"notifications/message"}}"#;
    let log = r#"{"jsonrpc":"2.0","method":"notifications\/message","params":{"level":"debug","data":1}}"#;
    let params = format!(
        r#"{{"name":"mirror","before":[{log},{progress}],"reply":{{"resultType":"complete"}},"_meta":{{"@meta":0,"progressToken":7}}}}"#
    );
    let quiet = cell.door.meta(&params).replace(r#""io.modelcontextprotocol/logLevel":"debug","#, "");
    let got = cell.door.ask("tools/call", &quiet, "");
    assert_eq!(got.before, [progress.replace("\"@token\"", "7")]);
}
