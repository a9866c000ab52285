//! `cargo xtask test`: from a fresh checkout to a verdict, installing what is missing on the way.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::build::{self, Plan};
use crate::workspace::{Host, Workspace, package_name};
use crate::{debian, fixtures, shell};

/// The release of cargo-component that the component example is built with.
const CARGO_COMPONENT: &str = "0.21.1";

/// Installs, builds and tests everything.
///
/// # Errors
/// The first step that fails; its exit code becomes ours.
pub(crate) fn run(workspace: &Workspace, with_fixtures: bool) -> anyhow::Result<()> {
    install_packages(with_fixtures)?;
    if with_fixtures {
        fixtures::run(workspace)?;
    }
    build::run(workspace, &Plan { host: Host::Tests, guests: true })?;
    component_example(workspace)?;
    shell::run_bounded(workspace.cargo().args(["test", "--workspace", "--no-fail-fast"]), 3_000, 1_000)
}

/// Changes the configuration five hundred times under load, which is too long for every test.
///
/// # Errors
/// A call failed, or a change was not applied or refused as it should.
pub(crate) fn reloads(workspace: &Workspace) -> anyhow::Result<()> {
    const TEST: &str = "house::generations::hundreds_of_changes_under_load_and_no_call_fails";
    build::run(workspace, &Plan { host: Host::Tests, guests: true })?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--test", "it", "--", "--exact", TEST]).env("SENTINEL_RELOADS", "500");
    shell::run_bounded(&mut cargo, 2_400, 600)?;
    print!("{}", fs::read_to_string(workspace.target.join("tmp/changes-under-load.txt"))?);
    Ok(())
}

/// Installs the Debian packages that the tests need and this machine lacks.
fn install_packages(with_fixtures: bool) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if with_fixtures {
        if !shell::succeeds(Command::new("node").arg("--version")) {
            missing.push("nodejs");
        }
        if !shell::succeeds(Command::new("npm").arg("--version")) {
            missing.push("npm");
        }
        // Debian ships Python without the parts that make a virtual environment.
        if !shell::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"])) {
            missing.push("python3-venv");
        }
        // Half a gigabyte that only root gets without being asked; without it its test says that it was not tried.
        if !shell::succeeds(Command::new("chromium").arg("--version")) && rustix::process::geteuid().is_root()
        {
            missing.push("chromium");
        }
    }
    if !has_postgres() {
        missing.push("postgresql");
    }
    debian::install(&missing)
}

/// The server's programs; Debian keeps them out of the search path, in a folder for each version.
fn has_postgres() -> bool {
    if shell::succeeds(Command::new("initdb").arg("--version")) {
        return true;
    }
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else { return false };
    versions.flatten().any(|version| version.path().join("bin/initdb").is_file())
}

/// Builds the example in the layout of cargo-component twice, with that tool and with plain cargo: an author
/// may use either, and the gateway must load both.
fn component_example(workspace: &Workspace) -> anyhow::Result<()> {
    let folder = workspace.root.join("tests/guests/component");
    build::add_targets(&["wasm32-wasip1", "wasm32-wasip2"])?;
    let tools = workspace.target.join("tools");
    let tool = tools.join("bin/cargo-component");
    if !shell::succeeds(Command::new(&tool).args(["component", "--version"])) {
        eprintln!("cargo-component is missing: building it, which takes some minutes once");
        let mut cargo = workspace.cargo();
        cargo.args([
            "install",
            "cargo-component",
            "--debug",
            "--locked",
            "--version",
            CARGO_COMPONENT,
            "--root",
        ]);
        // Beside the project's own target folder, so that neither invalidates the other.
        cargo.arg(&tools).env("CARGO_TARGET_DIR", workspace.target.join("tools-build"));
        shell::run(&mut cargo)?;
    }
    let file = format!("{}.wasm", package_name(&folder)?.replace('-', "_"));

    let dir = workspace.target.join("component-cargo-component");
    let mut component = workspace.cargo();
    let cargo = component.get_program().to_owned();
    component = Command::new(&tool);
    component.args(["component", "build", "--release", "--locked"]);
    shell::run(component.current_dir(&folder).env("CARGO_TARGET_DIR", &dir).env("CARGO", cargo))?;
    keep(&dir, &["wasm32-wasip1", "wasm32-wasip2", "wasm32-unknown-unknown"], &file, workspace)?;

    let dir = workspace.target.join("component-wasip2");
    let mut plain = workspace.cargo();
    plain.args(["build", "--release", "--locked", "--target", "wasm32-wasip2"]);
    shell::run(plain.current_dir(&folder).env("CARGO_TARGET_DIR", &dir))?;
    keep(&dir, &["wasm32-wasip2"], &file, workspace)
}

/// Copies an artifact to `target/guests`, under the name of the folder it was built in.
fn keep(dir: &Path, targets: &[&str], file: &str, workspace: &Workspace) -> anyhow::Result<()> {
    let built = targets.iter().map(|target| dir.join(target).join("release").join(file));
    let Some(built) = built.into_iter().find(|path| path.is_file()) else {
        bail!("no {file} under {}, though its build succeeded", dir.display());
    };
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let content = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    crate::encode::write_if_changed(&workspace.target.join("guests").join(format!("{name}.wasm")), &content)?;
    Ok(())
}
