//! The build: plugins for `wasm32-unknown-unknown` in one cargo run, wrapped as components beside the binary,
//! then the gateway, which compiles them once for this machine.

use std::path::Path;

use anyhow::Context as _;

use crate::workspace::{Guest, Host, Workspace};
use crate::{encode, shell};

/// What to build.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) host: Host,
    /// Also the plugins of the tests.
    pub(crate) guests: bool,
}

/// The target of plugins: it has no system interface that a plugin could reach for.
const PLUGIN_TARGET: &str = "wasm32-unknown-unknown";
/// The target that the component example also builds for.
const WASI_TARGET: &str = "wasm32-wasip2";

/// Builds everything the plan names.
///
/// # Errors
/// The first step that fails.
pub(crate) fn run(workspace: &Workspace, plan: &Plan) -> anyhow::Result<()> {
    plugins(workspace, plan)?;
    let mut cargo = workspace.cargo();
    match plan.host {
        Host::Debug => {
            cargo.args(["build", "--package", "sentinel-gateway", "--package", "fixture-backend"]);
        }
        Host::Release => {
            cargo.args(["build", "--release", "--package", "sentinel-gateway"]);
        }
        Host::Tests => {
            cargo.args(["test", "--workspace", "--no-run", "--quiet"]);
        }
    }
    shell::run(&mut cargo)?;
    precompile(workspace, plan.host, &beside(workspace, plan.host))?;
    if plan.guests {
        precompile(workspace, plan.host, &workspace.target.join("guests"))?;
    }
    Ok(())
}

/// Where the plugins of a build lie: beside its gateway.
fn beside(workspace: &Workspace, host: Host) -> std::path::PathBuf {
    workspace.target.join(host.folder()).join("plugins")
}

/// Builds only the plugins of the plan.
///
/// # Errors
/// If cargo fails, or a plugin cannot be made a component.
pub(crate) fn plugins(workspace: &Workspace, plan: &Plan) -> anyhow::Result<()> {
    add_targets(&[PLUGIN_TARGET, WASI_TARGET])?;
    let plugins = workspace.plugins()?;
    let guests = if plan.guests { workspace.guests()? } else { Vec::new() };

    let mut cargo = workspace.cargo();
    cargo.args(["build", "--profile", "plugin", "--target", PLUGIN_TARGET]);
    for guest in plugins.iter().chain(&guests) {
        cargo.args(["--package", &guest.package]);
    }
    shell::run(&mut cargo)?;

    install(workspace, &plugins, &beside(workspace, plan.host))?;
    if plan.guests {
        install(workspace, &guests, &workspace.target.join("guests"))?;
    }
    Ok(())
}

/// Builds the gateway alone.
///
/// # Errors
/// If cargo fails.
pub(crate) fn host_only(workspace: &Workspace) -> anyhow::Result<()> {
    shell::run(workspace.cargo().args(["build", "--package", "sentinel-gateway"]))
}

/// Adds the targets of rustc that are missing, and says so.
///
/// # Errors
/// If rustup is missing or cannot add one.
pub(crate) fn add_targets(wanted: &[&str]) -> anyhow::Result<()> {
    let installed =
        shell::output(std::process::Command::new("rustup").args(["target", "list", "--installed"]))
            .context("rustup, which adds the targets of WebAssembly, does not answer")?;
    for target in wanted {
        if !installed.lines().any(|line| line.trim() == *target) {
            eprintln!("rustc cannot build for {target} yet: adding it");
            shell::run(std::process::Command::new("rustup").args(["target", "add", target]))?;
        }
    }
    Ok(())
}

fn install(workspace: &Workspace, guests: &[Guest], to: &Path) -> anyhow::Result<()> {
    let from = workspace.target.join(PLUGIN_TARGET).join("plugin");
    let changed = encode::install(guests, &from, to)?;
    let what =
        if changed.is_empty() { "none changed".to_owned() } else { format!("new: {}", changed.join(", ")) };
    eprintln!("{} components in {}; {what}", guests.len(), to.display());
    Ok(())
}

/// Lets the gateway compile the plugins for this machine, so that its first start is as quick as the next.
fn precompile(workspace: &Workspace, host: Host, plugins: &Path) -> anyhow::Result<()> {
    let mut gateway = std::process::Command::new(workspace.gateway(host));
    shell::run(gateway.args(["plugin", "precompile", "--dir"]).arg(plugins))
}
