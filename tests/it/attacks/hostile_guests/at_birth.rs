//! What a guest does before it was ever asked: in its start section, in `configure`, by what it is.

use sentinel_gateway::plugin::{ArtifactError, Mismatch};

use super::written::{WORDS, whole};
use super::*;

#[test]
fn an_endless_loop_in_a_start_section_ends_with_its_steps() {
    let endless = guard().more("(func $start (loop (br 0))) (start $start)");
    assert!(matches!(stillborn("loop", &endless), Fault::Fuel { .. } | Fault::Deadline { .. }));
}

#[test]
fn a_start_section_that_traps_or_recurses_is_told() {
    let text = trap("trap", &stillborn("trap", &guard().more("(func $start unreachable) (start $start)")));
    assert!(text.contains("unreachable"), "{text}");
    let deep = guard().more("(func $start (call $start)) (start $start)");
    assert_eq!(limit("deep", &stillborn("deep", &deep)), "its stack overflowed");
    // The host's functions are not there yet when it starts.
    let early =
        guard().more("(func $start (call $emit (i32.const 2) (i32.const 0) (i32.const 1))) (start $start)");
    trap("early", &stillborn("early", &early));
}

#[test]
fn a_start_section_may_not_take_more_memory_than_any_other() {
    let hungry = guard()
        .memory("2 1000")
        .more(
            "(func $start (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)
            (start $start)",
        )
        .settings(|settings| settings.limits.memory_bytes = 4 << 20);
    assert_eq!(limit("hungry", &stillborn("hungry", &hungry)), "more than 4 MiB of memory");
}

#[test]
fn configure_logs_no_more_than_a_call_may() {
    let flood = |length: usize| {
        guard()
            .configure(&format!(
                "(loop (call $emit (i32.const 2) (i32.const {WORDS}) (i32.const {length})) (br 0)) unreachable"
            ))
            .settings(|settings| settings.limits.log_lines = 5)
    };
    let text = limit("flood", &stillborn("flood", &flood(18)));
    assert!(text.contains("bytes exchanged"), "{text}");
    // Lines without a single byte end with its time or its steps.
    assert!(matches!(stillborn("empty lines", &flood(0)), Fault::Fuel { .. } | Fault::Deadline { .. }));
}

#[test]
fn configure_may_neither_compute_nor_exchange_without_end() {
    let endless = guard().configure("(loop (br 0)) unreachable");
    assert!(matches!(stillborn("loop", &endless), Fault::Fuel { .. } | Fault::Deadline { .. }));
    // Keys of shared state, each 1000 bytes.
    let keys = guard().configure(
        "(loop (call $add (i32.const 1024) (i32.const 1000) (i32.const 1) (i32.const 1000) (i32.const 512)) (br 0))
        unreachable",
    );
    let text = limit("keys", &stillborn("keys", &keys));
    assert!(text.contains("bytes exchanged"), "{text}");
    // Half a million mistakes, all of them empty.
    let mistakes = guard().memory("256").configure(
        "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const 65536))
            (i32.store (i32.const 520) (i32.const 500000)) (i32.const 512)",
    );
    let text = limit("mistakes", &stillborn("mistakes", &mistakes));
    assert!(text.contains("bytes exchanged"), "{text}");
    // A list far beyond its memory.
    let beyond = guard().configure(
        "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const 65536))
        (i32.store (i32.const 520) (i32.const 0x7fffffff)) (i32.const 512)",
    );
    trap("beyond", &stillborn("beyond", &beyond));
}

