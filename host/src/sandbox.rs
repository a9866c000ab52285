//! The walls around a server or a command: files (Landlock), the network and the administration of the machine (seccomp), signals to
//! others (Landlock), and how much there may be of it (limits). They are built before the fork; the
//! server goes in right before it is executed, and all it starts is in them too. Its keeper stays outside, so that it can
//! end everything.

pub(crate) mod child;
mod filter;

use std::io;
use std::path::Path;

use landlock::{
    Access as _, AccessFs, BitFlags, PathBeneath, PathFd, RulesetCreated, RulesetCreatedAttr as _,
    RulesetStatus,
};
use rustix::process::Resource;
use seccompiler::BpfProgram;

use crate::config::sandbox::{ABI_NEEDED, Sandbox, walls};

/// The paths that every program may read and run: the system's programs and libraries, and files that describe the
/// system. No home folder, no secret of the machine, nothing of other processes, no folder that others write to. A path
/// that does not exist is left out. Documented in `config/sentinel.toml`.
const SYSTEM: [&str; 46] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/dev/random",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/version",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
];
/// The files that every program may write to as well.
const SINKS: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

/// A sandbox that is prepared and not entered yet.
pub(crate) struct Cage {
    ruleset: RulesetCreated,
    filter: BpfProgram,
    limits: Vec<(Resource, u64)>,
}

impl Cage {
    /// Builds the walls around a server. `program` is the file that will be executed.
    ///
    /// # Errors
    /// A path is not there, or the system cannot build all walls.
    pub(crate) fn build(settings: &Sandbox, program: Option<&Path>) -> Result<Self, String> {
        let mut ruleset = walls(settings.network)?;
        let there = |path: &&&str| Path::new(path).exists();
        for path in SYSTEM.iter().filter(there) {
            ruleset = door(ruleset, Path::new(path), reading())?;
        }
        for path in SINKS.iter().filter(there) {
            ruleset = door(ruleset, Path::new(path), reading() | AccessFs::WriteFile | AccessFs::Truncate)?;
        }
        if let Some(program) = program {
            ruleset = door(ruleset, program, reading())?;
        }
        for path in &settings.read {
            ruleset = door(ruleset, path, reading())?;
        }
        for path in &settings.write {
            ruleset = door(ruleset, path, writing())?;
        }
        let mut limits = vec![(Resource::Nproc, tasks().saturating_add(settings.processes))];
        limits.extend(settings.open_files.map(|files| (Resource::Nofile, files)));
        limits.extend(settings.memory.map(|bytes| (Resource::As, bytes)));
        Ok(Self { ruleset, filter: filter::filter(settings.network)?, limits })
    }

    /// Puts this process in. Between fork and exec, in a process with one thread.
    ///
    /// # Errors
    /// A wall does not stand. Nothing may be executed then.
    pub(crate) fn enter(self) -> io::Result<()> {
        for (resource, most) in self.limits {
            // Never above what the gateway itself has.
            let most = rustix::process::getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
            child::bound(resource, most)?;
        }
        // It also takes away what set-user-id programs would give.
        let state = self.ruleset.restrict_self().map_err(io::Error::other)?;
        if state.ruleset != RulesetStatus::FullyEnforced || !state.no_new_privs {
            return Err(io::ErrorKind::Unsupported.into());
        }
        seccompiler::apply_filter(&self.filter).map_err(io::Error::other)
    }
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::from_read(ABI_NEEDED)
}

/// Everything but devices.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI_NEEDED) & !(AccessFs::MakeChar | AccessFs::MakeBlock)
}

/// A door for a file, or for a folder with all below it.
fn door(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    let failed =
        |error: &dyn std::error::Error| format!("its sandbox has no door to {}: {error}", path.display());
    let opened = PathFd::new(path).map_err(|error| failed(&error))?;
    let folder = path.is_dir();
    let access = if folder { access } else { access & AccessFs::from_file(ABI_NEEDED) };
    ruleset.add_rule(PathBeneath::new(opened, access)).map_err(|error| failed(&error))
}

/// How many processes and threads there are on this machine: never fewer than the user of the gateway has.
fn tasks() -> u64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .nth(3)
        .and_then(|tasks| tasks.split_once('/')?.1.parse().ok())
        .unwrap_or(u64::MAX / 2)
}
