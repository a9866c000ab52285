//! Tokens and keys for the tests. The keys of `testdata` are used nowhere else.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use jsonwebtoken::{Algorithm as Alg, DecodingKey, EncodingKey, Header, Validation};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

use super::super::{Jwk, Key, Verifier};
use crate::config::Config;

/// The time of all tests, in seconds since 1970.
pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const SECRET: &str = "a secret of the tests, of 32 bytes or more";
pub(super) const RSA: &str = include_str!("../../../testdata/rsa.pub.pem");
pub(super) const ALGORITHMS: [Alg; 4] = [Alg::HS256, Alg::RS256, Alg::ES256, Alg::EdDSA];
const P256: &str = include_str!("../../../testdata/p256.pub.pem");
const ED25519: &str = include_str!("../../../testdata/ed25519.pub.pem");

/// A verifier with one key of each algorithm, without key ids, and the longest leeway.
pub(super) fn verifier() -> &'static Verifier {
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(all_four);
    &VERIFIER
}

fn all_four() -> Verifier {
    with_keys(&json!([
        {"alg": "HS256", "secret": "S"},
        {"alg": "RS256", "pem": RSA},
        {"alg": "ES256", "pem": P256},
        {"alg": "EdDSA", "pem": ED25519},
    ]))
}

pub(super) fn with_keys(keys: &Value) -> Verifier {
    let config: Config = serde_json::from_value(json!({"leeway_s": 60, "keys": keys})).unwrap();
    config.check(|name| (name == "S").then(|| SECRET.to_owned())).unwrap()
}

/// The same public keys as a key set; each key's id is the name of its algorithm.
pub(super) fn jwks() -> &'static Verifier {
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(key_set);
    &VERIFIER
}

fn key_set() -> Verifier {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let rsa = rsa::RsaPublicKey::from_public_key_pem(RSA).unwrap();
    let point = p256::ecdsa::VerifyingKey::from_public_key_pem(P256).unwrap().to_encoded_point(false);
    let ed25519 = ed25519_dalek::VerifyingKey::from_public_key_pem(ED25519).unwrap();
    let set = [
        json!({"kty": "RSA", "kid": "RS256", "alg": "RS256", "use": "sig", "x5c": ["ignored"],
            "n": text(&rsa.n().to_bytes_be()), "e": text(&rsa.e().to_bytes_be())}),
        json!({"kty": "EC", "kid": "ES256", "crv": "P-256", "key_ops": ["verify"],
            "x": text(point.x().unwrap()), "y": text(point.y().unwrap())}),
        json!({"kty": "OKP", "kid": "EdDSA", "crv": "Ed25519", "x": text(ed25519.as_bytes())}),
    ];
    let keys: Vec<Key> = set
        .into_iter()
        .map(|jwk| serde_json::from_value::<Jwk>(jwk).unwrap().check("").unwrap().unwrap())
        .collect();
    Verifier::new("sentinel-gateway".to_owned(), "sentinel-api".to_owned(), 60, keys)
}

pub(super) fn claims() -> Value {
    json!({
        "sub": "mia", "role": "admin", "iss": "sentinel-gateway", "aud": "sentinel-api",
        "jti": "t-1", "iat": NOW, "nbf": NOW, "exp": NOW + 600,
    })
}

/// A token made by jsonwebtoken.
pub(super) fn sign(alg: Alg, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(alg);
    header.kid = kid.map(str::to_owned);
    let key = match alg {
        Alg::HS256 => EncodingKey::from_secret(SECRET.as_bytes()),
        Alg::RS256 => EncodingKey::from_rsa_pem(include_bytes!("../../../testdata/rsa.pem")).unwrap(),
        Alg::ES256 => EncodingKey::from_ec_pem(include_bytes!("../../../testdata/p256.pem")).unwrap(),
        Alg::EdDSA => EncodingKey::from_ed_pem(include_bytes!("../../../testdata/ed25519.pem")).unwrap(),
        other => panic!("no key for {other:?}"),
    };
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

pub(super) fn hs256(claims: &Value) -> String {
    sign(Alg::HS256, None, claims)
}

/// A token of exactly this text, under an HMAC of `secret` whatever the header says.
pub(super) fn raw(header: &str, claims: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mac =
        Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap().chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// The reason of the refusal, or `accepted`.
pub(super) fn reason(verifier: &Verifier, token: &str) -> &'static str {
    verifier.accept(token, NOW).map_or_else(|fault| fault.reason(), |_| "accepted")
}

/// Whether jsonwebtoken believes the signature; times are left out, because it asks the real clock.
pub(super) fn oracle_accepts(alg: Alg, token: &str) -> bool {
    let key = match alg {
        Alg::HS256 => DecodingKey::from_secret(SECRET.as_bytes()),
        Alg::RS256 => DecodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(),
        Alg::ES256 => DecodingKey::from_ec_pem(P256.as_bytes()).unwrap(),
        Alg::EdDSA => DecodingKey::from_ed_pem(ED25519.as_bytes()).unwrap(),
        other => panic!("no key for {other:?}"),
    };
    let mut validation = Validation::new(alg);
    validation.validate_exp = false;
    validation.set_issuer(&["sentinel-gateway"]);
    validation.set_audience(&["sentinel-api"]);
    jsonwebtoken::decode::<Value>(token, &key, &validation).is_ok()
}
