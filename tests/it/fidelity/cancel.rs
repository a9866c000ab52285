//! A cancellation reaches the side that works on the request, with the reason, and with the id that is known there.

use super::Cell;
use super::corpus::{dressed, get, is};
use super::doors::{Era, Way, capabilities};
use crate::support::eventually;

/// What a client says of itself that cannot be asked anything: its calls share one connection, so that every message
/// to the server is heard by the same one.
fn lean(cell: &Cell, params: &str) -> String {
    let params = cell.door.meta(params).replace(&capabilities(), "{}");
    params.replace(r#""io.modelcontextprotocol/logLevel":"debug","#, "")
}

/// What the server has received since the last time.
fn received(cell: &mut Cell) -> Vec<String> {
    let params = lean(cell, r#"{"name":"received","_meta":{"@meta":0}}"#);
    let answer = cell.door.ask("tools/call", &params, "").answer;
    let content = get(&answer, "result").and_then(|result| get(result, "structuredContent")).unwrap();
    serde_json::from_str(get(content, "messages").unwrap()).unwrap()
}

/// A call under way: the client's id for it, and the gateway's.
fn under_way(cell: &mut Cell, word: &str) -> (String, String) {
    received(cell);
    let params = format!(r#"{{"name":"mirror","until":"{word}","reply":{{}},"_meta":{{"@meta":0}}}}"#);
    let id = cell.door.begin("tools/call", &lean(cell, &params));
    let call = eventually("the call", || {
        received(cell).into_iter().find(|message| {
            let until = || get(get(message, "params")?, "until");
            is(message, "tools/call") && until() == Some(&*format!("\"{word}\""))
        })
    });
    (id, get(&call, "id").unwrap().to_owned())
}

/// The params of the cancellation of this request that the server heard. On a busy machine it hears others, too: of questions
/// of the gateway's own that took too long.
fn heard(cell: &mut Cell, id: &str) -> String {
    let of_it = |message: &String| {
        let request = || get(get(message, "params")?, "requestId");
        is(message, "notifications/cancelled") && request() == Some(id)
    };
    let message = eventually("the cancellation", || received(cell).into_iter().find(of_it));
    get(&message, "params").unwrap().to_owned()
}

#[test]
fn the_clients_own_words_reach_the_server() {
    for (client, server) in [
        (Era::Handshake, Era::Handshake),
        (Era::Handshake, Era::Stateless),
        (Era::Stateless, Era::Handshake),
        (Era::Stateless, Era::Stateless),
    ] {
        let mut cell = Cell::new((Way::Pipe, client), (Way::Pipe, server));
        let (mine, theirs) = under_way(&mut cell, "first");
        let said = dressed(
            r#"{ "reason":"n\u006f time","_meta":{"vendor.example/x":1.0}, "requestId" : @id ,"x":"@odd"}"#,
        );
        cell.door.tell("notifications/cancelled", &said.replace("@id", &mine));
        assert_eq!(heard(&mut cell, &theirs), said.replace("@id", &theirs), "{client:?} {server:?}");
        // Without a reason nothing is made up.
        let (mine, theirs) = under_way(&mut cell, "second");
        cell.door.tell("notifications/cancelled", &format!(r#"{{"requestId":{mine}}}"#));
        assert_eq!(
            heard(&mut cell, &theirs),
            format!(r#"{{"requestId":{theirs}}}"#),
            "{client:?} {server:?}"
        );
    }
}

/// The connection is shared: the other id could be another caller's request.
#[test]
fn a_cancellation_that_names_two_requests_is_not_passed_on_as_it_is() {
    let mut cell = Cell::new((Way::Pipe, Era::Handshake), (Way::Pipe, Era::Handshake));
    let (mine, theirs) = under_way(&mut cell, "first");
    let other = under_way(&mut cell, "second").1;
    cell.door.tell(
        "notifications/cancelled",
        &format!(r#"{{"requestId":{mine},"reason":"r","requestId":{other},"r\u0065questId":{other}}}"#),
    );
    let heard = heard(&mut cell, &theirs);
    assert_eq!(get(&heard, "requestId"), Some(&*theirs), "{heard}");
    assert!(!heard.contains(&format!(":{other}")), "{heard}");
}

#[test]
fn the_servers_own_words_reach_the_client() {
    let mut cell = Cell::new((Way::Pipe, Era::Handshake), (Way::Pipe, Era::Handshake));
    let ask = r#"{"jsonrpc":"2.0","id":"m-1","method":"roots/list"}"#;
    cell.door.begin("tools/call", &format!(r#"{{"name":"mirror","ask":{ask},"reply":{{}}}}"#));
    let question = cell.door.next();
    let asked = get(&question, "id").unwrap();
    let said =
        dressed(r#"{"reason":"\u006eo need" ,"requestId": "m-1","_meta":{"vendor.example/x":"@odd"}}"#);
    let cancel = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{said}}}"#);
    let got = cell.told("tools/call", &format!(r#""before":[{cancel}],"reply":{{}}"#), "");
    let heard = got.before.first().unwrap_or_else(|| panic!("nothing was heard: {}", got.answer));
    assert_eq!(get(heard, "method"), Some("\"notifications/cancelled\""));
    assert_eq!(get(heard, "params").unwrap(), said.replace("\"m-1\"", asked));
}
