//! Bearer tokens.

use std::sync::OnceLock;

use jsonwebtoken::{DecodingKey, Validation};
use sentinel_jwt::decide::{Key, Verifier};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// 2026-01-01, well before the end of the corpus' good token.
const NOW: u64 = 1_767_225_600;

/// A token that our judge accepts is one that jsonwebtoken accepts, too.
pub(crate) fn token(data: &[u8]) {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    let verifier = VERIFIER.get_or_init(|| {
        let key = Key::hmac(None, SECRET).unwrap();
        Verifier::new("sentinel-gateway".to_owned(), "sentinel-api".to_owned(), 30, vec![key])
    });
    let Ok(token) = std::str::from_utf8(data) else { return };
    let Ok(identity) = verifier.accept(token, NOW) else { return };
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.validate_exp = false;
    validation.set_audience(&["sentinel-api"]);
    validation.set_issuer(&["sentinel-gateway"]);
    let oracle =
        jsonwebtoken::decode::<serde_json::Value>(token, &DecodingKey::from_secret(SECRET), &validation);
    let claims = oracle.unwrap_or_else(|error| panic!("accepted by us alone ({error}): {token}")).claims;
    assert_eq!(claims["sub"], identity.principal.subject, "another subject");
}
