//! Answers that are given again: a plugin with the contract's `reuse` says what they depend on, and while that is the
//! same the plugin is not asked again.
//!
//! Every instance keeps its own answers, under the lock under which it is called, so no call waits for another here.
//! The promise is checked as far as the host can see: an answer for which the guest read more than it had promised is
//! not kept.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::{Arc, Weak};

use super::bindings::reuse::Facts;
use super::subject::Edits;
use crate::call::{Call, Principal, Target};

/// So many answers an instance keeps at most; a new one takes the place of an older one.
const SLOTS: usize = 1024;
/// An answer about a longer name or method (a URI may be long) is not kept.
const MAX_NAME: usize = 512;
/// Nor is one for which more bytes crossed the border.
const MAX_EXCHANGED: usize = 2048;

/// What a guest looked at in one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Who calls.
    pub(super) caller: bool,
    /// What is called, and how.
    pub(super) target: bool,
    /// Anything that another call may find changed: other parts of the message, time, state. Also the log, because a line
    /// that is written for each call is missed.
    pub(super) more: bool,
}

/// What can be answered again.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// The call may go on; no permit was given.
    Allowed,
    /// What a rewriter does to the request.
    Edits(Arc<Edits>),
}

/// The answers of one instance.
#[derive(Debug)]
pub(super) struct Answers {
    /// What they depend on; none of a plugin that is asked every time.
    basis: Option<Facts>,
    hasher: RandomState,
    /// Empty until there is something to keep.
    slots: Vec<Option<Box<Entry>>>,
}

/// An answer with the facts it was given for.
#[derive(Debug)]
struct Entry {
    /// The caller, if the answer depends on the caller. Weak: a kept answer keeps no principal alive, and yet the
    /// allocation's address cannot be used for another one meanwhile.
    caller: Option<Weak<Principal>>,
    method: String,
    target: Target,
    known: Known,
}

impl Answers {
    /// The answers of a plugin that depends on these facts; `None` if it made no promise.
    pub(super) fn new(basis: Option<Facts>) -> Self {
        Self { basis, hasher: RandomState::new(), slots: Vec::new() }
    }

    /// Whether a call is allowed because one like it was.
    pub(super) fn allowed(&self, call: &Call) -> bool {
        self.find(call, false).is_some()
    }

    /// The edits of a request, as they were made to one like it.
    pub(super) fn edits(&self, call: &Call) -> Option<Arc<Edits>> {
        match self.find(call, true)? {
            Known::Edits(edits) => Some(edits.clone()),
            Known::Allowed => None,
        }
    }

    /// Keeps an answer for calls like this one, if the guest looked at nothing else.
    pub(super) fn keep(&mut self, call: &Call, read: Read, exchanged: usize, known: Known) {
        let Some(basis) = self.basis else { return };
        let promised = !read.more
            && (!read.caller || basis.contains(Facts::CALLER))
            && (!read.target || basis.contains(Facts::TARGET));
        let (Target { name, backend, upstream, .. }, method) = (&call.target, &call.method);
        let longest = [&**name, &**backend, &**upstream, method].map(str::len).into_iter().max();
        if !promised || longest > Some(MAX_NAME) || exchanged > MAX_EXCHANGED {
            return;
        }
        let place = self.place(basis, call, matches!(known, Known::Edits(_)));
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let caller = basis.contains(Facts::CALLER).then(|| Arc::downgrade(&call.principal));
        let entry = Entry { caller, method: method.clone(), target: call.target.clone(), known };
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Some(Box::new(entry));
        }
    }

    fn find(&self, call: &Call, edits: bool) -> Option<&Known> {
        let basis = self.basis.filter(|_| !self.slots.is_empty())?;
        let entry = self.slots.get(self.place(basis, call, edits))?.as_deref()?;
        let same = entry.is_for(basis, call) && matches!(entry.known, Known::Edits(_)) == edits;
        same.then_some(&entry.known)
    }

    fn place(&self, basis: Facts, call: &Call, edits: bool) -> usize {
        let mut hash = self.hasher.build_hasher();
        edits.hash(&mut hash);
        if basis.contains(Facts::CALLER) {
            Arc::as_ptr(&call.principal).hash(&mut hash);
        }
        if basis.contains(Facts::TARGET) {
            call.method.hash(&mut hash);
            call.target.name.hash(&mut hash);
            call.target.backend.hash(&mut hash);
        }
        usize::try_from(hash.finish() % SLOTS as u64).unwrap_or_default()
    }
}

