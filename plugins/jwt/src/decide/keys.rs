//! Keys and their algorithms: each key is made for one algorithm, so no token can choose how it is checked.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::signature::Verifier as _;
use rsa::traits::PublicKeyParts as _;
use sentinel_plugin_sdk::ConfigError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::Sha256;

/// The shortest HS256 key in bytes: RFC 7518, section 3.2.
const MIN_SECRET_BYTES: usize = 32;
/// The shortest RSA modulus in bits: RFC 7518, section 3.3.
const MIN_RSA_BITS: usize = 2048;

/// The signature algorithms of RFC 7518 and RFC 8037 that the plugin knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// The name in a token's header and in a key set; compared exactly, as RFC 7515 demands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A key that checks signatures of exactly one algorithm.
pub struct Key {
    kid: Option<String>,
    material: Material,
}

enum Material {
    Hmac(Hmac<Sha256>),
    Rsa(rsa::pkcs1v15::VerifyingKey<Sha256>),
    P256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

impl fmt::Debug for Key {
    // By hand: key material must not reach a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Key")
            .field("alg", &self.algorithm())
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// An HS256 key of these bytes, as they are.
    ///
    /// # Errors
    /// What is wrong with the secret, to follow its name; never the secret.
    pub fn hmac(kid: Option<String>, secret: &[u8]) -> Result<Self, &'static str> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err("is shorter than 32 bytes, which HS256 needs (RFC 7518, section 3.2)");
        }
        // A public key as shared secret is the RS256-to-HS256 attack made by hand.
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err("is a PEM document, not a secret");
        }
        let mac = Hmac::new_from_slice(secret).map_err(|_| "cannot be an HMAC key")?;
        Ok(Self { kid, material: Material::Hmac(mac) })
    }

    /// The public key of a PEM document (SPKI) for an algorithm other than HS256.
    ///
    /// # Errors
    /// Why the document is not a key for this algorithm.
    pub fn pem(alg: Algorithm, kid: Option<String>, pem: &str) -> Result<Self, String> {
        let pem = pem.trim();
        if pem.contains("PRIVATE KEY") {
            return Err("is a private key; the gateway needs only the public one".to_owned());
        }
        let refuse =
            |kind: &str| format!("is not {kind} in PEM (`-----BEGIN PUBLIC KEY-----`), as {alg} needs");
        let material = match alg {
            Algorithm::Hs256 => return Err("HS256 takes a secret, not a public key".to_owned()),
            Algorithm::Rs256 => {
                rsa_material(rsa::RsaPublicKey::from_public_key_pem(pem).map_err(|_| refuse("an RSA key"))?)?
            }
            Algorithm::Es256 => Material::P256(
                p256::ecdsa::VerifyingKey::from_public_key_pem(pem).map_err(|_| refuse("a P-256 key"))?,
            ),
            Algorithm::EdDsa => ed25519_material(
                ed25519_dalek::VerifyingKey::from_public_key_pem(pem)
                    .map_err(|_| refuse("an Ed25519 key"))?,
            )?,
        };
        Ok(Self { kid, material })
    }

    /// The only algorithm this key checks.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Hmac(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether a token with this key id may be checked with this key. A token that names a key is checked
    /// with that one, or with a key nobody named; a token that names none with any.
    #[must_use]
    pub fn answers_to(&self, kid: Option<&str>) -> bool {
        match (kid, self.kid.as_deref()) {
            (Some(wanted), Some(own)) => wanted == own,
            (None, _) | (_, None) => true,
        }
    }

    /// Whether the signature is this key's over the message. HMACs are compared in constant time.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Hmac(mac) => mac.clone().chain_update(message).verify_slice(signature).is_ok(),
            Material::Rsa(key) => {
                // RFC 8017, section 8.2.2, step 1; stated here so that it does not hang on the library.
                signature.len() == key.as_ref().size()
                    && rsa::pkcs1v15::Signature::try_from(signature)
                        .is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Material::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            // Strict: without it a key or a signature of small order fits many messages.
            Material::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        }
    }
}

