//! Servers that are reached through a proxy, or must not be.

use serde_json::json;

use super::super::web::Web;
use super::text;
use crate::support::{Gateway, Setup};

/// A proxy in front of a server that it plays itself. It tells who is asked for, and asks for a password if it is given one.
const PROXY: &str = r#"
import base64
wanted = arguments[0] if arguments else None
plain = post

def post(h, m):
    given = h.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
    if wanted and base64.b64decode(given).decode() != wanted:
        return h.reply(407)
    plain(h, m)

class Tunnel(Handler):
    def do_CONNECT(self):
        self.told("CONNECT")
        self.send_response(502)
        self.end_headers()

Handler = Tunnel
"#;

const INSIDE: &str = "http://mcp.internal.example/mcp";

fn works(mut gateway: Gateway, proxy: &Web) {
    gateway.await_tool("echo");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    assert!(proxy.told().iter().all(|line| line["path"] == INSIDE), "{:?}", proxy.told());
    gateway.end();
    proxy.await_request("the end of the session, by the same way", |line| line["verb"] == "DELETE");
}

#[test]
fn only_through_a_proxy() {
    let proxy = Web::start(PROXY);
    let setup = || Setup::new().http("up", INSIDE, "");
    let address = proxy.at("");
    // By the environment, if the file says so; by a key for all; by one for this backend.
    for (name, value) in [
        ("HTTP_PROXY", address.clone()),
        ("http_proxy", address.clone()),
        ("ALL_PROXY", address.replace("http://", "")),
    ] {
        works(Gateway::start(setup().gateway("proxy = \"environment\"").env(name, &value)), &proxy);
    }
    works(Gateway::start(setup().gateway(&format!("proxy = {address:?}"))), &proxy);
    works(Gateway::start(Setup::new().http("up", INSIDE, &format!("proxy = {address:?}"))), &proxy);
}

#[test]
fn the_environment_counts_only_if_the_file_says_so() {
    let proxy = Web::start(PROXY);
    let setup = |gateway: &str, more: &str, no: &str| {
        let setup = Setup::new().http("up", "https://mcp.internal.example/mcp", more).gateway(gateway);
        setup.env("HTTPS_PROXY", &proxy.at("")).env("NO_PROXY", no)
    };
    let warned = |setup: &Setup| {
        let (code, said) = setup.refused(&["check"]);
        assert_eq!(code, Some(0), "{said}");
        let output = setup.run(&["check"]);
        String::from_utf8(output.stdout).unwrap().contains("HTTPS_PROXY is set")
    };
    // Nobody has decided: nothing goes there, and that is said.
    let undecided = setup("", "", "");
    assert!(warned(&undecided));
    // Decided against it, for all, for one; or it is an exception.
    for decided in [
        setup("proxy = \"none\"", "", ""),
        setup("", "proxy = \"none\"", ""),
        setup("proxy = \"environment\"", "proxy = \"none\"", ""),
        setup("proxy = \"environment\"", "", "other.example,.internal.example"),
        setup("proxy = \"environment\"", "", "other.example *.internal.example:443"),
    ] {
        assert!(!warned(&decided));
        let gateway = Gateway::start(decided);
        gateway.await_log("backend is down", 1);
    }
    assert!(proxy.told().is_empty(), "{:?}", proxy.told());
    // The environment may have nothing to say; that is said.
    let unset =
        setup("proxy = \"environment\"", "", "").without_env("HTTPS_PROXY").env("HTTP_PROXY", &proxy.at(""));
    let said = String::from_utf8(unset.run(&["check"]).stdout).unwrap();
    assert!(said.contains("neither HTTPS_PROXY nor ALL_PROXY is set"), "{said}");
    // And through it, where it is meant; what the proxy refuses is said with its name.
    let gateway = Gateway::start(setup("proxy = \"environment\"", "", "other.example"));
    let asked = proxy.await_request("a tunnel", |line| line["verb"] == "CONNECT");
    assert_eq!(asked["path"], "mcp.internal.example:443");
    gateway.await_log(&format!("through the proxy {}", proxy.at("")), 1);
}

#[test]
fn this_machine_is_never_reached_through_a_proxy() {
    let (proxy, web) = (Web::start(PROXY), Web::start(""));
    let keys = format!("proxy = {:?}", proxy.at(""));
    let setup = Setup::new().gateway(&keys).http("up", &web.url(), &keys);
    let mut gateway = Gateway::start(setup.env("ALL_PROXY", &proxy.at("")));
    gateway.await_tool("echo");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    assert!(proxy.told().is_empty());
}

#[test]
fn the_password_of_a_proxy_is_sent_and_never_shown() {
    let proxy = Web::with(PROXY, &["ann:s3cr3t-key-42"], "");
    let url = format!("http://ann:${{PROXY_PASSWORD}}@127.0.0.1:{}", proxy.port());
    let setup = Setup::new().http("up", INSIDE, "").gateway(&format!("proxy = {url:?}"));
    works(Gateway::start(setup.env("PROXY_PASSWORD", "s3cr3t-key-42")), &proxy);
    // With another it is refused.
    let setup = Setup::new().http("up", INSIDE, "").gateway(&format!("proxy = {url:?}"));
    let gateway = Gateway::start(setup.env("PROXY_PASSWORD", "s3cr3t-key-43"));
    gateway.await_log("HTTP status 407", 1);
    assert!(!gateway.log().contains("s3cr3t"), "{}", gateway.log());
}

#[test]
fn a_proxy_that_is_none_is_a_mistake_in_the_file() {
    for (typed, shown) in [
        ("ftp://proxy.example.org", "is not the URL of a proxy"),
        ("on", "is not the URL of a proxy"),
        ("http://${NO_SUCH}:3128", "NO_SUCH is not set"),
    ] {
        let keys = format!("proxy = {typed:?}");
        for setup in [
            Setup::new().http("up", INSIDE, "").gateway(&keys),
            Setup::new().http("up", INSIDE, &keys),
            Setup::new().backend("echo", &[], &keys),
        ] {
            let (code, said) = setup.refused(&[]);
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(shown) || said.contains("has no proxy"), "{said}");
        }
    }
    let setup = Setup::new().http("up", INSIDE, "").gateway("proxy = \"environment\"");
    let (code, said) = setup.env("HTTP_PROXY", "://").refused(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("HTTP_PROXY does not hold the URL of a proxy"), "{said}");
}
