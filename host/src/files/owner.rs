//! Finds who may change a file: its owner; by its mode also its group or everybody; on some mounts nobody.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxAttributes, StatxFlags, statvfs, statx};

use super::Finding;

const STICKY: u32 = 0o1000;

/// The user of this process.
pub(super) fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A file, or anything that is no folder on the way to something else.
pub(super) fn judge(path: &Path, meta: &Metadata) -> Vec<Finding> {
    by_owner_and_mode(path, meta, meta.mode() & 0o022)
}

/// A folder: where the sticky bit is set, what others put there stays apart from what is ours.
pub(super) fn judge_folder(path: &Path, meta: &Metadata) -> Vec<Finding> {
    let open = if meta.mode() & STICKY == 0 { meta.mode() & 0o022 } else { 0 };
    by_owner_and_mode(path, meta, open)
}

/// A link on the way: it has no mode, but an owner, who could lead it elsewhere.
pub(super) fn judge_link(path: &Path, meta: &Metadata) -> Vec<Finding> {
    by_owner(path, meta).into_iter().collect()
}

/// Judges a file or folder that the gateway keeps for itself.
pub(super) fn judge_private(path: &Path, meta: &Metadata, mode: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if meta.uid() != me() {
        let message = format!("it belongs to the user {}, and the gateway runs as {}", meta.uid(), me());
        let fix = format!("chown {} {}", me(), quoted(path));
        findings.push(Finding { path: path.to_owned(), message, fix });
    }
    let open = meta.mode() & 0o077;
    if open != 0 {
        let may = if open & 0o022 == 0 { "read" } else { "write to" };
        let relevant = if open & 0o022 == 0 { open } else { open & 0o022 };
        let message = format!("{} may {may} it (mode {:04o})", who(relevant), bits(meta));
        let fix = format!("chmod {mode} {}", quoted(path));
        findings.push(Finding { path: path.to_owned(), message, fix });
    }
    findings
}

fn by_owner_and_mode(path: &Path, meta: &Metadata, open: u32) -> Vec<Finding> {
    let mut findings: Vec<Finding> = by_owner(path, meta).into_iter().collect();
    if open != 0 {
        let message = format!("{} may write to it (mode {:04o})", who(open), bits(meta));
        let fix = format!("chmod go-w {}", quoted(path));
        findings.push(Finding { path: path.to_owned(), message, fix });
    }
    if !findings.is_empty() && is_shown_by_root(path) {
        findings.clear();
    }
    findings
}

fn by_owner(path: &Path, meta: &Metadata) -> Option<Finding> {
    if is_trusted(meta.uid()) {
        return None;
    }
    let message = format!("it belongs to the user {}, who may change it", meta.uid());
    let follow = if meta.is_symlink() { "-h " } else { "" };
    let fix = format!("chown {follow}{} {}", me(), quoted(path));
    Some(Finding { path: path.to_owned(), message, fix })
}

fn who(open: u32) -> &'static str {
    if open & 0o007 != 0 { "everybody" } else { "its group" }
}

fn bits(meta: &Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == me() || Some(uid) == unmapped()
}

/// In a user namespace that does not know root of the machine (bubblewrap, `unshare -U`), the system's own files show
/// as this user's. None where every user has a number, or the number is that of a real one.
fn unmapped() -> Option<u32> {
    static UNMAPPED: OnceLock<Option<u32>> = OnceLock::new();
    *UNMAPPED.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
        let uid = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()?;
        not_mapped(&map, uid).then_some(uid)
    })
}

/// Whether `uid` is nobody in this namespace, whose map has lines of `inside outside count`, and root of the machine has
/// no number in it.
fn not_mapped(map: &str, uid: u32) -> bool {
    let mut root_known = false;
    let mut uid_known = false;
    for line in map.lines() {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        root_known |= outside == 0 && count > 0;
        uid_known |= (inside..inside.saturating_add(count)).contains(&u64::from(uid));
    }
    !root_known && !uid_known
}

/// Whether this is where a read-only mount begins: only root mounts, so that is what root wants to be read here. Mounts
/// that make most of the system read-only for a service (`ProtectSystem`) begin elsewhere, and say nothing about a folder
/// deep in them.
fn is_shown_by_root(path: &Path) -> bool {
    let read_only = statvfs(path).is_ok_and(|at| at.f_flag.contains(StatVfsMountFlags::RDONLY));
    read_only
        && statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
            .is_ok_and(|at| at.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=%".contains(c);
    if text.chars().all(plain) && !text.starts_with('-') {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_root_is_unknown_its_files_are_nobodys() {
        assert!(!not_mapped("         0          0 4294967295\n", 65_534));
        assert!(!not_mapped("0 100000 65536\n", 65_534), "here 65534 is somebody");
        assert!(not_mapped("1000 1000 1\n", 65_534));
        assert!(not_mapped("0 1000 1\n", 65_534));
        assert!(!not_mapped("0 0 1\n", 65_534));
        assert!(!not_mapped("gibberish", 65_534));
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_would_split_it() {
        assert_eq!(quoted(Path::new("/var/lib/a-b_c.d")), "/var/lib/a-b_c.d");
        assert_eq!(quoted(Path::new("/a b/$c")), "'/a b/$c'");
        assert_eq!(quoted(Path::new("/it's")), r"'/it'\''s'");
    }
}
