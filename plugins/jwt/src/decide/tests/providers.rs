//! Tokens shaped as the usual identity providers make them. Each list of claims is what such a provider documents; the
//! values are made up, and so are the keys.

use jsonwebtoken::Algorithm as Alg;
use serde_json::{Value, json};

use super::support::{NOW, RSA, sign};
use super::*;
use crate::config::Config;

/// A gateway with the roles `reader` and `admin`, that takes tokens by this configuration.
fn gateway(config: &Value) -> Verifier {
    let mut whole = json!({"keys": [{"alg": "RS256", "pem": RSA}], "roles": ["reader", "admin"]});
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    serde_json::from_value::<Config>(whole).unwrap().check(|_| None).unwrap()
}

fn who(verifier: &Verifier, claims: &Value) -> Principal {
    let mut claims = claims.clone();
    claims["iat"] = json!(NOW);
    claims["exp"] = json!(NOW + 300);
    verifier.accept(&sign(Alg::RS256, Some("k1"), &claims), NOW).unwrap().principal
}

#[test]
fn keycloak() {
    let token = json!({
        "iss": "https://keycloak.example.org/realms/acme", "aud": ["gateway", "account"], "typ": "Bearer",
        "sub": "f1c5c8a0-6a5f-4b6e-9d0e-1f2a3b4c5d6e", "azp": "ide", "jti": "onrtac:7d0e", "sid": "a1b2",
        "acr": "1", "allowed-origins": ["https://app.example.org"], "scope": "openid profile email",
        "realm_access": {"roles": ["offline_access", "default-roles-acme", "uma_authorization", "admin"]},
        "resource_access": {"gateway": {"roles": ["reader"]}, "account": {"roles": ["view-profile"]}},
        "email_verified": true, "preferred_username": "ada",
    });
    let issuer = json!({"issuer": "https://keycloak.example.org/realms/acme", "audience": "gateway"});
    let with = |claims: Value| {
        let mut config = issuer.clone();
        config["role_claims"] = claims;
        who(&gateway(&config), &token)
    };
    assert_eq!(with(json!(["/realm_access/roles"])).role, "admin");
    assert_eq!(with(json!(["/resource_access/gateway/roles", "/realm_access/roles"])).role, "reader");
    let claims = with(json!(["/realm_access/roles"])).claims;
    assert!(claims.iter().any(|claim| claim.name == "azp" && claim.value == "ide"), "{claims:?}");
}

