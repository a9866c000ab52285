//! What leaves this repository: the release archive, and the schema of the configuration.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::build::{self, Host, Plan};
use crate::workspace::Workspace;
use crate::{encode, shell};

/// Builds the release and packs it into `dist/sentinel-gateway-<version>-<triple>.tar.gz`.
///
/// # Errors
/// If a build fails or a file cannot be written.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    build::run(workspace, &Plan { host: Host::Release, guests: false })?;
    let name = format!("sentinel-gateway-{}-{}", workspace.version()?, triple()?);
    let dist = workspace.root.join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }

    let mut sums = Vec::new();
    let mut put = |from: &Path, to: &str| pack(from, &folder, to, &mut sums);
    put(&workspace.gateway(Host::Release), "sentinel-gateway")?;
    put(&workspace.root.join("README.md"), "README.md")?;
    put(&workspace.root.join("LICENSE"), "LICENSE")?;
    let plugins = workspace.target.join("release/plugins");
    for guest in workspace.plugins()? {
        let file = format!("{}.wasm", guest.name);
        put(&plugins.join(&file), &format!("plugins/{file}"))?;
    }
    put(&plugins.join("SHA256SUMS"), "plugins/SHA256SUMS")?;
    for file in files_in(&workspace.root.join("config"))? {
        put(&workspace.root.join("config").join(&file), &format!("config/{file}"))?;
    }
    fs::write(folder.join("SHA256SUMS"), sums.concat())?;

    let archive = dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    // The same content makes the same archive, whoever packs it and in whatever order files were made.
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]);
    tar.args(["--use-compress-program=gzip --no-name", "--create", "--file"]).arg(&archive);
    shell::run(tar.arg("--directory").arg(&dist).arg(&name))?;
    println!("{}", archive.display());
    Ok(())
}

/// Writes `config/schema.json`, if it changed.
///
/// # Errors
/// If the gateway cannot be built or does not answer.
pub(crate) fn schema(workspace: &Workspace) -> anyhow::Result<()> {
    build::host_only(workspace)?;
    let text = shell::output(Command::new(workspace.gateway(Host::Debug)).args(["config", "schema"]))?;
    // An editor that reads half a schema accepts anything.
    serde_json::from_str::<serde_json::Value>(&text).context("`config schema` wrote no JSON")?;
    let changed = encode::write_if_changed(&workspace.root.join("config/schema.json"), text.as_bytes())?;
    println!("config/schema.json {}", if changed { "is new" } else { "has not changed" });
    Ok(())
}

/// Copies a file into the archive's folder and notes its digest as `sha256sum` would.
fn pack(from: &Path, folder: &Path, to: &str, sums: &mut Vec<String>) -> anyhow::Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let target = folder.join(to);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    // `copy` keeps the permissions, so that the binary stays executable.
    fs::copy(from, &target).with_context(|| format!("cannot write {}", target.display()))?;
    sums.push(format!("{}  {to}\n", encode::sha256(&content)));
    Ok(())
}

fn files_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What rustc calls this machine.
fn triple() -> anyhow::Result<String> {
    let text = shell::output(Command::new("rustc").arg("--version").arg("--verbose"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what machine this is")?.to_owned())
}
