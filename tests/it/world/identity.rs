//! Tokens as identity providers make them: where the role stands, who is given which, several issuers at once.

use std::path::PathBuf;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::http_door::client::{Answer, Client, Door, fresh};
use crate::support::{Publisher, SECRET, Setup, reason};

const ROLES: &str = "[rbac.roles.reader]\npermissions = [\"tools.read\", \"tools.execute\"]\n\
                     [rbac.roles.admin]\npermissions = [\"*\"]\n";
/// Says nothing but that it was called.
const SERVER: &str = "";

/// A key pair of an issuer.
#[derive(Clone, Copy)]
struct Pair(&'static str, Algorithm, &'static str);

const RSA: Pair = Pair("rsa-1", Algorithm::RS256, include_str!("../../../plugins/jwt/testdata/rsa.pem"));
const P256: Pair = Pair("ec-1", Algorithm::ES256, include_str!("../../../plugins/jwt/testdata/p256.pem"));

impl Pair {
    fn private(self) -> EncodingKey {
        let read =
            if self.1 == Algorithm::RS256 { EncodingKey::from_rsa_pem } else { EncodingKey::from_ec_pem };
        read(self.2.as_bytes()).unwrap()
    }

    /// As an identity provider publishes it, beside a key that is not for signatures.
    fn set(self) -> String {
        let mut jwk = Jwk::from_encoding_key(&self.private(), self.1).unwrap();
        jwk.common.key_id = Some(self.0.to_owned());
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["use"] = json!("sig");
        jwk["x5t"] = json!("ignored");
        let other =
            json!({"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "kid": "enc", "n": "AQAB", "e": "AQAB"});
        json!({ "keys": [other, jwk] }).to_string()
    }

    /// A token with these claims, good for an hour.
    fn token(self, claims: &Value) -> String {
        let header = Header { kid: Some(self.0.to_owned()), ..Header::new(self.1) };
        jsonwebtoken::encode(&header, &timed(claims), &self.private()).unwrap()
    }
}

fn timed(claims: &Value) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = claims.clone();
    claims["iat"] = json!(now);
    claims["exp"] = json!(now + 3600);
    claims["jti"] = json!(fresh().to_string());
    claims
}

/// A token of the gateway's own secret.
fn minted(claims: &Value) -> String {
    let mut whole = json!({"sub": "ada", "iss": "sentinel-gateway", "aud": "sentinel-api"});
    whole.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &timed(&whole), &key).unwrap()
}

fn door(auth: &str) -> Door {
    Door::open(Setup::new().roles(ROLES).auth(auth).scripted("srv", SERVER, ""), "")
}

fn asks(client: &Client, token: &str) -> Answer {
    client.bearer(token).ask("tools/call", &json!({"name": "echo", "arguments": {}}))
}

