//! Checks the certificates of HTTPS servers if the operator named some: trusted are the system's authorities, the named
//! ones, and a server whose own certificate was named.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The settings of TLS for a server with these certificates (PEM).
///
/// # Errors
/// They cannot be used.
pub(super) fn config(ca: &str, identity: Option<&str>) -> Result<ClientConfig, String> {
    let read = |pem: &str| -> Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())
    };
    let named = read(ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    // Certificates of the system that cannot be read are left out; a bare container has none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in &named {
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build();
    let inner = inner.map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Named { inner, named }));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(pem) => {
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
            config.with_client_auth_cert(read(pem)?, key).map_err(|error| error.to_string())?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Judges as usual, with one exception. `openssl req -x509` makes a certificate that is authority and server in one,
/// which the rules of the web forbid; an operator who names this very certificate means this server.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match judged {
            Err(error)
                if is_only_an_authority(&error) && self.named.iter().any(|named| named == end_entity) =>
            {
                // Its time was judged before; its name was not.
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The error has no type of its own in rustls; tests hold its name.
fn is_only_an_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(_)) && format!("{error:?}").contains("CaUsedAsEndEntity")
}