fn rsa_material(key: rsa::RsaPublicKey) -> Result<Material, String> {
    let bits = key.n().bits();
    if bits < MIN_RSA_BITS {
        return Err(format!("is an RSA key of {bits} bits; RS256 needs 2048 (RFC 7518, section 3.3)"));
    }
    Ok(Material::Rsa(rsa::pkcs1v15::VerifyingKey::new(key)))
}

fn ed25519_material(key: ed25519_dalek::VerifyingKey) -> Result<Material, String> {
    if key.is_weak() {
        return Err("is an Ed25519 key of small order; its signatures prove nothing".to_owned());
    }
    Ok(Material::Ed25519(key))
}

/// One key of a JSON Web Key Set (RFC 7517). Other members, such as `x5c`, are not looked at.
#[derive(Debug, Deserialize)]
pub struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<IgnoredAny>,
}

impl Jwk {
    /// The key; none if it is not meant for signatures (`use`, `key_ops`).
    ///
    /// # Errors
    /// Why the key cannot be used; `path` is where it stands.
    pub fn check(self, path: &str) -> Result<Option<Key>, ConfigError> {
        let elsewhere = self.usage.as_deref().is_some_and(|usage| usage != "sig")
            || self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"));
        if elsewhere {
            return Ok(None);
        }
        if self.d.is_some() {
            return Err(ConfigError::new(format!("{path}/d"), "is private; publish only the public key"));
        }
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(self.n.as_deref(), path, "n")?, bytes(self.e.as_deref(), path, "e")?);
                let key =
                    rsa::RsaPublicKey::new(rsa::BigUint::from_bytes_be(&n), rsa::BigUint::from_bytes_be(&e))
                        .map_err(|error| ConfigError::new(path, format!("is not an RSA key: {error}")))?;
                rsa_material(key).map_err(|message| ConfigError::new(path, message))?
            }
            ("EC", Some("P-256")) => {
                let (x, y) =
                    (coordinate(self.x.as_deref(), path, "x")?, coordinate(self.y.as_deref(), path, "y")?);
                let point = p256::EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
                let key = p256::ecdsa::VerifyingKey::from_encoded_point(&point)
                    .map_err(|_| ConfigError::new(path, "is not a point on P-256"))?;
                Material::P256(key)
            }
            ("OKP", Some("Ed25519")) => {
                let x = coordinate(self.x.as_deref(), path, "x")?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(&x)
                    .map_err(|_| ConfigError::new(path, "is not a point on Ed25519"))?;
                ed25519_material(key).map_err(|message| ConfigError::new(path, message))?
            }
            ("oct", _) => {
                return Err(ConfigError::new(
                    format!("{path}/kty"),
                    "a shared secret has no place in a key set",
                )
                .hint(r#"in `keys`: {"alg":"HS256","secret":"NAME"}"#));
            }
            ("EC" | "OKP", _) => {
                return Err(ConfigError::new(
                    format!("{path}/crv"),
                    "only P-256 (EC) and Ed25519 (OKP) are known",
                ));
            }
            _ => return Err(ConfigError::new(format!("{path}/kty"), "only RSA, EC and OKP are known")),
        };
        let key = Key { kid: self.kid, material };
        match self.alg {
            Some(alg) if alg != key.algorithm().name() => {
                Err(ConfigError::new(format!("{path}/alg"), "does not fit the key")
                    .hint(key.algorithm().name()))
            }
            _ => Ok(Some(key)),
        }
    }
}

fn bytes(value: Option<&str>, path: &str, name: &str) -> Result<Vec<u8>, ConfigError> {
    let path = format!("{path}/{name}");
    let Some(value) = value else { return Err(ConfigError::new(path, "is missing")) };
    URL_SAFE_NO_PAD.decode(value).map_err(|_| ConfigError::new(path, "is not base64url without padding"))
}

fn coordinate(value: Option<&str>, path: &str, name: &str) -> Result<[u8; 32], ConfigError> {
    bytes(value, path, name)?
        .try_into()
        .map_err(|_| ConfigError::new(format!("{path}/{name}"), "is not 32 bytes long"))
}
