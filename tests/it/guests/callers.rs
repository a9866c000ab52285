//! Who a caller is holds for as long as the authenticators that said so.

use sentinel_gateway::call::Credential;
use sentinel_gateway::policy::Caller;

use super::*;

fn local(role: &str) -> Chain {
    let plugin = shipped("auth-local", Stage::Authenticate, json!({ "role": role, "subject": "ann" }));
    Chain { authenticators: vec![plugin], ..Chain::default() }
}

#[test]
fn nobody_stays_known_by_an_authenticator_that_is_gone() {
    let policy = Policy::new(local("admin"), KillSwitch::new(&config::KillSwitch::default()), Clock::real());
    let caller = Caller::new(Credential { door: "stdio", bearer: None, attrs: Vec::new() });
    assert_eq!(policy.identify(&caller).unwrap().role, "admin");
    let remembered = caller.remembered().unwrap();
    assert!(policy.knows(&caller, 60_000).is_some() && policy.knows(&remembered, 60_000).is_some());
    // Another guard is no reason to ask again.
    let guard = load(&guard_settings("counting"), &Store::new());
    let policy = policy.following(Chain { guards: vec![guard], ..Chain::clone(policy.chain()) });
    assert!(policy.knows(&caller, 60_000).is_some());
    let policy = policy.following(local("reader"));
    assert!(policy.knows(&caller, 0).is_none() && policy.knows(&remembered, 0).is_none());
    assert_eq!(policy.identify(&caller).unwrap().role, "reader");
    assert!(policy.knows(&caller, 60_000).is_some(), "and is known again");
    // Without what they brought nobody can be asked about.
    let denial = policy.identify(&remembered).unwrap_err();
    assert_eq!((denial.kind, denial.reason.as_str()), (DenialKind::Unauthenticated, "expired"));
}
