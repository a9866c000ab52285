//! What crosses the border and is not what the contract says: handles, pointers, discriminants, strings.

use sentinel_gateway::call::{Outcome, TargetKind};
use sentinel_gateway::plugin::Row;
use sentinel_names::Names;

use super::written::{WORDS, list_filter};
use super::*;

/// The one row that is listed.
const ORDER: Names<'static> = Names { shown: "order", own: "order", backend: "shop" };

/// The guest refuses, with these stores into its result at 512 and all else zero.
fn answering(stores: &[(usize, u64)]) -> Written {
    let stores: String = stores
        .iter()
        .map(|(at, value)| {
            format!("(i64.store (i32.const {}) (i64.const {}))", 512 + at, value.cast_signed())
        })
        .collect();
    guard().check(&format!("(call $drop (local.get $call)) {stores} (i32.const 512)"))
}

/// A text as it stands in a result: where, and how long.
fn words(at: u64, length: u64) -> u64 {
    at | length << 32
}

#[test]
fn handles_are_checked_when_they_are_given_back_and_when_they_are_not() {
    let cases = [
        ("leaked", "(i32.const 512)"),
        ("dropped twice", "(call $drop (local.get $call)) (call $drop (local.get $call)) (i32.const 512)"),
        (
            "used after it was dropped",
            "(call $drop (local.get $call)) (call $name (local.get $call) (i32.const 600)) (i32.const 512)",
        ),
        ("somebody else's", "(call $drop (i32.add (local.get $call) (i32.const 1))) (i32.const 512)"),
        ("nobody's", "(call $name (i32.const -1) (i32.const 600)) (i32.const 512)"),
    ];
    for (name, check) in cases {
        trap(name, &fault(name, &guard().check(check).loaded(name)));
    }
}

#[test]
fn a_handle_ends_with_the_call_it_was_borrowed_for() {
    // The first call keeps the number; every later one asks by it, in the place of its own.
    let plugin = guard()
        .more("(global $kept (mut i32) (i32.const -1))")
        .check(
            "(if (i32.eq (global.get $kept) (i32.const -1))
                (then (global.set $kept (local.get $call)) (call $drop (local.get $call)))
                (else
                    (call $drop (local.get $call))
                    (call $name (global.get $kept) (i32.const 600))))
            (i32.const 512)",
        )
        .loaded("kept");
    assert!(matches!(plugin.check(&call("order")), Ok(Ok(Verdict::Allow(None)))));
    trap("kept", &plugin.check(&call("order")).unwrap_err().fault);
    the_others_go_on("kept");
}

#[test]
fn pointers_to_results_are_checked() {
    for (name, pointer) in
        [("far away", "-8"), ("at the end", "131068"), ("one past the end", "131072"), ("unaligned", "515")]
    {
        let check = format!("(call $drop (local.get $call)) (i32.const {pointer})");
        trap(name, &fault(name, &guard().check(&check).loaded(name)));
        trap(
            name,
            &stillborn(name, &guard().configure(&format!("(i32.const {})", pointer.replace("515", "513")))),
        );
    }
}

#[test]
fn discriminants_that_do_not_exist_are_refused() {
    for (name, stores) in [
        ("result", &[(0, 7)][..]),
        ("verdict", &[(8, 9)]),
        ("option", &[(16, 9)]),
        ("risk", &[(8, 1), (32, 3)]),
        ("option of a refusal", &[(0, 1), (24, 255)]),
    ] {
        trap(name, &fault(name, &answering(stores).loaded(name)));
    }
    let level = "(call $drop (local.get $call)) (call $emit (i32.const 99) (i32.const 1024) (i32.const 5)) (i32.const 512)";
    trap("level", &fault("level", &guard().check(level).loaded("level")));
}