#[test]
fn memories_and_tables_count_together() {
    let settings = |written: Written| {
        written.settings(|settings| {
            settings.limits.memory_bytes = 16 << 20;
            settings.limits.table_elements = 10_000;
        })
    };
    // 100 pages are 6.25 MiB.
    let memories = settings(guard().memory("100").more("(memory 100) (memory 100)"));
    let together = ended_at_birth("memories", memories.load_checked());
    assert_eq!(limit("memories", &together), "more than 16 MiB of memory");
    // Where addresses keep them apart, a module may have one, and is not even compiled.
    let said = memories.load().unwrap_err().to_string();
    assert!(said.contains("memories") && said.contains("limit of 1"), "{said}");
    let tables = settings(guard().more("(table 6000 funcref) (table 6000 funcref)"));
    assert_eq!(
        limit("tables", &ended_at_birth("tables", tables.load_checked())),
        "more than 10000 table elements"
    );
    // Within them all is well, and what one has the other has not.
    let both = settings(
        guard()
            .memory("100")
            .more("(memory $other 100) (table $one 4000 funcref) (table 4000 funcref)")
            .check(
                "(call $drop (local.get $call))
                (drop (memory.grow $other (i32.const 60))) (drop (memory.grow 0 (i32.const 60)))
                (if (i32.eq (table.grow $one (ref.null func) (i32.const 3000)) (i32.const -1)) (then unreachable))
                (i32.const 512)",
            ),
    );
    let text = limit("both", &fault("both", &both.load_checked().unwrap()));
    assert_eq!(text, "more than 10000 table elements");
}

/// A component that has these two interfaces of the contract, and every function of them a `func() -> u32`.
fn of_numbers(instances: &str) -> String {
    format!(
        "(component
            (core module $m (memory (export \"m\") 100) (func (export \"f\") (result i32) (i32.const 7)))
            {instances}
            (core instance $a (instantiate $m))
            (func $f (result u32) (canon lift (core func $a \"f\")))
            (instance $x (export \"check\" (func $f)) (export \"settle\" (func $f)))
            (instance $y (export \"configure\" (func $f)))
            (export \"sentinel:plugin/lifecycle@0.1.0\" (instance $y))
            (export \"sentinel:plugin/admission@0.1.0\" (instance $x)))"
    )
}

#[test]
fn all_modules_of_a_component_share_one_limit() {
    match whole(&of_numbers(&"(core instance (instantiate $m))".repeat(2))) {
        Err(LoadError::Start(Fault::Limit(text))) => assert_eq!(text, "more than 16 MiB of memory"),
        other => panic!("{other:?}"),
    }
    // More instances than any component of ours has.
    let many = of_numbers(&"(core instance (instantiate $m))".repeat(200))
        .replace("(memory (export \"m\") 100)", "");
    assert!(whole(&many).is_err());
    the_others_go_on("many instances");
}

/// What an artifact is refused for: the interface that is not ours, and why.
fn other_interface(loaded: Result<Plugin, LoadError>) -> (&'static str, String) {
    match loaded {
        Err(LoadError::Interface(Mismatch { interface, reason })) => (interface, reason),
        other => panic!("not refused for an interface: {other:?}"),
    }
}

#[test]
fn an_interface_of_another_type_is_named() {
    let (interface, _) = other_interface(whole(&of_numbers("")));
    assert_eq!(interface, "lifecycle");
    // Half of an interface is none, either.
    let half = of_numbers("").replace("(export \"settle\" (func $f))", "");
    let (interface, reason) = other_interface(whole(&half));
    assert!(interface == "admission" && reason.contains("settle"), "{interface}: {reason}");
    // Made for the contract as it was before a guard could ask for approvals; every other interface is the same.
    let (interface, reason) = other_interface(
        guard().contract("result<verdict, refusal>", "result<option<permit>, refusal>").load(),
    );
    assert!(
        interface == "admission" && reason.contains("expected `variant` found `option`"),
        "{interface}: {reason}"
    );
    the_others_go_on("another type");
}

#[test]
fn an_artifact_without_lifecycle_or_with_more_than_the_gateway_knows_is_refused() {
    let without = of_numbers("").replace("(export \"sentinel:plugin/lifecycle@0.1.0\" (instance $y))", "");
    let error = whole(&without).unwrap_err();
    assert!(matches!(error, LoadError::Artifact(ArtifactError::NoLifecycle)), "{error:?}");
    let newer = of_numbers("").replace(
        "(export \"sentinel:plugin/lifecycle@0.1.0\" (instance $y))",
        "(export \"sentinel:plugin/lifecycle@0.1.0\" (instance $y))
        (export \"sentinel:plugin/routing@0.1.7\" (instance $y))",
    );
    let error = whole(&newer).unwrap_err();
    assert!(error.to_string().contains("sentinel:plugin/routing@0.1.7"), "{error}");
}
