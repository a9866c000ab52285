//! Where things are: the root of the project, the target folder, and the plugins and guests in the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// The folders of this project.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the root.
    pub(crate) target: PathBuf,
}

/// How the gateway is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    Debug,
    Release,
    /// As the tests need it: together with them, so that cargo settles on one set of features for the
    /// dependencies and builds them once.
    Tests,
}

impl Host {
    pub(crate) fn profile(release: bool) -> Self {
        if release { Self::Release } else { Self::Debug }
    }

    /// The folder of the target folder that its files are in.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Debug | Self::Tests => "debug",
            Self::Release => "release",
        }
    }
}

/// A crate that becomes a `.wasm` file of the same name as its folder.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The folder's name, and the name of the artifact.
    pub(crate) name: String,
    /// The package's name, for cargo.
    pub(crate) package: String,
    /// What it asks the operator for, if it says so.
    pub(crate) manifest: Option<PathBuf>,
}

impl Guest {
    /// The file that cargo makes of it.
    pub(crate) fn file(&self) -> String {
        format!("{}.wasm", self.package.replace('-', "_"))
    }
}

impl Workspace {
    /// The workspace that this program was built from.
    ///
    /// # Errors
    /// If the current folder is gone, which a relative `CARGO_TARGET_DIR` needs.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Set by `cargo run`; the folder of the build serves a binary that is started by hand.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask stands in no workspace")?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::env::current_dir()?.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A cargo command in the root, without the variables that cargo set for us: build scripts of some
    /// dependencies watch them, and would run again for nothing.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|p| name.starts_with(p))
            {
                command.env_remove(&key);
            }
        }
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// A file that cargo builds for this machine.
    pub(crate) fn binary(&self, host: Host, name: &str) -> PathBuf {
        self.target.join(host.folder()).join(name)
    }

    /// The gateway itself.
    pub(crate) fn gateway(&self, host: Host) -> PathBuf {
        self.binary(host, "sentinel-gateway")
    }

    /// The shipped plugins: every folder of `plugins` but the SDK, the templates and what several share.
    ///
    /// # Errors
    /// If the folder or a manifest cannot be read, or a crate in it builds no `cdylib`.
    pub(crate) fn plugins(&self) -> anyhow::Result<Vec<Guest>> {
        guests_in(
            &self.root.join("plugins"),
            &["jwt", "names", "sdk", "template", "template-authenticator", "template-rewriter", "target"],
        )
    }

    /// The plugins of the tests: every folder of `tests/guests` but the component example, which is built
    /// by its own tools.
    ///
    /// # Errors
    /// As for [`Workspace::plugins`].
    pub(crate) fn guests(&self) -> anyhow::Result<Vec<Guest>> {
        guests_in(&self.root.join("tests/guests"), &["component", "target"])
    }

    /// The version in the workspace's manifest.
    ///
    /// # Errors
    /// If the manifest cannot be read or names none.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        let manifest = manifest(&self.root)?;
        let version = manifest.get("workspace").and_then(|w| w.get("package")).and_then(|p| p.get("version"));
        let version = version.and_then(toml::Value::as_str).context("Cargo.toml names no version")?;
        Ok(version.to_owned())
    }
}

/// The name of the package in a folder.
///
/// # Errors
/// If its manifest cannot be read or names none.
pub(crate) fn package_name(folder: &Path) -> anyhow::Result<String> {
    let manifest = manifest(folder)?;
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    Ok(name.with_context(|| format!("{} names no package", folder.display()))?.to_owned())
}

fn manifest(folder: &Path) -> anyhow::Result<toml::Table> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("cannot understand {}", path.display()))
}

fn guests_in(parent: &Path, except: &[&str]) -> anyhow::Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for entry in fs::read_dir(parent).with_context(|| format!("cannot read {}", parent.display()))? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !folder.join("Cargo.toml").is_file() || except.contains(&name.as_str()) {
            continue;
        }
        let types = manifest(&folder)?;
        let types = types.get("lib").and_then(|lib| lib.get("crate-type")).and_then(toml::Value::as_array);
        if !types.is_some_and(|types| types.iter().any(|kind| kind.as_str() == Some("cdylib"))) {
            bail!("{} is no plugin: its [lib] has no crate-type \"cdylib\"", folder.display());
        }
        let manifest = Some(folder.join("plugin.toml")).filter(|path| path.is_file());
        guests.push(Guest { package: package_name(&folder)?, name, manifest });
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guests)
}