impl Entry {
    /// Whether the facts that count are the same in this call.
    fn is_for(&self, basis: Facts, call: &Call) -> bool {
        let caller =
            self.caller.as_ref().is_none_or(|caller| caller.as_ptr() == Arc::as_ptr(&call.principal));
        caller && (!basis.contains(Facts::TARGET) || self.target == call.target && self.method == call.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{TargetKind, sample};

    const TARGET: Read = Read { caller: false, target: true, more: false };
    const BOTH: Read = Read { caller: true, ..TARGET };

    fn call(name: &str, principal: &Arc<Principal>) -> Call {
        let call = sample::call(Principal::clone(principal), sample::tool(name, "b"));
        // The very same caller, not one like it.
        Call { principal: principal.clone(), ..call }
    }

    fn somebody(role: &str) -> Arc<Principal> {
        Arc::new(sample::principal("ann", role))
    }

    #[test]
    fn an_answer_is_for_calls_of_which_the_facts_are_the_same() {
        let (ann, bob) = (somebody("a"), somebody("b"));
        let mut by_both = Answers::new(Some(Facts::CALLER | Facts::TARGET));
        by_both.keep(&call("x", &ann), BOTH, 0, Known::Allowed);
        assert!(by_both.allowed(&call("x", &ann)));
        assert!(by_both.edits(&call("x", &ann)).is_none(), "another question");
        for other in [call("y", &ann), call("x", &bob), call("x", &somebody("a"))] {
            assert!(!by_both.allowed(&other), "{other:?}");
        }
        let changes: [fn(&mut Call); 4] = [
            |call| call.method = "tools/list".to_owned(),
            |call| call.target.kind = TargetKind::Prompt,
            |call| call.target.backend = "c".into(),
            |call| call.target.upstream = "z".into(),
        ];
        for change in changes {
            let mut other = call("x", &ann);
            change(&mut other);
            assert!(!by_both.allowed(&other), "{other:?}");
        }
        let mut by_target = Answers::new(Some(Facts::TARGET));
        by_target.keep(&call("x", &ann), TARGET, 0, Known::Edits(Arc::default()));
        assert!(by_target.edits(&call("x", &bob)).is_some());
        assert!(by_target.edits(&call("y", &bob)).is_none());
    }

    #[test]
    fn what_depends_on_more_than_was_said_is_not_kept() {
        let ann = somebody("a");
        for (basis, read, exchanged) in [
            (None, Read::default(), 0),
            (Some(Facts::TARGET), BOTH, 0),
            (Some(Facts::CALLER), TARGET, 0),
            (Some(Facts::CALLER | Facts::TARGET), Read { more: true, ..BOTH }, 0),
            (Some(Facts::TARGET), TARGET, MAX_EXCHANGED + 1),
        ] {
            let mut answers = Answers::new(basis);
            answers.keep(&call("x", &ann), read, exchanged, Known::Allowed);
            assert!(!answers.allowed(&call("x", &ann)), "{basis:?} {read:?} {exchanged}");
        }
        let mut answers = Answers::new(Some(Facts::TARGET));
        let long = call(&"x".repeat(MAX_NAME + 1), &ann);
        answers.keep(&long, TARGET, 0, Known::Allowed);
        assert!(!answers.allowed(&long));
    }

    #[test]
    fn many_targets_take_no_more_room_than_there_is() {
        let ann = somebody("a");
        let mut answers = Answers::new(Some(Facts::TARGET));
        for number in 0..10 * SLOTS {
            let call = call(&format!("tool_{number}"), &ann);
            answers.keep(&call, TARGET, 0, Known::Allowed);
            assert!(answers.allowed(&call));
        }
        assert_eq!(answers.slots.len(), SLOTS);
    }
}