#[test]
fn entra_id() {
    let issuer = "https://login.microsoftonline.com/3f0c0d4e-0000-4000-8000-000000000001/v2.0";
    let person = json!({
        "iss": issuer, "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "ver": "2.0", "nbf": NOW,
        "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
        "tid": "3f0c0d4e-0000-4000-8000-000000000001", "azp": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
        "azpacr": "0", "name": "Ada", "preferred_username": "ada@example.org", "rh": "0.AX8A", "uti": "u1",
        "scp": "access_as_user", "roles": ["Mcp.Admin"],
        "groups": ["0f1b0000-0000-4000-8000-00000000000a", "0f1b0000-0000-4000-8000-00000000000b"],
    });
    let config = |more: Value| {
        let mut config = json!({
            "issuer": issuer, "audience": ["6e74172b-be56-4843-9ff4-e66a39bb12e3", "api://gateway"],
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gateway(&config)
    };
    let by_role = config(json!({"role_map": [{"claim": "/roles", "value": "Mcp.Admin", "role": "admin"}]}));
    assert_eq!(who(&by_role, &person).role, "admin");
    let by_group = config(json!({
        "role_map": [{"group": "0f1b0000-0000-4000-8000-00000000000b", "role": "reader"}],
    }));
    assert_eq!(who(&by_group, &person).role, "reader");
    // A daemon has no scope: its roles were granted to the application itself.
    let mut daemon = person.clone();
    for gone in ["scp", "name", "preferred_username", "groups"] {
        daemon.as_object_mut().unwrap().remove(gone);
    }
    daemon["idtyp"] = json!("app");
    daemon["roles"] = json!(["admin"]);
    assert_eq!(who(&config(json!({"role_claims": ["/roles"]})), &daemon).role, "admin");
}

#[test]
fn auth0() {
    let token = json!({
        "iss": "https://acme.eu.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "azp": "my_client_id",
        "aud": ["https://mcp.example.org/mcp", "https://acme.eu.auth0.com/userinfo"],
        "scope": "openid profile email mcp:call", "permissions": ["tools:call"],
        "https://example.org/roles": ["Editors", "reader"],
    });
    let verifier = |more: Value| {
        let mut config =
            json!({"issuer": "https://acme.eu.auth0.com/", "audience": "https://mcp.example.org/mcp"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gateway(&config)
    };
    let named = verifier(json!({"role_claims": ["/https:~1~1example.org~1roles"]}));
    assert_eq!(who(&named, &token).role, "reader");
    let permitted =
        verifier(json!({"role_map": [{"claim": "/permissions", "value": "tools:call", "role": "admin"}]}));
    assert_eq!(who(&permitted, &token).role, "admin");
    // A program of its own: the subject is the application.
    let mut program = token.clone();
    program["sub"] = json!("my_client_id@clients");
    program["gty"] = json!("client-credentials");
    let by_subject = verifier(json!({"role_map": [{"subject": "my_client_id@clients", "role": "reader"}]}));
    assert_eq!(who(&by_subject, &program).role, "reader");
}

#[test]
fn okta() {
    let token = json!({
        "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "auth_time": NOW,
        "iss": "https://acme.okta.com/oauth2/default", "aud": "api://default", "sub": "ada@example.org",
        "cid": "0oa2mk8s7dZx", "uid": "00uid4BxXw6I6TV4m0g3", "scp": ["openid", "mcp.read"],
        "groups": ["Everyone", "MCP Admins"],
    });
    let verifier = |rule: Value| {
        gateway(&json!({
            "issuer": "https://acme.okta.com/oauth2/default", "audience": "api://default", "role_map": [rule],
        }))
    };
    for rule in [
        json!({"group": "MCP Admins", "role": "admin"}),
        json!({"scope": "mcp.read", "role": "admin"}),
        json!({"client": "0oa2mk8s7dZx", "role": "admin"}),
        json!({"subject": "ada@example.org", "role": "admin"}),
    ] {
        assert_eq!(who(&verifier(rule.clone()), &token).role, "admin", "{rule}");
    }
}

#[test]
fn cognito() {
    let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_EXAMPLE";
    // An access token has no `aud`.
    let access = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["admin"], "iss": issuer,
        "version": 2, "client_id": "3n4b5urk1ft4fl3mg5e62d9ado", "event_id": "e1", "token_use": "access",
        "scope": "aws.cognito.signin.user.admin", "auth_time": NOW, "jti": "j1", "username": "ada",
        "device_key": "eu-central-1_d1",
    });
    let config = |audience_claims: Value| {
        gateway(&json!({
            "issuer": issuer, "audience": "3n4b5urk1ft4fl3mg5e62d9ado", "audience_claims": audience_claims,
            "role_claims": ["/cognito:groups"],
        }))
    };
    assert_eq!(who(&config(json!(["/aud", "/client_id"])), &access).role, "admin");
    let mut claims = access.clone();
    claims["exp"] = json!(NOW + 300);
    let strict = config(json!(["/aud"]));
    let refused = strict.accept(&sign(Alg::RS256, None, &claims), NOW).unwrap_err();
    assert_eq!(refused, Fault::MissingClaim("aud"), "unless the operator says what takes its place");
}

#[test]
fn google() {
    // Google's own access tokens are opaque; its ID tokens know a domain and no roles.
    let token = json!({
        "iss": "https://accounts.google.com", "azp": "1234987819200.apps.googleusercontent.com",
        "aud": "1234987819200.apps.googleusercontent.com", "sub": "10769150350006150715113082367",
        "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q", "hd": "example.org", "email": "ada@example.org",
        "email_verified": true, "name": "Ada", "nonce": "0394852",
    });
    let verifier = gateway(&json!({
        "issuer": ["https://accounts.google.com", "accounts.google.com"],
        "audience": "1234987819200.apps.googleusercontent.com",
        "role_map": [
            {"claim": "/email", "value": "grace@example.org", "role": "admin"},
            {"claim": "/hd", "value": "example.org", "role": "reader"},
        ],
    }));
    assert_eq!(who(&verifier, &token).role, "reader");
    let mut boss = token.clone();
    boss["email"] = json!("grace@example.org");
    boss["iss"] = json!("accounts.google.com");
    assert_eq!(who(&verifier, &boss).role, "admin");
    let mut stranger = token;
    stranger.as_object_mut().unwrap().remove("hd");
    stranger["exp"] = json!(NOW + 300);
    let refused = verifier.accept(&sign(Alg::RS256, None, &stranger), NOW).unwrap_err();
    assert_eq!(refused.reason(), "no_role", "an account of nobody's domain");
}
