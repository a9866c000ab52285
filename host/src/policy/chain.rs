//! The plugins of one configuration in the order they are asked.

use std::sync::Arc;

use super::permit::Permits;
use super::refusal;
use super::weighed::Ask;
use crate::call::{Call, Credential, Denial, DenialKind, Principal};
use crate::plugin::{ApprovalRequest, Auth, Plugin, PluginError, Row, Verdict};
use crate::redact::Redaction;

/// Which plugin is asked when.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    pub authenticators: Vec<Arc<Plugin>>,
    /// Asked before the arguments are checked: rate limit, RBAC, the operator's own.
    pub guards: Vec<Arc<Plugin>>,
    /// Asked last, so that a refusal elsewhere never occupies a probe.
    pub breakers: Vec<Arc<Plugin>>,
    /// What plugins must not tell clients.
    pub redaction: Redaction,
}

/// What a guard said that did not refuse.
enum Said {
    /// The call may go on, and it wants to hear how it ended.
    Permit(u64),
    /// The call may go on.
    Nothing,
    /// The call may go on once a person has approved it.
    Ask(Box<ApprovalRequest>),
}

impl Chain {
    /// Whether callers are judged by the very same authenticators.
    pub(super) fn judges_callers_as(&self, other: &Self) -> bool {
        let (own, theirs) = (&self.authenticators, &other.authenticators);
        own.len() == theirs.len() && own.iter().zip(theirs).all(|(own, theirs)| Arc::ptr_eq(own, theirs))
    }

    /// All plugins, for people.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.authenticators.iter().chain(&self.guards).chain(&self.breakers)
    }

    /// Asks the authenticators in turn until one does not abstain. A caller with several credentials is judged by all
    /// authenticators, and all have to name the same person: a proxy in front of the gateway may have judged another one.
    pub(super) fn authenticate(&self, credential: &Arc<Credential>) -> Result<Auth, Denial> {
        let several = credential.count() > 1;
        let mut known: Option<(Principal, Option<u64>)> = None;
        for plugin in &self.authenticators {
            match plugin.authenticate(credential) {
                Ok(Ok(Auth::Abstain)) => {}
                Ok(Ok(Auth::Accepted { principal, cache_until_ms })) => {
                    known = Some(match known.take() {
                        Some(first) => same(first, (&principal, cache_until_ms))?,
                        None => (principal, cache_until_ms),
                    });
                    if !several {
                        break;
                    }
                }
                Ok(Err(refusal)) => {
                    return Err(refusal::denied(
                        &self.redaction,
                        plugin,
                        &refusal,
                        DenialKind::Unauthenticated,
                    ));
                }
                // An authenticator that fails can at best abstain; it never lets anybody in.
                Err(error) => failed(plugin, &error)?,
            }
        }
        if let Some((principal, cache_until_ms)) = known {
            return Ok(Auth::Accepted { principal, cache_until_ms });
        }
        let text = if credential.count() > 0 {
            "caller not authenticated: no authenticator accepted the credential"
        } else {
            "caller not authenticated: no credential was sent, such as a token in `Authorization: Bearer TOKEN`"
        };
        Err(Denial::new(DenialKind::Unauthenticated, "no_credential", text))
    }

    /// Asks plugins in turn. Those that want a person to be asked are collected, because a later one may refuse.
    pub(super) fn admit(
        &self,
        call: &Arc<Call>,
        guards: &[Arc<Plugin>],
        permits: &mut Permits,
        asks: &mut Vec<Ask>,
    ) -> Result<(), Denial> {
        for plugin in admitting(guards) {
            match self.admits(plugin, call)? {
                Said::Permit(permit) => permits.push(plugin, permit),
                Said::Nothing => {}
                Said::Ask(request) => asks.push(Ask { plugin: plugin.clone(), request }),
            }
        }
        Ok(())
    }

    /// Asks plugins about what no person is asked about, such as whether the server is well.
    pub(super) fn admit_alone(
        &self,
        call: &Arc<Call>,
        guards: &[Arc<Plugin>],
        permits: &mut Permits,
    ) -> Result<(), Denial> {
        let mut asks = Vec::new();
        self.admit(call, guards, permits, &mut asks)?;
        asks.first().map_or(Ok(()), |ask| Err(self.nobody_to_ask(ask)))
    }

    /// The refusal of a call for which nobody can be asked.
    pub(super) fn nobody_to_ask(&self, ask: &Ask) -> Denial {
        refusal::nobody_to_ask(&self.redaction, &ask.plugin, &ask.request)
    }

    /// Asks all guards about a call without a target. The error is of the first that says "too often", or that fails.
    pub(super) fn bear(&self, call: &Arc<Call>, permits: &mut Permits) -> Result<(), Denial> {
        let mut result = Ok(());
        for plugin in admitting(&self.guards) {
            match self.admits(plugin, call) {
                Ok(Said::Permit(permit)) => permits.push(plugin, permit),
                // Nothing is going to be done, so there is nothing to approve.
                Ok(Said::Nothing | Said::Ask(_)) => {}
                Err(denied) => {
                    let counts = matches!(denied.kind, DenialKind::RateLimited | DenialKind::Unavailable);
                    if counts && result.is_ok() {
                        result = Err(denied);
                    }
                }
            }
        }
        result
    }

    /// Asks one guard: what it said, or why the call may not go on.
    fn admits(&self, plugin: &Plugin, call: &Arc<Call>) -> Result<Said, Denial> {
        match plugin.check(call) {
            Ok(Ok(Verdict::Allow(permit))) => Ok(permit.map_or(Said::Nothing, Said::Permit)),
            Ok(Ok(Verdict::Ask(request))) => Ok(Said::Ask(request)),
            Ok(Err(refusal)) => {
                Err(refusal::denied(&self.redaction, plugin, &refusal, DenialKind::Forbidden))
            }
            Err(error) => failed(plugin, &error).map(|()| Said::Nothing),
        }
    }

    pub(super) fn visible(
        &self,
        call: &Arc<Call>,
        rows: &[Row<'_>],
        visible: &mut [bool],
    ) -> Result<(), Denial> {
        for plugin in self.guards.iter().filter(|plugin| plugin.roles().visibility) {
            match plugin.visible(call, rows) {
                Ok(answers) => visible.iter_mut().zip(answers).for_each(|(shown, answer)| *shown &= answer),
                Err(error) => failed(plugin, &error)?,
            }
        }
        Ok(())
    }
}

