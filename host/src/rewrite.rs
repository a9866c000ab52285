//! Runs the rewriter plugins around a backend, and checks every edit before it is made.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

mod edits;
mod sieved;

use self::edits::{checked, fits, is_json, pointer_of, valid_json};
pub use self::sieved::sieved;
use crate::call::{Call, Denial, DenialKind, Json, TargetKind};
use crate::mcp::catalog::{List, Offer};
use crate::mcp::message;
use crate::mcp::splice;
use crate::plugin::{BackendResponse, CatalogEdit, Fault, Hooks, Plugin, PluginError, PluginResult};
use crate::policy::{Permitted, refusal};
use crate::redact::Redaction;

/// A message may not grow past this by rewriting, unless the configuration says how long messages may be.
const MAX_REWRITTEN: usize = 16 << 20;

/// How long a message may be that a rewriter makes.
#[derive(Clone, Copy, Debug)]
struct Longest(usize);

impl Default for Longest {
    fn default() -> Self {
        Self(MAX_REWRITTEN)
    }
}

/// The rewriters in force, and what they have to do for each backend: found out once, so that a call runs no hook in vain.
#[derive(Debug, Default)]
pub struct Rewriters {
    by_backend: HashMap<String, Vec<(Arc<Plugin>, Hooks)>>,
    /// For a backend that the rewriters were not asked about: every hook of all.
    anywhere: Vec<(Arc<Plugin>, Hooks)>,
    /// What plugins must not tell clients.
    redaction: Redaction,
    longest: Longest,
}

/// A request as the backend shall see it, apart from its own names.
#[derive(Debug, Default)]
pub struct Prepared {
    pub params: Option<Json>,
    pub headers: Vec<(String, String)>,
    pub notes: Vec<(String, String)>,
    /// The rewriters that changed them.
    by: SmallVec<[Arc<Plugin>; 2]>,
}

impl Prepared {
    /// A call as it is sent. It is made anew where a rewriter changed it, so only those ask who have a use for it.
    #[must_use]
    pub fn as_sent(&self, call: &Arc<Call>) -> Arc<Call> {
        match &self.params {
            Some(params) => Arc::new(Call { params: params.clone(), ..Call::clone(call) }),
            None => call.clone(),
        }
    }

    /// What is said where the arguments that the rewriters made do not fit: it is not the client's mistake.
    #[must_use]
    pub fn misfit(&self, why: &Denial) -> Denial {
        let names: Vec<String> = self.by.iter().map(|plugin| format!("`{}`", plugin.name())).collect();
        let names = names.join(", ");
        let message = format!(
            "the rewriter plugin {names} made arguments that do not fit the tool, so the call is refused: {}",
            why.message
        );
        tracing::error!("{message}");
        Denial::new(DenialKind::Unavailable, "plugin_failed", message)
    }
}

