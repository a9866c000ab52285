//! What a client's certificate says, as facts for authenticators. The handshake has proven that the client holds its key, and
//! that one of the operator's authorities has given it out.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest text of a certificate that becomes a fact, in bytes; a longer one is left out.
const MAX_FACT: usize = 4_096;

/// Who a client's certificate says it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The digest of the certificate as it was sent (RFC 8705, section 3.1, in lower-case hexadecimal).
    pub(in crate::door) sha256: String,
    /// The subject, such as `O=Example, CN=ann`.
    pub(in crate::door) subject: String,
    /// Its other names, with a blank between two of them: `DNS:`, `URI:` and `EMAIL:` before the name.
    pub(in crate::door) names: String,
}

impl Certificate {
    /// The facts of a certificate; none if it cannot be read.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let mut names = String::new();
        for name in
            parsed.subject_alternative_name().ok().flatten().iter().flat_map(|it| &it.value.general_names)
        {
            let (kind, name) = match name {
                GeneralName::DNSName(name) => ("DNS", *name),
                GeneralName::URI(name) => ("URI", *name),
                GeneralName::RFC822Name(name) => ("EMAIL", *name),
                _ => continue,
            };
            // A blank in it would make two names of one.
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                continue;
            }
            names.push_str(if names.is_empty() { "" } else { " " });
            names.push_str(&format!("{kind}:{name}"));
        }
        let short = |text: String| if text.len() <= MAX_FACT { text } else { String::new() };
        let digest = Sha256::digest(der.as_ref());
        Some(Self {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            subject: short(parsed.subject().to_string()),
            names: short(names),
        })
    }

    /// The facts by their keys.
    pub(in crate::door) fn facts(&self) -> [(&'static str, &str); 3] {
        [
            ("peer.cert.sha256", &self.sha256),
            ("peer.cert.subject", &self.subject),
            ("peer.cert.names", &self.names),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_its_names_and_what_is_none_says_nothing() {
        let names = vec!["a.example.org".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
        let uri = "spiffe://example.org/ann".try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let read = Certificate::read(made.der()).unwrap();
        assert!(read.subject.contains("CN=ann"), "{read:?}");
        assert_eq!(read.names, "DNS:a.example.org URI:spiffe://example.org/ann");
        assert_eq!(read.sha256.len(), 64);
        assert_eq!(Certificate::read(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
