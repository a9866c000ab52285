//! The release archive holds all that a start needs, in every mode of `auth`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Gateway, Publisher, SECRET, Setup, mint, target};

/// Packs what was built for the tests as a release is packed, and unpacks it into an empty folder.
fn unpacked(folder: &Path) -> PathBuf {
    let xtask = target().join("debug/xtask");
    assert!(xtask.exists(), "{} is missing: run `cargo xtask build`", xtask.display());
    let packed = folder.join("packed");
    let mut command = Command::new(xtask);
    command.args(["dist", "--debug", "--into"]).arg(&packed).env("CARGO_TARGET_DIR", target());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let archive = said.lines().last().unwrap();
    let empty = folder.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let done = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&empty).status().unwrap();
    assert!(done.success());
    std::fs::read_dir(&empty).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn archive_without_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let folder = unpacked(dir.path());
    // Nobody but its owner can write to anything in it, on whatever account it was unpacked.
    let open =
        Command::new("find").arg(&folder).args(["-perm", "/022", "-not", "-type", "l"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&open.stdout), "");
    let sums =
        Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&folder).status();
    assert!(sums.unwrap().success(), "every file is what the list says");
    for file in
        ["completions/_sentinel-gateway", "man/sentinel-gateway.1", "man/sentinel-gateway-client-install.1"]
    {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let program = folder.join("sentinel-gateway");
    let cache = dir.path().join("cache");
    let echo = || Setup::echo().program(&program).env("XDG_CACHE_HOME", cache.to_str().unwrap());
    let keys = Publisher::http("{\"keys\": []}");
    let by_url = format!(
        "jwks_url = {:?}\nkeys = [{{ alg = \"HS256\", secret_env = \"JWT_SECRET_KEY\" }}]",
        keys.url()
    );
    let api_key = "sk-0123456789abcdef0123456789abcdef";
    let digest = "api_keys = [{ id = \"ci\", role = \"admin\", secret_env = \"CI_KEY\" }]";
    let modes = [
        ("jwt", echo()),
        ("local", echo().auth("mode = \"local\"\nrole = \"admin\"")),
        ("jwks_url", echo().auth(&by_url)),
        ("api_keys", echo().auth(digest).env("CI_KEY", api_key).env("SENTINEL_TOKEN", api_key)),
    ];
    for (mode, setup) in modes {
        let (code, said) = setup.refused(&["check"]);
        assert_eq!(code, Some(0), "{mode}: {said}");
        let mut gateway = Gateway::start(setup);
        let answer = gateway.call("echo", json!({"text": mode}));
        assert!(answer["result"].is_object(), "{mode}: {answer}");
        gateway.end();
    }
}

#[test]
fn a_secret_in_a_file_needs_no_variable_of_the_client() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = Setup::echo().auth("jwt_secret_file = \"jwt.key\"").without_env("JWT_SECRET_KEY");
    std::fs::write(setup.path("jwt.key"), format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(setup.path("jwt.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut gateway = Gateway::start(setup);
    assert!(gateway.call("echo", json!({"text": "x"}))["result"].is_object());
    gateway.end();
    let setup = gateway.into_setup();
    // Tokens are minted with the same file.
    let output = setup.run(&["token", "mint", "--sub", "bob", "--role", "admin"]);
    let token = String::from_utf8(output.stdout).unwrap();
    let setup = setup.env("SENTINEL_TOKEN", token.trim());
    let output = setup.run(&["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the caller on stdio is \"bob\" in the role \"admin\", until "), "{said}");
    // What is too short, or not there, is a mistake of its key.
    std::fs::write(setup.path("jwt.key"), "short").unwrap();
    let (code, said) = setup.refused(&["check"]);
    assert!(code == Some(2) && said.contains("auth.jwt_secret_file: jwt.key holds 5 bytes"), "{said}");
    std::fs::remove_file(setup.path("jwt.key")).unwrap();
    let (code, said) = setup.env("SENTINEL_TOKEN", &mint("a", "admin", 60)).refused(&["check"]);
    assert!(code == Some(2) && said.contains("auth.jwt_secret_file: cannot read"), "{said}");
}
