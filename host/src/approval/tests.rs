//! The rules under random sequences with crashes, a hundred racers on one file, and every field of an action mutated.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::machine::Review;
use super::store::{Caps, Store};
use super::*;
use crate::call::{Call, Json, Principal, TargetKind, sample};
use crate::config;
use crate::files::Trust;
use crate::plugin::{ApprovalRequest, Threshold};
use crate::redact::Redaction;
use crate::state::Clock;

const CAPS: Caps = Caps { of_caller: 20, of_target: 20, in_all: 10_000 };

fn group(roles: &[&str], approve: u32, deny: u32) -> Group {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    Group { name: "owners".to_owned(), roles, approve, deny }
}

fn need(risk: Risk, groups: Vec<Group>) -> Need {
    Need {
        guard: "rbac".to_owned(),
        reason: "approval_required".to_owned(),
        summary: String::new(),
        risk,
        groups,
        details: Vec::new(),
        decide_ms: 1_000,
        run_ms: 500,
    }
}

fn person(subject: &str, role: &str) -> Person {
    Person { subject: subject.to_owned(), role: role.to_owned(), door: "control".to_owned() }
}

fn review(subject: &str, role: &str, vote: Vote, digest: &str, at_ms: u64) -> Review {
    Review { by: person(subject, role), vote, note: String::new(), at_ms, digest_seen: digest.to_owned() }
}

fn call(subject: &str, arguments: &str) -> Call {
    Call {
        params: Json::from(format!("{{\"name\":\"deploy\",\"arguments\":{arguments}}}")),
        ..sample::call(sample::principal(subject, "agent"), sample::tool("deploy", "prod"))
    }
}

fn draft<'a>(call: &'a Call, params: &'a str) -> Draft<'a> {
    Draft { endpoint: "", call, also: &[], params, headers: &[], body: None, resolved: None }
}

fn action(arguments: &str) -> Action {
    let call = call("ann", arguments);
    Action::new(&draft(&call, call.params.get())).unwrap()
}

fn fresh(action: &Action, needs: Vec<Need>, now_ms: u64) -> Approval {
    let id = format!("appr_{}", uuid::Uuid::now_v7().simple());
    Approval::new(id, action.digest().to_owned(), person("ann", "agent"), needs, 1, now_ms)
}

/// One step of a random story.
#[derive(Clone, Debug)]
enum Step {
    Review {
        who: usize,
        vote: Vote,
        right_digest: bool,
    },
    Consume {
        right_digest: bool,
        stricter: usize,
    },
    Cancel,
    Pass(u64),
    /// The gateway dies; what was written is read again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let vote = prop_oneof![3 => Just(Vote::Approve), 1 => Just(Vote::Reject)];
    prop_oneof![
        6 => (0..PEOPLE.len(), vote, prop::bool::weighted(0.9))
            .prop_map(|(who, vote, right_digest)| Step::Review { who, vote, right_digest }),
        3 => (prop::bool::weighted(0.9), 0..3_usize)
            .prop_map(|(right_digest, stricter)| Step::Consume { right_digest, stricter }),
        1 => Just(Step::Cancel),
        2 => (0..400_u64).prop_map(Step::Pass),
        1 => Just(Step::Crash),
    ]
}

/// The requester is among them, once as a lead.
const PEOPLE: [(&str, &str); 6] =
    [("ann", "agent"), ("ann", "lead"), ("bob", "lead"), ("cid", "lead"), ("dee", "owner"), ("eve", "guest")];