#[test]
fn texts_are_where_they_say_and_what_they_say() {
    let bad = format!("(data (i32.const {}) \"\\ff\\fe\\c0\\80\")", WORDS + 64);
    let invalid = words((WORDS + 64) as u64, 4);
    let plugin = answering(&[(0, 1), (8, invalid)]).more(&bad).loaded("invalid");
    trap("invalid", &fault("invalid", &plugin));
    for (name, place) in [
        ("far away", words(0xffff_fff0, 4)),
        ("across the end", words(131_070, 4)),
        ("longer than memory", words(0, 0xffff_ffff)),
    ] {
        trap(name, &fault(name, &answering(&[(0, 1), (8, place)]).loaded(name)));
        let (at, length) = (place & 0xffff_ffff, place >> 32);
        let emit = format!(
            "(call $drop (local.get $call)) (call $emit (i32.const 2) (i32.const {at}) (i32.const {length})) (i32.const 512)"
        );
        trap(name, &fault(name, &guard().check(&emit).loaded(name)));
    }
    let emit = format!(
        "(call $drop (local.get $call)) (call $emit (i32.const 4) (i32.const {}) (i32.const 4)) (i32.const 512)",
        WORDS + 64
    );
    trap("invalid line", &fault("invalid line", &guard().check(&emit).more(&bad).loaded("invalid line")));
}

#[test]
fn realloc_is_not_believed() {
    // It is asked for room for the configuration, before anything else.
    for (name, realloc) in [
        ("far away", "(i32.const -16)"),
        ("one past the end", "(i32.const 131072)"),
        ("across the end", "(i32.const 131071)"),
        ("trap", "unreachable"),
    ] {
        trap(name, &stillborn(name, &guard().realloc(realloc)));
    }
    let endless = guard().realloc("(loop (br 0)) unreachable");
    assert!(matches!(stillborn("endless", &endless), Fault::Fuel { .. } | Fault::Deadline { .. }));
    // A list of entries must be aligned; a text need not be.
    let unaligned = list_filter()
        .realloc("(if (result i32) (i32.gt_u (local.get $align) (i32.const 1)) (then (i32.const 8193)) (else (i32.const 8192)))")
        .loaded("unaligned");
    let row = Row { kind: TargetKind::Tool, names: ORDER };
    let error = unaligned.visible(&call("order"), &[row]).unwrap_err();
    trap("unaligned", &error.fault);
    the_others_go_on("unaligned");
}

#[test]
fn what_comes_after_the_answer_counts_as_well() {
    for (name, after) in [("trap", "unreachable"), ("endless", "(loop (br 0))")] {
        let plugin =
            guard().after_check(after).settings(|settings| settings.limits.fuel = 100_000).loaded(name);
        match fault(name, &plugin) {
            Fault::Trap(text) => assert!(name == "trap" && text.contains("unreachable"), "{text}"),
            Fault::Fuel { .. } => assert_eq!(name, "endless"),
            other => panic!("{other:?}"),
        }
        let born = stillborn(name, &guard().after_configure(after));
        assert!(matches!(born, Fault::Trap(_) | Fault::Fuel { .. } | Fault::Deadline { .. }), "{born:?}");
    }
    // It may not call anybody then.
    let calling =
        guard().after_check("(call $emit (i32.const 2) (i32.const 1024) (i32.const 5))").loaded("calling");
    trap("calling", &fault("calling", &calling));
}

#[test]
fn a_list_of_answers_may_have_no_other_length_and_no_size_of_its_own_choice() {
    let row = || [Row { kind: TargetKind::Tool, names: ORDER }];
    let answers = |length: u32| {
        list_filter()
            .memory("200")
            .check(&format!(
                "(call $drop (local.get $call)) (i32.store (i32.const 512) (i32.const 1024))
                (i32.store (i32.const 516) (i32.const {length})) (i32.const 512)"
            ))
            .loaded("answers")
    };
    let fault = |length| answers(length).visible(&call("order"), &row()).unwrap_err().fault;
    assert_eq!(fault(0), Fault::Answers { got: 0, want: 1 });
    assert_eq!(fault(1000), Fault::Answers { got: 1000, want: 1 });
    let text = limit("ten million", &fault(10_000_000));
    assert!(text.contains("bytes exchanged"), "{text}");
    trap("beyond", &fault(u32::MAX >> 1));
    the_others_go_on("answers");
}

#[test]
fn a_fault_in_settle_is_a_fault_of_settle() {
    let plugin = guard().loaded("settle");
    plugin.settle(&call("order"), 1, Outcome::Success, std::time::Duration::ZERO).unwrap();
    let permitting = answering(&[(16, 1), (24, 42)]).loaded("permit");
    assert_eq!(
        permitting.check(&call("order")).unwrap().unwrap(),
        Verdict::Allow(Some(42)),
        "the suite's own layout of a result is right"
    );
}
