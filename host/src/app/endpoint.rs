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
