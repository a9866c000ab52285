//! Shows that no process of the deployment but the executor can reach what the executor guards (a socket of Docker, a device,
//! a folder): by the users and groups of its processes, their capabilities, and what their mounts show them.
//!
//! A gateway is a process of this program that is no executor; with everything it started, it is what must not reach anything.
//! What else runs on the machine is only listed: root can reach everything, and no file can change that.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::settings::Settings;

/// `CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN`, `CAP_SETUID`, `CAP_CHOWN`, `CAP_FOWNER`:
/// who has one of these can make a way around the mode of a file.
const OVERRIDING: [(u32, &str); 7] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (3, "CAP_FOWNER"),
    (7, "CAP_SETUID"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
];

/// What a process may do, as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    name: String,
    /// The user and the group that files are opened as.
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
}

/// The owner and the mode of a file, or of a folder on the way to it.
#[derive(Clone, Copy, Debug)]
struct Lock {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Reads `/proc/PID/status`.
    fn parse(pid: u32, status: &str) -> Option<Self> {
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        // The fourth of each is the one that files are opened as.
        let fourth = |name: &str| field(name)?.split_whitespace().nth(3)?.parse().ok();
        Some(Self {
            pid,
            parent: field("PPid")?.parse().ok()?,
            name: field("Name")?.to_owned(),
            uid: fourth("Uid")?,
            gid: fourth("Gid")?,
            groups: field("Groups")?.split_whitespace().filter_map(|group| group.parse().ok()).collect(),
            capabilities: u64::from_str_radix(field("CapEff")?, 16).ok()?,
        })
    }

    fn overriding(&self) -> Option<&'static str> {
        OVERRIDING.iter().find(|(bit, _)| self.capabilities >> bit & 1 == 1).map(|(_, name)| *name)
    }

    /// Which of the three bits of a mode are its own.
    fn bits(&self, lock: Lock) -> u32 {
        if self.uid == lock.uid {
            lock.mode >> 6 & 7
        } else if self.gid == lock.gid || self.groups.contains(&lock.gid) {
            lock.mode >> 3 & 7
        } else {
            lock.mode & 7
        }
    }

    /// Why it can open what lies behind these folders, reading or writing; none if it cannot.
    fn opens(&self, folders: &[Lock], end: Lock) -> Option<String> {
        if let Some(capability) = self.overriding() {
            return Some(format!("it has {capability}"));
        }
        // The owner of a folder or of the file itself could change its mode.
        if self.uid == end.uid {
            return Some("it runs as its owner".to_owned());
        }
        if folders.iter().any(|folder| self.uid != folder.uid && self.bits(*folder) & 1 == 0) {
            return None;
        }
        let bits = self.bits(end);
        let how = if bits & 2 != 0 { "write to" } else { "read" };
        (bits & 6 != 0)
            .then(|| format!("its user or a group of it may {how} it (mode {:04o})", end.mode & 0o7777))
    }
}

/// What a look at all processes found.
#[derive(Debug)]
pub struct Privileges {
    /// The table, for people.
    pub table: String,
    /// Whether nothing of the deployment reaches anything.
    pub closed: bool,
}

/// Looks at every process of this machine, and at what it could open of what the executor guards.
///
/// # Errors
/// It has to be root to see what other users' processes could open.
pub fn look(settings: &Settings) -> Result<Privileges, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root sees what the processes of other users could open; run it as root".to_owned());
    }
    let processes: HashMap<u32, Process> = fs::read_dir("/proc")
        .map_err(|error| format!("/proc: {error}"))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Process::read(pid)?)))
        .collect();
    let deployed = deployed(&processes);
    let mut table = String::new();
    let mut closed = true;
    let own = [settings.dir.clone()];
    for guarded in settings.guards.iter().chain(&own) {
        let _ = writeln!(table, "{}", guarded.display());
        let Ok(meta) = fs::metadata(guarded) else {
            let _ = writeln!(table, "  it is not there");
            closed = false;
            continue;
        };
        let mut others = 0_usize;
        for process in sorted(&processes) {
            let Some(why) = reach(process, guarded, &meta) else { continue };
            if !deployed.contains(&process.pid) {
                others += 1;
                continue;
            }
            closed = false;
            let Process { pid, name, uid, .. } = process;
            let name = crate::text::line(name);
            let _ = writeln!(table, "  REACHED by {name} (process {pid}, user {uid}): {why}");
        }
        let _ =
            writeln!(table, "  {others} processes outside of the deployment could open it (root among them)");
    }
    let _ = writeln!(table, "{} processes of gateways and what they started were looked at", deployed.len());
    Ok(Privileges { table, closed })
}

