//! A signer of ES256 tokens with a key that is made anew for each run: no key stands in any file of the project.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// The key's name in tokens and in the set of public keys.
const KID: &str = "bench";

/// Signs tokens.
#[derive(Debug)]
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
}

impl Signer {
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(alg, &random).map_err(|_| anyhow!("no key was made"))?;
        let pair = EcdsaKeyPair::from_pkcs8(alg, document.as_ref(), &random)
            .map_err(|error| anyhow!("the key that was made is none: {error}"))?;
        Ok(Self { pair })
    }

    /// The set of public keys (RFC 7517).
    pub(crate) fn jwks(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..65]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KID, "x": x, "y": y}]})
    }

    /// A token for a day.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn token(
        &self,
        subject: &str,
        issuer: &str,
        audience: &str,
        role: &str,
    ) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": KID});
        let claims = json!({
            "sub": subject, "role": role, "scope": role, "iss": issuer, "aud": audience,
            "jti": "bench", "iat": now, "nbf": now, "exp": now + 86_400,
        });
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| anyhow!("the token was not signed"))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature.as_ref())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_verifies_with_the_public_key() {
        let signer = Signer::new().unwrap();
        let token = signer.token("bench", "issuer", "audience", "admin").unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let jwks = signer.jwks();
        let part = |name: &str| BASE64.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap();
        let point = [&[4][..], &part("x"), &part("y")].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
    }
}
