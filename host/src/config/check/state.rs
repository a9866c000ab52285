//! Checks which state outlives the process, and where it is kept.

use super::{Checker, Raw};
use crate::config::{Audit, State};

impl Checker<'_> {
    /// Beside the record, unless there is no place for one. All endpoints of a gateway keep theirs in the same place.
    pub(super) fn state(&mut self, raw: &Raw, audit: &Audit, mounted: bool) -> State {
        let persist = raw.state.persist;
        if mounted {
            if self.typed("/state") {
                let text = "the state of a mount is kept where the main file says";
                self.problem("/state", text, "leave it to the main file");
            }
            return State { persist, dir: None };
        }
        let dir = match &raw.state.dir {
            Some(typed) => Some(self.path(typed)),
            None => (raw.audit.dir.is_some() || self.state_home().is_some()).then(|| audit.dir.join("state")),
        };
        if persist && dir.is_none() {
            let text =
                "limits and circuits cannot outlive the gateway: neither XDG_STATE_HOME nor HOME is set";
            let hint = "set [state] dir to a folder that the gateway may write to, or persist to false";
            if self.typed("/state/persist") {
                self.problem("/state/persist", text, hint);
            } else {
                self.warn("/state/persist", text, hint);
            }
        }
        State { persist, dir }
    }
}
