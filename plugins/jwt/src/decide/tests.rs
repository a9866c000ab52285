//! What a token must be, by example; `attacks` holds what it must not be.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacks;
mod providers;
mod roles;
mod support;

use serde_json::json;
use support::{ALGORITHMS, NOW, claims, jwks, oracle_accepts, reason, sign, verifier};

use super::*;

#[test]
fn every_algorithm_is_accepted_with_its_own_key() {
    for alg in ALGORITHMS {
        let token = sign(alg, None, &claims());
        let identity = verifier().accept(&token, NOW).unwrap();
        assert!(oracle_accepts(alg, &token), "{alg:?}");
        let principal = identity.principal;
        assert_eq!((principal.subject.as_str(), principal.role.as_str()), ("mia", "admin"));
        assert_eq!(principal.issuer.as_deref(), Some("sentinel-gateway"));
        assert_eq!(principal.audience.as_deref(), Some("sentinel-api"));
        assert_eq!(principal.token_id.as_deref(), Some("t-1"));
        assert_eq!(principal.expires_at, Some(NOW + 600));
        assert_eq!(identity.cache_until, Some((NOW + 600 + 60) * 1000));
    }
}

#[test]
fn keys_of_a_key_set_verify_like_the_same_keys_in_pem() {
    let jwks = jwks();
    for alg in ALGORITHMS.into_iter().filter(|alg| *alg != jsonwebtoken::Algorithm::HS256) {
        let name = format!("{alg:?}");
        assert!(jwks.accept(&sign(alg, Some(&name), &claims()), NOW).is_ok(), "{name}");
        assert!(jwks.accept(&sign(alg, None, &claims()), NOW).is_ok(), "{name}");
        assert_eq!(reason(jwks, &sign(alg, Some("other"), &claims())), "unknown_key", "{name}");
    }
}

#[test]
fn a_request_without_a_bearer_is_left_to_others() {
    assert!(matches!(verifier().judge(None, NOW), Ok(Auth::Abstain)));
    assert_eq!(verifier().judge(Some(""), NOW).unwrap_err().reason, "missing_token");
}

#[test]
fn an_audience_may_be_an_array() {
    for (aud, wanted) in [
        (json!("sentinel-api"), "accepted"),
        (json!(["other", "sentinel-api"]), "accepted"),
        (json!(["other"]), "wrong_audience"),
        (json!([]), "wrong_audience"),
        (json!(["sentinel-api", 7]), "malformed_token"),
        (json!("sentinel-api "), "wrong_audience"),
        (json!({"sentinel-api": true}), "malformed_token"),
        (json!(null), "malformed_token"),
    ] {
        let mut claims = claims();
        claims["aud"] = aud.clone();
        assert_eq!(reason(verifier(), &support::hs256(&claims)), wanted, "{aud}");
    }
}

#[test]
fn a_missing_claim_is_named() {
    for name in ["exp", "iss", "aud", "sub"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        let fault = verifier().accept(&support::hs256(&claims), NOW).unwrap_err();
        assert_eq!(fault, Fault::MissingClaim(name));
    }
    for name in ["iss", "sub"] {
        let mut claims = claims();
        claims[name] = json!("");
        assert_eq!(reason(verifier(), &support::hs256(&claims)), "missing_claim", "{name}");
        for value in [json!(7), json!(null), json!(["mia"]), json!("a\u{1b}[2Jb"), json!("x".repeat(257))] {
            claims[name] = value.clone();
            assert_eq!(reason(verifier(), &support::hs256(&claims)), "malformed_token", "{name} {value}");
        }
    }
}

#[test]
fn optional_claims_may_be_absent() {
    let mut claims = claims();
    for name in ["nbf", "iat", "jti"] {
        claims.as_object_mut().unwrap().remove(name);
    }
    let identity = verifier().accept(&support::hs256(&claims), NOW).unwrap();
    assert_eq!(identity.principal.token_id, None);
}

#[test]
fn another_issuer_is_refused() {
    for issuer in ["sentinel-gateway2", "Sentinel-Gateway", "sentinel-gateway/", "evil"] {
        let mut claims = claims();
        claims["iss"] = json!(issuer);
        assert_eq!(reason(verifier(), &support::hs256(&claims)), "wrong_issuer", "{issuer}");
    }
}

