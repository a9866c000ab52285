//! Where the gateways of a configuration file are reached by commands.
//!
//! A command has to find a gateway that runs even when its file is broken by now, so the few keys that say where it listens
//! are read on their own, as they stand.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The folder for one file below a folder for many. The file is told by its folder and its name, so that a link which is
/// pointed at another version of it (as Kubernetes does) changes nothing.
pub(super) fn of_file(base: &Path, file: &Path) -> PathBuf {
    let full = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = full.parent().map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
    let name = full.file_name().unwrap_or_default();
    let named = folder.unwrap_or_default().join(name);
    let digest = Sha256::digest(named.as_os_str().as_encoded_bytes());
    base.join(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The folder of a file's sockets, without judging the rest of the file. A file that is no TOML counts as one that does not
/// name a folder.
///
/// # Errors
/// In words: the file is not there, commands are switched off in it, or there is no place for the folder.
pub fn control_folder(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{}: {error}; name the configuration file of the gateway with --config", path.display())
    })?;
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let key = |section: &str, key: &str| table.get(section)?.get(key)?.as_str();
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = full.parent().unwrap_or(Path::new("/"));
    let base = match (key("gateway", "control_dir"), key("audit", "dir")) {
        (Some("off"), _) => {
            return Err(format!(
                "{}: gateway.control_dir is \"off\", so its gateways take no commands",
                path.display()
            ));
        }
        (Some(typed), _) => folder.join(typed),
        (None, Some(audit)) => folder.join(audit).join("control"),
        (None, None) => state_home(env)
            .ok_or("neither XDG_STATE_HOME nor HOME is set, so it is not known where gateways listen")?
            .join("sentinel-gateway/control"),
    };
    Ok(of_file(&base, path))
}

/// The XDG base directory specification: a relative value is to be ignored.
pub(super) fn state_home(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    state.or_else(|| set("HOME").map(|home| home.join(".local/state")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/ann".to_owned()),
            "XDG_STATE_HOME" => Some("state".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn the_folder_is_found_in_whatever_state_the_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sentinel.toml");
        let found = |text: &str| {
            std::fs::write(&path, text).unwrap();
            control_folder(&path, &env)
        };
        let by_default = found("").unwrap();
        assert!(by_default.starts_with("/home/ann/.local/state/sentinel-gateway/control"), "{by_default:?}");
        assert_eq!(found("this is = = no TOML").unwrap(), by_default);
        assert_eq!(found("[gateway]\nnonsense = 1\n").unwrap(), by_default);
        let own = found("[gateway]\ncontrol_dir = \"c\"\n").unwrap();
        assert_eq!(own.parent().unwrap(), dir.path().join("c"));
        assert_eq!(own.file_name(), by_default.file_name(), "the file is the same");
        let beside = found("[audit]\ndir = \"a\"\n").unwrap();
        assert_eq!(beside.parent().unwrap(), dir.path().join("a/control"));
        assert!(found("[gateway]\ncontrol_dir = \"off\"\n").unwrap_err().contains("off"));
        assert!(control_folder(&dir.path().join("none"), &env).unwrap_err().contains("--config"));
    }

    #[test]
    fn a_file_is_known_by_its_folder_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("a.toml"), "").unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(real.join("a.toml"), real.join("b.toml")).unwrap();
        let of = |file: &str| of_file(Path::new("/base"), &dir.path().join(file));
        assert_eq!(of("link/a.toml"), of("real/a.toml"));
        assert_ne!(of("real/b.toml"), of("real/a.toml"));
    }
}
