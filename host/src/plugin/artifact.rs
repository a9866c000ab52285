//! From a `.wasm` file to a component that may be run: digest, pin, manifest, capabilities, precompiled cache.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::engine::Engine;

/// Largest artifact that is read.
const MAX_ARTIFACT: u64 = 64 << 20;
/// Interfaces that give a plugin nothing but values and its own state: no manifest and no grant needed.
const PURE: [&str; 6] = ["types", "view", "clock", "counters", "cells", "log"];
/// Outgoing HTTP.
const HTTP: [&str; 2] = ["wasi:http/types@0.2.", "wasi:http/outgoing-handler@0.2."];
/// What no request can be made without; it gives nothing more.
const UNDER_HTTP: [&str; 4] =
    ["wasi:io/error@0.2.", "wasi:io/poll@0.2.", "wasi:io/streams@0.2.", "wasi:clocks/monotonic-clock@0.2."];
/// The contract's package and the track this gateway speaks.
const CONTRACT: &str = "sentinel:plugin/";

/// Why an artifact is refused. Every variant names what to do.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is larger than 64 MiB")]
    TooLarge { path: PathBuf },
    #[error("{path} has SHA-256 {found}, but the configuration pins {pinned}")]
    Digest { path: PathBuf, found: String, pinned: String },
    #[error("{path} is not a component this gateway can run: {reason}")]
    Compile { path: PathBuf, reason: String },
    #[error("the manifest {path} cannot be read: {reason}")]
    Manifest { path: PathBuf, reason: String },
    #[error("it imports {missing}, which {who}; write {fix}")]
    Capability { missing: String, who: &'static str, fix: String },
    #[error("it speaks {found}, this gateway speaks {CONTRACT}…@0.1.x; rebuild it with the SDK of track 0.1")]
    Track { found: String },
    #[error("it exports no role of the contract (authentication, admission, visibility or rewriting)")]
    NoRole,
}

/// What a plugin says of itself, in `<name>.toml` beside the `.wasm`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub description: String,
    pub track: String,
    pub roles: Vec<String>,
    pub request: Requests,
}

/// What a plugin asks for beyond the pure interfaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// It reads secrets granted by name.
    pub secrets: bool,
    /// It needs the inert WASI (no files, no network, no environment).
    pub wasi: bool,
    /// It sends HTTP requests to hosts that the operator names.
    pub http: bool,
    /// The contract's interfaces it uses; for people, the component's own imports are what is checked.
    pub imports: Vec<String>,
}

/// An artifact that passed every check.
pub struct Artifact {
    pub component: Component,
    /// SHA-256 of the `.wasm`, in hex.
    pub digest: String,
    pub manifest: Manifest,
    /// The component's imports as they are, for people.
    pub imports: Vec<String>,
    pub exports: BTreeSet<String>,
    /// The WASI it imports.
    pub wasi: Wasi,
}

/// How much of WASI a component imports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wasi {
    /// Outgoing HTTP, with the streams and clocks that it takes.
    pub http: bool,
    /// Anything else: the inert rest.
    pub rest: bool,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifact")
            .field("digest", &self.digest)
            .field("imports", &self.imports)
            .finish_non_exhaustive()
    }
}

/// What the operator allows a plugin.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    pub secrets: bool,
    pub http: bool,
    pub grants: &'a [String],
}

/// Reads, checks and compiles (or finds precompiled) one artifact.
///
/// # Errors
/// The first check that fails.
pub fn load(
    engine: &Engine,
    path: &Path,
    pin: Option<&str>,
    grant: Option<Grant<'_>>,
) -> Result<Artifact, ArtifactError> {
    let wasm = read(path)?;
    let digest = hex(&Sha256::digest(&wasm));
    if let Some(pinned) = pin
        && !pinned.eq_ignore_ascii_case(&digest)
    {
        return Err(ArtifactError::Digest {
            path: path.to_owned(),
            found: digest,
            pinned: pinned.to_owned(),
        });
    }
    let component = compiled(engine, path, &wasm, &digest)?;
    let kind = component.component_type();
    let imports: Vec<String> = kind.imports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
    let mut exports = BTreeSet::new();
    for (name, _) in kind.exports(engine.wasmtime()) {
        if let Some(role) = name.strip_prefix(CONTRACT) {
            let (role, version) = role.split_once('@').unwrap_or((role, ""));
            if !version.starts_with("0.1.") {
                return Err(ArtifactError::Track { found: name.to_owned() });
            }
            exports.insert(role.to_owned());
        }
    }
    if !["authentication", "admission", "visibility", "rewriting"].iter().any(|role| exports.contains(*role))
    {
        return Err(ArtifactError::NoRole);
    }
    let manifest = manifest(path)?;
    let http = imports.iter().any(|import| HTTP.iter().any(|own| import.starts_with(own)));
    let of_http = |import: &str| http && HTTP.iter().chain(&UNDER_HTTP).any(|own| import.starts_with(own));
    let rest = imports.iter().any(|import| import.starts_with("wasi:") && !of_http(import));
    if let Some(grant) = grant {
        // What HTTP takes with it says less about a plugin than HTTP itself, which is therefore named first.
        let (first, then): (Vec<&String>, Vec<&String>) =
            imports.iter().partition(|import| import.starts_with("wasi:http/"));
        for import in first.into_iter().chain(then) {
            permitted(import, of_http(import), &manifest, grant)?;
        }
    }
    Ok(Artifact { component, digest, manifest, imports, exports, wasi: Wasi { http, rest } })
}

