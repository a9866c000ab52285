//! Chooses the first message to a server, `initialize` or `server/discover`: by the configuration, by what is
//! remembered of the server, and by what came of earlier attempts. Some older servers end at a message that they do not
//! know, and every start costs seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::memory::Remembered;
use super::progress::{First, Negotiated, Stage};
use crate::config::BackendEra;
use crate::mcp::Era;

/// The name it is remembered under.
const WHAT: &str = "era";
/// A memory ends after so long, so that a server which has learnt the newer era in the meantime is asked about it.
const VALID: Duration = Duration::from_secs(30 * 24 * 3600);
/// After so many failed attempts a known server gets the other first message once: another server may have taken its
/// place.
const SOMETIMES: u32 = 4;

/// What is remembered of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// It is greeted with `initialize`.
    handshake: bool,
    /// Its name and its version; with another version it may have learnt something.
    server: String,
    /// When it was found out, in seconds since 1970.
    since: u64,
}

/// The choice for one server.
#[derive(Debug)]
pub(super) struct Eras {
    remembered: Remembered,
    /// Whether there is something to find out.
    open: bool,
    /// Its end can be its answer.
    is_process: bool,
    known: Option<Known>,
    next: First,
    /// It ended at the probe before, and was started again for that.
    given_another: bool,
    failures: u32,
}

impl Eras {
    /// Reads what is remembered, from the disk.
    pub(super) fn recall(remembered: Remembered, setting: BackendEra, is_process: bool) -> Self {
        let known = (setting == BackendEra::Auto).then(|| remembered.read::<Known>(WHAT)).flatten();
        let known = known.filter(|known| {
            // A time that is still to come is another clock's.
            now().checked_sub(known.since).is_some_and(|age| age < VALID.as_secs())
        });
        let mut eras = Self {
            remembered,
            open: setting == BackendEra::Auto,
            is_process,
            next: First::Discover,
            known,
            given_another: false,
            failures: 0,
        };
        eras.next = eras.usual();
        eras
    }

    fn usual(&self) -> First {
        match &self.known {
            Some(known) if known.handshake => First::Initialize,
            Some(_) | None => First::Discover,
        }
    }

    pub(super) fn first(&self) -> First {
        self.next
    }

