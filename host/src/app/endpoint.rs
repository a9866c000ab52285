//! An endpoint as operators see it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::door::mcp::subscribers::Subscribers;
use crate::pipeline::{ListChanged, Pipeline};

/// What operators see and do of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct EndpointView {
    pub(super) mount: Option<String>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) subscribers: Arc<Subscribers>,
    pub(super) news: mpsc::Sender<ListChanged>,
}

impl EndpointView {
    /// Has everything judged anew that stands for clients without a request: streams, subscriptions, what servers say.
    pub(super) async fn judge_standing(&self) {
        self.pipeline.mute();
        let subscribers = self.subscribers.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || subscribers.judge_standing()).await {
            tracing::error!("what stands for clients could not be judged anew: {error}");
        }
    }
}
