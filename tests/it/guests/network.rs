//! Outgoing HTTP: what was granted, to whom it was granted, for as long as it was granted.

use std::time::Duration;

use sentinel_gateway::config::HttpGrant;
use sentinel_gateway::plugin::{ArtifactError, load_artifact};

use super::*;
use crate::support::{Manner, Publisher, eventually};

const TIMEOUT: Duration = Duration::from_millis(500);

fn fetcher(config: Value, hosts: Option<&[&str]>) -> config::Plugin {
    let mut settings = settings("fetcher", Stage::Guard, config);
    settings.http = hosts.map(|hosts| HttpGrant {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        timeout: TIMEOUT,
        ..HttpGrant::default()
    });
    settings
}

/// What the guest refuses with, having asked at this address.
fn asked(url: &str, hosts: &[&str]) -> (String, String) {
    let plugin = load(&fetcher(json!({ "url": url }), Some(hosts)), &Store::new());
    let refusal = plugin.check(&call("order")).unwrap().unwrap_err();
    (refusal.reason, refusal.message)
}

#[test]
fn http_needs_the_manifest_and_the_grant() {
    let (_dir, wasm) = alone(&guest("fetcher"), None);
    let (interface, who, fix) =
        missing(load_from(&wasm, &fetcher(json!({}), Some(&["127.0.0.1"])), &Store::new()));
    assert!(interface.starts_with("wasi:http/"), "{interface}");
    assert_eq!(who, "its manifest does not ask for");
    assert!(fix.contains("http = true"), "{fix}");

    let mut settings = fetcher(json!({}), None);
    // WASI is inert; it gives no network.
    settings.grants = vec!["wasi".to_owned()];
    let (interface, who, fix) = missing(load_from(&guest("fetcher"), &settings, &Store::new()));
    assert!(interface.starts_with("wasi:http/"), "{interface}");
    assert_eq!(who, "the configuration does not grant");
    assert!(fix.contains("hosts = ["), "{fix}");
}

#[test]
fn a_granted_host_is_reached_and_no_other() {
    let publisher = Publisher::http("hello");
    let (url, address) = (publisher.url(), publisher.address());
    assert_eq!(asked(&url, &[address]), ("fetched".to_owned(), "200 hello".to_owned()));

    let other = Publisher::http("not for you");
    for hosts in [&["auth.example.com"][..], &["127.0.0.1"], &[other.address()]] {
        let (reason, message) = asked(&url, hosts);
        assert_eq!(reason, "failed", "{message}");
        assert!(message.contains("does not let this plugin go there"), "{message}");
    }
    // Plain HTTP to another machine, though it was granted.
    let (_, message) = asked("http://auth.example.com/", &["auth.example.com"]);
    assert!(message.contains("does not let this plugin go there"), "{message}");
    assert_eq!((publisher.asked(), other.asked()), (1, 0));
}

#[test]
fn a_redirect_is_an_answer_and_not_a_way() {
    let elsewhere = Publisher::http("gold");
    let publisher = Publisher::http("");
    publisher.behaves(Manner::Says(302, format!("location: {}\r\n", elsewhere.url()), "moved".to_owned()));
    let got = asked(&publisher.url(), &[publisher.address(), elsewhere.address()]);
    assert_eq!(got, ("fetched".to_owned(), "302 moved".to_owned()));
    assert_eq!(elsewhere.asked(), 0);
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let publisher = Publisher::http("");
    publisher.behaves(Manner::Hangs);
    let started = Instant::now();
    let (reason, message) = asked(&publisher.url(), &[publisher.address()]);
    assert_eq!((reason.as_str(), message.as_str()), ("failed", "no answer in time"));
    assert!(started.elapsed() >= TIMEOUT && started.elapsed() < BOUND, "{:?}", started.elapsed());
    publisher.behaves(Manner::Breaks);
    assert_eq!(asked(&publisher.url(), &[publisher.address()]).0, "failed");
}

#[test]
fn an_answer_has_a_bound() {
    let publisher = Publisher::http(&"x".repeat(2_000));
    for (bound, reason) in [(2_000, "fetched"), (1_999, "failed")] {
        let mut settings = fetcher(json!({ "url": publisher.url() }), Some(&[publisher.address()]));
        settings.limits.host_bytes = bound;
        let refusal = load(&settings, &Store::new()).check(&call("order")).unwrap().unwrap_err();
        assert_eq!(refusal.reason, reason, "{bound}: {}", refusal.message);
        assert_eq!(refusal.message == "the answer is too long", reason == "failed", "{}", refusal.message);
    }
}

#[test]
fn waiting_is_not_computing() {
    let mut settings = fetcher(json!({ "pause_ms": 300 }), Some(&["127.0.0.1"]));
    settings.limits.deadline_ms = 5;
    let refusal = load(&settings, &Store::new()).check(&call("order")).unwrap().unwrap_err();
    assert_eq!(refusal.reason, "waited");
}

#[test]
fn nobody_waits_for_ever_and_the_next_call_has_another_instance() {
    let plugin = load(&fetcher(json!({ "pause_ms": 60_000 }), Some(&["127.0.0.1"])), &Store::new());
    for _ in 0..2 {
        let started = Instant::now();
        let fault = fault_of(&plugin);
        assert!(matches!(&fault, Fault::Limit(why) if why.contains("waited longer than")), "{fault:?}");
        assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    }
}

#[test]
fn only_so_many_calls_wait_at_once_and_the_rest_are_refused() {
    let plugin = load(&fetcher(json!({ "pause_ms": 60_000 }), Some(&["127.0.0.1"])), &Store::new());
    let faults: Vec<Fault> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..40).map(|_| scope.spawn(|| fault_of(&plugin))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let saturated = faults.iter().filter(|fault| **fault == Fault::Saturated).count();
    assert!(saturated > 0 && saturated < faults.len(), "{faults:?}");
}

#[test]
fn requests_at_once_have_a_bound() {
    let publisher = Publisher::http("");
    publisher.behaves(Manner::Hangs);
    let mut settings = fetcher(json!({ "url": publisher.url() }), None);
    let hosts = vec![publisher.address().to_owned()];
    settings.http = Some(HttpGrant { hosts, max_requests: 1, ..HttpGrant::default() });
    let plugin = load(&settings, &Store::new());
    std::thread::scope(|scope| {
        scope.spawn(|| plugin.check(&call("order")).unwrap().unwrap_err());
        eventually("the first request", || (publisher.asked() == 1).then_some(()));
        let refusal = plugin.check(&call("order")).unwrap().unwrap_err();
        assert!(refusal.message.contains("too many requests"), "{}", refusal.message);
    });
}

#[test]
fn of_the_shipped_plugins_only_one_asks_for_more_than_the_contract() {
    let folder = crate::support::target().join("debug/plugins");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let artifact: Result<_, ArtifactError> = load_artifact(engine(), &path, None, None);
        let artifact = artifact.unwrap();
        let foreign: Vec<&String> =
            artifact.imports.iter().filter(|import| !import.starts_with("sentinel:plugin/")).collect();
        let jwks = path.file_stem().unwrap() == "auth-jwks";
        assert_eq!(
            (artifact.wasi.http, artifact.wasi.rest),
            (jwks, false),
            "{}: {foreign:?}",
            path.display()
        );
        assert_eq!(foreign.is_empty(), !jwks, "{}: {foreign:?}", path.display());
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}
