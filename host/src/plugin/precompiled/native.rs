//! Native code in memory of our own, which has no name and which cannot be written to once it is there. It is mapped
//! from there, so
//! that no second copy of it is in memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Bytes that are copied at once.
const PIECE: usize = 128 << 10;

/// The copy.
#[derive(Debug)]
pub(super) struct Native(File);

impl Native {
    /// Copies what is left of a file, and shows each piece as it is copied.
    pub(super) fn copy(from: &mut impl Read, mut show: impl FnMut(&[u8])) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // It is mapped and never executed as a program. Some systems insist on that being said (`vm.memfd_noexec`), and
        // before Linux 6.3 nobody could.
        let memory = match rustix::fs::memfd_create("plugin", flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => rustix::fs::memfd_create("plugin", flags),
            made => made,
        };
        let mut memory = File::from(memory?);
        let mut piece = vec![0; PIECE];
        loop {
            let read = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => piece.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            show(read);
            memory.write_all(read)?;
        }
        let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, all)?;
        Ok(Self(memory))
    }

    /// Where this process can open it, for as long as this value lives.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