/// A capability needs two yeses: the plugin's manifest and the operator's grant.
/// `of_http`: it is outgoing HTTP, or comes with it.
fn permitted(
    import: &str,
    of_http: bool,
    manifest: &Manifest,
    grant: Grant<'_>,
) -> Result<(), ArtifactError> {
    let refuse = |who, fix: &str| {
        Err(ArtifactError::Capability { missing: import.to_owned(), who, fix: fix.to_owned() })
    };
    if let Some(interface) = import.strip_prefix(CONTRACT) {
        let (interface, version) = interface.split_once('@').unwrap_or((interface, ""));
        if !version.starts_with("0.1.") {
            return Err(ArtifactError::Track { found: import.to_owned() });
        }
        return match interface {
            pure if PURE.contains(&pure) => Ok(()),
            "secrets" if !manifest.request.secrets => {
                refuse("its manifest does not ask for", "`secrets = true` under [request] of its manifest")
            }
            "secrets" if !grant.secrets => refuse(
                "the configuration does not grant",
                "`secrets = [\"NAME\"]` into its [[plugins]] entry",
            ),
            "secrets" => Ok(()),
            _ => refuse("this gateway does not have", "a plugin for the interfaces of track 0.1"),
        };
    }
    if of_http {
        if !manifest.request.http {
            return refuse("its manifest does not ask for", "`http = true` under [request] of its manifest");
        }
        if !grant.http {
            return refuse(
                "the configuration does not grant",
                "`http = { hosts = [\"auth.example.com\"] }` into its [[plugins]] entry",
            );
        }
        return Ok(());
    }
    if import.starts_with("wasi:http/") {
        return refuse("this gateway does not have", "a plugin for outgoing-handler of wasi:http 0.2");
    }
    if import.starts_with("wasi:") {
        if !manifest.request.wasi {
            return refuse("its manifest does not ask for", "`wasi = true` under [request] of its manifest");
        }
        if !grant.grants.iter().any(|grant| grant == "wasi") {
            return refuse(
                "the configuration does not grant",
                "`grants = [\"wasi\"]` into its [[plugins]] entry",
            );
        }
        return Ok(());
    }
    refuse("this gateway does not have", "a plugin that imports only sentinel:plugin interfaces")
}

fn read(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    let failed = |source| ArtifactError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_ARTIFACT {
        return Err(ArtifactError::TooLarge { path: path.to_owned() });
    }
    fs::read(path).map_err(failed)
}

fn manifest(wasm: &Path) -> Result<Manifest, ArtifactError> {
    let path = wasm.with_extension("toml");
    let failed = |reason: String| ArtifactError::Manifest { path: path.clone(), reason };
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Manifest::default()),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn compiled(engine: &Engine, path: &Path, wasm: &[u8], digest: &str) -> Result<Component, ArtifactError> {
    let compile = || {
        // A bad artifact can make the compiler itself panic; that must not take the gateway along.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            engine.wasmtime().precompile_component(wasm)
        }))
        .unwrap_or_else(|_| Err(wasmtime::format_err!("the compiler gave up on it")))
        .map_err(|error| ArtifactError::Compile { path: path.to_owned(), reason: format!("{error:#}") })
    };
    let wrong = |error: wasmtime::Error| ArtifactError::Compile {
        path: path.to_owned(),
        reason: format!("{error:#}"),
    };
    let file = format!("{digest}-{:016x}.cwasm", engine_key(engine));
    for folder in cache_folders(path) {
        let cached = folder.join(&file);
        if cached.is_file() && trusted(&folder) && trusted(&cached) {
            #[expect(unsafe_code, reason = "deserialize_file is unsafe")]
            // SAFETY: deserialize_file runs native code, so the file must be one that wasmtime wrote. It lies in
            // a folder that only this user (or root) can write to, was put there by an atomic rename of what
            // `precompile_component` returned, and its name holds the digest of the .wasm and of the engine.
            let component = unsafe { Component::deserialize_file(engine.wasmtime(), &cached) };
            match component {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(file = %cached.display(), "precompiled plugin is unusable, compiling again: {error:#}")
                }
            }
        }
    }
    let native = compile()?;
    for folder in cache_folders(path) {
        if store(&folder, &file, &native).is_ok() {
            break;
        }
    }
    #[expect(unsafe_code, reason = "deserialize is unsafe")]
    // SAFETY: these are the bytes that this engine's own `precompile_component` returned just now.
    let component = unsafe { Component::deserialize(engine.wasmtime(), &native) };
    component.map_err(wrong)
}

