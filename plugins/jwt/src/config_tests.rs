//! The configuration, as operators get it wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const RSA: &str = include_str!("../testdata/rsa.pub.pem");
const P256: &str = include_str!("../testdata/p256.pub.pem");
const ED25519: &str = include_str!("../testdata/ed25519.pub.pem");

fn secrets(name: &str) -> Option<String> {
    match name {
        "JWT_SECRET_KEY" => Some("0123456789abcdef0123456789abcdef".to_owned()),
        "SHORT" => Some("0123456789abcdef0123456789abcde".to_owned()),
        "EMPTY" => Some(String::new()),
        "PUBLIC" => Some(RSA.to_owned()),
        _ => None,
    }
}

fn check(config: serde_json::Value) -> Result<Verifier, Vec<ConfigError>> {
    serde_json::from_value::<Config>(config).unwrap().check(secrets)
}

/// The path of the only mistake.
fn mistake(config: serde_json::Value) -> String {
    let errors = check(config).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].path.clone()
}

#[test]
fn all_four_algorithms_are_read() {
    let verifier = check(serde_json::json!({
        "issuer": "i", "audience": "a", "leeway_s": 60,
        "keys": [
            {"alg": "HS256", "secret": "JWT_SECRET_KEY"},
            {"alg": "RS256", "kid": "k1", "pem": RSA},
            {"alg": "ES256", "pem": P256},
            {"alg": "EdDSA", "pem": ED25519},
        ],
    }));
    assert!(verifier.is_ok(), "{verifier:?}");
}

#[test]
fn a_secret_is_missing_short_empty_or_public() {
    for name in ["UNSET", "SHORT", "EMPTY", "PUBLIC"] {
        let config = serde_json::json!({"keys": [{"alg": "HS256", "secret": name}]});
        let errors = check(config).unwrap_err();
        assert_eq!(errors[0].path, "/keys/0/secret");
        let value = secrets(name).unwrap_or_default();
        assert!(errors[0].message.contains(name), "{errors:?}");
        assert!(value.is_empty() || !format!("{errors:?}").contains(&value), "the secret is repeated");
    }
}

#[test]
fn no_key_at_all_is_refused() {
    let unused = serde_json::json!({"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"});
    for config in [
        serde_json::json!({}),
        serde_json::json!({"keys": [], "jwks": {"keys": []}}),
        serde_json::json!({"jwks": {"keys": [unused]}}),
    ] {
        assert_eq!(mistake(config), "/keys");
    }
}

#[test]
fn leeway_and_names_have_limits() {
    let keys = serde_json::json!([{"alg": "HS256", "secret": "JWT_SECRET_KEY"}]);
    assert_eq!(mistake(serde_json::json!({"leeway_s": 61, "keys": keys})), "/leeway_s");
    assert_eq!(mistake(serde_json::json!({"issuer": "", "keys": keys})), "/issuer");
    assert_eq!(mistake(serde_json::json!({"audience": "", "keys": keys})), "/audience");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let errors = check(serde_json::json!({
        "issuer": "", "leeway_s": 600,
        "keys": [{"alg": "HS256", "secret": "UNSET"}, {"alg": "RS256", "pem": "nonsense"}],
        "jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]},
    }))
    .unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["/issuer", "/leeway_s", "/keys/0/secret", "/keys/1/pem", "/jwks/keys/0/kty"]);
}

#[test]
fn unknown_words_are_refused() {
    for json in [
        r#"{"isuer":"x"}"#,
        r#"{"keys":[{"alg":"none"}]}"#,
        r#"{"keys":[{"alg":"hs256","secret":"X"}]}"#,
        r#"{"keys":[{"alg":"HS256","secret":"X","kidd":"1"}]}"#,
        r#"{"leeway_s":-1}"#,
    ] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
}

#[test]
fn a_key_is_made_for_its_algorithm_only() {
    for (alg, pem) in [
        ("RS256", P256),
        ("RS256", ED25519),
        ("ES256", RSA),
        ("ES256", ED25519),
        ("EdDSA", RSA),
        ("EdDSA", P256),
    ] {
        assert_eq!(mistake(serde_json::json!({"keys": [{"alg": alg, "pem": pem}]})), "/keys/0/pem", "{alg}");
    }
    assert_eq!(mistake(serde_json::json!({"keys": [{"alg": "HS256", "pem": RSA}]})), "/keys/0");
    assert_eq!(
        mistake(serde_json::json!({"keys": [{"alg": "RS256", "secret": "JWT_SECRET_KEY"}]})),
        "/keys/0"
    );
    assert_eq!(
        mistake(serde_json::json!({"keys": [{"alg": "RS256", "secret": "JWT_SECRET_KEY", "pem": RSA}]})),
        "/keys/0"
    );
}

