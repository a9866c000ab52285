//! Installing the peers that the gateway is measured beside: other people's programs, pinned, each by its own
//! package manager, in a folder that nothing else uses.

use std::path::Path;
use std::process::Command;

use crate::shell;

/// The crate whose default build is measured.
const CARGO: (&str, &str) = ("mcp-proxy", "0.6.0");
/// Packages of npm, in one folder.
const NPM: [&str; 2] = ["mcp-proxy@6.7.19", "supergateway@4.0.0"];
/// Packages of PyPI, each in an environment of its own, because they want different versions of the same.
const PYPI: [(&str, &str); 3] = [
    ("python-mcp-proxy", "mcp-proxy==0.13.0"),
    ("fastmcp", "fastmcp==4.1.2"),
    ("contextforge", "mcp-contextforge-gateway==1.0.7.post20260921"),
];

/// Installs what is not there yet. A peer that cannot be installed is named, and the others go on: its row will say
/// that it is missing.
///
/// # Errors
/// If the folder cannot be made.
pub(super) fn install(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut failed = Vec::new();
    let mut attempt = |name: &str, done: anyhow::Result<()>| {
        if let Err(error) = done {
            failed.push(format!("{name}: {error:#}"));
        }
    };
    attempt(CARGO.0, cargo(folder));
    attempt("npm", npm(folder));
    for (name, package) in PYPI {
        attempt(package, python(&folder.join(name), package));
    }
    for failure in &failed {
        eprintln!("not installed: {failure}");
    }
    Ok(())
}

fn cargo(folder: &Path) -> anyhow::Result<()> {
    let (name, version) = CARGO;
    let root = folder.join("rust");
    // Does nothing if it is there.
    shell::run(Command::new("cargo").args(["install", "--locked", "--root"]).arg(&root).args([
        "--version",
        &format!("={version}"),
        name,
    ]))
}

fn npm(folder: &Path) -> anyhow::Result<()> {
    let root = folder.join("node");
    std::fs::create_dir_all(&root)?;
    shell::run(
        Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&root)
            .args(NPM),
    )
}

fn python(folder: &Path, package: &str) -> anyhow::Result<()> {
    if !folder.join("bin/python").exists() {
        shell::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    // Compiled now, or its first start takes seconds longer.
    shell::run(Command::new(folder.join("bin/python")).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--compile",
        package,
    ]))
}