#[test]
fn scalar_claims_are_handed_on_within_limits() {
    let mut claims = json!({
        "exp": NOW + 600, "iss": "sentinel-gateway", "aud": "sentinel-api", "sub": "mia", "role": "admin",
        "a_team": "blue", "b_level": 3, "c_temp": -1.5, "d_flag": true, "e_none": null, "f_list": [1],
        "g_long": "x".repeat(257), "h_fits": "x".repeat(256),
    });
    let identity = verifier().accept(&support::hs256(&claims), NOW).unwrap();
    let value = |name: &str| {
        identity.principal.claims.iter().find(|field| field.name == name).map(|field| field.value.clone())
    };
    assert_eq!(value("a_team").as_deref(), Some("blue"));
    assert_eq!(value("b_level").as_deref(), Some("3"));
    assert_eq!(value("c_temp").as_deref(), Some("-1.5"));
    assert_eq!(value("d_flag").as_deref(), Some("true"));
    assert_eq!(value("h_fits").map(|text| text.len()), Some(256));
    for name in ["e_none", "f_list", "g_long"] {
        assert_eq!(value(name), None, "{name}");
    }
    for index in 0..100 {
        claims[format!("n{index}")] = json!(index);
    }
    let identity = verifier().accept(&support::hs256(&claims), NOW).unwrap();
    assert_eq!(identity.principal.claims.len(), 32);
}

#[test]
fn a_refusal_tells_what_to_do_and_never_repeats_the_token() {
    let mut old = claims();
    old["exp"] = json!(NOW - 3600);
    let token = support::hs256(&old);
    let refusal = verifier().judge(Some(&token), NOW).unwrap_err();
    assert_eq!(refusal.reason, "token_expired");
    assert!(refusal.message.contains("3600 s ago"), "{}", refusal.message);
    assert!(refusal.message.contains("sentinel-gateway token mint"), "{}", refusal.message);
    for part in token.split('.') {
        assert!(!refusal.message.contains(part));
    }
    let mut early = claims();
    early["nbf"] = json!(NOW + 160);
    let refusal = verifier().judge(Some(&support::hs256(&early)), NOW).unwrap_err();
    assert_eq!((refusal.reason.as_str(), refusal.retry_after_ms), ("token_not_yet_valid", Some(100_000)));
}

#[test]
fn a_token_needs_every_scope_that_is_asked_for() {
    let keys = json!([{"alg": "HS256", "secret": "S"}]);
    let strict = support::with_keys(&keys).requiring(vec!["mcp".to_owned(), "mcp:tools".to_owned()]);
    for (scope, wanted) in [
        (json!({"scope": "mcp mcp:tools"}), "accepted"),
        (json!({"scope": "mcp:tools other mcp"}), "accepted"),
        (json!({"scp": ["mcp", "mcp:tools"]}), "accepted"),
        (json!({"scp": "mcp mcp:tools"}), "accepted"),
        (json!({"scope": "mcp", "scp": ["mcp:tools"]}), "accepted"),
        (json!({}), "insufficient_scope"),
        (json!({"scope": "mcp"}), "insufficient_scope"),
        (json!({"scope": "mcp:tools"}), "insufficient_scope"),
        (json!({"scope": "MCP mcp:tools"}), "insufficient_scope"),
        (json!({"scope": "mcp2 mcp:tools"}), "insufficient_scope"),
        (json!({"scope": "mcp,mcp:tools"}), "insufficient_scope"),
        (json!({"scp": ["mcp mcp:tools"]}), "insufficient_scope"),
        (json!({"scp": [["mcp", "mcp:tools"]]}), "insufficient_scope"),
        (json!({"scope": 7, "scp": {"mcp": true}}), "insufficient_scope"),
    ] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        assert_eq!(reason(&strict, &support::hs256(&claims)), wanted, "{scope}");
    }
    let refusal = strict.judge(Some(&support::hs256(&claims())), NOW).unwrap_err();
    let details: Vec<_> = refusal.details.iter().map(|field| (&*field.name, &*field.value)).collect();
    assert_eq!(details, [("scope", "mcp mcp:tools")], "what to ask the issuer for");
}

#[test]
fn a_token_with_too_few_scopes_that_is_bad_otherwise_is_bad_first() {
    let strict =
        support::with_keys(&json!([{"alg": "HS256", "secret": "S"}])).requiring(vec!["mcp".to_owned()]);
    let mut old = claims();
    old["exp"] = json!(NOW - 3600);
    assert_eq!(reason(&strict, &support::hs256(&old)), "token_expired");
}

#[test]
fn scopes_are_handed_on_as_one_claim_and_never_cut() {
    let scope = |changes: serde_json::Value| {
        let mut claims = claims();
        for index in 0..100 {
            claims[format!("a{index}")] = json!(index);
        }
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let identity = verifier().accept(&support::hs256(&claims), NOW).unwrap();
        identity.principal.claims.iter().find(|field| field.name == "scope").map(|field| field.value.clone())
    };
    assert_eq!(scope(json!({"scp": ["a", "b"]})).as_deref(), Some("a b"));
    assert_eq!(scope(json!({"scope": "a", "scp": ["b"]})).as_deref(), Some("a b"));
    assert_eq!(scope(json!({"scope": "x".repeat(4096)})).map(|text| text.len()), Some(4096));
    assert_eq!(scope(json!({"scope": "x".repeat(4097)})), None);
    assert_eq!(scope(json!({"scope": 7})), None);
}
