//! What a guest makes the host hold, move and log in one call, and over many.

use super::written::WORDS;
use super::*;

/// The layout of a refusal: one detail is two texts, sixteen bytes.
fn details(count: u32) -> Written {
    guard().memory("240").check(&format!(
        "(call $drop (local.get $call)) (i32.store8 (i32.const 512) (i32.const 1))
        (i32.store (i32.const 552) (i32.const 65536)) (i32.store (i32.const 556) (i32.const {count})) (i32.const 512)"
    ))
}

#[test]
fn memory_that_grows_from_call_to_call_ends_at_the_limit() {
    let plugin = guard()
        .check(
            "(call $drop (local.get $call))
            (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (i32.const 512)",
        )
        .settings(|settings| settings.limits.memory_bytes = 8 << 20)
        .loaded("grows");
    // Two pages at first, and seven times a MiB; then a new instance begins again.
    for _ in 0..2 {
        for _ in 0..7 {
            assert!(matches!(plugin.check(&call("order")), Ok(Ok(Verdict::Allow(None)))));
        }
        let error = plugin.check(&call("order")).unwrap_err();
        assert_eq!(error.fault, Fault::Limit("more than 8 MiB of memory".to_owned()));
    }
    the_others_go_on("grows");
}

#[test]
fn growth_that_fails_again_and_again_gives_nothing_back() {
    // It may declare 32 pages at most: each further try fails for its own reason, between successes of another memory.
    let plugin = guard()
        .memory("2 32")
        .more("(memory $other 1 100)")
        .check(
            "(local $grown i32)
            (call $drop (local.get $call))
            (loop $again
                (drop (memory.grow 0 (i32.const 31)))
                (if (i32.ne (memory.grow $other (i32.const 1)) (i32.const -1))
                    (then (local.set $grown (i32.add (local.get $grown) (i32.const 1))) (br $again))))
            (if (i32.ne (local.get $grown) (i32.const 13)) (then unreachable))
            (i32.const 512)",
        )
        .settings(|settings| settings.limits.memory_bytes = 1 << 20)
        .load_checked()
        .unwrap();
    // One MiB is 16 pages; it has three.
    assert!(
        matches!(plugin.check(&call("order")), Ok(Ok(Verdict::Allow(None)))),
        "a refusal it survives is no fault"
    );
    the_others_go_on("tries");
}

#[test]
fn a_refusal_may_have_details_but_not_a_million() {
    let few = details(10).loaded("few").check(&call("order")).unwrap().unwrap_err();
    assert_eq!(few.details.len(), 10);
    let text = limit("many", &fault("many", &details(900_000).loaded("many")));
    assert!(text.contains("bytes exchanged"), "{text}");
    trap("beyond", &fault("beyond", &details(0x0fff_ffff).loaded("beyond")));
}

/// What a person is asked is held to the same: the details of an approval request stand at 80 of the result, its reason
/// at 16.
#[test]
fn a_request_for_approval_may_have_details_but_not_a_million() {
    let asking = |count: u32| {
        guard().memory("240").check(&format!(
            "(call $drop (local.get $call)) (i32.store8 (i32.const 520) (i32.const 1))
            (i32.store (i32.const 592) (i32.const 65536)) (i32.store (i32.const 596) (i32.const {count})) (i32.const 512)"
        ))
    };
    match asking(10).loaded("few").check(&call("order")).unwrap().unwrap() {
        Verdict::Ask(request) => assert_eq!((request.details.len(), request.reason.as_str()), (10, "")),
        Verdict::Allow(permit) => panic!("it let the call pass: {permit:?}"),
    }
    let text = limit("many", &fault("many", &asking(900_000).loaded("many")));
    assert!(text.contains("bytes exchanged"), "{text}");
    trap("beyond", &fault("beyond", &asking(0x0fff_ffff).loaded("beyond")));
    let far = "(call $drop (local.get $call)) (i32.store8 (i32.const 520) (i32.const 1))
        (i32.store (i32.const 528) (i32.const -16)) (i32.store (i32.const 532) (i32.const 4)) (i32.const 512)";
    trap("reason far away", &fault("reason far away", &guard().check(far).loaded("far")));
}

#[test]
fn asking_is_charged_by_what_is_handed_over() {
    // The name of the tool, again and again; the room for it is the same each time.
    let plugin = guard()
        .realloc("(i32.const 8192)")
        .check("(loop (call $name (local.get $call) (i32.const 600)) (br 0)) unreachable")
        .settings(|settings| {
            settings.limits.host_bytes = 64 << 10;
            settings.limits.fuel = u64::MAX / 2;
        })
        .loaded("asks");
    let text = limit("asks", &fault("asks", &plugin));
    assert!(text.contains("more than 65536 bytes exchanged"), "{text}");
}

#[test]
fn lines_are_charged_whether_they_are_kept_or_not() {
    let plugin = guard()
        .check(&format!(
            "(loop (call $emit (i32.const 0) (i32.const {WORDS}) (i32.const 18)) (br 0)) unreachable"
        ))
        .settings(|settings| settings.limits.fuel = u64::MAX / 2)
        .loaded("chatters");
    let text = limit("chatters", &fault("chatters", &plugin));
    assert!(text.contains("bytes exchanged"), "{text}");
}

#[test]
fn a_line_as_long_as_memory_is_not_even_copied() {
    let plugin = guard()
        .memory("240")
        .check(
            "(call $drop (local.get $call))
            (call $emit (i32.const 4) (i32.const 0) (i32.const 15000000)) (i32.const 512)",
        )
        .loaded("long");
    let text = limit("long", &fault("long", &plugin));
    assert!(text.contains("bytes exchanged"), "{text}");
}