#[test]
fn weak_and_private_keys_are_refused() {
    let short = include_str!("../testdata/rsa1024.pub.pem");
    let private = include_str!("../testdata/rsa.pem");
    for pem in [short, private] {
        assert_eq!(mistake(serde_json::json!({"keys": [{"alg": "RS256", "pem": pem}]})), "/keys/0/pem");
    }
    // The neutral element, of order 1: with it a zero signature fits every message.
    let neutral = format!("AQ{}", "A".repeat(41));
    let jwk = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": neutral});
    assert_eq!(mistake(serde_json::json!({"jwks": {"keys": [jwk]}})), "/jwks/keys/0");
}

#[test]
fn a_key_set_says_what_is_wrong_with_a_key() {
    let x = "A".repeat(43);
    for (jwk, path) in [
        (serde_json::json!({"kty": "oct", "k": "AAAA"}), "/kty"),
        (serde_json::json!({"kty": "XYZ"}), "/kty"),
        (serde_json::json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}), "/crv"),
        (serde_json::json!({"kty": "OKP", "crv": "X25519", "x": x}), "/crv"),
        (serde_json::json!({"kty": "EC", "crv": "P-256", "x": x}), "/y"),
        (serde_json::json!({"kty": "EC", "crv": "P-256", "x": x, "y": "AAAA"}), "/y"),
        (serde_json::json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}), ""),
        (serde_json::json!({"kty": "RSA", "e": "AQAB"}), "/n"),
        (serde_json::json!({"kty": "RSA", "n": "AQ==", "e": "AQAB"}), "/n"),
        (serde_json::json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), ""),
        (serde_json::json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}), "/d"),
    ] {
        let wanted = format!("/jwks/keys/0{path}");
        assert_eq!(mistake(serde_json::json!({"jwks": {"keys": [jwk.clone()]}})), wanted, "{jwk}");
    }
}

#[test]
fn jwks_of_ten_thousand_keys_is_refused_unread() {
    let keys: Vec<_> = (0..10_000).map(|_| serde_json::json!({"kty": "oct"})).collect();
    assert_eq!(mistake(serde_json::json!({"jwks": {"keys": keys}})), "");
}

#[test]
fn debug_output_shows_no_secret() {
    let verifier =
        check(serde_json::json!({"keys": [{"alg": "HS256", "secret": "JWT_SECRET_KEY"}]})).unwrap();
    let text = format!("{verifier:?}");
    assert!(
        text.contains("Hs256") && !text.contains("0123456789abcdef") && !text.contains("[48, 49"),
        "{text}"
    );
}

#[test]
fn a_rule_about_roles_says_what_is_wrong_with_it() {
    let keys = serde_json::json!([{"alg": "HS256", "secret": "JWT_SECRET_KEY"}]);
    for (bad, path) in [
        (serde_json::json!({"role_claims": ["role"]}), "/role_claims/0"),
        (serde_json::json!({"role_claims": ["/a~2"]}), "/role_claims/0"),
        (serde_json::json!({"audience_claims": []}), "/audience_claims"),
        (serde_json::json!({"audience_claims": ["aud"]}), "/audience_claims/0"),
        (serde_json::json!({"default_role": ""}), "/default_role"),
        (serde_json::json!({"issuer": []}), "/issuer"),
        (serde_json::json!({"audience": ["a", ""]}), "/audience"),
        (serde_json::json!({"role_map": [{"role": "admin"}]}), "/role_map/0"),
        (serde_json::json!({"role_map": [{"group": "a"}]}), "/role_map/0/role"),
        (serde_json::json!({"role_map": [{"group": "a", "scope": "b", "role": "r"}]}), "/role_map/0"),
        (serde_json::json!({"role_map": [{"claim": "/a", "role": "r"}]}), "/role_map/0"),
        (serde_json::json!({"role_map": [{"claim": "a", "value": "b", "role": "r"}]}), "/role_map/0/claim"),
        (serde_json::json!({"role_map": [{"value": "b", "role": "r"}]}), "/role_map/0"),
    ] {
        let mut config = bad.clone();
        config["keys"] = keys.clone();
        assert_eq!(mistake(config), path, "{bad}");
    }
    let named = check(serde_json::json!({"keys": keys, "role_claims": ["https://example.com/role"]}));
    assert_eq!(named.unwrap_err()[0].hint.as_deref(), Some("/https:~1~1example.com~1role"));
}