/// Compiled code of another wasmtime, or of this one with other settings, has another key.
fn engine_key(engine: &Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.wasmtime().precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Beside the artifact, or else in the user's cache folder.
fn cache_folders(wasm: &Path) -> Vec<PathBuf> {
    let beside = wasm.parent().map(|folder| folder.join(".precompiled"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    beside.into_iter().chain(cache.map(|cache| cache.join("sentinel-gateway"))).collect()
}

/// Owned by this user or root, and writable by nobody else.
fn trusted(path: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|meta| {
        (meta.uid() == me || meta.uid() == 0) && meta.mode() & 0o022 == 0 && !meta.file_type().is_symlink()
    })
}

fn store(folder: &Path, file: &str, native: &[u8]) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if !trusted(folder) {
        return Err(std::io::Error::other("the cache folder can be written by others"));
    }
    // Two threads may compile the same artifact; each has a file of its own until it is whole.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!("{file}.{}-{number}", std::process::id()));
    let mut out =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    out.write_all(native)?;
    out.sync_all()?;
    fs::rename(&temporary, folder.join(file))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn asks(secrets: bool, wasi: bool) -> Manifest {
        Manifest { request: Requests { secrets, wasi, ..Requests::default() }, ..Manifest::default() }
    }

    #[test]
    fn a_capability_needs_the_manifest_and_the_grant() {
        let secrets = "sentinel:plugin/secrets@0.1.0";
        let granted = Grant { secrets: true, http: false, grants: &[] };
        let nothing = Grant { secrets: false, http: false, grants: &[] };
        assert!(permitted(secrets, false, &asks(true, false), granted).is_ok());
        assert!(permitted(secrets, false, &asks(false, false), granted).is_err());
        assert!(permitted(secrets, false, &asks(true, false), nothing).is_err());
        let wasi = ["wasi".to_owned()];
        assert!(
            permitted(
                "wasi:cli/stderr@0.2.6",
                false,
                &asks(false, true),
                Grant { secrets: false, http: false, grants: &wasi }
            )
            .is_ok()
        );
        assert!(permitted("wasi:cli/stderr@0.2.6", false, &asks(false, true), nothing).is_err());
    }

    #[test]
    fn what_the_gateway_does_not_have_is_named() {
        let error = permitted(
            "evil:network/tcp",
            false,
            &asks(true, true),
            Grant { secrets: true, http: false, grants: &[] },
        )
        .unwrap_err();
        assert!(error.to_string().contains("evil:network/tcp"));
        let error = permitted(
            "sentinel:plugin/view@0.2.0",
            false,
            &asks(true, true),
            Grant { secrets: true, http: false, grants: &[] },
        );
        assert!(matches!(error, Err(ArtifactError::Track { .. })));
    }

    #[test]
    fn http_needs_the_manifest_and_hosts() {
        let handler = "wasi:http/outgoing-handler@0.2.12";
        let asking =
            Manifest { request: Requests { http: true, ..Requests::default() }, ..Manifest::default() };
        let granted = Grant { secrets: false, http: true, grants: &[] };
        let nothing = Grant { secrets: false, http: false, grants: &[] };
        assert!(permitted(handler, true, &asking, granted).is_ok());
        for refused in [
            permitted(handler, true, &asking, nothing),
            permitted(handler, true, &Manifest::default(), granted),
            // A grant of HTTP is not one of WASI, and one of WASI is none of HTTP.
            permitted("wasi:cli/environment@0.2.12", false, &asking, granted),
            permitted("wasi:http/incoming-handler@0.2.12", false, &asks(true, true), granted),
        ] {
            assert!(matches!(refused, Err(ArtifactError::Capability { .. })), "{refused:?}");
        }
    }
}
