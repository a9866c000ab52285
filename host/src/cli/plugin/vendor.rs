//! What a plugin's project takes along, so that it needs no clone of this repository: the contract and the SDK, as they were
//! when this program was built.

use std::path::Path;

use anyhow::Context as _;
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// The manifest of the workspace, from which the crates of the SDK take their versions.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");

/// Every file that goes into a project as it is: where it goes, and what is in it.
const FILES: &[(&str, &str)] = &[
    ("wit/0.1/types.wit", include_str!("../../../../wit/0.1/types.wit")),
    ("wit/0.1/host.wit", include_str!("../../../../wit/0.1/host.wit")),
    ("wit/0.1/roles.wit", include_str!("../../../../wit/0.1/roles.wit")),
    ("sentinel/sdk/src/lib.rs", include_str!("../../../../plugins/sdk/src/lib.rs")),
    ("sentinel/sdk/src/configured.rs", include_str!("../../../../plugins/sdk/src/configured.rs")),
    ("sentinel/sdk/src/fields.rs", include_str!("../../../../plugins/sdk/src/fields.rs")),
    ("sentinel/sdk/src/http.rs", include_str!("../../../../plugins/sdk/src/http.rs")),
    ("sentinel/names/src/lib.rs", include_str!("../../../../plugins/names/src/lib.rs")),
    ("sentinel/names/src/fold.rs", include_str!("../../../../plugins/names/src/fold.rs")),
    ("sentinel/names/src/glob.rs", include_str!("../../../../plugins/names/src/glob.rs")),
    ("sentinel/names/src/headers.rs", include_str!("../../../../plugins/names/src/headers.rs")),
    ("sentinel/names/src/rules.rs", include_str!("../../../../plugins/names/src/rules.rs")),
    ("sentinel/names/src/table.rs", include_str!("../../../../plugins/names/src/table.rs")),
];

/// The manifests, which take values from the workspace and must stand alone in a project.
const MANIFESTS: &[(&str, &str)] = &[
    ("sentinel/sdk/Cargo.toml", include_str!("../../../../plugins/sdk/Cargo.toml")),
    ("sentinel/names/Cargo.toml", include_str!("../../../../plugins/names/Cargo.toml")),
];

/// All files with their content.
///
/// # Errors
/// A manifest that cannot be read, which a test of this module excludes.
pub(super) fn files() -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut files: Vec<(&str, String)> =
        FILES.iter().map(|(path, content)| (*path, (*content).to_owned())).collect();
    for (path, manifest) in MANIFESTS {
        files.push((path, standing_alone(manifest)?));
    }
    Ok(files)
}

/// The version that the workspace asks of a crate.
///
/// # Errors
/// The workspace does not use that crate.
pub(super) fn version(of: &str) -> anyhow::Result<String> {
    let workspace: DocumentMut = WORKSPACE.parse()?;
    let found = workspace.get("workspace").and_then(|it| it.get("dependencies")?.get(of));
    let version = found.and_then(|it| it.as_str().or_else(|| it.get("version")?.as_str()));
    Ok(version.with_context(|| format!("the workspace does not use {of}"))?.to_owned())
}

/// A manifest of the workspace without what it inherits from it: every `workspace = true` becomes the workspace's value.
fn standing_alone(manifest: &str) -> anyhow::Result<String> {
    let workspace: DocumentMut = WORKSPACE.parse()?;
    let workspace = workspace.get("workspace").context("the workspace has no section of that name")?;
    let mut manifest: DocumentMut = manifest.parse()?;
    // Its lints are the workspace's own business, and its tests need crates that a plugin does not.
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    for section in ["package", "dependencies"] {
        let (Some(own), Some(shared)) =
            (manifest.get_mut(section).and_then(Item::as_table_like_mut), workspace.get(section))
        else {
            continue;
        };
        inherit(own, shared)?;
    }
    Ok(manifest.to_string())
}

fn inherit(own: &mut dyn TableLike, shared: &Item) -> anyhow::Result<()> {
    let keys: Vec<String> = own.iter().map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        let Some(item) = own.get(&key) else { continue };
        let inherits = item.get("workspace").and_then(Item::as_bool) == Some(true);
        if !inherits {
            continue;
        }
        let mut value = shared.get(&key).with_context(|| format!("the workspace has no {key}"))?.clone();
        // What stands beside `workspace = true`, such as `optional = true`, stays.
        let beside: Vec<(String, Item)> = item
            .as_table_like()
            .into_iter()
            .flat_map(TableLike::iter)
            .filter(|(name, _)| *name != "workspace")
            .map(|(name, item)| (name.to_owned(), item.clone()))
            .collect();
        if !beside.is_empty() {
            let mut table = match &value {
                Item::Value(Value::InlineTable(table)) => table.clone(),
                Item::Value(version) => InlineTable::from_iter([("version", version.clone())]),
                _ => InlineTable::new(),
            };
            for (name, item) in beside {
                if let Ok(item) = item.into_value() {
                    table.insert(&name, item);
                }
            }
            value = Item::Value(Value::InlineTable(table));
        }
        own.insert(&key, value);
    }
    Ok(())
}

/// The key of a table that lies at the top of a manifest.
pub(super) fn name_of(manifest: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(manifest)
        .with_context(|| format!("{} is no folder of a plugin: it has no Cargo.toml", shown(manifest)))?;
    let parsed: Table = text.parse::<DocumentMut>().map(|it| it.as_table().clone())?;
    let name = parsed.get("package").and_then(|package| package.get("name")?.as_str());
    Ok(name.with_context(|| format!("{} names no package", manifest.display()))?.to_owned())
}

fn shown(manifest: &Path) -> String {
    manifest.parent().unwrap_or(manifest).display().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_sdk_and_of_the_contract_goes_along() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (folder, to) in [
            ("wit/0.1", "wit/0.1"),
            ("plugins/sdk/src", "sentinel/sdk/src"),
            ("plugins/names/src", "sentinel/names/src"),
        ] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{to}/{}", entry.file_name().to_str().unwrap());
                let content = std::fs::read_to_string(entry.path()).unwrap();
                let taken = FILES.iter().find(|(taken, _)| *taken == path);
                assert_eq!(taken.map(|(_, taken)| *taken), Some(&*content), "{path} does not go along");
            }
        }
    }

    #[test]
    fn a_manifest_stands_alone_and_keeps_what_it_says_itself() {
        for (path, manifest) in MANIFESTS {
            let alone = standing_alone(manifest).unwrap();
            assert!(!alone.contains("workspace"), "{path}: {alone}");
            let read: toml_edit::DocumentMut = alone.parse().unwrap();
            assert_eq!(read["package"]["edition"].as_str(), Some("2024"), "{path}");
        }
        let sdk: DocumentMut = standing_alone(MANIFESTS[0].1).unwrap().parse().unwrap();
        assert_eq!(sdk["dependencies"]["wasip2"]["optional"].as_bool(), Some(true));
        assert_eq!(sdk["dependencies"]["wasip2"]["version"].as_str(), Some("1"));
        assert_eq!(sdk["dependencies"]["wit-bindgen"]["default-features"].as_bool(), Some(false));
        assert_eq!(sdk["dependencies"]["sentinel-names"]["path"].as_str(), Some("../names"));
        assert_eq!(sdk["features"]["http"][0].as_str(), Some("dep:wasip2"));
    }

    #[test]
    fn a_version_is_the_workspaces() {
        assert_eq!(version("serde").unwrap(), "1");
        assert!(version("no-such-crate").is_err());
    }
}