/// The role that the record shows for the holder of a token, or the text of the refusal.
fn role(door: &Door, token: &str) -> String {
    let answer = asks(&door.anyone(), token);
    if answer.status == 401 {
        return answer.value()["error"]["message"].as_str().unwrap().to_owned();
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = token.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let subject = claims["sub"].as_str().unwrap();
    door.gateway.await_audit("the call", |rows| {
        let row = rows.iter().rev().find(|row| row["subject"] == subject && row["tool"] == "echo")?;
        Some(row["role"].as_str().unwrap().to_owned())
    })
}

#[test]
fn roles_of_an_identity_provider() {
    // As it was: a token without the claim `role` is refused, and the hint fits the mode.
    let plain = door("");
    let refused = asks(&plain.anyone(), &minted(&json!({"roles": ["reader"]})));
    assert_eq!((refused.status, reason(&refused.value())), (401, "no_role"));
    assert!(refused.text.contains("it has no `role`") && refused.text.contains("role_claims"), "{refused:?}");
    // With the claims named, all of them are let in.
    let door = door(
        "role_claims = [\"/role\", \"/roles\", \"/realm_access/roles\", \"/https:~1~1example.com~1role\"]",
    );
    for (subject, claims) in [
        ("a", json!({"role": "reader"})),
        ("b", json!({"roles": ["reader"]})),
        ("c", json!({"realm_access": {"roles": ["offline_access", "reader", "admin"]}})),
        ("d", json!({"https://example.com/role": "reader"})),
    ] {
        let mut claims = claims;
        claims["sub"] = json!(subject);
        assert_eq!(role(&door, &minted(&claims)), "reader", "{claims}");
    }
    let said = role(&door, &minted(&json!({"roles": ["somebody's"]})));
    assert!(said.contains("its `roles` lists none that is defined here"), "{said}");
}

#[test]
fn rules_give_roles_and_a_default_is_for_the_others() {
    let door = door(
        "default_role = \"reader\"\n\
         role_map = [{ group = \"Platform Admins\", role = \"admin\" }, { client = \"ci\", role = \"admin\" },\n\
         { scope = \"mcp:all\", role = \"admin\" }, { subject = \"grace\", role = \"admin\" },\n\
         { claim = \"/hd\", value = \"example.org\", role = \"admin\" }]",
    );
    for (subject, claims, wanted) in [
        ("a", json!({"groups": ["Everyone", "Platform Admins"]}), "admin"),
        ("b", json!({"azp": "ci"}), "admin"),
        ("c", json!({"scope": "openid mcp:all"}), "admin"),
        ("grace", json!({}), "admin"),
        ("d", json!({"hd": "example.org"}), "admin"),
        ("e", json!({"hd": "example.com", "groups": ["platform admins"]}), "reader"),
    ] {
        let mut claims = claims;
        claims["sub"] = json!(subject);
        assert_eq!(role(&door, &minted(&claims)), wanted, "{claims}");
    }
}

/// Each provider with its keys, its audience and its way of saying who may what: all in one gateway.
#[test]
fn six_providers_behind_one_door() {
    let (keycloak, entra) = (Publisher::http(&RSA.set()), Publisher::http(&P256.set()));
    let setup = Setup::new();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = setup.path(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    file("auth0.json", &RSA.set());
    file("okta.json", &P256.set());
    file("cognito.json", &RSA.set());
    file("google.json", &RSA.set());
    let issuers = format!(
        r#"
[[auth.issuers]]
issuer = "https://keycloak.example.org/realms/acme"
audience = "gateway"
jwks_url = "{}"
role_claims = ["/resource_access/gateway/roles", "/realm_access/roles"]
[[auth.issuers]]
issuer = "https://login.microsoftonline.com/tenant/v2.0"
audience = ["6e74172b", "api://gateway"]
jwks_url = "{}"
role_map = [{{ claim = "/roles", value = "Mcp.Admin", role = "admin" }}]
[[auth.issuers]]
issuer = "https://acme.eu.auth0.com/"
audience = "https://mcp.example.org/mcp"
jwks_file = "auth0.json"
role_claims = ["/https:~1~1example.org~1roles"]
[[auth.issuers]]
issuer = "https://acme.okta.com/oauth2/default"
audience = "api://default"
jwks_file = "okta.json"
role_map = [{{ group = "MCP Admins", role = "admin" }}]
required_scopes = ["mcp.read"]
[[auth.issuers]]
issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_X"
audience = "3n4b5urk"
audience_claims = ["/aud", "/client_id"]
jwks_file = "cognito.json"
role_claims = ["/cognito:groups"]
[[auth.issuers]]
issuer = ["https://accounts.google.com", "accounts.google.com"]
audience = "1234.apps.googleusercontent.com"
jwks_file = "google.json"
role_map = [{{ claim = "/hd", value = "example.org", role = "reader" }}]
"#,
        keycloak.url(),
        entra.url()
    );
    let setup = setup.roles(ROLES).without_env("JWT_SECRET_KEY").scripted("srv", SERVER, "").more(&issuers);
    let door = Door::open(setup, "");
    let tokens = [
        (
            "keycloak",
            RSA,
            json!({
                "iss": "https://keycloak.example.org/realms/acme", "aud": ["gateway", "account"], "typ": "Bearer",
                "sub": "f1c5c8a0", "azp": "ide", "realm_access": {"roles": ["offline_access", "admin"]},
                "resource_access": {"account": {"roles": ["view-profile"]}}, "scope": "openid email",
            }),
            "admin",
        ),
        (
            "entra",
            P256,
            json!({
                "iss": "https://login.microsoftonline.com/tenant/v2.0", "aud": "api://gateway", "ver": "2.0",
                "sub": "HKZpfaHy", "oid": "690222be", "tid": "tenant", "scp": "access_as_user",
                "roles": ["Mcp.Admin"], "azp": "6e74172b",
            }),
            "admin",
        ),
        (
            "auth0",
            RSA,
            json!({
                "iss": "https://acme.eu.auth0.com/", "sub": "auth0|5f7c", "azp": "my_client",
                "aud": ["https://mcp.example.org/mcp", "https://acme.eu.auth0.com/userinfo"],
                "scope": "openid", "https://example.org/roles": ["Editors", "reader"],
            }),
            "reader",
        ),
        (
            "okta",
            P256,
            json!({
                "iss": "https://acme.okta.com/oauth2/default", "aud": "api://default", "sub": "ada@example.org",
                "cid": "0oa2", "uid": "00u", "scp": ["openid", "mcp.read"], "groups": ["Everyone", "MCP Admins"],
            }),
            "admin",
        ),
        (
            "cognito",
            RSA,
            json!({
                "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_X", "sub": "aaaa-bbbb",
                "cognito:groups": ["admin"], "client_id": "3n4b5urk", "token_use": "access", "username": "ada",
            }),
            "admin",
        ),
        (
            "google",
            RSA,
            json!({
                "iss": "accounts.google.com", "azp": "1234.apps.googleusercontent.com", "sub": "1076915",
                "aud": "1234.apps.googleusercontent.com", "hd": "example.org", "email_verified": true,
            }),
            "reader",
        ),
    ];
    for (name, pair, claims, wanted) in &tokens {
        assert_eq!(role(&door, &pair.token(claims)), *wanted, "{name}");
    }
    assert_eq!((keycloak.asked(), entra.asked()), (1, 1), "each asks for the keys of its own issuer");
    let anyone = door.anyone();
    // The same key, the name of another: whose key it is, is decided by the issuer alone.
    let mut forged = tokens[1].2.clone();
    forged["iss"] = json!("https://acme.okta.com/oauth2/default");
    assert_eq!(asks(&anyone, &P256.token(&forged)).status, 401, "another audience");
    let mut stolen = tokens[3].2.clone();
    stolen["iss"] = json!("https://keycloak.example.org/realms/acme");
    stolen["aud"] = json!("gateway");
    assert_eq!(asks(&anyone, &P256.token(&stolen)).status, 401, "a key of Okta's, the name of Keycloak");
    // Scopes that one of them asks for, and what it has of the others.
    let mut fewer = tokens[3].2.clone();
    fewer["scp"] = json!(["openid"]);
    let lacking = asks(&anyone, &P256.token(&fewer));
    assert_eq!(lacking.status, 403, "{lacking:?}");
    assert!(lacking.header("www-authenticate").unwrap().contains("scope=\"mcp.read\""), "{lacking:?}");
    let mut stranger = tokens[5].2.clone();
    stranger["iss"] = json!("https://evil.example");
    let refused = asks(&anyone, &RSA.token(&stranger));
    assert!(refused.text.contains("`https://accounts.google.com`"), "it names those that are: {refused:?}");
    assert!(!refused.text.contains("token mint"), "nobody mints tokens here: {refused:?}");
}

/// Two people whom two issuers call the same are two.
#[test]
fn subjects_of_two_issuers_are_two_people() {
    let setup = Setup::new();
    std::fs::write(setup.path("a.json"), RSA.set()).unwrap();
    std::fs::write(setup.path("b.json"), P256.set()).unwrap();
    let issuer = |name: &str| {
        format!("[[auth.issuers]]\nissuer = \"{name}\"\naudience = \"x\"\njwks_file = \"{name}.json\"\n")
    };
    let setup = setup.roles(ROLES).scripted("srv", SERVER, "").more(&(issuer("a") + &issuer("b")));
    let door = Door::open(setup, "");
    let claims = |issuer: &str| json!({"iss": issuer, "aud": "x", "sub": "ada", "role": "reader"});
    let session = door.anyone().bearer(&RSA.token(&claims("a"))).hello("2025-11-25");
    assert_eq!(session.request("tools/list", &json!({})).status, 200);
    let other = session.bearer(&P256.token(&claims("b")));
    let refused = other.request("tools/list", &json!({}));
    assert_eq!((refused.status, reason(&refused.value())), (404, "session_unknown"));
}

#[test]
fn a_wrong_mapping_starts_nothing_and_says_what_was_meant() {
    let (code, said) = Setup::new()
        .roles(ROLES)
        .auth(
            "role_claims = [\"https://example.com/role\"]\ndefault_role = \"raeder\"\n\
             role_map = [{ group = \"a\", scope = \"b\", role = \"admin\" }, { group = \"a\", role = \"admn\" }]\n\
             issuers = [{ issuer = \"x\", audience = \"y\" }, { issuer = \"sentinel-gateway\", audience = \"y\",\n\
             secret_env = \"JWT_SECRET_KEY\" }]\njwt_secret_env = \"JWT_SECRET_KEY\"",
        )
        .refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    for words in [
        "/https:~1~1example.com~1role",
        "did you mean reader?",
        "did you mean admin?",
        "auth.role_map[0]: a rule looks at exactly one of",
        "auth.issuers[0]: an issuer needs its keys",
        "auth.issuers[1].issuer: the issuer \"sentinel-gateway\" is there already",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
}

/// One tenant of Entra ID issues tokens in two formats, with two names for itself and two for whom they are meant; the same
/// person is the same caller with both.
#[test]
fn both_formats_of_one_tenant() {
    let setup = Setup::new();
    std::fs::write(setup.path("entra.json"), RSA.set()).unwrap();
    let issuer = "[[auth.issuers]]\n\
        issuer = [\"https://login.microsoftonline.com/t/v2.0\", \"https://sts.windows.net/t/\"]\n\
        audience = [\"6e74172b\", \"api://6e74172b\"]\njwks_file = \"entra.json\"\nrole_claims = [\"/roles\"]\n";
    let door = Door::open(setup.roles(ROLES).scripted("srv", SERVER, "").more(issuer), "");
    let claims = |iss: &str, aud: &str| {
        RSA.token(&json!({"iss": iss, "aud": aud, "sub": "ada", "tid": "t", "roles": ["reader"]}))
    };
    let new = claims("https://login.microsoftonline.com/t/v2.0", "6e74172b");
    let old = claims("https://sts.windows.net/t/", "api://6e74172b");
    let session = door.anyone().bearer(&new).hello("2025-11-25");
    assert_eq!(session.bearer(&old).request("tools/list", &json!({})).status, 200, "the same person");
    // Another tenant is another issuer, even if one company runs the servers of both.
    let other = claims("https://login.microsoftonline.com/u/v2.0", "6e74172b");
    assert_eq!(asks(&door.anyone(), &other).status, 401);
}

/// A client that forgets to ask Auth0 for an audience gets a token that nobody but Auth0 can read.
#[test]
fn a_token_that_is_no_jwt_says_what_may_have_been_forgotten() {
    let setup = Setup::new();
    std::fs::write(setup.path("auth0.json"), RSA.set()).unwrap();
    let issuer = "[[auth.issuers]]\nissuer = \"https://acme.eu.auth0.com/\"\naudience = \"x\"\njwks_file = \"auth0.json\"\n";
    let keys = "[http.oauth]\nresource = \"https://mcp.example.org/mcp\"\n\
        authorization_servers = [\"https://acme.eu.auth0.com/\", \"https://other.example.org\"]\n";
    let door = Door::open(setup.roles(ROLES).scripted("srv", SERVER, "").more(issuer), keys);
    for token in ["oat_8Fq0opaque", "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..8eNPbSQoVv0qKBKA.gv9d1TK5.pBt4"]
    {
        let refused = asks(&door.anyone(), token);
        assert_eq!(refused.status, 401, "{refused:?}");
        assert!(refused.text.contains("unless an audience is asked for"), "{refused:?}");
        assert!(!refused.text.contains("token mint") && !refused.text.contains(token), "{refused:?}");
    }
    let metadata = door.anyone().at("/.well-known/oauth-protected-resource/mcp/").get().value();
    assert_eq!(metadata["authorization_servers"].as_array().unwrap().len(), 2, "{metadata}");
}
