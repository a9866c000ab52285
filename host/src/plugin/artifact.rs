//! From a `.wasm` file to a component that may be run: digest, pin, manifest, capabilities, precompiled cache.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::bindings::{ROLES, Roles};
use super::compile;
use super::engine::Engine;
use super::precompiled::Cache;

/// Largest artifact that is read.
const MAX_ARTIFACT: u64 = 64 << 20;
/// Largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 20;
/// Interfaces that give a plugin nothing but values and its own state: no manifest and no grant needed.
const PURE: [&str; 6] = ["types", "view", "clock", "counters", "cells", "log"];
/// Outgoing HTTP.
const HTTP: [&str; 2] = ["wasi:http/types@0.2.", "wasi:http/outgoing-handler@0.2."];
/// Interfaces that outgoing HTTP needs; they give nothing more.
const UNDER_HTTP: [&str; 4] =
    ["wasi:io/error@0.2.", "wasi:io/poll@0.2.", "wasi:io/streams@0.2.", "wasi:clocks/monotonic-clock@0.2."];
/// The contract's package and the track this gateway speaks.
const CONTRACT: &str = "sentinel:plugin/";
/// What keeps a capability from a plugin that does not want it.
const NOT_ASKED: &str = "its manifest does not ask for";

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
    #[error("what {path} was compiled to cannot be kept beside it: {source}")]
    Keep { path: PathBuf, source: io::Error },
    #[error("the manifest {path} cannot be read: {reason}")]
    Manifest { path: PathBuf, reason: String },
    #[error("it imports {missing}, which {who}; write {fix}")]
    Capability { missing: String, who: &'static str, fix: String },
    #[error("it speaks {found}, this gateway speaks {CONTRACT}…@0.1.x; rebuild it with the SDK of track 0.1")]
    Track { found: String },
    #[error(
        "it exports {found}, which this gateway does not have; use a newer gateway, or build the plugin without it"
    )]
    Unknown { found: String },
    #[error("it exports no role of the contract ({})", ROLES.join(", "))]
    NoRole,
    #[error("it exports no `lifecycle`, which every plugin has; build it for a world of the contract")]
    NoLifecycle,
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
    /// Headers that an authenticator reads.
    pub headers: Vec<String>,
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
    read_and_check(engine, path, pin, grant, &Cache::of(path))
}

/// Compiles one artifact ahead of time. The native code is put beside it; a gateway that may read the key there uses it.
///
/// # Errors
/// The first check that fails, or why it cannot be kept.
pub fn precompile(engine: &Engine, path: &Path) -> Result<(), ArtifactError> {
    let failed = |source| ArtifactError::Keep { path: path.to_owned(), source };
    let cache = Cache::beside(path).map_err(failed)?;
    let Artifact { digest, .. } = read_and_check(engine, path, None, None, &cache)?;
    if cache.find(&digest, engine).is_none() {
        return Err(failed(io::Error::other("see the debug log")));
    }
    Ok(())
}

fn read_and_check(
    engine: &Engine,
    path: &Path,
    pin: Option<&str>,
    grant: Option<Grant<'_>>,
    cache: &Cache,
) -> Result<Artifact, ArtifactError> {
    let wasm = read(path)?;
    let digest = digest(&wasm);
    if let Some(pinned) = pin
        && !pinned.eq_ignore_ascii_case(&digest)
    {
        return Err(ArtifactError::Digest {
            path: path.to_owned(),
            found: digest,
            pinned: pinned.to_owned(),
        });
    }
    let component = compiled(engine, path, &wasm, &digest, cache)?;
    let kind = component.component_type();
    let imports: Vec<String> = kind.imports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
    let mut exports = BTreeSet::new();
    for (name, _) in kind.exports(engine.wasmtime()) {
        if let Some(role) = name.strip_prefix(CONTRACT) {
            let (role, version) = role.split_once('@').unwrap_or((role, ""));
            if !version.starts_with("0.1.") {
                return Err(ArtifactError::Track { found: name.to_owned() });
            }
            // If it were ignored, the plugin would not do what the operator installed it for.
            if !Roles::know(role) {
                return Err(ArtifactError::Unknown { found: name.to_owned() });
            }
            exports.insert(role.to_owned());
        }
    }
    if !exports.contains("lifecycle") {
        return Err(ArtifactError::NoLifecycle);
    }
    if !ROLES.iter().any(|role| exports.contains(*role)) {
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
            permitted(import, of_http(import), &manifest, grant).map_err(|error| named(error, path))?;
        }
    }
    Ok(Artifact { component, digest, manifest, imports, exports, wasi: Wasi { http, rest } })
}

