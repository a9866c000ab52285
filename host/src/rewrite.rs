//! Runs the rewriter plugins around a backend, and checks every edit before it is made.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sentinel_names::headers;
use serde_json::value::RawValue;

use crate::call::{Denial, DenialKind, Json, TargetKind};
use crate::mcp::catalog::{List, Offer};
use crate::mcp::message;
use crate::mcp::splice::{self, Edit};
use crate::plugin::{BackendResponse, CatalogEdit, Edits, Fault, Hooks, Plugin, PluginError, PluginResult};
use crate::policy::{Permitted, refusal};
use crate::redact::Redaction;

/// A message may not grow past this by rewriting.
const MAX_REWRITTEN: usize = 16 << 20;
/// The rewriters in force, and what they have to do for each backend: found out once, so that a call runs no hook in vain.
#[derive(Debug, Default)]
pub struct Rewriters {
    by_backend: HashMap<String, Vec<(Arc<Plugin>, Hooks)>>,
    /// For a backend that the rewriters were not asked about: every hook of all.
    anywhere: Vec<(Arc<Plugin>, Hooks)>,
    /// What plugins must not tell clients.
    redaction: Redaction,
}

/// A request as the backend shall see it, apart from its own names.
#[derive(Debug)]
pub struct Prepared {
    pub params: Option<Json>,
    pub headers: Vec<(String, String)>,
    pub notes: Vec<(String, String)>,
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
        Ok(Self { by_backend, anywhere, redaction: Redaction::default() })
    }

    /// The same rewriters, whose words to clients go through this.
    #[must_use]
    pub fn with_redaction(self, redaction: Redaction) -> Self {
        Self { redaction, ..self }
    }

    /// All of them, for people.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.anywhere.iter().map(|(plugin, _)| plugin)
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
    /// A rewriter refused, failed (and its failures deny) or made an edit that is not allowed.
    pub fn request(&self, permitted: &Permitted) -> Result<Prepared, Denial> {
        let call = permitted.call();
        let mut prepared = Prepared { params: None, headers: Vec::new(), notes: Vec::new() };
        for plugin in self.of(&call.target.backend, |hooks| hooks.request) {
            let Some(edits) = self.outcome(plugin, plugin.on_request(call))? else { continue };
            let params = prepared.params.as_ref().unwrap_or(&call.params).get();
            match checked(params, &edits, true) {
                Ok(changed) => {
                    prepared.params = changed.map(Json::from).or(prepared.params);
                    prepared.headers.extend_from_slice(&edits.headers);
                    prepared.notes.extend_from_slice(&edits.notes);
                }
                Err(reason) => broken(plugin, &reason)?,
            }
        }
        Ok(prepared)
    }

    /// The result after all rewriters, in reverse order; `None` means unchanged.
    ///
    /// # Errors
    /// As for [`Self::request`].
    pub fn response(&self, permitted: &Permitted, answer: &BackendResponse) -> Result<Option<Bytes>, Denial> {
        let call = permitted.call();
        let mut changed: Option<Bytes> = None;
        for plugin in self.of(&call.target.backend, |hooks| hooks.response).rev() {
            let mut answer = answer.clone();
            if let Some(changed) = &changed {
                answer.result = changed.clone();
            }
            let result = answer.result.clone();
            let Some(edits) = self.outcome(plugin, plugin.on_response(call, answer))? else { continue };
            if !edits.headers.is_empty() {
                broken(plugin, "it set a header on a response, which has none")?;
                continue;
            }
            if edits.body.is_empty() {
                continue;
            }
            let Ok(text) = std::str::from_utf8(&result) else { continue };
            match checked(text, &edits, false) {
                Ok(Some(text)) => changed = Some(Bytes::from(text)),
                Ok(None) => {}
                Err(reason) => broken(plugin, &reason)?,
            }
        }
        Ok(changed)
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
            Ok(Err(refusal)) => Err(refusal::worded(&self.redaction, &refusal, DenialKind::Forbidden)),
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

/// Makes the edits if every one of them is allowed; all or none.
fn checked(text: &str, edits: &Edits, request: bool) -> Result<Option<String>, String> {
    for (name, value) in &edits.headers {
        if !headers::is_name(name) || value.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(format!("`{}` is not a valid header", name.escape_debug()));
        }
        if headers::owner(name).is_some() {
            return Err(format!("the header `{}` is the gateway's", name.to_ascii_lowercase()));
        }
    }
    for edit in &edits.body {
        let pointer = pointer_of(edit);
        let first = pointer.split('/').nth(1);
        if request && matches!(first, None | Some("name" | "uri" | "_meta" | "ref")) {
            return Err(format!("`{pointer}` is pinned: a rewriter cannot change the target"));
        }
        valid_json(edit)?;
    }
    if edits.body.is_empty() {
        return Ok(None);
    }
    let text = splice::apply(text, &edits.body).map_err(|error| error.to_string())?;
    if text.len() > MAX_REWRITTEN {
        return Err(format!(
            "the rewritten message is {} bytes long, the limit is {MAX_REWRITTEN}",
            text.len()
        ));
    }
    Ok(Some(text))
}

fn pointer_of(edit: &Edit) -> &str {
    match edit {
        Edit::Set { pointer, .. }
        | Edit::Default { pointer, .. }
        | Edit::Remove { pointer }
        | Edit::Rename { pointer, .. } => pointer,
    }
}

fn valid_json(edit: &Edit) -> Result<(), String> {
    match edit {
        Edit::Set { pointer, json } | Edit::Default { pointer, json } => {
            serde_json::from_str::<&RawValue>(json)
                .map(drop)
                .map_err(|error| format!("the value for `{pointer}` is not JSON: {error}"))
        }
        Edit::Remove { .. } | Edit::Rename { .. } => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn set(pointer: &str, json: &str) -> Edits {
        let edit = Edit::Set { pointer: pointer.to_owned(), json: json.to_owned() };
        Edits { body: vec![edit], ..Edits::default() }
    }
    fn header(name: &str, value: &str) -> Edits {
        Edits { headers: vec![(name.to_owned(), value.to_owned())], ..Edits::default() }
    }

    #[test]
    fn the_target_of_a_request_is_pinned() {
        for pointer in ["", "/name", "/uri", "/_meta/x", "/ref/name"] {
            assert!(checked("{}", &set(pointer, "1"), true).is_err(), "{pointer}");
        }
        assert_eq!(
            checked("{}", &set("/arguments/x", "1"), true).unwrap().unwrap(),
            r#"{"arguments":{"x":1}}"#
        );
    }

    #[test]
    fn framing_and_credential_headers_are_the_gateways() {
        for name in ["Host", "content-length", "Authorization", "Mcp-Session-Id", "proxy-x", "a b", ""] {
            assert!(checked("{}", &header(name, "v"), true).is_err(), "{name}");
        }
        assert!(checked("{}", &header("X-Team", "a\r\nb"), true).is_err());
        assert!(checked("{}", &header("X-Team", "blue"), true).is_ok());
    }

    #[test]
    fn values_must_be_json() {
        assert!(checked("{}", &set("/arguments/x", "{oops"), true).is_err());
    }
}
