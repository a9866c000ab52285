//! Files that decide or record are private and are what they seem, or nothing starts.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::http_door::client::{Door, NEWEST};
use crate::support::{Gateway, Setup, eventually, pid_in, said, target};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

/// Neither `check` nor a start goes on, and each of these paths is named with what to type.
fn refused(setup: &Setup, wrong: &[(PathBuf, &str)]) {
    for args in [&["check"][..], &[]] {
        let (status, errors) = setup.refused(args);
        assert_eq!(status, Some(2), "{args:?}: {errors}");
        assert!(!errors.contains("in order"), "{errors}");
        for (path, command) in wrong {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            let line = format!("{command} {}", path.display());
            assert!(errors.contains(&line), "{args:?}: no {line:?} in\n{errors}");
        }
    }
}

/// A folder of this gateway's own with the shipped plugins in it.
fn own_plugins(setup: Setup) -> (Setup, PathBuf) {
    let folder = setup.path("plugins");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(target().join("debug/plugins")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
            chmod(&folder.join(path.file_name().unwrap()), 0o644);
        }
    }
    (setup.gateway(&format!("plugin_dir = {folder:?}\n")), folder)
}

#[test]
fn folders_open_to_others() {
    let setup = Setup::echo();
    let state = setup.path("sentinel-gateway");
    fs::create_dir_all(&state).unwrap();
    chmod(&state, 0o777);
    let database = state.join("audit.db");
    fs::write(&database, "").unwrap();
    chmod(&database, 0o666);
    refused(&setup, &[(state.clone(), "chmod 700"), (database.clone(), "chmod 600")]);
    // What was typed is enough.
    chmod(&state, 0o700);
    chmod(&database, 0o600);
    let output = setup.run(&["check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Gateway::start(setup).end();
}

#[test]
fn a_record_of_the_past_that_others_could_write_is_not_taken_over() {
    let mut gateway = Gateway::start(Setup::echo());
    assert!(gateway.call("echo", json!({"text": "x"}))["result"].is_object());
    // What a gateway leaves that was killed.
    gateway.signal(Signal::KILL);
    gateway.wait_exit();
    let setup = gateway.into_setup();
    let state = setup.path("sentinel-gateway");
    let journal = fs::read_dir(state.join("journal")).unwrap();
    let journal = journal.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let segment = fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
    for name in ["audit.db-wal", "audit.db-shm"] {
        if !state.join(name).exists() {
            fs::write(state.join(name), "").unwrap();
        }
    }
    let wrong = [
        (state.join("audit.db-wal"), 0o606, "chmod 600"),
        (state.join("audit.db-shm"), 0o660, "chmod 600"),
        (state.join("audit.db"), 0o644, "chmod 600"),
        (state.join("journal"), 0o755, "chmod 700"),
        (state.join("journal/.lock"), 0o666, "chmod 600"),
        (segment, 0o666, "chmod 600"),
        (journal, 0o777, "chmod 700"),
    ];
    for (path, open, _) in &wrong {
        chmod(path, *open);
    }
    refused(&setup, &wrong.map(|(path, _, command)| (path, command)));
}

#[test]
fn a_link_in_the_place_of_the_journal_leads_nowhere() {
    let setup = Setup::echo();
    let elsewhere = setup.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    chmod(&elsewhere, 0o700);
    let state = setup.path("sentinel-gateway");
    fs::create_dir_all(&state).unwrap();
    chmod(&state, 0o700);
    for name in ["journal", "audit.db", "spool", "archive"] {
        let link = state.join(name);
        symlink(&elsewhere, &link).unwrap();
        let (status, errors) = setup.refused(&["check"]);
        assert_eq!(status, Some(2), "{name}: {errors}");
        assert!(errors.contains("it is a link") && errors.contains(link.to_str().unwrap()), "{errors}");
        assert_eq!(setup.refused(&[]).0, Some(2), "{name}");
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was put there");
    // A state folder that is a link is the operator's word (systemd has it so for DynamicUser).
    fs::remove_dir_all(&state).unwrap();
    symlink(&elsewhere, &state).unwrap();
    let mut gateway = Gateway::start(setup);
    gateway.end();
    assert!(elsewhere.join("audit.db").is_file());
}

#[test]
fn a_plugin_that_others_may_exchange_decides_nothing() {
    let (setup, folder) = own_plugins(Setup::echo());
    let output = setup.run(&["check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = folder.join("rbac.toml");
    if !manifest.exists() {
        fs::write(&manifest, "name = \"rbac\"\n").unwrap();
    }
    let wrong =
        [(folder.join("rate-limit.wasm"), 0o666), (folder.join("auth-jwt.wasm"), 0o664), (manifest, 0o646)];
    for (path, open) in &wrong {
        chmod(path, *open);
    }
    // All of them at once, with what is wrong elsewhere.
    let state = setup.path("sentinel-gateway");
    fs::create_dir_all(&state).unwrap();
    chmod(&state, 0o733);
    let mut all: Vec<(PathBuf, &str)> = wrong.into_iter().map(|(path, _)| (path, "chmod go-w")).collect();
    all.push((state.clone(), "chmod 700"));
    refused(&setup, &all);
    chmod(&state, 0o700);
    for (path, _) in &all {
        if path.is_file() {
            chmod(path, 0o644);
        }
    }
    // The folder, and one above it.
    chmod(&folder, 0o777);
    refused(&setup, &[(folder.clone(), "chmod go-w")]);
    let (_, errors) = setup.refused(&["check"]);
    assert_eq!(errors.matches("chmod go-w").count(), 1, "a folder is named once: {errors}");
    chmod(&folder, 0o755);
    let above = setup.path("");
    chmod(&above, 0o777);
    refused(&setup, &[(above.clone(), "chmod go-w")]);
    chmod(&above, 0o700);
}

#[test]
fn links_to_plugins_and_configurations_are_followed_to_what_they_lead_to() {
    let (setup, folder) = own_plugins(Setup::echo());
    // A store of packages, and links into it.
    let store = setup.path("store");
    fs::rename(&folder, &store).unwrap();
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(&store).unwrap() {
        let path = entry.unwrap().path();
        symlink(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let output = setup.run(&["check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    chmod(&store.join("rbac.wasm"), 0o666);
    refused(&setup, &[(store.join("rbac.wasm"), "chmod go-w")]);
    chmod(&store.join("rbac.wasm"), 0o644);
    // A ConfigMap: `sentinel.toml -> ..data/sentinel.toml`, `..data -> ..2026`.
    let path = setup.write();
    let (mounted, data) = (setup.path("etc"), setup.path("etc/..2026"));
    fs::create_dir_all(&data).unwrap();
    fs::rename(&path, data.join("sentinel.toml")).unwrap();
    symlink("..2026", mounted.join("..data")).unwrap();
    symlink("..data/sentinel.toml", mounted.join("sentinel.toml")).unwrap();
    let run = |config: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sentinel-gateway"));
        for name in ["HOME", "XDG_STATE_HOME", "PATH", "JWT_SECRET_KEY", "SENTINEL_TOKEN"] {
            command.env(name, setup.env_value(name));
        }
        command.args(["check", "--config"]).arg(config).output().unwrap()
    };
    let output = run(&mounted.join("sentinel.toml"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    chmod(&data, 0o777);
    let output = run(&mounted.join("sentinel.toml"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("chmod go-w") && errors.contains("..2026"), "{errors}");
}

#[test]
fn everything_that_is_open_is_said_at_once() {
    let setup = Setup::echo().auth("jwks_file = \"keys.json\"\n").more(
        "[[backends]]\nname = \"remote\"\nurl = \"https://example.com/mcp\"\nheaders = { X-Key = \"${file:key}\" }\n",
    );
    let (keys, key) = (setup.path("keys.json"), setup.path("key"));
    fs::write(&keys, "{\"keys\": []}").unwrap();
    fs::write(&key, "secret-of-the-backend").unwrap();
    chmod(&keys, 0o666);
    chmod(&key, 0o620);
    // The file is written anew with each command.
    let mut command = setup.command(&["check"]);
    let config = setup.path("sentinel.toml");
    chmod(&config, 0o660);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for path in [&keys, &key, &config] {
        let line = format!("chmod go-w {}", path.canonicalize().unwrap().display());
        assert!(errors.contains(&line), "no {line:?} in\n{errors}");
    }
    assert!(!errors.contains("secret-of-the-backend"));
}

/// Only root can give a file away; others have nobody to try it with.
#[test]
fn what_belongs_to_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (setup, folder) = own_plugins(Setup::echo());
    let state = setup.path("sentinel-gateway");
    fs::create_dir_all(&state).unwrap();
    chmod(&state, 0o700);
    for path in [&state, &folder.join("rbac.wasm")] {
        std::os::unix::fs::chown(path, Some(12_345), Some(12_345)).unwrap();
    }
    refused(&setup, &[(state, "chown 0"), (folder.join("rbac.wasm"), "chown 0")]);
}

#[test]
fn the_umask_of_whoever_starts_the_gateway_opens_nothing() {
    let code =
        "import os\nmask = os.umask(0)\nos.umask(mask)\ndef call(id, params):\n    text(id, oct(mask))\n";
    let setup = Setup::echo().scripted("script", code, "prefix = true").first("umask 000");
    let mut gateway = Gateway::start(setup);
    gateway.call("echo", json!({"text": "x"}));
    // An answer that does not fit the window goes through the spool.
    let large = gateway.call("big", json!({"bytes": 3 << 20}));
    assert!(large["result"].is_object());
    let state = gateway.setup.path("sentinel-gateway");
    for name in ["", "journal", "spool"] {
        assert_eq!(mode(&state.join(name)), 0o700, "{name}");
    }
    for file in gateway.setup.files("sentinel-gateway") {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    // What a server makes is its own business.
    assert_eq!(said(&gateway.call("script_echo", json!({}))), "0o0");
    gateway.end();
}

#[test]
fn a_spool_that_others_may_look_into_is_refused() {
    let setup = Setup::echo();
    let folder = setup.path("long answers");
    fs::create_dir(&folder).unwrap();
    let setup = setup.gateway(&format!("spool_dir = {folder:?}\n"));
    for open in [0o777, 0o755, 0o1777] {
        chmod(&folder, open);
        let (status, errors) = setup.refused(&["check"]);
        assert_eq!(status, Some(2), "{open:o}: {errors}");
        assert!(
            errors.contains(&format!("chmod 700 '{}'", folder.canonicalize().unwrap().display())),
            "{errors}"
        );
    }
    chmod(&folder, 0o700);
    assert!(setup.run(&["check"]).status.success());
    // The one of an earlier version, beside the record: others could only read, and never write.
    let setup = Setup::echo();
    let own = setup.path("sentinel-gateway/spool");
    fs::create_dir_all(&own).unwrap();
    chmod(&setup.path("sentinel-gateway"), 0o700);
    chmod(&own, 0o755);
    Gateway::start(setup.unawaited()).end();
}

#[test]
fn a_folder_that_somebody_vouches_for_is_not_judged() {
    let setup = Setup::echo();
    // A volume of a container, whose mode nobody here may change.
    let volume = setup.path("volume");
    fs::create_dir(&volume).unwrap();
    chmod(&volume, 0o777);
    let state = volume.join("state");
    let setup = setup.more(&format!("[audit]\ndir = {state:?}\n"));
    refused(&setup, &[(volume.clone(), "chmod go-w")]);
    let setup = setup.gateway(&format!("trusted_folders = [{volume:?}]\n"));
    let mut gateway = Gateway::start(setup);
    assert!(gateway.call("echo", json!({"text": "x"}))["result"].is_object());
    gateway.end();
    assert_eq!(mode(&state), 0o700);
    let setup = gateway.into_setup();
    chmod(&state, 0o777);
    refused(&setup, &[(state, "chmod 700")]);
}

/// Connections take descriptors, and so do servers that start again: what is short is refused, and comes back.
#[test]
fn without_descriptors_connections_and_servers_wait_and_nothing_ends() {
    let setup = Setup::new();
    let pid = setup.text("pid");
    let setup = setup.backend("echo", &["--pid-file", &pid], "").first("ulimit -n 64");
    let door = Door::open(setup, "");
    let ada = door.client("ada").hello(NEWEST);
    assert!(ada.call("echo", json!({"text": "before"}))["result"].is_object());
    let held: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(&door.address).ok()).collect();
    door.gateway.await_log("no connection can be accepted", 1);
    // The server ends while there is no descriptor for a new one.
    kill_process(rustix::process::Pid::from_raw(pid_in(Path::new(&pid))).unwrap(), Signal::KILL).unwrap();
    door.gateway.await_log("backend is down", 1);
    let refused = door.gateway.log().matches("no connection can be accepted").count();
    assert!(refused < 100, "{refused} lines: it asks again and again");
    drop(held);
    eventually("an answer", || {
        let answer = door.client("bob").hello(NEWEST).call("echo", json!({"text": "after"}));
        answer["result"].is_object().then_some(())
    });
}
