//! The way to a file, folder by folder and link by link, with everything on it that others could change.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{FileError, Finding, Trust, owner};

/// As many as the kernel follows (`ELOOP`).
const MAX_LINKS: u8 = 40;

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Way {
    /// The last part that is there, without any link in it.
    pub(super) end: PathBuf,
    /// The part of the path that does not exist; empty if all of it does.
    pub(super) missing: Vec<OsString>,
    /// It leads to a file that this process was started with, which is no way through folders.
    pub(super) handed_over: bool,
    findings: Vec<Finding>,
}

impl Way {
    /// Follows a path. The end itself is not judged, because only the caller knows what it must be.
    pub(super) fn to(path: &Path) -> Result<Self, FileError> {
        let full = std::path::absolute(path).map_err(|error| FileError::unusable(path, error))?;
        let mut way =
            Self { end: PathBuf::from("/"), missing: Vec::new(), handed_over: false, findings: Vec::new() };
        // What is still to go, the next part last.
        let mut ahead: Vec<OsString> = reversed(&full);
        let mut links = 0;
        way.folder()?;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                way.end.pop();
                continue;
            }
            if part == "/" {
                way.end = PathBuf::from("/");
                continue;
            }
            let next = way.end.join(&part);
            let meta = match next.symlink_metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    ahead.push(part);
                    ahead.reverse();
                    way.missing = ahead;
                    return Ok(way);
                }
                Err(error) => return Err(FileError::unusable(&next, error)),
            };
            if meta.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(FileError::unusable(path, rustix::io::Errno::LOOP));
                }
                if way.end == Path::new("/proc").join(std::process::id().to_string()).join("fd") {
                    way.handed_over = true;
                    return Ok(way);
                }
                way.findings.extend(owner::judge_link(&next, &meta));
                let target = next.read_link().map_err(|error| FileError::unusable(&next, error))?;
                ahead.extend(reversed(&target));
                continue;
            }
            way.end = next;
            if !ahead.is_empty() {
                way.folder()?;
            }
        }
        Ok(way)
    }

    /// Judges a folder on the way. One that occurs twice is judged once.
    fn folder(&mut self) -> Result<(), FileError> {
        let meta = self.end.symlink_metadata().map_err(|error| FileError::unusable(&self.end, error))?;
        for finding in owner::judge_folder(&self.end, &meta) {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        Ok(())
    }

    /// The folders on the way that are open to others; the end itself is left out.
    pub(super) fn findings(&self, trust: &Trust) -> Vec<Finding> {
        let mut findings = self.findings.clone();
        // The end was judged as a folder if it is the last one before what is missing.
        for folder in trust.folders.iter().filter(|folder| self.end.starts_with(folder)) {
            findings.retain(|finding| !folder.starts_with(&finding.path));
        }
        findings
    }

    /// Whether the operator said that the end is not to be judged.
    pub(super) fn covered_by(&self, trust: &Trust) -> bool {
        trust.folders.iter().any(|folder| folder.starts_with(&self.end))
    }

    pub(super) fn is_missing(&self) -> bool {
        !self.missing.is_empty()
    }
}

/// The parts of a path, the first one last; a path from the root begins with `/`.
fn reversed(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::CurDir | Component::Prefix(_) => None,
        Component::RootDir => Some(OsString::from("/")),
        Component::ParentDir => Some(OsString::from("..")),
        Component::Normal(name) => Some(name.to_owned()),
    };
    path.components().rev().filter_map(part).collect()
}
