//! The same as an operator meets it: the gateway says which plugin it was and why, and goes on.

use crate::support::{Gateway, Setup, reason};

use super::*;

/// The piece of the file that has a guard of one's own.
fn entry(name: &str, wasm: &std::path::Path, more: &str) -> String {
    format!("[[plugins]]\nname = {name:?}\nstage = \"guard\"\nwasm = {:?}\n{more}\n", wasm.to_str().unwrap())
}

const GENEROUS: &str = "limits = { deadline_ms = 10000 }";

#[test]
fn a_gateway_full_of_hostile_guests_serves_on() {
    let guests = [
        ("leaks", guard().check("(i32.const 512)")),
        ("traps", guard().check("unreachable")),
        ("loops", guard().check("(loop (br 0)) unreachable")),
        ("points-away", guard().check("(call $drop (local.get $call)) (i32.const -8)")),
        ("traps-after", guard().after_check("unreachable")),
        (
            "eats",
            guard()
                .check("(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"),
        ),
        (
            "floods",
            guard().check(
                "(loop (call $emit (i32.const 2) (i32.const 1024) (i32.const 18)) (br 0)) unreachable",
            ),
        ),
    ];
    let mut setup = Setup::echo();
    let folder = setup.path("");
    for (name, guest) in &guests {
        let wasm = guest.write(&folder, name);
        setup = setup.more(&entry(name, &wasm, &format!("on_failure = \"allow\"\n{GENEROUS}")));
    }
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    gateway.ask("echo");
    let before = gateway.peak_memory();
    for _ in 0..30 {
        assert_eq!(gateway.ask("echo")["name"], "echo");
    }
    // Seven instances of 16 MiB at most, made anew for every call.
    let grown = gateway.peak_memory().saturating_sub(before);
    assert!(grown < 160 << 10, "it grew by {grown} KiB");
    let log = gateway.log();
    for (name, _) in &guests {
        assert!(log.contains(&format!("plugin `{name}`")), "nobody was told of {name}: {log}");
    }
    assert!(log.contains("more than 16 MiB of memory"), "{log}");
}

#[test]
fn a_hostile_guard_refuses_and_does_not_let_pass() {
    let setup = Setup::echo();
    let wasm = guard().check("(i32.const -8)").write(&setup.path(""), "hostile");
    let mut gateway = Gateway::start(setup.more(&entry("hostile", &wasm, GENEROUS)));
    for _ in 0..3 {
        assert_eq!(reason(&gateway.call("echo", json!({}))), "plugin_failed");
    }
    assert_eq!(gateway.request("ping", &json!({}))["result"], json!({}));
}

#[test]
fn a_guest_that_cannot_be_born_keeps_the_gateway_from_starting() {
    let cases = [
        (
            "loops",
            guard().more("(func $start (loop (br 0))) (start $start)"),
            "it failed while it was being configured",
        ),
        ("traps", guard().configure("unreachable"), "it failed while it was being configured"),
        ("large", guard().memory("300"), "more than 16 MiB of memory"),
    ];
    for (name, guest, words) in cases {
        let setup = Setup::echo();
        let wasm = guest.write(&setup.path(""), name);
        let setup = setup.more(&entry(name, &wasm, GENEROUS));
        for arguments in [&["check"][..], &[]] {
            let (code, said) = setup.refused(arguments);
            assert_eq!(code, Some(2), "{name}: {said}");
            assert!(said.contains(name) && said.contains(words), "{name}: {said}");
        }
    }
}
