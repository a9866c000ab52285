//! The same for who says who is calling, and for who changes messages.

use sentinel_gateway::call::{Credential, TargetKind};
use sentinel_gateway::plugin::PluginResult;

use super::written::{authenticator, rewriter};
use super::*;

fn credential() -> Arc<Credential> {
    Arc::new(Credential { door: "http", bearer: Some("token".to_owned()), attrs: Vec::new() })
}

/// What a call comes to, twice: the second is made by another instance.
fn faults<T: std::fmt::Debug>(name: &str, ask: impl Fn() -> PluginResult<T>) -> Fault {
    let faults = [(); 2].map(|()| {
        let error = ask().expect_err(name);
        the_others_go_on(name);
        error.fault
    });
    assert_eq!(faults[0], faults[1], "{name}");
    faults[0].clone()
}

/// Stores into the result at 512; all else is zero.
fn stores(stores: &[(usize, u64)]) -> String {
    let store = |(at, value): &(usize, u64)| {
        format!("(i64.store (i32.const {}) (i64.const {}))", 512 + at, value.cast_signed())
    };
    stores.iter().map(store).collect()
}

/// A text or a list as it stands in a result: where, and how much of it.
fn many(at: u64, count: u64) -> u64 {
    at | count << 32
}

#[test]
fn nobody_is_let_in_by_an_authenticator_that_fails() {
    let drop = "(call $drop-request (local.get $request))";
    let accepting = |more: &[(usize, u64)]| {
        // `ok`, `accepted`, and a name; then whatever else.
        let result = stores(&[(8, 1), (16, many(1024, 5)), (24, many(1024, 5))]) + &stores(more);
        authenticator().check(&format!("{drop} {result} (i32.const 512)")).loaded("accepting")
    };
    let good = accepting(&[]).authenticate(&credential());
    assert!(matches!(good, Ok(Ok(sentinel_gateway::plugin::Auth::Accepted { .. }))), "{good:?}");
    for (name, more) in [
        ("a discriminant that does not exist", (8, 9)),
        ("a name far away", (16, many(0xffff_fff0, 4))),
        ("a name longer than memory", (16, many(0, 0xffff_ffff))),
        ("a role across the end", (24, many(131_070, 4))),
        ("claims beyond memory", (88, many(0, 0x0fff_ffff))),
        ("unaligned claims", (88, many(1025, 1))),
    ] {
        let plugin = accepting(&[more]);
        trap(name, &faults(name, || plugin.authenticate(&credential())));
    }
    for (name, check) in [
        ("leaked", "(i32.const 512)".to_owned()),
        ("dropped twice", format!("{drop} {drop} (i32.const 512)")),
        ("far away", format!("{drop} (i32.const -8)")),
        ("trap", "unreachable".to_owned()),
    ] {
        let plugin = authenticator().check(&check).loaded(name);
        trap(name, &faults(name, || plugin.authenticate(&credential())));
    }
    let endless = authenticator().check("(loop (br 0)) unreachable").loaded("endless");
    let fault = faults("endless", || endless.authenticate(&credential()));
    assert!(matches!(fault, Fault::Fuel { .. } | Fault::Deadline { .. }), "{fault:?}");
    // As many claims as its memory holds.
    let claims = authenticator()
        .memory("240")
        .check(&format!(
            "{drop} {} (i32.const 512)",
            stores(&[(8, 1), (16, many(1024, 5)), (88, many(65_536, 900_000))])
        ))
        .loaded("claims");
    let text = limit("claims", &faults("claims", || claims.authenticate(&credential())));
    assert!(text.contains("bytes exchanged"), "{text}");
}

#[test]
fn edits_of_a_rewriter_that_fails_are_none() {
    let drops = "(call $drop (local.get $call)) (call $drop-patch (local.get $patch))";
    // `words` is no pointer and no JSON, which is judged later; here it is only handed over.
    let set = "(call $set (local.get $patch) (i32.const 1024) (i32.const 5) (i32.const 1024) (i32.const 5))";
    let edit = |check: &str| rewriter().check(check).loaded("rewriter");
    let good = edit(&format!("{set} {drops} (i32.const 512)")).on_request(&call("order"));
    assert!(matches!(good, Ok(Ok(_))), "{good:?}");
    for (name, check) in [
        ("trap after an edit", format!("{set} unreachable")),
        ("a leaked patch", format!("{set} (call $drop (local.get $call)) (i32.const 512)")),
        ("an edit after it was dropped", format!("{drops} {set} (i32.const 512)")),
        ("the call as a patch", format!("{} (i32.const 512)", set.replace("$patch", "$call"))),
        (
            "a pointer far away",
            format!(
                "(call $set (local.get $patch) (i32.const -8) (i32.const 5) (i32.const 1024) (i32.const 5)) {drops} (i32.const 512)"
            ),
        ),
        ("a result far away", format!("{set} {drops} (i32.const -8)")),
    ] {
        let plugin = edit(&check);
        trap(name, &faults(name, || plugin.on_request(&call("order"))));
    }
    // One after the other, without end.
    let flood = rewriter()
        .check(&format!("(loop {set} (br 0)) unreachable"))
        .settings(|settings| settings.limits.fuel = u64::MAX / 2)
        .loaded("flood");
    let text = limit("flood", &faults("flood", || flood.on_request(&call("order"))));
    assert!(text.contains("more than 4096 edits"), "{text}");
}

#[test]
fn a_list_is_not_changed_beyond_its_end_or_without_end() {
    let backend: Arc<str> = "shop".into();
    let offers: Arc<[_]> = Arc::from(Vec::new());
    let drop = "(call $drop-catalog (local.get $catalog))";
    // An entry that is not there is nobody's.
    let beyond = rewriter()
        .catalog(&format!("(call $hide (local.get $catalog) (i32.const -1)) {drop} (i32.const 512)"))
        .loaded("beyond");
    let edits = beyond.on_catalog(&backend, TargetKind::Tool, &offers);
    assert!(matches!(edits, Ok(Ok(_))), "{edits:?}");
    let flood = rewriter()
        .catalog(
            "(loop (call $rename (local.get $catalog) (i32.const 0) (i32.const 1024) (i32.const 18)) (br 0)) unreachable",
        )
        .settings(|settings| settings.limits.fuel = u64::MAX / 2)
        .loaded("flood");
    let text = limit("flood", &faults("flood", || flood.on_catalog(&backend, TargetKind::Tool, &offers)));
    assert!(text.contains("bytes exchanged"), "{text}");
    // Hiding takes no text, and all the same it does not go on without end.
    let hides = rewriter()
        .catalog("(loop (call $hide (local.get $catalog) (i32.const 0)) (br 0)) unreachable")
        .loaded("hides");
    let fault = faults("hides", || hides.on_catalog(&backend, TargetKind::Tool, &offers));
    assert!(matches!(fault, Fault::Fuel { .. } | Fault::Deadline { .. } | Fault::Limit(_)), "{fault:?}");
}