    /// It is up. Returns what is to be written to the disk, if that is not what stands there.
    pub(super) fn met(&mut self, met: &Negotiated) -> Option<impl FnOnce() + Send + 'static + use<>> {
        (self.given_another, self.failures) = (false, 0);
        if !self.open {
            return None;
        }
        let handshake = met.learnt == Era::Handshake;
        let found = Known { handshake, server: met.info.server.clone(), since: now() };
        let same =
            self.known.as_ref().map(|known| known.handshake == handshake && known.server == found.server);
        // It shakes hands as before, and says that it is another one: the next gateway asks it anew.
        let updated =
            same == Some(false) && handshake && self.known.as_ref().is_some_and(|known| known.handshake);
        if same != Some(true) {
            self.known = Some(found.clone());
        }
        self.next = self.usual();
        let remembered = self.remembered.clone();
        (same != Some(true))
            .then_some(move || if updated { remembered.forget(WHAT) } else { remembered.write(WHAT, &found) })
    }

    /// The connection ended while this was waited for. True if it ended because of how it was greeted, as far as anybody
    /// can know, and is to be started again without a pause.
    pub(super) fn lost(&mut self, stage: Stage) -> bool {
        if !self.open || !self.is_process {
            return false;
        }
        let probed = match stage {
            Stage::Discover | Stage::Both => true,
            Stage::Initialize => false,
            Stage::Opening | Stage::Client | Stage::Listing(_) | Stage::Up => return false,
        };
        if probed && self.next == First::Discover && !self.given_another {
            self.given_another = true;
            self.next = First::Initialize;
            return true;
        }
        self.failures = self.failures.saturating_add(1);
        self.next = match &self.known {
            None => self.next.other(),
            Some(_) if self.failures.is_multiple_of(SOMETIMES) => self.usual().other(),
            Some(_) => self.usual(),
        };
        false
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::mcp::memory::Memory;
    use crate::backend::mcp::scripted;
    use crate::backend::mcp::server_info::ServerInfo;
    use crate::files::Trust;
    use crate::mcp::message;

    fn remembered(memory: &Arc<Memory>) -> Remembered {
        memory.of(&scripted::backend("one", Duration::from_secs(1)).settings.load())
    }

    fn met(learnt: Era, server: &str) -> Negotiated {
        let info = ServerInfo {
            version: "2025-11-25".to_owned(),
            capabilities: message::raw("{}".to_owned()),
            instructions: None,
            handshake: true,
            server: server.to_owned(),
        };
        Negotiated { info, learnt, declared: None }
    }

    fn keep(write: Option<impl FnOnce()>) -> bool {
        write.map(|write| write()).is_some()
    }

    #[tokio::test]
    async fn one_that_ends_at_the_probe_is_started_once_more_and_then_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(dir.path().join("servers")), Trust::default());
        let recall = || Eras::recall(remembered(&memory), BackendEra::Auto, true);
        let mut eras = recall();
        assert_eq!(eras.first(), First::Discover);
        assert!(eras.lost(Stage::Discover));
        assert_eq!(eras.first(), First::Initialize);
        assert!(keep(eras.met(&met(Era::Handshake, "a 1"))));
        assert!(!keep(eras.met(&met(Era::Handshake, "a 1"))), "it stands there already");
        assert_eq!((eras.first(), recall().first()), (First::Initialize, First::Initialize));
        // Another version may speak otherwise; this gateway goes on with what works.
        assert!(keep(eras.met(&met(Era::Handshake, "a 2"))));
        assert_eq!((eras.first(), recall().first()), (First::Initialize, First::Discover));
        // What was wrong is corrected.
        assert!(keep(eras.met(&met(Era::Stateless, "a 2"))));
        assert_eq!((eras.first(), recall().first()), (First::Discover, First::Discover));
        // What is old is not believed.
        let since = now() - VALID.as_secs() - 1;
        remembered(&memory).write(WHAT, &Known { handshake: true, server: String::new(), since });
        assert_eq!(recall().first(), First::Discover);
        remembered(&memory).write(WHAT, &Known { handshake: true, server: String::new(), since: now() + 99 });
        assert_eq!(recall().first(), First::Discover);
    }

    #[tokio::test]
    async fn one_that_never_comes_up_is_started_once_for_an_attempt_and_greeted_in_both_ways() {
        let mut eras = Eras::recall(remembered(&Arc::default()), BackendEra::Auto, true);
        let mut first_messages = Vec::new();
        let mut starts = 0;
        for _ in 0..6 {
            loop {
                starts += 1;
                first_messages.push(eras.first());
                let stage = if eras.first() == First::Discover { Stage::Discover } else { Stage::Initialize };
                if !eras.lost(stage) {
                    break;
                }
            }
        }
        use First::{Discover, Initialize};
        assert_eq!(
            first_messages,
            [Discover, Initialize, Discover, Initialize, Discover, Initialize, Discover]
        );
        assert_eq!(starts, 7);
        // One that is known to shake hands is asked otherwise now and then.
        assert!(!keep(eras.met(&met(Era::Handshake, "")).filter(|_| false)));
        let others = (0..8).filter(|_| !eras.lost(Stage::Initialize) && eras.first() == Discover).count();
        assert_eq!(others, 2);
    }

    #[tokio::test]
    async fn what_the_configuration_says_is_not_found_out() {
        for setting in [BackendEra::Handshake, BackendEra::Stateless] {
            let mut eras = Eras::recall(remembered(&Arc::default()), setting, true);
            assert!(!eras.lost(Stage::Discover));
            assert!(eras.met(&met(Era::Handshake, "")).is_none());
        }
        // An address without a listener says nothing about eras.
        let mut eras = Eras::recall(remembered(&Arc::default()), BackendEra::Auto, false);
        assert!(!eras.lost(Stage::Discover));
        assert_eq!(eras.first(), First::Discover);
    }
}
