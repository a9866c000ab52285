//! `plugin build`: from a project to a component beside its manifest, without a tool to install but cargo.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use sentinel_gateway::plugin::{Artifact, load_artifact};
use serde_json::Value;
use wit_component::ComponentEncoder;

use super::vendor;

/// The target of plugins: it has no system interface that a plugin could reach for.
const TARGET: &str = "wasm32-unknown-unknown";
/// What a component begins with; a core module has another version there.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of the project
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// The component; beside it goes the manifest. Unless given: dist/NAME.wasm in the folder
    #[arg(long, value_name = "FILE.wasm")]
    out: Option<PathBuf>,
    /// Wrap this core module instead of building one: what another language's compiler made
    #[arg(long, value_name = "FILE.wasm")]
    module: Option<PathBuf>,
    /// How long compiling it for this machine may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    compile_secs: u32,
}

pub(super) fn execute(options: &Options) -> anyhow::Result<ExitCode> {
    let module = match &options.module {
        Some(module) => module.clone(),
        None => cargo(&options.dir)?,
    };
    let name = match vendor::name_of(&options.dir.join("Cargo.toml")) {
        Ok(name) => name,
        Err(error) if options.module.is_none() => return Err(error),
        Err(_) => module.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let out = options.out.clone().unwrap_or_else(|| options.dir.join("dist").join(format!("{name}.wasm")));
    let code = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = wrapped(&code).with_context(|| {
        format!("{} cannot be made a component: it was not built for the contract in wit/", module.display())
    })?;
    keep(&out, &component)?;
    write(&out, &component)?;
    let manifest = options.dir.join("plugin.toml");
    if manifest.is_file() {
        let text = std::fs::read(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        write(&out.with_extension("toml"), &text)?;
    }
    let artifact = load_artifact(&super::engine(options.compile_secs)?, &out, None, None)?;
    agrees(&artifact)?;
    crate::cli::say(&super::describe(&out, &artifact))
}

/// Builds the project and says where its module is.
fn cargo(folder: &Path) -> anyhow::Result<PathBuf> {
    vendor::name_of(&folder.join("Cargo.toml"))?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--release",
            "--lib",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let built = cargo.output().context("cargo cannot be started; install Rust with rustup")?;
    if !built.status.success() {
        let mut said = std::io::stderr().lock();
        let _ = writeln!(said, "If it lacks the target: rustup target add {TARGET}");
        bail!("cargo built nothing");
    }
    // The manifest's folder as cargo spells it.
    let root = folder.canonicalize()?.join("Cargo.toml");
    let module =
        built.stdout.split(|byte| *byte == b'\n').filter_map(|line| module_of(line, &root)).next_back();
    module.with_context(|| {
        format!("cargo made no module: {} needs crate-type = [\"cdylib\"] under [lib]", root.display())
    })
}

/// The module that one line of cargo tells of, if it is that of this package.
fn module_of(line: &[u8], manifest: &Path) -> Option<PathBuf> {
    let told: Value = serde_json::from_slice(line).ok()?;
    let own = told.get("manifest_path")?.as_str()? == manifest.to_str()?;
    let artifact = told.get("reason")?.as_str()? == "compiler-artifact";
    let files = told.get("filenames")?.as_array()?.iter().filter_map(Value::as_str);
    let module = files.map(PathBuf::from).find(|file| file.extension().is_some_and(|kind| kind == "wasm"));
    module.filter(|_| own && artifact)
}

/// A core module as a component; a component as it is.
fn wrapped(code: &[u8]) -> anyhow::Result<Vec<u8>> {
    if code.starts_with(COMPONENT) {
        return Ok(code.to_owned());
    }
    ComponentEncoder::default().module(code)?.validate(true).encode()
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    // Whole or not at all: a gateway that reads it meanwhile finds the old one or the new one.
    let draft = path.with_extension("draft");
    std::fs::write(&draft, content).and_then(|()| std::fs::rename(&draft, path)).with_context(failed)
}

/// Where the build before the last is.
fn previous(out: &Path) -> PathBuf {
    out.with_extension("previous.wasm")
}

/// Keeps what is there, unless it is the same.
fn keep(out: &Path, component: &[u8]) -> anyhow::Result<()> {
    let Ok(before) = std::fs::read(out) else { return Ok(()) };
    if before == component {
        return Ok(());
    }
    write(&previous(out), &before)?;
    match std::fs::read(out.with_extension("toml")) {
        Ok(manifest) => write(&previous(out).with_extension("toml"), &manifest),
        Err(_) => Ok(()),
    }
}

/// Exchanges the last build and the one before it, so that a second time takes the first one back.
pub(super) fn roll_back(out: &Path) -> anyhow::Result<ExitCode> {
    let before = previous(out);
    ensure!(
        before.is_file(),
        "there is no {}: `plugin build` keeps the build before the last there, and made only one so far",
        before.display()
    );
    for (now, before) in
        [(out.to_owned(), before.clone()), (out.with_extension("toml"), before.with_extension("toml"))]
    {
        let (Ok(last), Ok(first)) = (std::fs::read(&now), std::fs::read(&before)) else { continue };
        write(&now, &first)?;
        write(&before, &last)?;
    }
    let digest = sentinel_gateway::plugin::digest(&std::fs::read(out)?);
    crate::cli::say(&format!(
        "{} is the build before the last again, sha256 {digest}. A gateway that runs takes it with `sentinel-gateway config apply`.",
        out.display()
    ))
}

/// Whether the manifest says what the component is.
fn agrees(artifact: &Artifact) -> anyhow::Result<()> {
    let said = &artifact.manifest;
    let roles: Vec<&str> =
        artifact.exports.iter().map(String::as_str).filter(|it| *it != "lifecycle").collect();
    let mut listed: Vec<&str> = said.roles.iter().map(String::as_str).collect();
    listed.sort_unstable();
    ensure!(
        listed.is_empty() || listed == roles,
        "plugin.toml says roles = {listed:?}, and the component exports {roles:?}; correct the manifest"
    );
    ensure!(
        said.track.is_empty() || said.track == "0.1",
        "plugin.toml says track = {:?}, and this gateway speaks 0.1; correct the manifest",
        said.track
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_that_of_the_project_and_of_no_dependency() {
        let line = |manifest: &str, file: &str| {
            serde_json::json!({"reason": "compiler-artifact", "manifest_path": manifest, "filenames": [file]})
                .to_string()
        };
        let root = Path::new("/p/Cargo.toml");
        let found = |line: String| module_of(line.as_bytes(), root);
        assert_eq!(found(line("/p/Cargo.toml", "/p/target/x.wasm")), Some("/p/target/x.wasm".into()));
        assert_eq!(found(line("/p/sentinel/sdk/Cargo.toml", "/p/target/x.wasm")), None);
        assert_eq!(found(line("/p/Cargo.toml", "/p/target/x.rlib")), None);
        assert_eq!(found("error: words".to_owned()), None);
    }

    #[test]
    fn what_is_no_plugin_is_not_wrapped() {
        assert!(wrapped(b"text").is_err());
        assert_eq!(wrapped(COMPONENT).unwrap(), COMPONENT);
    }
}
