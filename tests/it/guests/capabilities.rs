//! A guest gets what its manifest asks for and the operator grants, and nothing on one of the two alone.

use std::fs;

use sentinel_gateway::call::Credential;
use sentinel_gateway::config::Secret;
use sentinel_gateway::plugin::{ArtifactError, Auth};

use super::*;

/// A guest in a folder of its own, where it can have a manifest.
pub(crate) fn alone(wasm: &Path, manifest: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin.wasm");
    fs::copy(wasm, &path).unwrap();
    if let Some(manifest) = manifest {
        fs::write(path.with_extension("toml"), manifest).unwrap();
    }
    (dir, path)
}

/// The refusal of a capability: the interface, whose word is missing, and what to write.
pub(crate) fn missing(result: Result<Plugin, LoadError>) -> (String, &'static str, String) {
    match result {
        Err(LoadError::Artifact(ArtifactError::Capability { missing, who, fix })) => (missing, who, fix),
        other => panic!("not refused for a capability: {other:?}"),
    }
}

fn granted(names: &[&str]) -> config::Plugin {
    let mut settings = guard_settings("curious");
    let secret = |name: &&str| ((*name).to_owned(), Secret::new(format!("value of {name}")));
    settings.secrets = names.iter().map(secret).collect();
    // A plugin of one's own: one that comes with the gateway may ask for secrets that its section does not name.
    settings.wasm = Some("curious.wasm".into());
    settings
}

#[test]
fn secrets_need_the_manifest_and_the_grant() {
    const SECRETS: &str = "sentinel:plugin/secrets@0.1.0";
    let store = Store::new();
    let (_dir, wasm) = alone(&guest("curious"), None);

    let (interface, who, fix) = missing(load_from(&wasm, &granted(&["JWT_SECRET_KEY"]), &store));
    assert_eq!((interface.as_str(), who), (SECRETS, "its manifest does not ask for"));
    assert!(fix.contains("secrets = true"), "{fix}");

    fs::write(wasm.with_extension("toml"), "[request]\nsecrets = true\n").unwrap();
    let (interface, who, fix) = missing(load_from(&wasm, &granted(&[]), &store));
    assert_eq!((interface.as_str(), who), (SECRETS, "the configuration does not grant"));
    assert!(fix.contains("[[plugins]]"), "{fix}");

    let plugin = load_from(&wasm, &granted(&["JWT_SECRET_KEY"]), &store).unwrap();
    let refusal = plugin.check(&call("order")).unwrap().unwrap_err();
    assert_eq!((refusal.reason.as_str(), refusal.message.as_str()), ("curious", "value of JWT_SECRET_KEY"));
}

#[test]
fn a_secret_that_was_not_granted_by_name_is_not_there() {
    let (_dir, wasm) = alone(&guest("curious"), Some("[request]\nsecrets = true\n"));
    let plugin = load_from(&wasm, &granted(&["ANOTHER", "JWT_SECRET_KEY_2"]), &Store::new()).unwrap();
    assert_eq!(plugin.check(&call("order")).unwrap().unwrap_err().message, "none");
}

#[test]
fn a_manifest_that_cannot_be_read_refuses_the_plugin() {
    let (_dir, wasm) = alone(&guest("curious"), Some("[request]\nsecrets = \"yes\"\n"));
    let error = load_from(&wasm, &granted(&["JWT_SECRET_KEY"]), &Store::new()).unwrap_err();
    assert!(matches!(error, LoadError::Artifact(ArtifactError::Manifest { .. })), "{error:?}");
}

#[test]
fn another_digest_than_the_pinned_one_refuses_the_plugin() {
    let mut settings = guard_settings("counting");
    let digest = load(&settings, &Store::new()).digest().to_owned();
    assert_eq!(digest.len(), 64);
    settings.sha256 = Some(digest.clone());
    load(&settings, &Store::new());

    let wrong = digest.replace(|digit| digit != '0', "0");
    settings.sha256 = Some(wrong.clone());
    match load_from(&guest("counting"), &settings, &Store::new()) {
        Err(LoadError::Artifact(ArtifactError::Digest { found, pinned, .. })) => {
            assert_eq!((found, pinned), (digest, wrong));
        }
        other => panic!("the pin was not held: {other:?}"),
    }
}

#[test]
fn a_plugin_that_has_no_part_in_its_stage_is_refused() {
    let settings = settings("counting", Stage::Rewrite, json!({}));
    let error = load_from(&guest("counting"), &settings, &Store::new()).unwrap_err();
    let expected = "it plays no part in the stage `rewrite`; it exports admission, which is asked in `guard` or `breaker`";
    assert_eq!(error.to_string(), expected, "{error:?}");
}

#[test]
fn what_is_no_component_is_refused_with_its_path() {
    let (_dir, wasm) = alone(&guest("counting"), None);
    let whole = fs::read(&wasm).unwrap();
    for bytes in [&b""[..], b"not wasm", &whole[..whole.len() / 2]] {
        fs::write(&wasm, bytes).unwrap();
        let error = load_from(&wasm, &guard_settings("counting"), &Store::new()).unwrap_err();
        assert!(matches!(error, LoadError::Artifact(ArtifactError::Compile { .. })), "{error:?}");
        assert!(error.to_string().contains(&wasm.display().to_string()), "{error}");
    }
}

#[test]
fn many_may_compile_the_same_plugin_at_once() {
    let (_dir, wasm) = alone(&guest("counting"), None);
    let store = Store::new();
    std::thread::scope(|scope| {
        let load = || {
            let plugin = load_from(&wasm, &guard_settings("counting"), &store).unwrap();
            plugin.check(&call("order")).unwrap().unwrap();
        };
        for _ in 0..6 {
            scope.spawn(load);
        }
    });
    // Each left a whole file or none: the next start runs what is in the cache.
    let cache = wasm.with_file_name(".precompiled");
    let files: Vec<_> = fs::read_dir(cache).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    load_from(&wasm, &guard_settings("counting"), &store).unwrap();
}

/// The HTTP door brings the headers that the operator named, in lower case; a plugin may ask for one in any case.
#[test]
fn an_authenticator_reads_the_headers_that_the_door_brings() {
    let config = json!({ "answer": "accept", "role": "admin", "header": "X-Team-Name" });
    let plugin = load(&settings("auth", Stage::Authenticate, config), &Store::new());
    let subject = |attrs: &[(&'static str, &str)]| {
        let attrs = attrs.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect();
        let credential = Arc::new(Credential { door: "http", bearer: None, attrs });
        match plugin.authenticate(&credential).unwrap().unwrap() {
            Auth::Accepted { principal, .. } => Some(principal.subject),
            Auth::Abstain => None,
        }
    };
    let here = ("peer.ip", "127.0.0.1");
    assert_eq!(subject(&[here, ("header.x-team-name", "blue")]).as_deref(), Some("blue"));
    assert_eq!(subject(&[here, ("header.x-team", "blue"), ("x-team-name", "red")]), None);
    assert_eq!(subject(&[]), None, "stdio has no headers");
}
