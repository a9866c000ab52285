//! An endpoint as operators see it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::door::hub::Hub;
use crate::pipeline::{News, Pipeline};

/// What operators see and do of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) mount: Option<String>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) hub: Arc<Hub>,
    pub(super) news: mpsc::Sender<News>,
}