fn wanted(stricter: usize, base: &[Need]) -> Vec<Need> {
    match stricter {
        0 => base.to_vec(),
        1 => vec![need(Risk::High, vec![group(&["owner"], 2, 1)])],
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What holds in every story: at most one use, only after enough people who are not the requester and whose last word
    /// was yes, never after a rejection that counts, never out of a state that is final, never for another digest.
    #[test]
    fn no_story_runs_twice_or_without_the_people_it_needs(
        approve in 1..3_u32,
        deny in 1..3_u32,
        second in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut needs = vec![need(Risk::Medium, vec![group(&["lead"], approve, deny), group(&["owner"], 1, 1)])];
        if second {
            needs.push(need(Risk::Low, vec![group(&[], 2, 2)]));
        }
        let action = action("{}");
        let mut now = 10_000;
        let mut approval = fresh(&action, needs.clone(), now);
        let mut used = 0;
        for step in steps {
            let before = approval.clone();
            match step {
                Step::Review { who, vote, right_digest } => {
                    let (subject, role) = PEOPLE[who];
                    let digest = if right_digest { action.digest() } else { "sha256:00000000000000" };
                    let result = approval.review(review(subject, role, vote, digest, now));
                    if subject == "ann" {
                        let reason = result.unwrap_err().reason;
                        prop_assert!(reason == "self_approval" || (!right_digest && reason == "changed"));
                    } else if !right_digest {
                        prop_assert_eq!(result.unwrap_err().reason, "changed");
                    }
                }
                Step::Consume { right_digest, stricter } => {
                    let digest = if right_digest { action.digest() } else { "sha256:11" };
                    if approval.consume(digest, &wanted(stricter, &needs), "1-1", now).is_ok() {
                        used += 1;
                        prop_assert!(right_digest);
                        prop_assert_eq!(before.state, State::Approved);
                        prop_assert!(now < before.execute_by_ms.unwrap());
                        let owners: HashSet<_> =
                            before.reviews.iter().filter(|it| it.by.role == "owner").map(|it| &it.by.subject).collect();
                        prop_assert!(stricter != 1 || owners.len() >= 2, "by stricter rules");
                    }
                }
                Step::Cancel => drop(approval.cancel("enough", now)),
                Step::Pass(ms) => now += ms,
                Step::Crash => {
                    let written = serde_json::to_string(&approval).unwrap();
                    let again: Approval = serde_json::from_str(&written).unwrap();
                    prop_assert_eq!(&again, &approval);
                    approval = again;
                }
            }
            if before.state.is_final() {
                prop_assert_eq!(approval.state, before.state, "out of a final state");
            }
            if before.state == State::Pending && approval.state == State::Approved {
                prop_assert!(now < before.decide_by_ms, "after its time");
                let last = |subject: &str| approval.reviews.iter().rev().find(|r| r.by.subject == subject).map(|r| r.vote);
                for need in &needs {
                    let met = need.groups.iter().any(|group| {
                        let yes = PEOPLE[2..].iter().filter(|(subject, role)| {
                            group.takes(role) && last(subject) == Some(Vote::Approve)
                        }).count();
                        yes >= group.approve as usize
                    });
                    prop_assert!(met, "{:?}", approval);
                }
            }
            prop_assert!(approval.reviews.iter().all(|review| review.by.subject != "ann"));
            prop_assert!(used <= 1);
        }
    }
}

#[test]
fn a_rejection_counts_before_an_approval_and_the_last_word_of_a_person_counts() {
    let action = action("{}");
    let mut approval = fresh(&action, vec![need(Risk::High, vec![group(&["lead"], 2, 1)])], 0);
    assert_eq!(
        approval.review(review("bob", "lead", Vote::Approve, action.digest(), 1)).unwrap(),
        State::Pending
    );
    assert_eq!(
        approval.review(review("bob", "lead", Vote::Approve, action.digest(), 2)).unwrap(),
        State::Pending
    );
    assert_eq!(approval.reviews.len(), 1, "the same again is nothing new");
    assert_eq!(
        approval.review(review("bob", "lead", Vote::Reject, action.digest(), 3)).unwrap(),
        State::Rejected
    );
    let late = approval.review(review("cid", "lead", Vote::Approve, action.digest(), 4)).unwrap_err();
    assert_eq!(late.reason, "already_decided");
    assert_eq!(approval.over().reason, "rejected");
}

#[test]
fn the_digest_has_to_be_repeated_with_at_least_twelve_digits() {
    let action = action("{}");
    let digits = action.digest().strip_prefix("sha256:").unwrap();
    for (seen, good) in [
        (action.digest().to_owned(), true),
        (digits[..12].to_uppercase(), true),
        (digits[..11].to_owned(), false),
        (String::new(), false),
        ("sha256:".to_owned(), false),
        (format!("{digits}0"), false),
    ] {
        let mut approval = fresh(&action, vec![need(Risk::Low, vec![group(&[], 1, 1)])], 0);
        let result = approval.review(review("bob", "lead", Vote::Approve, &seen, 1));
        assert_eq!(result.is_ok(), good, "{seen}");
    }
}

#[test]
fn every_field_of_an_action_is_in_its_digest() {
    let first = call("ann", r#"{"a":1,"b":["x"]}"#);
    let base = draft(&first, first.params.get());
    let digest = |draft: &Draft<'_>| Action::new(draft).unwrap().digest().to_owned();
    let own = digest(&base);
    let mut seen = HashSet::from([own.clone()]);
    let change = |change: &dyn Fn(&mut Call)| {
        let mut other = first.clone();
        change(&mut other);
        other
    };
    let principal = |edit: &dyn Fn(&mut Principal)| {
        change(&|call| {
            let mut who = Principal::clone(&call.principal);
            edit(&mut who);
            call.principal = Arc::new(who);
        })
    };
    let calls = [
        change(&|call| call.method = "prompts/get".to_owned()),
        change(&|call| call.target.name = "deploy2".into()),
        change(&|call| call.target.backend = "test".into()),
        change(&|call| call.target.upstream = "other".into()),
        change(&|call| call.target.kind = TargetKind::Command),
        principal(&|who| who.subject = "bob".to_owned()),
        principal(&|who| who.role = "admin".to_owned()),
        principal(&|who| who.issuer = Some("https://a".to_owned())),
        principal(&|who| who.claims.push(("client_id".to_owned(), "x".to_owned()))),
    ];
    for other in &calls {
        assert!(seen.insert(digest(&draft(other, first.params.get()))), "{other:?}");
    }
    for params in [
        r#"{"name":"deploy","arguments":{"a":2,"b":["x"]}}"#,
        r#"{"name":"deploy","arguments":{"a":1,"b":["x "]}}"#,
        r#"{"name":"deploy","arguments":{"a":1,"b":["x","x"]}}"#,
        r#"{"name":"deploy","arguments":{"a":1,"b":["x"],"c":null}}"#,
        r#"{"name":"deploy","arguments":{"a":9007199254740993,"b":["x"]}}"#,
        r#"{"name":"deploy","arguments":{"a":9007199254740992,"b":["x"]}}"#,
        r#"{"name":"deploy","arguments":{"a":"1","b":["x"]}}"#,
        r#"{"name":"deploy","arguments":{"a":1,"b":["x"]},"_meta":{"acme/mode":"fast"}}"#,
        r#"{"name":"deploy","arguments":{"a":1,"b":["x"]},"task":{}}"#,
    ] {
        assert!(seen.insert(digest(&Draft { params, ..base })), "{params}");
    }
    let headers = [("x-a".to_owned(), "b".to_owned())];
    assert!(seen.insert(digest(&Draft { headers: &headers, ..base })));
    assert!(seen.insert(digest(&Draft { body: Some(b"a"), ..base })));
    assert!(seen.insert(digest(&Draft { body: Some(b"b"), ..base })));
    assert!(seen.insert(digest(&Draft { endpoint: "/mcp/dev", ..base })));
    assert!(seen.insert(digest(&Draft { resolved: Some("{\"exe\":\"ab\"}"), ..base })));
    let also = [first.target.clone()];
    assert!(seen.insert(digest(&Draft { also: &also, ..base })));
    // Spelled otherwise and with what belongs to one request it is the same.
    for params in [
        r#"{ "arguments" : { "b" : ["\u0078"], "a" : 1.0 }, "name" : "deploy" }"#,
        r#"{"name":"deploy","arguments":{"a":1,"b":["x"]},"_meta":{"progressToken":7}}"#,
        r#"{"name":"deploy","arguments":{"a":1,"b":["x"]},"_meta":{"io.modelcontextprotocol/clientInfo":{"name":"c"},"traceparent":"00"}}"#,
    ] {
        assert_eq!(digest(&Draft { params, ..base }), own, "{params}");
    }
    for (params, reason) in [
        (r#"{"arguments":{"a":1e300}}"#, "not_exact"),
        (r#"{"arguments":{"a":100000000000000000000}}"#, "not_exact"),
        ("{", "not_exact"),
    ] {
        assert_eq!(Action::new(&Draft { params, ..base }).unwrap_err().reason, reason, "{params}");
    }
    let long = format!("{{\"arguments\":{{\"a\":{:?}}}}}", "x".repeat(MAX_ACTION));
    assert_eq!(Action::new(&Draft { params: &long, ..base }).unwrap_err().reason, "too_large");
}

#[test]
fn what_runs_is_what_is_stored_with_what_belongs_to_the_present_request() {
    let stored = r#"{"name":"deploy","arguments":{"n":1.0}}"#;
    let present = r#"{"arguments":{"n":1,"evil":true},"name":"deploy","_meta":{"progressToken":"p","acme/mode":"fast","sentinel-gateway/approval":"appr_x"}}"#;
    let runs = action::joined(stored, present).unwrap();
    let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
    assert_eq!(
        runs,
        serde_json::json!({"name": "deploy", "arguments": {"n": 1.0}, "_meta": {"progressToken": "p"}})
    );
    assert_eq!(named(present).as_deref(), Some("appr_x"));
}

#[test]
fn a_guards_wishes_are_held_to_the_operators_limits() {
    let settings =
        config::Approvals { approvers: vec!["lead".to_owned()], approve: 2, ..config::Approvals::default() };
    let mut request = ApprovalRequest {
        reason: "r".to_owned(),
        summary: "s".repeat(10_000),
        risk: Risk::High,
        thresholds: Vec::new(),
        decide_within: Some(Duration::from_secs(1_000_000)),
        run_within: Some(Duration::ZERO),
        details: vec![("a".to_owned(), "b".to_owned()); 100],
    };
    let made = Need::new("g", &request, &settings, &Redaction::default());
    assert_eq!(made.groups, [Group { name: "approvers".to_owned(), ..group(&["lead"], 2, 1) }]);
    assert_eq!((made.decide_ms, made.run_ms), (900_000, 1_000));
    assert!(made.summary.len() < 600 && made.details.len() == 16);
    let threshold = Threshold { name: "t".to_owned(), roles: Vec::new(), approve: 1, deny: 3 };
    request.thresholds.push(threshold);
    let made = Need::new("g", &request, &settings, &Redaction::default());
    assert_eq!(made.groups, [Group { name: "t".to_owned(), ..group(&["lead"], 1, 3) }]);
}

fn stores(dir: &tempfile::TempDir, count: usize) -> Vec<Store> {
    let path = dir.path().join("approvals.db");
    (0..count).map(|_| Store::open(&path, &Trust::default()).unwrap()).collect()
}

fn private_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("approvals").tempdir().unwrap()
}

/// One hundred at once, over several connections to one file as several gateways have them: one decision, one use.
#[test]
fn a_hundred_racers_decide_and_consume_once() {
    let dir = private_dir();
    let stores = stores(&dir, 4);
    for round in 0..3 {
        let action = action(&format!("{{\"round\":{round}}}"));
        let needs = vec![need(Risk::Low, vec![group(&[], 1, 1)])];
        let asked: HashSet<String> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..100)
                .map(|racer| {
                    let (store, action, needs) = (&stores[racer % 4], &action, needs.clone());
                    scope.spawn(move || {
                        let new = fresh(action, needs, 1_000);
                        store.ask(action, ("prod", "deploy"), CAPS, new, 1_000).unwrap().unwrap().id
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(asked.len(), 1, "identical requests are one");
        let id = asked.into_iter().next().unwrap();
        let decided: Vec<State> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..100)
                .map(|racer| {
                    let (store, id, digest) = (&stores[racer % 4], &id, action.digest());
                    scope.spawn(move || {
                        let vote = if racer % 2 == 0 { Vote::Approve } else { Vote::Reject };
                        let who = format!("lead-{racer}");
                        let review = review(&who, "lead", vote, digest, 1_001);
                        store.change(id, |approval| approval.review(review)).unwrap().unwrap().result.ok()
                    })
                })
                .collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(decided.len(), 1, "the first decides: {decided:?}");
        let uses = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..100)
                .map(|racer| {
                    let (store, id, digest, needs) = (&stores[racer % 4], &id, action.digest(), &needs);
                    scope.spawn(move || {
                        let call = format!("1-{racer}");
                        let used = store.change(id, |approval| approval.consume(digest, needs, &call, 1_002));
                        used.unwrap().unwrap().result.is_ok()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).filter(|used| *used).count()
        });
        assert_eq!(uses, usize::from(decided[0] == State::Approved));
    }
}

#[test]
fn a_request_that_ended_is_asked_anew_and_a_rejection_holds_until_its_time() {
    let dir = private_dir();
    let store = stores(&dir, 1).remove(0);
    let action = action("{}");
    let needs = || vec![need(Risk::Low, vec![group(&[], 1, 1)])];
    let ask = |now| {
        let new = fresh(&action, needs(), now);
        store.ask(&action, ("prod", "deploy"), CAPS, new, now).unwrap().unwrap()
    };
    let first = ask(0);
    assert_eq!(ask(999).id, first.id);
    let second = ask(1_000);
    assert_ne!(second.id, first.id, "its time was over");
    assert_eq!(store.find(&first.id, 1_000).unwrap().unwrap().0.state, State::Expired);
    let no = review("bob", "lead", Vote::Reject, action.digest(), 1_500);
    store.change(&second.id, |approval| approval.review(no)).unwrap().unwrap().result.unwrap();
    assert_eq!(ask(1_600).state, State::Rejected, "nobody is asked again at once");
    assert_eq!(ask(2_000).state, State::Pending);
    // Stricter rules: the request that waits is replaced.
    let waiting = ask(2_001);
    let stricter = fresh(&action, vec![need(Risk::High, vec![group(&["owner"], 2, 1)])], 2_002);
    let replaced = store.ask(&action, ("prod", "deploy"), CAPS, stricter, 2_002).unwrap().unwrap();
    assert_ne!(replaced.id, waiting.id);
    assert_eq!(store.find(&waiting.id, 2_002).unwrap().unwrap().0.state, State::Cancelled);
    assert_eq!(ask(2_003).id, replaced.id, "weaker rules do not weaken what waits");
}

#[test]
fn a_caller_has_so_many_requests_open_and_no_more() {
    let dir = private_dir();
    let store = stores(&dir, 1).remove(0);
    let caps = Caps { of_caller: 5, of_target: 3, in_all: 6 };
    let ask = |subject: &str, target: &str, number: u32, now| {
        let action = action(&format!("{{\"n\":\"{subject} {target} {number}\"}}"));
        let new = Approval {
            requester: person(subject, "agent"),
            ..fresh(&action, vec![need(Risk::Low, vec![group(&[], 1, 1)])], now)
        };
        store.ask(&action, ("prod", target), caps, new, now).unwrap().map_err(|refusal| refusal.reason)
    };
    for number in 0..3 {
        ask("ann", "a", number, 0).unwrap();
    }
    assert_eq!(ask("ann", "a", 3, 0).unwrap_err(), "too_many_pending");
    ask("ann", "b", 0, 0).unwrap();
    ask("ann", "b", 1, 0).unwrap();
    assert_eq!(ask("ann", "c", 0, 0).unwrap_err(), "too_many_pending");
    ask("bob", "a", 0, 0).unwrap();
    assert_eq!(ask("cid", "a", 0, 0).unwrap_err(), "too_many_pending", "in all");
    ask("ann", "c", 0, 1_000).unwrap();
    assert_eq!(store.list(false, 100, 1_000).unwrap().len(), 1, "those whose time is over make room");
    assert_eq!(store.list(true, 100, 1_000).unwrap().len(), 7);
    assert_eq!(store.forget(1_001).unwrap(), 6);
}

#[test]
fn ten_thousand_that_wait_are_listed_quickly() {
    let dir = private_dir();
    let store = stores(&dir, 1).remove(0);
    // Waiting for the disk ten thousand times is not what is looked at.
    let approvals = (0..10_000).map(|number| {
        let action = action(&format!("{{\"n\":{number}}}"));
        let new = fresh(&action, vec![need(Risk::Low, vec![group(&[], 1, 1)])], 0);
        (action, new)
    });
    store.fill(approvals);
    let began = Instant::now();
    let list = store.list(false, 10_000, 1).unwrap();
    let took = began.elapsed();
    assert_eq!(list.len(), 10_000);
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_file_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = private_dir();
    let path = dir.path().join("approvals.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Store::open(&path, &Trust::default()).unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    drop(Store::open(&path, &Trust::default()).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    assert!(Store::open(&path, &Trust::default()).unwrap_err().to_string().contains("newer gateway"));
}

#[tokio::test]
async fn a_decision_is_seen_by_the_call_that_waits_without_looking_again_and_again() {
    let dir = private_dir();
    let settings =
        config::Approvals { path: Some(dir.path().join("approvals.db")), ..config::Approvals::default() };
    let approvals = Approvals::new(settings, Trust::default(), Clock::real(), Redaction::default());
    let call = call("ann", "{}");
    let request = ApprovalRequest {
        reason: "r".to_owned(),
        summary: "s".to_owned(),
        risk: Risk::Low,
        thresholds: Vec::new(),
        decide_within: None,
        run_within: None,
        details: Vec::new(),
    };
    let needs = vec![approvals.need("g", &request)];
    let asked = approvals.ask(&draft(&call, call.params.get()), needs.clone(), 1).await.unwrap();
    let (id, digest) = (asked.approval.id, asked.action.digest().to_owned());
    let waiting = tokio::spawn({
        let (approvals, id) = (approvals.clone(), id.clone());
        async move {
            let approval = approvals.decided(&id, Duration::from_secs(60)).await.unwrap();
            (approval.state, Instant::now())
        }
    });
    while approvals.waiters(&id) == 0 {
        tokio::task::yield_now().await;
    }
    let decided = approvals.review(&id, person("bob", "lead"), Vote::Approve, &digest, "fine").await.unwrap();
    let at = Instant::now();
    assert_eq!(decided.state, State::Approved);
    let (state, seen) = waiting.await.unwrap();
    assert_eq!(state, State::Approved);
    assert!(seen.saturating_duration_since(at) < Duration::from_secs(2), "it is told");
    assert_eq!(approvals.waiters(&id), 0);
    let stored = approvals.consume(&id, &digest, needs.clone(), "1-1", call.params.get()).await.unwrap();
    assert_eq!(stored.params, call.params.get());
    let again = approvals.consume(&id, &digest, needs, "1-2", call.params.get()).await.unwrap_err();
    assert_eq!(again.reason, "consumed");
    let shown = approvals.show(&id).await.unwrap();
    assert!(
        shown.text.contains("approved by \"bob\"") && shown.text.contains("ran before  1 times"),
        "{}",
        shown.text
    );
    for unknown in ["appr_", "../../etc/passwd", "appr_0123456789abcdef0123456789abcdeg"] {
        assert_eq!(approvals.show(unknown).await.unwrap_err().reason, "unknown_approval");
    }
}

#[tokio::test]
async fn without_a_place_or_with_one_that_cannot_be_used_nobody_is_asked() {
    let call = call("ann", "{}");
    for path in [None, Some("/proc/nowhere/approvals.db".into())] {
        let settings = config::Approvals { path, ..config::Approvals::default() };
        let approvals = Approvals::new(settings, Trust::default(), Clock::real(), Redaction::default());
        let refused = approvals.ask(&draft(&call, call.params.get()), Vec::new(), 1).await.unwrap_err();
        assert_eq!(refused.reason, "approvals_unavailable");
        assert!(!refused.message.contains("/proc"), "the cause is in the log: {refused}");
    }
}

#[test]
fn a_token_is_handed_out_for_what_is_approved_one_at_a_time_and_for_no_longer() {
    let action = action("{\"to\":\"prod\"}");
    let mut approval = fresh(&action, vec![need(Risk::Low, vec![group(&[], 1, 1)])], 1_000);
    assert_eq!(approval.hand_out(120_000, 1_001).unwrap_err().reason, "pending_approval");
    approval.review(review("lea", "lead", Vote::Approve, action.digest(), 1_100)).unwrap();
    // It may run for 500 ms after the approval, so no token holds longer.
    assert_eq!(approval.hand_out(120_000, 1_200).unwrap(), 1_600);
    assert_eq!(approval.hand_out(120_000, 1_300).unwrap_err().reason, "token_issued");
    assert_eq!(approval.hand_out(120_000, 1_600).unwrap_err().reason, "expired");
    let mut approval = fresh(&action, vec![need(Risk::Low, vec![group(&[], 1, 1)])], 1_000);
    approval.review(review("lea", "lead", Vote::Approve, action.digest(), 1_100)).unwrap();
    assert_eq!(approval.hand_out(100, 1_100).unwrap(), 1_200);
    assert_eq!(approval.hand_out(100, 1_200).unwrap(), 1_300, "the one before has ended");
    // What an older gateway has written has no such field, and is read all the same.
    let mut old = serde_json::to_value(&approval).unwrap();
    old.as_object_mut().unwrap().remove("token_until_ms");
    assert_eq!(serde_json::from_value::<Approval>(old).unwrap().token_until_ms, None);
    approval.consume(action.digest(), &[], "call", 1_250).unwrap();
    assert_eq!(approval.hand_out(100, 1_350).unwrap_err().reason, "consumed");
}
