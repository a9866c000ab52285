//! A secret key, and what it seals: native code for one component and one engine.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use super::MAX_FILE;
use super::files;
use super::native::Native;

/// What a sealed file begins with: its kind and version. The seal follows, then the native code.
pub(super) const SEAL: &[u8; 16] = b"sentinel sealed1";
const KEY: usize = 32;

/// A key that only this user, or root, can read.
#[derive(Clone)]
pub(super) struct Key([u8; KEY]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// The key in this file, if it is one and nobody else's.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = files::open(path)?;
        if !files::private(&file.metadata()?) {
            return Err(io::Error::other("the key can be read or written by others, or is no file"));
        }
        let mut key = Vec::with_capacity(KEY + 1);
        file.take(KEY as u64 + 1).read_to_end(&mut key)?;
        key.try_into().map(Self).map_err(|_| io::Error::other("the key has another length"))
    }

    /// The same; one that is missing, or is no secret any more, is made anew.
    pub(super) fn read_or_make(path: &Path) -> io::Result<Self> {
        let unusable = match Self::read(path) {
            Ok(key) => return Ok(key),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if !files::ours_alone(&fs::metadata(folder)?) {
            return Err(io::Error::other("the key's folder can be written by others"));
        }
        if unusable {
            tracing::warn!(file = %path.display(), "the key for precompiled plugins is made anew: it was no secret");
            fs::remove_file(path)?;
        }
        let mut key = [0; KEY];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        // Whole or not at all, and the same for all who make one at once: the first keeps its name.
        let mut draft = tempfile::Builder::new().prefix(".key-").tempfile_in(folder)?;
        draft.write_all(&key)?;
        draft.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        draft.as_file().sync_all()?;
        match draft.persist_noclobber(path) {
            Ok(_) => Ok(Self(key)),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(error) => Err(error.error),
        }
    }

    /// The seal of native code.
    pub(super) fn seal(&self, digest: &str, fingerprint: u64, native: &[u8]) -> [u8; 32] {
        *self.begin(digest, fingerprint).update(native).finalize().as_bytes()
    }

    /// A seal up to the native code.
    fn begin(&self, digest: &str, fingerprint: u64) -> blake3::Hasher {
        let mut mac = blake3::Hasher::new_keyed(&self.0);
        // Of fixed length, but for the digest, whose length is said: no two inputs look alike.
        mac.update(SEAL);
        mac.update(&fingerprint.to_le_bytes());
        mac.update(&(digest.len() as u64).to_le_bytes());
        mac.update(digest.as_bytes());
        mac
    }

    /// The native code in a file, if its seal is ours and for this component and engine. What is judged is a copy, and the
    /// copy is what is handed out: the file may change while it is read, and after.
    ///
    /// # Errors
    /// It cannot be read, or there is no memory for it.
    pub(super) fn unseal(
        &self,
        digest: &str,
        fingerprint: u64,
        file: &mut (impl Read + Seek),
    ) -> io::Result<Option<Native>> {
        file.rewind()?;
        let (mut mark, mut seal) = ([0; SEAL.len()], [0; 32]);
        if !whole(file.read_exact(&mut mark))? || !whole(file.read_exact(&mut seal))? || mark != *SEAL {
            return Ok(None);
        }
        let mut mac = self.begin(digest, fingerprint);
        let native = Native::copy(&mut file.take(MAX_FILE), |piece| {
            mac.update(piece);
        })?;
        // Compared in constant time.
        Ok((mac.finalize() == blake3::Hash::from_bytes(seal)).then_some(native))
    }
}

/// Whether there was as much as was wanted.
fn whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_seal_is_for_one_key_one_component_one_engine_and_every_byte() {
        let (key, other) = (Key([7; KEY]), Key([8; KEY]));
        let sealed = [&SEAL[..], &key.seal("abc", 1, b"native"), b"native"].concat();
        let unseal = |key: &Key, digest, fingerprint, sealed: &[u8]| {
            let native = key.unseal(digest, fingerprint, &mut io::Cursor::new(sealed)).unwrap();
            native.map(|native| fs::read(native.path()).unwrap())
        };
        assert_eq!(unseal(&key, "abc", 1, &sealed).as_deref(), Some(&b"native"[..]));
        assert_eq!(unseal(&other, "abc", 1, &sealed), None);
        assert_eq!(unseal(&key, "abd", 1, &sealed), None);
        assert_eq!(unseal(&key, "abc", 2, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(unseal(&key, "abc", 1, &changed), None, "byte {at}");
            assert_eq!(unseal(&key, "abc", 1, &sealed[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/key");
        let keys: Vec<[u8; KEY]> = std::thread::scope(|scope| {
            let makers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Key::read_or_make(&path).unwrap().0)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; KEY]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::read(&path).unwrap().0, keys[0]);
    }

    #[test]
    fn what_others_can_read_or_have_put_there_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let put = |content: &[u8], mode: u32| {
            let _ = fs::remove_file(&path);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (content, mode) in
            [(&[1; KEY][..], 0o640), (&[1; KEY], 0o602), (&[1; KEY - 1], 0o600), (&[1; KEY + 1], 0o600)]
        {
            put(content, mode);
            assert!(Key::read(&path).is_err(), "{} bytes, {mode:o}", content.len());
            assert_ne!(Key::read_or_make(&path).unwrap().0[..], [1; KEY], "it is made anew");
        }
        put(&[1; KEY], 0o600);
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(Key::read(&link).is_err());
        assert_ne!(Key::read_or_make(&link).unwrap().0, [1; KEY]);
        assert_eq!(Key::read(&path).unwrap().0, [1; KEY], "what the link led to is as it was");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Key::read_or_make(&dir.path().join("another")).is_err());
    }
}
