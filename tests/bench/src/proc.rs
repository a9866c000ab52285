//! What processes cost, as the kernel counts it: processor time and memory of a process and all below it, the
//! echo server apart from the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// `USER_HZ` is 100 wherever Linux runs Rust's standard library.
const TICK_MS: u64 = 10;

/// A process and everything below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    /// What is measured.
    own: Vec<u32>,
    /// Echo servers: this very program.
    pub(crate) backends: Vec<u32>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// What is resident; pages that processes share count for each.
    pub(crate) rss: u64,
    /// The same with shared pages split among those who share them.
    pub(crate) pss: u64,
}

impl Tree {
    /// Looks at a process and everything below it, as it is now.
    pub(crate) fn of(root: u32) -> Self {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(parent) = stat(pid).and_then(|stat| stat.get(1)?.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let this = std::env::current_exe().and_then(fs::canonicalize).ok();
        let mut tree = Self::default();
        let mut open = vec![root];
        while let Some(pid) = open.pop() {
            open.extend(children.get(&pid).into_iter().flatten());
            let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
            if exe.is_some() && exe == this { tree.backends.push(pid) } else { tree.own.push(pid) }
        }
        tree
    }

    /// Processor time so far, without the echo servers.
    pub(crate) fn cpu(&self) -> Duration {
        self.own.iter().map(|&pid| cpu(pid)).sum()
    }

    /// Processor time so far of the echo servers.
    pub(crate) fn backend_cpu(&self) -> Duration {
        self.backends.iter().map(|&pid| cpu(pid)).sum()
    }

    /// Memory without the echo servers.
    pub(crate) fn memory(&self) -> Memory {
        self.own.iter().fold(Memory::default(), |sum, &pid| {
            let one = memory(pid);
            Memory { rss: sum.rss + one.rss, pss: sum.pss + one.pss }
        })
    }
}

/// The fields of `/proc/PID/stat` behind the name, which may hold anything: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Processor time of a process, with that of its threads that have ended; zero if it is gone.
pub(crate) fn cpu(pid: u32) -> Duration {
    let ticks = |at: usize| -> u64 { stat(pid).and_then(|stat| stat.get(at)?.parse().ok()).unwrap_or(0) };
    // utime and stime, the 14th and 15th field of the file.
    Duration::from_millis((ticks(11) + ticks(12)) * TICK_MS)
}

fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    Memory { rss: kib(&text, "Rss:") * 1_024, pss: kib(&text, "Pss:") * 1_024 }
}

fn kib(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The load of the last minute, as the kernel smooths it.
pub(crate) fn loadavg() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|one| one.parse().ok()).unwrap_or(0.0)
}

/// The processor and the kernel, for the head of a report.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = kib(&read("/proc/meminfo"), "MemTotal:") / 1_024 / 1_024;
    let release = read("/proc/sys/kernel/osrelease");
    format!(
        "{}, {cores} cores, {memory} GiB, Linux {}",
        model.trim_start_matches([' ', '\t', ':']),
        release.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let tree = Tree::of(std::process::id());
        // A test is not the echo server, but it is this very program.
        assert_eq!(tree.backends, [std::process::id()]);
        let memory = memory(std::process::id());
        assert!(memory.rss > 100_000 && memory.pss > 0 && memory.pss <= memory.rss, "{memory:?}");
    }
}
