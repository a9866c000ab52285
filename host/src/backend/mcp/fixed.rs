//! What is offered to MCP clients beside the servers.

use std::sync::Arc;

use super::arguments::{self, Owner};
use crate::mcp::catalog::{List, Offer, Offers};

/// What rewriters make of one list of a backend.
type Reshaping = dyn Fn(&Arc<str>, List, Vec<Offer>) -> Vec<Offer> + Send + Sync;

/// What a backend that is no MCP server offers to MCP clients. It is known from the configuration and does not change.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The backend's name.
    pub backend: Arc<str>,
    /// Its tools, resources and prompts.
    pub offers: Offers,
}

impl Fixed {
    /// The same as the rewriters of a generation leave it, with its schemas read.
    pub(super) fn shaped(self, reshape: &Reshaping) -> Self {
        let Self { backend, offers } = self;
        let mut shaped = Offers::default();
        for list in List::ALL {
            shaped.set(list, reshape(&backend, list, offers.get(list).to_vec()));
        }
        let own = arguments::own(&offers.tools);
        arguments::read(Owner { name: &backend, settings: None }, &mut shaped, &own, &offers);
        Self { backend, offers: shaped }
    }
}
