//! The file in which orders are kept: JSON, written whole, beside a file that is locked while it is changed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{MAX_ORDERS, Order};
use crate::files::{self, FileError, Links, Trust};

/// The layout of the file.
const FORMAT: u32 = 1;
/// The longest file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// How long another gateway may take for its change.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts to get the lock.
const PAUSE: Duration = Duration::from_millis(5);

/// Why an order was not given, kept or taken back.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    #[error(
        "{}: {reason}. It holds what operators switched off, so nobody knows what is off: repair the file, or remove it, which \
         takes all of its orders back", path.display()
    )]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}: {reason}", path.display())]
    Unwritable { path: PathBuf, reason: String },
    #[error("another gateway of this configuration holds {} for {} s", path.display(), PATIENCE.as_secs())]
    Locked { path: PathBuf },
    #[error(
        "there are {most} orders already: take some back, or write what is off into [kill_switch] of the file"
    )]
    TooMany { most: usize },
    #[error("a name or a reason may have {most} bytes at most")]
    TooLong { most: usize },
}

/// Where the orders of one configuration are kept.
#[derive(Clone, Debug)]
pub struct OrdersFile {
    folder: PathBuf,
    trust: Trust,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    orders: Vec<Order>,
}

impl OrdersFile {
    /// The file in a folder of the gateway's own, which is made when there is something to write.
    #[must_use]
    pub(crate) fn in_folder(folder: &Path, trust: &Trust) -> Self {
        Self { folder: folder.to_owned(), trust: trust.clone() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("orders.json")
    }

    /// What it holds; nothing if it is not there.
    pub(super) fn read(&self) -> Result<Vec<Order>, OrdersError> {
        let path = self.path();
        let unreadable = |reason: String| OrdersError::Unreadable { path: path.clone(), reason };
        let file = match self.trust.open(&path) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            Err(FileError::Unusable { source, .. }) => return Err(unreadable(source.to_string())),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let mut text = String::new();
        match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
            Ok(read) if read as u64 > MAX_BYTES => {
                return Err(unreadable(format!("it has more than {MAX_BYTES} bytes")));
            }
            Ok(_) => {}
            Err(error) => return Err(unreadable(error.to_string())),
        }
        let content: Content = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if content.format != FORMAT {
            return Err(unreadable(format!(
                "its format is {}, and this gateway knows {FORMAT}",
                content.format
            )));
        }
        if content.orders.len() > MAX_ORDERS + 1 {
            return Err(unreadable(format!("it holds more than {MAX_ORDERS} orders")));
        }
        Ok(content.orders)
    }

    /// Reads, changes and writes it while nobody else does. Says what it holds then.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut Vec<Order>) -> Result<(), OrdersError>,
    ) -> Result<Vec<Order>, OrdersError> {
        let path = self.path();
        let folder = self.trust.private_dir(&self.folder, Links::Refused);
        let folder = folder.map_err(|error| unwritable(&path, &error))?;
        let lock = files::open_private(&folder.join("orders.lock"));
        let lock = lock.map_err(|error| unwritable(&path, &error))?;
        let _lock = self.locked(lock)?;
        let before = self.read()?;
        let mut list = before.clone();
        change(&mut list)?;
        if list != before || !path.exists() {
            write(&folder, &path, &list).map_err(|error| unwritable(&path, &error))?;
        }
        Ok(list)
    }

    /// The lock ends with the file.
    fn locked(&self, file: File) -> Result<File, OrdersError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(PAUSE);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(OrdersError::Locked { path: self.path() }),
                Err(error) => return Err(unwritable(&self.path(), &error)),
            }
        }
    }
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> OrdersError {
    OrdersError::Unwritable { path: path.to_owned(), reason: error.to_string() }
}

/// On the disk before it has its name, and its name on the disk before this returns.
fn write(folder: &Path, path: &Path, list: &[Order]) -> io::Result<()> {
    let content = Content { format: FORMAT, orders: list.to_vec() };
    let mut draft = tempfile::Builder::new().prefix("draft-").tempfile_in(folder)?;
    serde_json::to_writer_pretty(&mut draft, &content)?;
    draft.write_all(b"\n")?;
    draft.as_file().sync_all()?;
    draft.persist(path)?;
    File::open(folder)?.sync_all()
}