/// Says where the manifest should be, if it is not there at all.
fn named(error: ArtifactError, wasm: &Path) -> ArtifactError {
    let path = wasm.with_extension("toml");
    match error {
        ArtifactError::Capability { missing, who: NOT_ASKED, fix } if !path.exists() => {
            let fix = format!("{fix}, {}, which is missing", path.display());
            ArtifactError::Capability { missing, who: NOT_ASKED, fix }
        }
        error => error,
    }
}

/// A capability must be asked for by the plugin's manifest and granted by the operator.
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
                refuse(NOT_ASKED, "`secrets = true` under [request] of its manifest")
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
            return refuse(NOT_ASKED, "`http = true` under [request] of its manifest");
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
            return refuse(NOT_ASKED, "`wasi = true` under [request] of its manifest");
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
    let bytes = read_at_most(path, MAX_ARTIFACT)
        .map_err(|source| ArtifactError::Read { path: path.to_owned(), source })?;
    bytes.ok_or_else(|| ArtifactError::TooLarge { path: path.to_owned() })
}

fn manifest(wasm: &Path) -> Result<Manifest, ArtifactError> {
    let path = wasm.with_extension("toml");
    let failed = |reason: String| ArtifactError::Manifest { path: path.clone(), reason };
    match read_at_most(&path, MAX_MANIFEST) {
        Ok(Some(text)) => {
            let text = String::from_utf8(text).map_err(|error| failed(error.to_string()))?;
            toml::from_str(&text).map_err(|error| failed(error.to_string()))
        }
        Ok(None) => Err(failed("it is larger than 1 MiB".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Manifest::default()),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// A file's content; `None` if it is longer. Anything but an ordinary file, which may have no end, is not read.
fn read_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= most).then_some(content))
}

/// The native code that was compiled before, or else it is compiled now.
fn compiled(
    engine: &Engine,
    path: &Path,
    wasm: &[u8],
    digest: &str,
    cache: &Cache,
) -> Result<Component, ArtifactError> {
    if let Some(component) = cache.find(digest, engine) {
        return Ok(component);
    }
    let failed = |reason| ArtifactError::Compile { path: path.to_owned(), reason };
    if let Some(what) = shape(wasm) {
        return Err(failed(what));
    }
    let (bounds, limits) = engine.compilation();
    let native = compile::compile(wasm, bounds, limits).map_err(failed)?;
    cache.keep(digest, engine, &native);
    #[expect(unsafe_code, reason = "deserialize is unsafe")]
    // SAFETY: these are the bytes that this engine's compiler, in a process of our own program, made just now.
    let component = unsafe { Component::deserialize(engine.wasmtime(), &native) };
    component.map_err(|error| failed(format!("{error:#}")))
}

/// What a file is that is certainly no component, from its first bytes.
fn shape(wasm: &[u8]) -> Option<String> {
    const CORE: [u8; 4] = [1, 0, 0, 0];
    match wasm {
        [] => Some("it is empty".to_owned()),
        [0, b'a', b's', b'm', version @ ..] if version.starts_with(&CORE) => Some(
            "it is a core module; `sentinel-gateway plugin build` makes a component of a project, and with --module of a module that was built before"
                .to_owned(),
        ),
        [0, b'a', b's', b'm', ..] => None,
        _ => Some("it is no WebAssembly".to_owned()),
    }
}

/// What a component is known by: its SHA-256 in hex.
#[must_use]
pub fn digest(wasm: &[u8]) -> String {
    hex(&Sha256::digest(wasm))
}

pub(super) fn hex(bytes: &[u8]) -> String {
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
