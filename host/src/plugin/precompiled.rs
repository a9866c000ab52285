//! Native code of plugins, kept from one start to the next.
//!
//! Native code runs as ourselves, so the file's name proves nothing: each file is sealed under a secret key for the
//! component it was made of and the engine it was made for ([`seal`]). A file that is not sealed, is sealed for something
//! else, or could be written by others is ignored, and the component is compiled again.
//!
//! There are two places. `.precompiled` beside the artifact, which `plugin precompile` fills ahead of time under a key in
//! the same folder; and the user's cache folder, under the key in the user's state folder. An archive or an image brings
//! native code along only if it brings the first folder's key, too.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::Component;

use super::engine::Engine;

mod files;
mod native;
mod seal;

use seal::{Key, SEAL};

/// The largest file that is read.
const MAX_FILE: u64 = 257 << 20;
/// The key for what stands beside the artifacts of a folder.
const FOLDER_KEY: &str = ".precompiled.key";
/// The key for everything else, in the state folder.
const OWN_KEY: &str = "precompiled.key";

/// Where the native code of one artifact may be.
#[derive(Debug)]
pub(super) struct Cache {
    shelves: Vec<Shelf>,
}

/// A folder, and the keys that its files may be sealed with; the first seals.
#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    keys: Vec<Key>,
}

impl Cache {
    /// For every start: beside the artifact, or else in the user's cache folder.
    pub(super) fn of(wasm: &Path) -> Self {
        let own =
            || own_key().map_err(|error| tracing::debug!("no key for precompiled plugins: {error}")).ok();
        let mut shelves = Vec::new();
        if let Some(folder) = wasm.parent() {
            let keys = Key::read(&folder.join(FOLDER_KEY)).ok().into_iter().chain(own()).collect();
            shelves.push(Shelf { folder: folder.join(".precompiled"), keys });
        }
        if let Some(folder) = home("XDG_CACHE_HOME", ".cache") {
            shelves
                .push(Shelf { folder: folder.join("sentinel-gateway"), keys: own().into_iter().collect() });
        }
        Self { shelves }
    }

    /// For compiling ahead of time: beside the artifact and nowhere else, so that others find it there.
    ///
    /// # Errors
    /// The folder's key can be neither read nor made.
    pub(super) fn beside(wasm: &Path) -> io::Result<Self> {
        let folder = wasm.parent().unwrap_or(Path::new("."));
        let key = Key::read_or_make(&folder.join(FOLDER_KEY))?;
        Ok(Self { shelves: vec![Shelf { folder: folder.join(".precompiled"), keys: vec![key] }] })
    }

    /// The component with this digest, if it has been compiled for this engine before.
    pub(super) fn find(&self, digest: &str, engine: &Engine) -> Option<Component> {
        let fingerprint = engine.fingerprint();
        let name = name(digest, fingerprint);
        for Shelf { folder, keys } in &self.shelves {
            let path = folder.join(&name);
            let mut file = match open(folder, &path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(file = %path.display(), "precompiled plugin is passed over: {error}");
                    continue;
                }
            };
            let unsealed = keys.iter().find_map(|key| key.unseal(digest, fingerprint, &mut file).transpose());
            let native = match unsealed {
                Some(Ok(native)) => native,
                Some(Err(error)) => {
                    tracing::warn!(file = %path.display(), "precompiled plugin is passed over: {error}");
                    continue;
                }
                None => {
                    tracing::warn!(
                        file = %path.display(),
                        "precompiled plugin is passed over: it was not sealed here, or not for this component"
                    );
                    continue;
                }
            };
            #[expect(unsafe_code, reason = "deserialize is unsafe")]
            // SAFETY: deserialize takes native code that runs as ourselves, so the bytes must be those that wasmtime's
            // compiler made. They are sealed with a key that only this user (or root) can read, for this component and
            // this engine, and only what the compiler's process answered is ever sealed; see `keep`. They are in memory
            // without a name that cannot be written to any more.
            let component = unsafe { Component::deserialize_file(engine.wasmtime(), native.path()) };
            match component {
                Ok(component) => return Some(component),
                Err(error) => {
                    tracing::warn!(file = %path.display(), "precompiled plugin is unusable and is compiled again: {error:#}");
                }
            }
        }
        None
    }

    /// Keeps what the compiler made, in the first folder that takes it; says whether there is one.
    pub(super) fn keep(&self, digest: &str, engine: &Engine, native: &[u8]) -> bool {
        let fingerprint = engine.fingerprint();
        self.shelves.iter().any(|Shelf { folder, keys }| {
            let Some(key) = keys.first() else { return false };
            let seal = key.seal(digest, fingerprint, native);
            let kept = store(folder, &name(digest, fingerprint), &[&SEAL[..], &seal, native]);
            kept.inspect_err(|error| {
                tracing::debug!("precompiled plugins cannot be kept in {}: {error}", folder.display())
            })
            .is_ok()
        })
    }
}

fn name(digest: &str, fingerprint: u64) -> String {
    format!("{digest}-{fingerprint:016x}.sealed")
}

/// A key of our own, made when there is none.
fn own_key() -> io::Result<Key> {
    let state = home("XDG_STATE_HOME", ".local/state").ok_or(io::ErrorKind::NotFound)?;
    Key::read_or_make(&state.join("sentinel-gateway").join(OWN_KEY))
}

/// One of the user's base folders.
fn home(variable: &str, below: &str) -> Option<PathBuf> {
    let told = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    told.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(below)))
}

fn open(folder: &Path, path: &Path) -> io::Result<fs::File> {
    let file = files::open(path)?;
    if !files::ours_alone(&fs::symlink_metadata(folder)?) {
        return Err(io::Error::other("its folder can be written by others"));
    }
    let meta = file.metadata()?;
    if !meta.is_file() || !files::ours_alone(&meta) {
        return Err(io::Error::other("it can be written by others"));
    }
    if meta.len() > MAX_FILE {
        return Err(io::Error::other("it is larger than any that is kept"));
    }
    Ok(file)
}

fn store(folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if !files::ours_alone(&fs::symlink_metadata(folder)?) {
        return Err(io::Error::other("it can be written by others"));
    }
    // Two threads may compile the same artifact; each has a file of its own until it is whole.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!("{name}.{}-{number}", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join(name))
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
