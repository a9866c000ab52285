//! Which tokens were used: a file for each, made before anything is run, so that a token counts once however many workers
//! there are and whatever dies in between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::hex;
use crate::capability::Claims;

/// How long after its end a token's file stays, in seconds.
const AFTER: u64 = 60;

/// Why a token does not count.
#[derive(Debug)]
pub(super) enum Spent {
    /// It was used before.
    Used,
    /// It is as old as those whose files are gone.
    Old,
    /// That cannot be told.
    Unknown(io::Error),
}

/// The folder of the used tokens.
#[derive(Debug)]
pub(super) struct Nonces {
    folder: PathBuf,
}

impl Nonces {
    /// Those of an executor that keeps them in `dir`.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let folder = dir.join("used");
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let nonces = Self { folder };
        // It has to work before a token counts.
        nonces.floor()?;
        Ok(nonces)
    }

    /// Marks a token as used, on the disk.
    ///
    /// # Errors
    /// It was used, or it cannot be marked: nothing may be run then.
    pub(super) fn consume(&self, claims: &Claims) -> Result<(), Spent> {
        if claims.until <= self.floor().map_err(Spent::Unknown)? {
            return Err(Spent::Old);
        }
        let path = self.folder.join(format!("{}-{}", hex(&claims.id), claims.until));
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Spent::Used),
            made => made
                .and_then(|file| file.sync_all())
                .and_then(|()| File::open(&self.folder)?.sync_all())
                .map_err(Spent::Unknown),
        }
    }

    /// Removes the files of tokens that have ended long ago. First it is written down that no token as old as those counts,
    /// so that a clock that goes back brings none of them to life.
    pub(super) fn tidy(&self, now: u64) -> io::Result<()> {
        let mut old = Vec::new();
        let mut floor = self.floor()?;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let until =
                path.file_name().and_then(|name| name.to_str()?.split_once('-')?.1.parse::<u64>().ok());
            if let Some(until) = until.filter(|until| until.saturating_add(AFTER) < now) {
                floor = floor.max(until);
                old.push(path);
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        let (draft, path) = (self.folder.join("floor.new"), self.folder.join("floor"));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(floor.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, path)?;
        File::open(&self.folder)?.sync_all()?;
        old.into_iter().try_for_each(fs::remove_file)
    }

    /// The end up to which no token counts.
    fn floor(&self) -> io::Result<u64> {
        match fs::read_to_string(self.folder.join("floor")) {
            Ok(text) => text.trim().parse().map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn claims(id: u8, until: u64) -> Claims {
        Claims {
            id: [id; 16],
            audience: String::new(),
            environment: String::new(),
            command: String::new(),
            subject: String::new(),
            call: String::new(),
            digest: [0; 32],
            from: 0,
            until,
        }
    }

    #[test]
    fn a_token_counts_once_among_many_and_never_again() {
        let dir = tempfile::tempdir().unwrap();
        let won: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..32)
                .map(|_| scope.spawn(|| Nonces::open(dir.path()).unwrap().consume(&claims(1, 1_000)).is_ok()))
                .collect();
            racers.into_iter().map(|racer| usize::from(racer.join().unwrap())).sum()
        });
        assert_eq!(won, 1);
        let nonces = Nonces::open(dir.path()).unwrap();
        assert!(matches!(nonces.consume(&claims(1, 1_000)), Err(Spent::Used)));
        nonces.consume(&claims(2, 1_090)).unwrap();
        nonces.tidy(1_061).unwrap();
        // The file of the first is gone, and it still does not count, even if the clock says that it holds.
        assert_eq!(fs::read_dir(dir.path().join("used")).unwrap().count(), 2);
        assert!(matches!(nonces.consume(&claims(1, 1_000)), Err(Spent::Old)));
        assert!(matches!(nonces.consume(&claims(3, 999)), Err(Spent::Old)));
        assert!(matches!(nonces.consume(&claims(2, 1_090)), Err(Spent::Used)));
        nonces.consume(&claims(4, 1_200)).unwrap();
    }

    #[test]
    fn without_the_folder_no_token_counts() {
        let dir = tempfile::tempdir().unwrap();
        let nonces = Nonces::open(dir.path()).unwrap();
        fs::remove_dir(dir.path().join("used")).unwrap();
        assert!(matches!(nonces.consume(&claims(1, 1_000)), Err(Spent::Unknown(_))));
        fs::create_dir(dir.path().join("used")).unwrap();
        fs::write(dir.path().join("used/floor"), "not a number").unwrap();
        assert!(matches!(nonces.consume(&claims(1, 1_000)), Err(Spent::Unknown(_))));
    }
}
