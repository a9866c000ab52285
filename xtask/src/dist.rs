//! What leaves this repository: the release archive, and the schema of the configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use crate::build::{self, Plan};
use crate::workspace::{Host, Workspace};
use crate::{encode, shell};

/// How the archive is made.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Pack what the last build left in target/debug, which is how tests look into the archive
    #[arg(long)]
    debug: bool,
    /// The folder to put it in, instead of dist/
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Shells that the archive has completions for.
const SHELLS: [(&str, &str); 3] =
    [("bash", "sentinel-gateway.bash"), ("zsh", "_sentinel-gateway"), ("fish", "sentinel-gateway.fish")];

/// Builds the release and packs it into `dist/sentinel-gateway-<version>-<triple>.tar.gz`.
///
/// # Errors
/// If a build fails or a file cannot be written.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let host = Host::profile(!options.debug);
    if !options.debug {
        build::run(workspace, &Plan { host, guests: false })?;
    }
    let name = format!("sentinel-gateway-{}-{}", workspace.version()?, triple()?);
    let dist = options.into.clone().unwrap_or_else(|| workspace.root.join("dist"));
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }

    let mut sums = Vec::new();
    let mut put = |from: &Path, to: &str| pack(from, &folder, to, &mut sums);
    let gateway = workspace.gateway(host);
    put(&gateway, "sentinel-gateway")?;
    put(&workspace.root.join("README.md"), "README.md")?;
    put(&workspace.root.join("LICENSE"), "LICENSE")?;
    let plugins = workspace.target.join(host.folder()).join("plugins");
    for guest in workspace.plugins()? {
        let file = format!("{}.wasm", guest.name);
        put(&plugins.join(&file), &format!("plugins/{file}"))?;
        // What a plugin asks the operator for stands beside it; without it, it may have nothing.
        if guest.manifest.is_some() {
            let file = format!("{}.toml", guest.name);
            put(&plugins.join(&file), &format!("plugins/{file}"))?;
        }
    }
    put(&plugins.join("SHA256SUMS"), "plugins/SHA256SUMS")?;
    for file in files_in(&workspace.root.join("config"))? {
        put(&workspace.root.join("config").join(&file), &format!("config/{file}"))?;
    }
    for (path, content) in of_the_command_line(&gateway, &folder)? {
        sums.push(format!("{}  {path}\n", encode::sha256(&content)));
    }
    fs::write(folder.join("SHA256SUMS"), sums.concat())?;

    let archive = dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    // The same content makes the same archive, on any account and in whatever order files were made. Nobody but their
    // owner may write to them: the gateway refuses others, and unpacking as root keeps the modes as they are here.
    tar.args([
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "--mode=u+rw,go-w,a+rX",
    ]);
    tar.args(["--use-compress-program=gzip --no-name", "--create", "--file"]).arg(&archive);
    shell::run(tar.arg("--directory").arg(&dist).arg(&name))?;
    println!("{}", archive.display());
    Ok(())
}

/// Writes the completions and manual pages, which the gateway makes itself.
fn of_the_command_line(gateway: &Path, folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in SHELLS {
        let script = shell::output(Command::new(gateway).args(["completions", shell]))?;
        fs::write(completions.join(file), &script)?;
        files.push((format!("completions/{file}"), script.into_bytes()));
    }
    let man = folder.join("man");
    shell::run(Command::new(gateway).args(["man", "--dir"]).arg(&man))?;
    for page in files_in(&man)? {
        files.push((format!("man/{page}"), fs::read(man.join(&page))?));
    }
    Ok(files)
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
