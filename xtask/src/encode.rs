//! From the module that rustc makes to the component that the gateway loads, without a tool to install.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wit_component::ComponentEncoder;

use crate::workspace::Guest;

/// Encodes the modules in `from` and installs each as `<name>.wasm`, with a `SHA256SUMS` beside them.
/// Files that did not change are left alone, so that what is compiled from them stays valid; artifacts of
/// plugins that no longer exist are removed. Returns the names of the files that changed.
///
/// # Errors
/// If a module is missing, does not follow the plugin interface, or a file cannot be written.
pub(crate) fn install(guests: &[Guest], from: &Path, to: &Path) -> anyhow::Result<Vec<String>> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut changed = Vec::new();
    let mut sums = String::new();
    for guest in guests {
        let source = from.join(guest.file());
        let module = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let component =
            encode(&module).with_context(|| format!("cannot make a component of {}", guest.name))?;
        let name = format!("{}.wasm", guest.name);
        writeln!(sums, "{}  {name}", sha256(&component))?;
        if write_if_changed(&to.join(&name), &component)? {
            changed.push(name);
        }
        // The manifest goes along: without it a plugin asks for nothing, and gets nothing.
        if let Some(manifest) = &guest.manifest {
            let text = fs::read(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
            write_if_changed(&to.join(format!("{}.toml", guest.name)), &text)?;
        }
    }
    remove_strangers(guests, to)?;
    write_if_changed(&to.join("SHA256SUMS"), sums.as_bytes())?;
    Ok(changed)
}

/// Wraps a core module whose imports and exports carry the component interface.
fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default().module(module)?.validate(true).encode()
}

/// The digest as `sha256sum` writes it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes a file whole or not at all; says whether it had to.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let draft = path.with_extension("new");
    fs::write(&draft, content)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

fn remove_strangers(guests: &[Guest], folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        // What the component example left is built by other tools and kept.
        let ours = guests.iter().any(|guest| guest.name == stem) || stem.starts_with("component-");
        if path.extension().is_some_and(|extension| extension == "wasm") && !ours {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn unchanged_content_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wasm");
        assert!(write_if_changed(&path, b"one").unwrap());
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn only_strangers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["rbac.wasm", "gone.wasm", "component-wasip2.wasm", "notes.txt"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        let guests = [Guest { name: "rbac".to_owned(), package: "rbac".to_owned(), manifest: None }];
        remove_strangers(&guests, dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["component-wasip2.wasm", "notes.txt", "rbac.wasm"]);
    }

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_module_without_the_interface_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("broken.wasm"), b"not wasm").unwrap();
        let guests = [Guest { name: "broken".to_owned(), package: "broken".to_owned(), manifest: None }];
        let error = install(&guests, dir.path(), &dir.path().join("out")).unwrap_err();
        assert!(format!("{error:#}").contains("broken"), "{error:#}");
    }
}
