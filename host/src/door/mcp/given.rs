//! Which lists a client was given, and whether it would be given others now.
//!
//! A client hears of a change only if the list that it has is different now, and never of a list that it did not ask
//! for: most clients list everything again after each such message, and some fail if one comes while they disconnect.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::mcp::catalog::List;
use crate::pipeline::{Digest, ListChanged, Pipeline, View};

/// The lists of one client.
#[derive(Debug, Default)]
pub(super) struct Given(Mutex<HashMap<List, Known>>);

#[derive(Debug)]
struct Known {
    view: View,
    /// The change that it was last told of, until it asks for the list.
    told: Option<Digest>,
}

impl Given {
    /// The client has been given a list.
    pub(super) fn note(&self, view: View) {
        self.0.lock().insert(view.list, Known { view, told: None });
    }

    /// What the client was given last of a list.
    pub(super) fn view(&self, list: List) -> Option<View> {
        self.0.lock().get(&list).map(|known| known.view.clone())
    }

    /// The changes of these lists that the client has to be told of, each once. Asks plugins.
    pub(super) fn changes(&self, pipeline: &Pipeline, lists: &[List]) -> Vec<ListChanged> {
        let views: Vec<View> = lists.iter().filter_map(|list| self.view(*list)).collect();
        let mut news: Vec<ListChanged> = Vec::new();
        for view in views {
            let Some(now) = pipeline.digest_now(&view) else { continue };
            let mut lists = self.0.lock();
            // It may have been given another one meanwhile.
            let known = lists.get_mut(&view.list).filter(|known| known.view.digest == view.digest);
            let Some(known) = known.filter(|known| known.view.digest != now && known.told != Some(now))
            else {
                continue;
            };
            known.told = Some(now);
            let change = ListChanged(view.list);
            // Resources and their templates are spoken of in one message.
            if !news.iter().any(|known| known.method() == change.method()) {
                news.push(change);
            }
        }
        news
    }
}
