//! Delivers one message, with pauses between the attempts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use reqwest::Client;

use super::super::Approvals;
use super::super::notes::{Event, Note, lost};
use super::message;
use crate::config::Webhook;

/// Before each attempt. A person has an hour to decide, and less about what has a high risk.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Webhooks that said 410: they want nothing any more, until they are configured otherwise.
#[derive(Debug, Default)]
pub(super) struct Disabled(Mutex<HashSet<String>>);

/// Sends messages.
#[derive(Clone, Debug)]
pub(super) struct Sender(Option<Client>);

impl Sender {
    pub(super) fn new() -> Self {
        let client = client(PATIENCE);
        if let Err(error) = &client {
            tracing::error!("nobody is notified of approvals, because there is no HTTP client: {error}");
        }
        Self(client.ok())
    }

    /// Delivers what there is to say about a note, or gives up.
    pub(super) async fn deliver(
        &self,
        approvals: &Arc<Approvals>,
        webhook: &Webhook,
        note: &Note,
        disabled: &Disabled,
    ) {
        let Some(client) = &self.0 else { return };
        let address = webhook.url.expose();
        let mut why = String::new();
        for pause in PAUSES {
            // So that not all come back in the same moment.
            tokio::time::sleep(pause.mul_f64(1.0 + f64::from(rand_tenth()) / 100.0)).await;
            if disabled.0.lock().contains(address) {
                return;
            }
            let Ok(shown) = approvals.show(&note.id).await else { return };
            // Who is asked too late is not asked.
            if note.event == Event::Requested && shown.approval.state.is_final() {
                return;
            }
            let now_ms = approvals.now_ms();
            let timestamp = i64::try_from(now_ms / 1_000).unwrap_or(0);
            let id = format!("{}-{}", note.id, note.event.word());
            let body = message::body(note, &shown, now_ms);
            let signature = webhook.key.sign(&id, timestamp, &body);
            let request = client
                .post(address)
                .header(CONTENT_TYPE, "application/json")
                .header("webhook-id", id)
                .header("webhook-timestamp", timestamp.to_string())
                .header("webhook-signature", signature)
                .body(body);
            match request.send().await.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => {
                    metrics::counter!("sentinel_notifications_total", "result" => "delivered").increment(1);
                    return;
                }
                Ok(StatusCode::GONE) => {
                    if disabled.0.lock().insert(address.to_owned()) {
                        tracing::warn!(
                            "{} wants no notifications any more (410), and gets none until the gateway is started again",
                            webhook.name
                        );
                    }
                    return;
                }
                Ok(status) => why = format!("it answered {status}"),
                // The error names the address, which may hold a secret.
                Err(error) => why = error.without_url().to_string(),
            }
            tracing::debug!(approval = note.id, "{} was not notified: {why}", webhook.name);
        }
        lost(&format!("{} was not reached in {} attempts: {why}", webhook.name, PAUSES.len()));
    }
}

/// A client for those who hear of approvals, whose requests take so long at most.
///
/// # Errors
/// The system has no random numbers, or the like.
pub(crate) fn client(patience: Duration) -> reqwest::Result<Client> {
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .user_agent(concat!("sentinel-gateway/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the message to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(Duration::from_secs(5))
            .timeout(patience)
            .pool_max_idle_per_host(1)
    };
    // Without a certificate store on the system plain HTTP works.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// A number below ten.
fn rand_tenth() -> u8 {
    let mut byte = [0];
    let _no_jitter = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    byte[0] % 10
}
