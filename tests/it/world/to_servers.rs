//! HTTP to servers: sessions, redirects, proxies, secrets, certificates, and the transport of 2024-11-05.

mod compressed;
mod http2;
mod old;
mod proxies;
mod secrets;
mod sessions;
mod tls;

use serde_json::{Value, json};

use super::web::Web;
use crate::support::{Gateway, Setup};

/// A gateway with this server, which is up.
fn gateway(url: &str, more: &str) -> Gateway {
    let mut gateway = Gateway::start(Setup::new().http("up", url, more));
    gateway.await_tool("echo");
    gateway
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no result: {answer}"))
}

#[test]
fn endpoint_redirects_to_a_slash() {
    let web = Web::start(
        r#"
plain = post

def post(h, m):
    if h.path == "/mcp":
        h.reply(307, Location="/mcp/")
    else:
        plain(h, m)
"#,
    );
    let mut gateway = gateway(&web.url(), "headers = { X-Key = \"of the origin\" }");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    // Where it leads is asked once, and all headers go along.
    let asked = web.told().iter().filter(|line| line["path"] == "/mcp" && line["verb"] == "POST").count();
    assert_eq!(asked, 1, "{:?}", web.told());
    assert!(web.told().iter().all(|line| line["headers"]["x-key"] == "of the origin"), "{:?}", web.told());
    gateway.end();
    web.await_request("the end of the session", |line| line["verb"] == "DELETE" && line["path"] == "/mcp/");
}

#[test]
fn other_redirects_are_named_and_nothing_is_sent_there() {
    let elsewhere = Web::start("");
    let place = elsewhere.at("/mcp?key=s3cr3t-key-42");
    for (status, location, named) in [
        (307, place.clone(), format!("{}?key=[redacted]", elsewhere.url())),
        (301, "/mcp/".to_owned(), "/mcp/".to_owned()),
        (302, "https://login.example.org/".to_owned(), "https://login.example.org/".to_owned()),
    ] {
        let code = format!("def post(h, m):\n    h.reply({status}, Location={location:?})");
        let web = Web::start(&code);
        let setup = Setup::new().http("up", &web.url(), "headers = { X-Key = \"${UP_KEY}\" }");
        let gateway = Gateway::start(setup.env("UP_KEY", "s3cr3t-key-42"));
        gateway.await_log("write it as `url`", 1);
        assert!(gateway.log().contains(&named), "{status}: {}", gateway.log());
        assert!(!gateway.log().contains("s3cr3t"), "{}", gateway.log());
    }
    assert!(elsewhere.told().is_empty(), "{:?}", elsewhere.told());
}

#[test]
fn redirects_in_a_circle_end() {
    let web = Web::start("def post(h, m):\n    h.reply(308, Location=h.path + 'x')");
    let gateway = Gateway::start(Setup::new().http("up", &web.url(), "retries = 0"));
    gateway.await_log("redirects more than 3 times", 1);
}

#[test]
fn what_a_server_that_wants_credentials_says_is_in_the_log() {
    let web = Web::start(
        "def post(h, m):\n    h.reply(401, WWW_Authenticate='Bearer error=\"invalid_token\", error_description=\"it has expired\"')",
    );
    let gateway = Gateway::start(Setup::new().http("up", &web.url(), ""));
    gateway.await_log("it has expired", 1);
}
