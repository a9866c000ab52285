//! Folders and files as others could have left them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::symlink;

use super::*;

/// A folder of this user, and beneath it what the test makes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        // macOS and others have their temporary folder behind a link.
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn dir(&self, name: &str, mode: u32) -> PathBuf {
        fs::create_dir_all(self.at(name)).unwrap();
        self.mode(name, mode)
    }

    fn file(&self, name: &str, mode: u32) -> PathBuf {
        fs::write(self.at(name), name).unwrap();
        self.mode(name, mode)
    }

    fn mode(&self, name: &str, mode: u32) -> PathBuf {
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
        self.at(name)
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) -> PathBuf {
        symlink(target, self.at(name)).unwrap();
        self.at(name)
    }
}

fn trust() -> Trust {
    Trust::default()
}

/// The paths of what is wrong, and what to type.
fn wrong<T: fmt::Debug>(result: Result<T, FileError>) -> Vec<(PathBuf, String)> {
    match result {
        Err(FileError::Open(findings)) => findings.into_iter().map(|f| (f.path, f.fix)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_others_may_write_is_refused_and_what_they_may_read_is_not() {
    let place = Place::new();
    for mode in [0o600, 0o644, 0o444, 0o755] {
        assert!(trust().open(&place.file("f", mode)).is_ok(), "{mode:o}");
    }
    for mode in [0o620, 0o602, 0o666, 0o777] {
        let file = place.file("f", mode);
        let fix = format!("chmod go-w {}", file.display());
        assert_eq!(wrong(trust().open(&file)), [(file, fix)], "{mode:o}");
    }
}

#[test]
fn every_folder_on_the_way_counts_and_all_are_named() {
    let place = Place::new();
    let outer = place.dir("a", 0o777);
    place.dir("a/b", 0o755);
    let inner = place.dir("a/b/c", 0o775);
    let file = place.file("a/b/c/f", 0o646);
    let paths: Vec<PathBuf> = wrong(trust().open(&file)).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, [outer.clone(), inner, file.clone()]);
    assert_eq!(trust().inspect(&file).unwrap().len(), 3);
    // Where everybody may put things and nobody may take those of others away, what is ours is ours.
    place.mode("a", 0o1777);
    place.mode("a/b/c", 0o755);
    place.mode("a/b/c/f", 0o600);
    assert!(trust().open(&file).is_ok());
    place.mode("a", 0o777);
    assert!(Trust { folders: vec![outer] }.open(&file).is_ok(), "somebody said so");
}

#[test]
fn links_are_followed_to_what_they_lead_to() {
    let place = Place::new();
    // A ConfigMap: `sentinel.toml -> ..data/sentinel.toml`, `..data -> ..2026`.
    place.dir("..2026", 0o755);
    place.file("..2026/sentinel.toml", 0o644);
    place.link("..data", "..2026");
    let shown = place.link("sentinel.toml", "..data/sentinel.toml");
    assert!(trust().open(&shown).is_ok());
    place.mode("..2026/sentinel.toml", 0o666);
    assert_eq!(wrong(trust().open(&shown))[0].0, place.at("..2026/sentinel.toml"));
    place.mode("..2026/sentinel.toml", 0o644);
    // The folder of a link that is passed on the way counts like any other.
    let open = place.dir("open", 0o777);
    let hop = place.link("open/hop", place.at("..2026"));
    let way = place.link("way", &hop);
    assert_eq!(wrong(trust().open(&way.join("sentinel.toml")))[0].0, open);
    let endless = place.link("endless", place.at("endless"));
    assert!(matches!(trust().open(&endless), Err(FileError::Unusable { .. })));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let place = Place::new();
    let fifo = place.at("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(trust().open(&fifo), Err(FileError::Unusable { .. })));
    assert!(matches!(open_private(&fifo), Err(FileError::Unusable { .. })));
    assert!(trust().open(&place.dir("d", 0o700)).unwrap_err().to_string().contains("it is a folder"));
    assert!(trust().open(&place.at("nothing")).unwrap_err().is_missing());
    // The process that started us opened it for us.
    let file = File::open(place.file("given", 0o600)).unwrap();
    let given = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    assert!(trust().open(Path::new(&given)).is_ok());
}

#[test]
fn a_private_folder_is_made_so_and_must_be_so() {
    let place = Place::new();
    let made = trust().private_dir(&place.at("x/y/z"), Links::Followed).unwrap();
    for folder in ["x", "x/y", "x/y/z"] {
        assert_eq!(place.at(folder).metadata().unwrap().mode() & 0o777, 0o700);
    }
    assert_eq!(made, place.at("x/y/z"));
    for mode in [0o755, 0o710, 0o777, 0o1777] {
        let folder = place.mode("x/y/z", mode);
        let fix = format!("chmod 700 {}", folder.display());
        assert_eq!(wrong(trust().private_dir(&folder, Links::Followed)), [(folder, fix)], "{mode:o}");
    }
    tighten(&place.mode("x/y/z", 0o755));
    assert!(
        trust().private_dir(&made, Links::Refused).is_ok(),
        "what others could only read is ours to close"
    );
    tighten(&place.mode("x/y/z", 0o777));
    assert!(trust().private_dir(&made, Links::Refused).is_err(), "what lies in it may be theirs");
    place.mode("x/y/z", 0o700);
    let open = place.mode("x", 0o733);
    assert_eq!(wrong(trust().private_dir(&made, Links::Followed))[0].0, open);
    assert_eq!(wrong(trust().private_dir(&made.join("new"), Links::Followed))[0].0, open);
    assert!(!made.join("new").exists(), "nothing is made where others could exchange it");
    place.mode("x", 0o700);
    let link = place.link("link", &made);
    assert_eq!(trust().private_dir(&link, Links::Followed).unwrap(), made);
    assert_eq!(wrong(trust().private_dir(&link, Links::Refused))[0].0, link);
    assert!(matches!(
        trust().private_dir(&place.file("file", 0o600), Links::Followed),
        Err(FileError::Unusable { .. })
    ));
    assert!(place.at("never").symlink_metadata().is_err());
    assert_eq!(trust().inspect_private_dir(&place.at("never"), Links::Followed).unwrap(), []);
    assert!(place.at("never").symlink_metadata().is_err(), "looking makes nothing");
}

#[test]
fn a_private_file_is_made_so_and_must_be_so() {
    let place = Place::new();
    let path = place.at("f");
    create_private(&path).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert!(create_private(&path).is_err(), "it is there");
    assert!(open_private(&path).is_ok());
    for mode in [0o640, 0o604, 0o666] {
        place.mode("f", mode);
        assert_eq!(wrong(open_private(&path))[0].1, format!("chmod 600 {}", path.display()));
        assert_eq!(inspect_private_file(&path).unwrap().len(), 1);
    }
    let link = place.link("link", place.at("elsewhere"));
    assert_eq!(wrong(open_private(&link))[0].0, link);
    assert!(create_private(&link).is_err());
    assert!(!place.at("elsewhere").exists());
}

/// Only root can give a file away.
#[test]
fn what_belongs_to_another_user_is_refused() {
    if owner::me() != 0 {
        return;
    }
    let place = Place::new();
    let file = place.file("f", 0o600);
    std::os::unix::fs::chown(&file, Some(1234), Some(1234)).unwrap();
    assert_eq!(wrong(trust().open(&file)), [(file.clone(), format!("chown 0 {}", file.display()))]);
    assert_eq!(wrong(open_private(&file)).len(), 1);
    let folder = place.dir("d", 0o755);
    let inside = place.file("d/f", 0o600);
    std::os::unix::fs::chown(&folder, Some(1234), Some(1234)).unwrap();
    assert_eq!(wrong(trust().open(&inside))[0].0, folder);
    let link = place.link("l", place.file("mine", 0o600));
    std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
    assert_eq!(wrong(trust().open(&link)), [(link.clone(), format!("chown -h 0 {}", link.display()))]);
}
