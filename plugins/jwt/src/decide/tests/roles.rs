//! Which role a token gives: rules, then claims, then the default; and what is refused.

use serde_json::{Value, json};

use super::support::{NOW, SECRET, claims, hs256};
use super::*;
use crate::config::Config;

/// A verifier with these keys besides the secret, in a gateway with the roles `reader`, `writer` and `admin`.
fn with(more: &Value) -> Verifier {
    let mut config = json!({
        "keys": [{"alg": "HS256", "secret": "S"}], "roles": ["reader", "writer", "admin"],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(config).unwrap();
    config.check(|name| (name == "S").then(|| SECRET.to_owned())).unwrap()
}

/// The role of a token with these claims and no `role` of its own, or the reason why it has none.
fn role(verifier: &Verifier, more: &Value) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove("role");
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match verifier.accept(&hs256(&claims), NOW) {
        Ok(identity) => identity.principal.role,
        Err(fault) => fault.reason().to_owned(),
    }
}

#[test]
fn the_first_claim_that_is_there_counts() {
    let verifier = with(&json!({
        "role_claims": ["/role", "/realm_access/roles", "/https:~1~1example.com~1role", "/list/1", "/a~0b"],
    }));
    for (claims, wanted) in [
        (json!({"role": "reader"}), "reader"),
        (json!({"role": "reader", "realm_access": {"roles": ["admin"]}}), "reader"),
        (json!({"realm_access": {"roles": ["offline_access", "writer", "admin"]}}), "writer"),
        (json!({"https://example.com/role": "admin"}), "admin"),
        (json!({"list": ["reader", "admin"]}), "admin"),
        (json!({"a~b": "reader"}), "reader"),
        (json!({"role": ["none of ours", 7, null, "reader"]}), "reader"),
        // What the file does not know is named by the refusal that follows, and is no role.
        (json!({"role": "owner"}), "owner"),
        // A claim that is there is the one that counts, whatever stands in the next.
        (json!({"role": ["owner"], "realm_access": {"roles": ["admin"]}}), "no_role"),
        (json!({"role": []}), "no_role"),
        (json!({"role": ""}), "no_role"),
        (json!({"realm_access": {}}), "no_role"),
        (json!({"realm_access": "roles"}), "no_role"),
        (json!({"list": ["reader"]}), "no_role"),
        (json!({}), "no_role"),
        (json!({"role": 7}), "malformed_token"),
        (json!({"role": null}), "malformed_token"),
        (json!({"role": {"admin": true}}), "malformed_token"),
        (json!({"role": "a\u{1b}[2Jb"}), "malformed_token"),
        (json!({"role": "x".repeat(257)}), "malformed_token"),
    ] {
        assert_eq!(role(&verifier, &claims), wanted, "{claims}");
    }
}

#[test]
fn rules_are_asked_first_in_their_order() {
    let verifier = with(&json!({
        "role_map": [
            {"subject": "eve", "role": "reader"},
            {"client": "ci", "role": "writer"},
            {"group": "Platform Admins", "role": "admin"},
            {"scope": "mcp:write", "role": "writer"},
            {"claim": "/hd", "value": "example.org", "role": "reader"},
            {"claim": "/level", "value": "3", "role": "writer"},
            {"claim": "/resource_access/gateway/roles", "value": "boss", "role": "admin"},
        ],
    }));
    for (claims, wanted) in [
        (json!({"sub": "eve", "role": "admin", "groups": ["Platform Admins"]}), "reader"),
        (json!({"azp": "ci"}), "writer"),
        (json!({"client_id": "ci"}), "writer"),
        (json!({"cid": "ci"}), "writer"),
        (json!({"appid": "ci"}), "writer"),
        // The first that is there is the application; another claim cannot make it another one.
        (json!({"client_id": "web", "azp": "ci"}), "no_role"),
        (json!({"groups": ["x", "Platform Admins"]}), "admin"),
        (json!({"groups": "Platform Admins"}), "admin"),
        (json!({"cognito:groups": ["Platform Admins"]}), "admin"),
        (json!({"groups": ["platform admins"]}), "no_role"),
        (json!({"scp": ["openid", "mcp:write"]}), "writer"),
        (json!({"scope": "openid mcp:write"}), "writer"),
        (json!({"scope": "openid mcp:write2"}), "no_role"),
        (json!({"hd": "example.org"}), "reader"),
        (json!({"hd": ["example.org"]}), "reader"),
        (json!({"hd": "example.org.evil"}), "no_role"),
        (json!({"level": 3}), "writer"),
        (json!({"resource_access": {"gateway": {"roles": ["boss"]}}}), "admin"),
        (json!({"resource_access": {"other": {"roles": ["boss"]}}}), "no_role"),
        (json!({"role": "admin"}), "admin"),
    ] {
        assert_eq!(role(&verifier, &claims), wanted, "{claims}");
    }
}

#[test]
fn the_default_is_for_whoever_has_no_other() {
    let verifier = with(&json!({"default_role": "reader", "role_claims": ["/roles"]}));
    for (claims, wanted) in [
        (json!({}), "reader"),
        (json!({"roles": ["nobody's"]}), "reader"),
        (json!({"roles": "nobody's"}), "reader"),
        (json!({"roles": ["writer"]}), "writer"),
        (json!({"roles": 7}), "malformed_token"),
    ] {
        assert_eq!(role(&verifier, &claims), wanted, "{claims}");
    }
}

#[test]
fn the_refusal_says_where_was_looked_and_fits_where_tokens_come_from() {
    let mut nobody = claims();
    nobody.as_object_mut().unwrap().remove("role");
    let minted = with(&json!({})).judge(Some(&hs256(&nobody)), NOW).unwrap_err();
    assert_eq!(minted.reason, "no_role");
    assert!(minted.message.contains("it has no `role`"), "{}", minted.message);
    assert!(minted.message.contains("token mint --sub NAME --role ROLE"), "{}", minted.message);
    let rsa = |more: &Value| {
        let mut config = json!({"keys": [{"alg": "RS256", "pem": support::RSA}], "roles": ["reader"]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: Config = serde_json::from_value(config).unwrap();
        let verifier = config.check(|_| None).unwrap();
        let token = support::sign(jsonwebtoken::Algorithm::RS256, None, &nobody);
        verifier.judge(Some(&token), NOW).unwrap_err().message
    };
    let issued = rsa(&json!({"role_claims": ["/role", "/realm_access/roles"]}));
    assert!(issued.contains("it has no `role` and no `/realm_access/roles`"), "{issued}");
    assert!(issued.contains("role_map") && !issued.contains("token mint"), "{issued}");
    nobody["role"] = json!(["owner"]);
    let there = with(&json!({"role_map": [{"subject": "x", "role": "reader"}]}))
        .judge(Some(&hs256(&nobody)), NOW)
        .unwrap_err();
    assert!(
        there.message.contains("no rule fits it, and its `role` lists none that is defined here"),
        "{}",
        there.message
    );
}

#[test]
fn tokens_of_other_issuers_are_left_to_them_and_to_nobody_else() {
    let verifier = with(&json!({"others": ["https://login.example.org/"]}));
    let of = |issuer: &str| {
        let mut claims = claims();
        claims["iss"] = json!(issuer);
        hs256(&claims)
    };
    assert!(matches!(verifier.judge(Some(&of("https://login.example.org/")), NOW), Ok(Auth::Abstain)));
    assert!(matches!(verifier.judge(Some(&of("sentinel-gateway")), NOW), Ok(Auth::Accepted(_))));
    for stranger in ["https://login.example.org", "evil"] {
        let refusal = verifier.judge(Some(&of(stranger)), NOW).unwrap_err();
        assert_eq!(refusal.reason, "wrong_issuer");
        assert!(
            refusal.message.contains("`sentinel-gateway` or `https://login.example.org/`"),
            "{}",
            refusal.message
        );
    }
    assert_eq!(verifier.judge(Some("no.token.at.all"), NOW).unwrap_err().reason, "malformed_token");
}

#[test]
fn issuer_and_audience_may_have_several_names() {
    let verifier = with(&json!({
        "issuer": ["https://accounts.google.com", "accounts.google.com"], "audience": ["web", "cli"],
        "audience_claims": ["/aud", "/client_id"],
    }));
    let identity = |more: &Value| {
        let mut claims = claims();
        claims["iss"] = json!("accounts.google.com");
        claims.as_object_mut().unwrap().remove("aud");
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        verifier.accept(&hs256(&claims), NOW)
    };
    let known = identity(&json!({"aud": ["x", "cli"]})).unwrap().principal;
    assert_eq!(known.issuer.as_deref(), Some("https://accounts.google.com"), "one issuer, one identity");
    assert_eq!(known.audience.as_deref(), Some("cli"));
    assert_eq!(identity(&json!({"client_id": "web"})).unwrap().principal.audience.as_deref(), Some("web"));
    assert_eq!(identity(&json!({"client_id": "other"})).unwrap_err().reason(), "wrong_audience");
    // A token that says for whom it is cannot be taken by another claim.
    assert_eq!(identity(&json!({"aud": "x", "client_id": "web"})).unwrap_err().reason(), "wrong_audience");
    assert_eq!(identity(&json!({})).unwrap_err(), Fault::MissingClaim("aud"));
}
