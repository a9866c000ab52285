//! Which process descends from which, as the kernel tells it.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::process::Pid;

/// The children of a process, those of each of its threads.
pub(super) fn children(parent: Pid) -> Vec<Pid> {
    listed(parent).unwrap_or_else(|| table().remove(&parent).unwrap_or_default())
}

/// All descendants of a process, parents before their children. One that is started meanwhile may be missing.
pub(super) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut table = listed(ancestor).is_none().then(table);
    let mut seen = HashSet::new();
    let mut found = vec![ancestor];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        at += 1;
        let children = match &mut table {
            Some(table) => table.remove(&parent).unwrap_or_default(),
            None => listed(parent).unwrap_or_default(),
        };
        // A process id that is used again while we look must not send us round in a circle.
        found.extend(children.into_iter().filter(|child| seen.insert(*child)));
    }
    found.remove(0);
    found
}

/// As the kernel lists them, which not every kernel does (`CONFIG_PROC_CHILDREN`).
fn listed(parent: Pid) -> Option<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero())).ok()?.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(list.split_whitespace().filter_map(pid)),
            // The thread has ended.
            Err(_) if !thread.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(children)
}

/// The same for everybody at once, from what each process says of its parent.
fn table() -> HashMap<Pid, Vec<Pid>> {
    let mut table: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = process.file_name().to_str().and_then(pid) else { continue };
        if let Some(parent) = stat(child, 1).and_then(Pid::from_raw) {
            table.entry(parent).or_default().push(child);
        }
    }
    table
}

/// The session of a process, 0 if its leader is outside this PID namespace. That is why `getsid` of rustix, whose answer
/// is never 0, is not asked: a gateway that was started with `unshare --pid` is in such a session.
pub(super) fn session(process: Pid) -> Option<i32> {
    stat(process, 3)
}

/// A number of `/proc/PID/stat`, counted from the state, which stands behind the name; the name may hold anything.
fn stat(process: Pid, nth: usize) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(nth)?.parse().ok()
}

fn pid(digits: &str) -> Option<Pid> {
    digits.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn both_ways_to_find_children_agree() {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", "sleep 300 & sleep 300 & echo; wait"]).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut line = [0];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut line).unwrap();
        let parent = Pid::from_raw(shell.id().try_into().unwrap()).unwrap();
        let one: HashSet<Pid> = listed(parent).unwrap().into_iter().collect();
        let other: HashSet<Pid> = table().remove(&parent).unwrap().into_iter().collect();
        let below: HashSet<Pid> = descendants(parent).into_iter().collect();
        let mine = descendants(rustix::process::getpid());
        for sleeper in &one {
            rustix::process::kill_process(*sleeper, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
        assert_eq!((one.len(), &one), (2, &other));
        assert_eq!(one, below);
        assert!(one.iter().chain([&parent]).all(|pid| mine.contains(pid)));
    }
}
