//! Makes what a server lists fit for clients, and says what was wrong with it, each once.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::Server;
use crate::mcp::catalog::{List, Offer, Offers};
use crate::mcp::item::{self, Fit};
use crate::mcp::message;

/// Items of one list that the log names at once; the others are counted.
const NAMED: usize = 20;
/// How many flaws of one server are remembered as logged. When there are more, new ones are not logged.
const TOLD: usize = 10_000;

/// The flaws of one server's items that have been logged. A server lists its items again and again, with the same
/// flaws.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashSet<u64>>);

impl Told {
    /// Whether this is new.
    fn is_new(&self, what: &(List, &str, &str)) -> bool {
        static HASHER: OnceLock<RandomState> = OnceLock::new();
        let digest = HASHER.get_or_init(RandomState::new).hash_one(what);
        let mut told = self.0.lock();
        told.len() < TOLD && told.insert(digest)
    }
}

/// What a server lists, as clients can take it.
pub(super) fn fit(backend: &Server, offers: &Offers) -> Offers {
    let mut fitted = Offers::default();
    for list in List::ALL {
        let mut said = 0_usize;
        let mut say = |name: &str, text: String, gone: bool| {
            if !backend.told.is_new(&(list, name, &text)) {
                return;
            }
            said += 1;
            let (backend, list) = (&backend.name, list.wire().1);
            if said <= NAMED && gone {
                tracing::warn!(%backend, list, name, "an entry that no client can take was left out: {text}");
            } else if said <= NAMED {
                tracing::warn!(%backend, list, name, "an entry was changed so that clients can take it: {text}");
            }
        };
        let fit = |offer: &Offer| match item::fit(list, offer.item.get()) {
            Fit::AsIs => Some(offer.clone()),
            Fit::Mended(item, why) => {
                say(&offer.upstream, why.join("; "), false);
                Some(Offer { item: message::raw(item), ..offer.clone() })
            }
            Fit::Out(why) => {
                say(&offer.upstream, why, true);
                None
            }
        };
        fitted.set(list, offers.get(list).iter().filter_map(fit).collect());
        if said > NAMED {
            let (list, more) = (list.wire().1, said - NAMED);
            tracing::warn!(backend = %backend.name, list, "{more} more entries were changed or left out");
        }
    }
    fitted
}
