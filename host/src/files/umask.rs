//! Files of the gateway are for its user alone, whatever umask it was started with; its children get that umask back.

use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

/// The umask this process was started with, once it was narrowed.
static GIVEN: OnceLock<Mode> = OnceLock::new();

/// From here on what this process makes is closed to everybody else.
pub(crate) fn narrow_umask() {
    let given = umask(Mode::RWXG | Mode::RWXO);
    // A second call would find what the first one set.
    let _first_only = GIVEN.set(given);
}

/// The umask for a child: the one the gateway was started with. None if this process has never changed its own.
#[must_use]
pub(crate) fn umask_of_children() -> Option<Mode> {
    GIVEN.get().copied()
}
