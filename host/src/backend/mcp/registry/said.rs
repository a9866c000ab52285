//! The description and the lists that a server has sent; the same for all generations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::mcp::server_info::ServerInfo;
use crate::backend::mcp::{Server, Status};
use crate::mcp::catalog::{Offer, Offers};
use crate::mcp::header::{self, Mirrored};
use crate::mcp::{message, splice};

/// A backend that is started again within this time has not failed yet.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What one server has said.
#[derive(Debug, Default)]
pub(in crate::backend) struct Said {
    pub(in crate::backend) info: Option<ServerInfo>,
    /// What it offers, before rewriting; to rewrite again after a change.
    original: Option<Arc<Offers>>,
    /// That is what it said before this start; it has not spoken yet.
    remembered: bool,
    /// It has failed before it was listed.
    failed: bool,
}

impl Server {
    /// What it offers, before rewriting.
    pub(in crate::backend) fn original(&self) -> Option<Arc<Offers>> {
        self.said.lock().original.clone()
    }

    /// What it said of itself when it was greeted last.
    pub(in crate::backend) fn info(&self) -> Option<ServerInfo> {
        self.said.lock().info.clone()
    }

    /// Whether it is known what it offers.
    pub(super) fn is_listed(&self) -> bool {
        self.said.lock().original.is_some()
    }

    /// Whether it has said that since it was started.
    pub(super) fn has_spoken(&self) -> bool {
        let said = self.said.lock();
        said.original.is_some() && !said.remembered
    }

    pub(super) fn has_failed(&self) -> bool {
        self.said.lock().failed
    }

    /// Whether it is known what it offers, or that it has failed.
    pub(super) fn is_known(&self) -> bool {
        let said = self.said.lock();
        said.original.is_some() || said.failed
    }

    /// Whether it offers what is known of it already; then there is nothing to read.
    pub(in crate::backend) fn confirmed(&self, offers: &Offers) -> bool {
        let mut said = self.said.lock();
        let same = said.original.as_ref().is_some_and(|known| known.same_as(offers));
        if same {
            said.remembered = false;
        }
        same
    }

    /// What it offers from now on; `remembered`: it was not asked yet.
    pub(in crate::backend) fn has_said(&self, offers: Arc<Offers>, remembered: bool) {
        let mirrored = |offer: &Offer| {
            let schema = splice::get(offer.item.get(), "/inputSchema")?;
            let found = header::mirrored(&message::raw(schema.to_owned())).ok()?;
            (!found.is_empty()).then(|| (offer.upstream.clone(), found))
        };
        let mirrored: HashMap<String, Vec<Mirrored>> = offers.tools.iter().filter_map(mirrored).collect();
        let mut said = self.said.lock();
        self.mirrored.store(Arc::new(mirrored));
        (said.original, said.remembered) = (Some(offers), remembered);
    }

    /// It is as it is now: if it is down, it has failed.
    pub(in crate::backend) fn note_failure(&self) {
        let failed = match self.status() {
            Status::Down { again, .. } => again.is_none_or(|again| again > Instant::now() + AT_ONCE),
            Status::Stopped => true,
            Status::Starting | Status::Ready => false,
        };
        if failed {
            self.said.lock().failed = true;
        }
    }
}