impl Rewriters {
    /// Asks every rewriter what it wants to see of every backend.
    ///
    /// # Errors
    /// One that failed when it was asked.
    pub fn new<'a>(
        plugins: &[Arc<Plugin>],
        backends: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PluginError> {
        let asked = |backend: &'a str| {
            let hooks = plugins.iter().map(|plugin| Ok((plugin.clone(), plugin.hooks(backend)?)));
            Ok((backend.to_owned(), hooks.collect::<Result<_, _>>()?))
        };
        let by_backend = backends.into_iter().map(asked).collect::<Result<_, _>>()?;
        let anywhere = plugins.iter().map(|plugin| (plugin.clone(), Hooks::ALL)).collect();
        Ok(Self { by_backend, anywhere, ..Self::default() })
    }

    /// The same rewriters, whose words to clients go through this.
    #[must_use]
    pub fn with_redaction(self, redaction: Redaction) -> Self {
        Self { redaction, ..self }
    }

    /// The same, that make no longer messages than clients and servers may send.
    #[must_use]
    pub fn within(self, longest: usize) -> Self {
        Self { longest: Longest(longest), ..self }
    }

    /// All of them, for people.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.anywhere.iter().map(|(plugin, _)| plugin)
    }

    /// Whether any wants to see what is sent to a backend.
    #[must_use]
    pub fn see_requests(&self, backend: &str) -> bool {
        self.of(backend, |hooks| hooks.request).next().is_some()
    }

    /// Whether any wants to see a backend's answers.
    #[must_use]
    pub fn see_responses(&self, backend: &str) -> bool {
        self.of(backend, |hooks| hooks.response).next().is_some()
    }

    /// Whether the lists of a backend come out of these as of the others: the same plugins see them.
    #[must_use]
    pub fn list_as(&self, other: &Self, backend: &str) -> bool {
        let (mut own, mut theirs) =
            (self.of(backend, |hooks| hooks.catalog), other.of(backend, |hooks| hooks.catalog));
        loop {
            match (own.next(), theirs.next()) {
                (None, None) => return true,
                (Some(own), Some(theirs)) if Arc::ptr_eq(own, theirs) => {}
                _ => return false,
            }
        }
    }

    /// Those that want a hook of a backend.
    fn of(
        &self,
        backend: &str,
        wanted: impl Fn(Hooks) -> bool,
    ) -> impl DoubleEndedIterator<Item = &Arc<Plugin>> {
        let all = self.by_backend.get(backend).unwrap_or(&self.anywhere);
        all.iter().filter(move |(_, hooks)| wanted(*hooks)).map(|(plugin, _)| plugin)
    }

    /// The request after all rewriters; `params: None` means unchanged.
    ///
    /// # Errors
    /// As for [`Self::prepare`].
    pub fn request(&self, permitted: &Permitted) -> Result<Prepared, Denial> {
        self.prepare(permitted.call())
    }

    /// The same for a call that a person has to approve first: what is approved is what would be sent. Each rewriter sees the
    /// call as those before it left it.
    ///
    /// # Errors
    /// A rewriter refused, failed (and its failures deny) or made an edit that is not allowed.
    pub fn prepare(&self, call: &Arc<Call>) -> Result<Prepared, Denial> {
        let mut prepared = Prepared::default();
        for plugin in self.of(&call.target.backend, |hooks| hooks.request) {
            let seen = prepared.as_sent(call);
            let Some(edits) = self.outcome(plugin, plugin.on_request(&seen))? else { continue };
            match checked(seen.params.get(), &edits, true, self.longest.0) {
                Ok(changed) => {
                    if let Some(changed) = changed.map(Json::from) {
                        prepared.params = Some(changed);
                        prepared.by.push(plugin.clone());
                    }
                    prepared.headers.extend_from_slice(&edits.headers);
                    prepared.notes.extend_from_slice(&edits.notes);
                }
                Err(reason) => broken(plugin, &reason)?,
            }
        }
        Ok(prepared)
    }

    /// The result after all rewriters, in reverse order; `None` means unchanged. Each sees the result as those before it left
    /// it, with the call as it was sent. Their remarks are added to those about the request.
    ///
    /// # Errors
    /// As for [`Self::prepare`].
    pub fn response(
        &self,
        permitted: &Permitted,
        prepared: &mut Prepared,
        answer: &BackendResponse,
    ) -> Result<Option<Bytes>, Denial> {
        let call = prepared.as_sent(permitted.call());
        let mut changed: Option<Bytes> = None;
        for plugin in self.of(&call.target.backend, |hooks| hooks.response).rev() {
            let mut answer = answer.clone();
            if let Some(changed) = &changed {
                answer.result = changed.clone();
            }
            let result = answer.result.clone();
            let Some(edits) = self.outcome(plugin, plugin.on_response(&call, answer))? else { continue };
            if !edits.headers.is_empty() {
                broken(plugin, "it set a header on a response, which has none")?;
                continue;
            }
            let Ok(text) = std::str::from_utf8(&result) else { continue };
            match checked(text, &edits, false, self.longest.0) {
                Ok(text) => {
                    if let Some(text) = text {
                        changed = Some(Bytes::from(text));
                    }
                    prepared.notes.extend_from_slice(&edits.notes);
                }
                Err(reason) => broken(plugin, &reason)?,
            }
        }
        Ok(changed)
    }

    /// What is said where an answer is longer than rewriters can be shown: the limit is theirs, and no mistake of the server.
    #[must_use]
    pub fn too_long(&self, backend: &str, limit: usize) -> Denial {
        let names: Vec<String> =
            self.of(backend, |hooks| hooks.response).map(|plugin| format!("`{}`", plugin.name())).collect();
        let message = format!(
            "the answer is longer than {limit} bytes, the most that the rewriter plugin {} can be shown; without having been looked at it goes to nobody",
            names.join(", ")
        );
        tracing::error!(backend, "{message}; gateway.max_message_bytes sets how long it may be");
        Denial::new(DenialKind::Unavailable, "too_long_to_rewrite", message)
    }

    /// A text of a backend that is no result, after all rewriters that look at such; none if it may stay. `at` is the word of
    /// the contract for what it is.
    ///
    /// # Errors
    /// A rewriter refused it, failed (and its failures deny) or made something that is no JSON.
    pub fn sieve(&self, call: &Arc<Call>, at: &str, json: &str) -> Result<Option<String>, Denial> {
        let mut changed: Option<String> = None;
        for plugin in self.sieving(&call.target.backend).rev() {
            let text = changed.as_deref().unwrap_or(json);
            let Some(Some(made)) = self.outcome(plugin, plugin.sieve(call, at, text))? else { continue };
            match fits(&made, self.longest.0).and_then(|()| is_json(&made, 1)) {
                Ok(()) => changed = Some(made),
                Err(reason) => broken(plugin, &format!("what it made of `{at}` {reason}"))?,
            }
        }
        Ok(changed)
    }

    /// Whether any looks at what a backend says beside its results.
    #[must_use]
    pub fn sieves(&self, backend: &str) -> bool {
        self.sieving(backend).next().is_some()
    }

    fn sieving(&self, backend: &str) -> impl DoubleEndedIterator<Item = &Arc<Plugin>> {
        self.of(backend, |hooks| hooks.sieve).filter(|plugin| plugin.roles().sieving)
    }

    /// A backend's list after all rewriters. A rewriter that fails hides the whole list, because an item that it
    /// would have hidden must not be shown.
    #[must_use]
    pub fn catalog(&self, backend: &Arc<str>, list: List, offers: Vec<Offer>) -> Vec<Offer> {
        let kind = match list {
            List::Tools => TargetKind::Tool,
            List::Resources | List::Templates => TargetKind::Resource,
            List::Prompts => TargetKind::Prompt,
        };
        let mut offers = offers;
        for plugin in self.of(backend, |hooks| hooks.catalog) {
            let shared: Arc<[Offer]> = offers.into();
            match self.outcome(plugin, plugin.on_catalog(backend, kind, &shared)) {
                Ok(Some(edits)) => offers = edited(plugin, list, &shared, edits),
                Ok(None) => offers = shared.to_vec(),
                Err(denial) => {
                    tracing::error!(%backend, "the server's list is hidden: {}", denial.message);
                    return Vec::new();
                }
            }
        }
        offers
    }

    /// A plugin's answer, or what its failure comes to: `Ok(None)` passes over it.
    fn outcome<T>(&self, plugin: &Plugin, answer: PluginResult<T>) -> Result<Option<T>, Denial> {
        match answer {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(refusal)) => {
                Err(refusal::denied(&self.redaction, plugin, &refusal, DenialKind::Forbidden))
            }
            Err(error) => {
                // What a crashing plugin said is for the operator's eyes.
                let shown = match &error.fault {
                    Fault::Trap(_) => "it crashed; see the gateway's log".to_owned(),
                    fault => fault.to_string(),
                };
                refusal::failed(plugin, "rewriter", &error, Some(&shown)).map(|()| None)
            }
        }
    }
}

