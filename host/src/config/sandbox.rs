//! The files and the network that a server may reach, and whether this system can confine it to them.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreated, Scope,
};
use serde::{Deserialize, Serialize};

/// The rights and scopes that a sandbox is made of: those of Linux 6.12. Newer ones are taken up here, with their tests;
/// an older system cannot hold one of the promises (files cannot be truncated, others cannot be signalled, …).
pub(crate) const ABI_NEEDED: ABI = ABI::V6;

/// The walls around a server, and all it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Files and folders it may read and run, besides the system's.
    pub read: Vec<PathBuf>,
    /// Files and folders it may also change.
    pub write: Vec<PathBuf>,
    /// Whom it may speak to.
    pub network: Network,
    /// How many more processes and threads its user may have than the whole machine has when it starts.
    pub processes: u64,
    /// Files it may have open; `None`: as many as the gateway.
    pub open_files: Option<u64>,
    /// Bytes of addresses it may have, in each process; `None`: no limit.
    pub memory: Option<u64>,
}

/// Whom a server in a sandbox may speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// None: there are no sockets but pairs within the sandbox.
    None,
    /// Whomever the gateway's user may.
    All,
}

/// The walls with no door in them yet.
///
/// # Errors
/// This system cannot build all of them; the text says what is missing.
pub fn walls(network: Network) -> Result<RulesetCreated, String> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let build = || {
        let ruleset =
            ruleset.handle_access(AccessFs::from_all(ABI_NEEDED))?.scope(Scope::from_all(ABI_NEEDED))?;
        let ruleset = match network {
            Network::None => ruleset.handle_access(AccessNet::from_all(ABI_NEEDED))?,
            Network::All => ruleset,
        };
        ruleset.create()
    };
    let ruleset = build().map_err(|error: landlock::RulesetError| {
        format!(
            "Landlock of Linux 6.12 or later is needed (ABI {ABI_NEEDED}), and this system lacks it: {error}"
        )
    })?;
    // Without it the filter of system calls could not be set.
    if !Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        return Err("seccomp filters are needed, and this system has none".to_owned());
    }
    Ok(ruleset)
}
