//! The registry of the next generation: what it takes over from this one, and what it reads anew.

use std::sync::Arc;

use super::{Member, Registry, Reshape};
use crate::backend::mcp::Server;
use crate::backend::mcp::lineup::Lineup;
use crate::backend::mcp::open::{Common, Opener};
use crate::config;
use crate::mcp::catalog::Owners;

impl Registry {
    /// What is wanted next: of these servers those that are started and reached as before, and new ones for the rest, which
    /// are started at once.
    #[must_use]
    pub(crate) fn lineup(&self, settings: &[config::Backend], common: Common) -> Lineup {
        let same = self.opener.opens_as(&common);
        let opener = if same { self.opener.clone() } else { Arc::new(Opener::new(common.clone())) };
        let mut started = Vec::new();
        let wanted = |settings: &config::Backend| {
            let settings = Arc::new(settings.clone());
            let connected = |server: &&Arc<Server>| server.settings.load().connects_as(&settings);
            let stays = self.find(&settings.name).filter(connected).filter(|_| same).cloned();
            let server = stays.unwrap_or_else(|| {
                let server = self.fleet.enlist(&settings, &opener);
                started.push(server.clone());
                server
            });
            (server, settings)
        };
        let servers = settings.iter().map(wanted).collect();
        Lineup::new(self.fleet.clone(), opener, common, (servers, started))
    }

    /// The registry of the next generation, ready to be asked: with the lists of all servers that have said what they
    /// offer. Names that were given stay with their servers, as far as those still exist. `alike` says whether the next
    /// rewriters treat the lists of a server as those of this generation do; then nothing is read again.
    pub async fn following(
        self: &Arc<Self>,
        lineup: Lineup,
        reshape: Reshape,
        alike: impl Fn(&str) -> bool,
    ) -> Arc<Self> {
        // Half a start is not handed on: what is remembered is read in a moment.
        self.until(self.started + self.patience, |_, merging| merging.recalled).await;
        let (common, opener) = (lineup.common.clone(), lineup.opener.clone());
        let (fleet, fixed) = (lineup.fleet.clone(), lineup.fixed.clone());
        let backends = lineup.settled();
        let mut merging = self.merging.lock().clone();
        // The new servers were waited for before.
        merging.impatient |= merging.settled;
        let owners = std::mem::take(&mut merging.owners);
        let next = Self::new(&fleet, (backends, fixed), (opener, common), reshape, merging);
        next.merging.lock().owners = self.heirs(&next, owners);
        next.merges.send_replace(self.merges.borrow().saturating_add(1));
        // From here on it hears what servers say; what they said before is read now.
        next.attach();
        let shaping = next.members.iter().map(|member| {
            let before = self.place(&member.backend).map(|place| &self.members[place]);
            let checked = before.filter(|before| before.settings.checks_as(&member.settings));
            let as_before = checked.is_some() && alike(&member.backend.name);
            next.shape(member, checked, as_before)
        });
        futures_util::future::join_all(shaping).await;
        let mut merging = next.merging.lock();
        if merging.settled {
            let mut owners = std::mem::take(&mut merging.owners);
            let catalog = next.merged(&merging, &mut owners);
            merging.owners = owners;
            next.catalog.store(Arc::new(catalog));
        } else {
            tokio::spawn(next.clone().end_patience());
        }
        drop(merging);
        next
    }

    /// The lists of a server for this generation.
    async fn shape(&self, member: &Member, before: Option<&Member>, as_before: bool) {
        let backend = &member.backend;
        let _turn = backend.reading.lock().await;
        if let Some(before) = before {
            // If they have to be read again, at least the schemas that did not change need not be.
            member.shaped.store(before.shaped.load_full());
        }
        if as_before {
            return;
        }
        if let Some(offers) = backend.original()
            && let Some(shaped) = self.read(backend, &offers).await
        {
            member.shaped.store(Arc::new(shaped));
        }
    }

    /// Who owns which name in the next generation.
    fn heirs(&self, next: &Self, owners: Owners) -> Owners {
        let names = |one: &Self, other: &Self| -> Vec<(Arc<str>, bool)> {
            let both = one.members.iter().filter(|member| other.find(&member.backend.name).is_some());
            both.map(|member| (member.backend.name.clone(), member.settings.always_prefix)).collect()
        };
        // Another order or another way to name things says who has which name: then it is as after a start.
        let as_before =
            next.common.safe_names == self.common.safe_names && names(self, next) == names(next, self);
        if as_before { owners.without(|name| next.find(name).is_none()) } else { Owners::default() }
    }
}
