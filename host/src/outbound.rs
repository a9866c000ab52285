//! What all HTTP clients of the gateway have in common: who they say they are, that they go where they were sent and nowhere
//! else, and how their errors are told.

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder};

use crate::text;

/// The beginning of a client. It follows no redirect, because that would carry its headers to another host, and asks no proxy
/// but one that is named.
pub fn builder() -> ClientBuilder {
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("sentinel-gateway/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
}

/// The client of such a builder, which trusts these authorities and those of the system. A bare container has none; those that
/// are named are then all there are.
///
/// # Errors
/// There can be no client.
pub(crate) fn trusting(
    builder: impl Fn() -> ClientBuilder,
    authorities: &[Certificate],
) -> reqwest::Result<Client> {
    let merged = builder().tls_certs_merge(authorities.iter().cloned()).build();
    merged.or_else(|_| builder().tls_certs_only(authorities.iter().cloned()).build())
}

/// What went wrong, with its causes, and without the URL, which may hold a credential.
pub(crate) fn explain(error: reqwest::Error) -> String {
    text::with_causes(&error.without_url())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_is_told_without_its_url() {
        let client = trusting(builder, &[]).unwrap();
        let sent = client.get("http://127.0.0.1:1/token/s3cret").send().await;
        let said = explain(sent.unwrap_err());
        assert!(!said.contains("s3cret") && !said.contains("127.0.0.1:1/"), "{said}");
        assert!(said.contains("refused"), "the cause is told: {said}");
    }
}