fn edited(plugin: &Plugin, list: List, offers: &[Offer], edits: Vec<CatalogEdit>) -> Vec<Offer> {
    let (_, _, key) = list.wire();
    let mut next: Vec<Option<Offer>> = offers.iter().cloned().map(Some).collect();
    for edit in edits {
        match edit {
            CatalogEdit::Hide(index) => {
                if let Some(slot) = next.get_mut(index) {
                    *slot = None;
                }
            }
            CatalogEdit::Rename(index, name) => {
                if let Some(Some(offer)) = next.get_mut(index) {
                    offer.name = name;
                }
            }
            CatalogEdit::Item(index, edit) => {
                let Some(Some(offer)) = next.get_mut(index) else { continue };
                let pointer = pointer_of(&edit);
                let result = if pointer.is_empty() || pointer == format!("/{key}") {
                    Err("the name is changed by `rename` only".to_owned())
                } else {
                    valid_json(&edit).and_then(|()| {
                        splice::apply(offer.item.get(), std::slice::from_ref(&edit))
                            .map_err(|error| error.to_string())
                    })
                };
                match result {
                    Ok(item) => offer.item = message::raw(item),
                    // Shown unedited it would say what the rewriter wanted unsaid.
                    Err(reason) => {
                        tracing::error!(plugin = plugin.name(), entry = %offer.upstream, "the edit of a rewriter is refused, so the entry is hidden: {reason}");
                        next[index] = None;
                    }
                }
            }
        }
    }
    next.into_iter().flatten().collect()
}

/// A rewriter that failed, or wants an edit that is not allowed.
fn broken(plugin: &Plugin, reason: &str) -> Result<(), Denial> {
    refusal::failed(plugin, "rewriter", format_args!("rewriting failed: {reason}"), Some(reason))
}
