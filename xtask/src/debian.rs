//! Debian packages that this project needs and a machine may lack.

use std::process::Command;

use anyhow::Context as _;

use crate::shell;

/// Installs packages; nothing happens for none.
///
/// # Errors
/// If this is no Debian, we may not, or a package does not install.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!("missing on this machine, installing: {}", packages.join(", "));
    apt(&["update", "--quiet", "--quiet"])?;
    apt(&[&["install", "--yes", "--quiet", "--quiet", "--no-install-recommends"], packages].concat())
}

fn apt(args: &[&str]) -> anyhow::Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        // Never asks: a build that waits for a password looks like one that hangs.
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "apt-get"]);
        sudo
    };
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    shell::run(&mut command).context("install the packages named above by hand, then try again")
}