fn sorted(processes: &HashMap<u32, Process>) -> Vec<&Process> {
    let mut sorted: Vec<&Process> = processes.values().collect();
    sorted.sort_by_key(|process| process.pid);
    sorted
}

/// The gateways that run, and everything that descends from them.
fn deployed(processes: &HashMap<u32, Process>) -> Vec<u32> {
    let own = fs::metadata("/proc/self/exe").ok().map(|meta| (meta.dev(), meta.ino()));
    let is_gateway = |pid: u32| {
        let meta = fs::metadata(format!("/proc/{pid}/exe")).ok();
        let same = meta.map(|meta| (meta.dev(), meta.ino())) == own;
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        same && pid != std::process::id() && !words.split(|byte| *byte == 0).any(|word| word == b"executor")
    };
    let gateways: Vec<u32> = processes.keys().copied().filter(|pid| is_gateway(*pid)).collect();
    let descends = |mut pid: u32| {
        // No process has more ancestors than there are processes.
        for _ in 0..processes.len() {
            if gateways.contains(&pid) {
                return true;
            }
            match processes.get(&pid) {
                Some(process) if process.parent != 0 => pid = process.parent,
                _ => return false,
            }
        }
        false
    };
    processes.keys().copied().filter(|pid| descends(*pid)).collect()
}

/// Why a process can open a file; none if it cannot, or if its mounts do not show it that file.
fn reach(process: &Process, guarded: &Path, meta: &fs::Metadata) -> Option<String> {
    let root = PathBuf::from(format!("/proc/{}/root", process.pid));
    let seen = root.join(guarded.strip_prefix("/").unwrap_or(guarded));
    let theirs = fs::metadata(&seen).ok()?;
    if (theirs.dev(), theirs.ino()) != (meta.dev(), meta.ino()) {
        return None;
    }
    let lock = |meta: &fs::Metadata| Lock { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() };
    let folders: Vec<Lock> = guarded
        .ancestors()
        .skip(1)
        .filter_map(|folder| fs::metadata(root.join(folder.strip_prefix("/").unwrap_or(folder))).ok())
        .map(|meta| lock(&meta))
        .collect();
    process.opens(&folders, lock(&theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tserver\nPPid:\t7\nUid:\t1\t2\t3\t1000\nGid:\t1\t2\t3\t1001\nGroups:\t27 999 \nCapEff:\t0000000000000000\n";

    #[test]
    fn what_a_process_may_open_follows_from_its_users_groups_and_capabilities() {
        let process = Process::parse(9, STATUS).unwrap_or_default();
        assert_eq!((process.uid, process.gid, process.parent), (1000, 1001, 7));
        assert_eq!(process.groups, [27, 999]);
        let open = Lock { uid: 0, gid: 0, mode: 0o755 };
        let closed = Lock { uid: 0, gid: 0, mode: 0o700 };
        for (end, folders, reached) in [
            (Lock { uid: 0, gid: 0, mode: 0o600 }, vec![open], false),
            (Lock { uid: 0, gid: 0, mode: 0o666 }, vec![open], true),
            (Lock { uid: 0, gid: 0, mode: 0o604 }, vec![open], true),
            (Lock { uid: 0, gid: 0, mode: 0o666 }, vec![open, closed], false),
            // The group of Docker's socket.
            (Lock { uid: 0, gid: 999, mode: 0o660 }, vec![open], true),
            (Lock { uid: 0, gid: 998, mode: 0o660 }, vec![open], false),
            (Lock { uid: 0, gid: 1001, mode: 0o640 }, vec![open], true),
            // A group that may less than everybody.
            (Lock { uid: 0, gid: 999, mode: 0o606 }, vec![open], false),
            (Lock { uid: 1000, gid: 0, mode: 0o000 }, vec![open], true),
        ] {
            assert_eq!(process.opens(&folders, end).is_some(), reached, "{end:?}");
        }
        let able = Process { capabilities: 1 << 21, ..process };
        assert!(able.opens(&[closed], closed).is_some_and(|why| why.contains("CAP_SYS_ADMIN")));
    }
}