/// The guards that judge calls; those that only filter lists are left out.
fn admitting(guards: &[Arc<Plugin>]) -> impl Iterator<Item = &Arc<Plugin>> {
    guards.iter().filter(|plugin| plugin.roles().admission)
}

fn failed(plugin: &Plugin, error: &PluginError) -> Result<(), Denial> {
    // The plugin's own words before it failed are only for the operator.
    refusal::failed(plugin, "policy", error, None)
}

/// The person that two authenticators know, for as long as both say.
fn same(
    (first, until): (Principal, Option<u64>),
    (other, other_until): (&Principal, Option<u64>),
) -> Result<(Principal, Option<u64>), Denial> {
    if (&first.subject, &first.role) == (&other.subject, &other.role) {
        return Ok((first, until.zip(other_until).map(|(one, other)| one.min(other))));
    }
    Err(Denial::new(
        DenialKind::Unauthenticated,
        "credentials_differ",
        "the request brings credentials of different callers: send one of them only",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::sample::principal as person;

    #[test]
    fn two_credentials_are_one_person_or_nobody() {
        let ann = || person("ann", "user");
        assert_eq!(same((ann(), Some(7)), (&ann(), Some(5))), Ok((ann(), Some(5))));
        assert_eq!(
            same((ann(), Some(7)), (&ann(), None)),
            Ok((ann(), None)),
            "what one would not keep is not kept"
        );
        for other in [person("eve", "user"), person("ann", "admin")] {
            let refused = same((ann(), None), (&other, None)).map_err(|denial| denial.kind);
            assert_eq!(refused, Err(DenialKind::Unauthenticated));
        }
    }
}
