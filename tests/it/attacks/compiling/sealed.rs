//! What runs as a plugin is what was pinned, also when its native code was kept from an earlier start.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sentinel_gateway::plugin::Plugin;
use sentinel_gateway::state::Store;

use super::*;
use crate::attacks::hostile_guests::written::{Written, guard};
use crate::guests::{call, load_from};

pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        // What other builds put there comes and goes.
        if path.is_dir() {
            copy_folder(&path, &to)
        } else {
            let _ = fs::copy(&path, &to);
        }
    }
}

/// A component nobody has compiled before, in no folder of this machine.
fn unheard_of(written: Written) -> Written {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    written.more(&format!("(data (i32.const 4096) \"{now} {number} {}\")", std::process::id()))
}

/// A guard that refuses everything.
fn strict() -> Written {
    unheard_of(guard())
        .check("(call $drop (local.get $call)) (i32.store8 (i32.const 512) (i32.const 1)) (i32.const 512)")
}

fn refuses(plugin: &Plugin) -> bool {
    plugin.check(&call("order")).unwrap().is_err()
}

/// The one file with native code in a folder.
fn kept(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        fs::read_dir(folder.join(".precompiled")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// Two plugins in folders of their own, both compiled.
struct Two {
    dir: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, written) in [("strict", strict()), ("lax", unheard_of(guard()))] {
            fs::create_dir(dir.path().join(name)).unwrap();
            written.write(&dir.path().join(name), "written");
        }
        let two = Self { dir };
        assert!(refuses(&two.load("strict")) && !refuses(&two.load("lax")));
        two
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self, name: &str) -> Plugin {
        load_from(&self.folder(name).join("written.wasm"), &guard().settings, &Store::new()).unwrap()
    }
}

#[test]
fn native_code_of_another_plugin_is_not_run_under_this_ones_name() {
    let two = Two::new();
    let (strict, lax) = (kept(&two.folder("strict")), kept(&two.folder("lax")));
    let good = fs::read(&strict).unwrap();
    // As a copy, as a link, as a hard link.
    for way in 0..3 {
        fs::remove_file(&strict).unwrap();
        match way {
            0 => drop(fs::copy(&lax, &strict).unwrap()),
            1 => symlink(&lax, &strict).unwrap(),
            _ => fs::hard_link(&lax, &strict).unwrap(),
        }
        assert!(refuses(&two.load("strict")), "way {way}");
        // What was put there is gone, and the next start is quick again.
        assert_eq!(fs::read(&strict).unwrap()[..16], good[..16]);
        assert_ne!(fs::read(&strict).unwrap(), fs::read(&lax).unwrap());
        assert!(!fs::symlink_metadata(&strict).unwrap().is_symlink());
    }
    assert!(!refuses(&two.load("lax")), "and nothing happened to the other");
}

#[test]
fn native_code_that_was_changed_is_not_run() {
    let two = Two::new();
    let file = kept(&two.folder("strict"));
    let good = fs::read(&file).unwrap();
    let mut changes: Vec<Vec<u8>> = vec![Vec::new(), good[..good.len() - 1].to_vec(), good[48..].to_vec()];
    for at in [0, 20, 48, good.len() / 2, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 0x10;
        changes.push(changed);
    }
    for changed in changes {
        fs::write(&file, &changed).unwrap();
        assert!(refuses(&two.load("strict")));
        assert_ne!(fs::read(&file).unwrap(), changed, "it was compiled anew");
    }
}

#[test]
fn native_code_that_others_could_write_is_not_run() {
    let two = Two::new();
    let (folder, file) = (two.folder("strict").join(".precompiled"), kept(&two.folder("strict")));
    let sealed_at = |file: &Path| fs::metadata(file).unwrap().modified().unwrap();
    let first = sealed_at(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
    assert!(refuses(&two.load("strict")));
    assert!(sealed_at(&file) > first, "it was compiled anew");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // A folder that others can write to is used neither for reading nor for writing.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let second = sealed_at(&file);
    assert!(refuses(&two.load("strict")));
    assert_eq!(sealed_at(&file), second);
}

/// The command that an operator runs ahead of time, and what the gateway makes of its work.
#[test]
fn what_is_compiled_ahead_of_time_needs_the_key_of_its_folder() {
    let setup = Setup::echo();
    let folder = setup.path("own");
    fs::create_dir(&folder).unwrap();
    let wasm = strict().write(&folder, "written");
    let precompile = |setup: &Setup| {
        let output = setup.run(&["plugin", "precompile", "--dir", folder.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    };
    precompile(&setup);
    let (file, key) = (kept(&folder), folder.join(".precompiled.key"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let modified = || fs::metadata(&file).unwrap().modified().unwrap();
    let inspect = |setup: &Setup| {
        let output = setup.run(&["plugin", "inspect", wasm.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    };
    // With the key nobody compiles it again, also not another user of other folders.
    let first = modified();
    precompile(&setup);
    inspect(&setup);
    inspect(&Setup::echo());
    assert_eq!(modified(), first);
    // Without it, or with one that is no secret any more, the code is somebody's.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    inspect(&setup);
    assert!(modified() > first, "it was compiled anew, under our own key");
    let second = modified();
    precompile(&setup);
    assert!(modified() > second, "and again, under the new key of its folder");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_gateway_passes_over_shipped_code_that_was_changed_and_says_so() {
    let setup = Setup::echo();
    let plugins = setup.path("plugins");
    copy_folder(&target().join("debug/plugins"), &plugins);
    let wasm = plugins.join("rbac.wasm");
    let digest = setup.run(&["plugin", "inspect", wasm.to_str().unwrap(), "--compile-secs", "120"]);
    let digest = String::from_utf8(digest.stdout).unwrap();
    let digest =
        digest.lines().find_map(|line| line.trim().strip_prefix("sha256")).unwrap().trim().to_owned();
    let sealed = fs::read_dir(plugins.join(".precompiled")).unwrap().map(|entry| entry.unwrap().path());
    let sealed = sealed
        .filter(|path| path.extension().is_some_and(|extension| extension == "sealed"))
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&digest))
        .expect("`cargo xtask build` compiles the plugins ahead of time");
    let mut changed = fs::read(&sealed).unwrap();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(&sealed, &changed).unwrap();
    let mut gateway = Gateway::start(
        setup
            .gateway("plugin_dir = \"plugins\"\nplugin_compile_secs = 120")
            .role("guest")
            .roles("[rbac.roles.guest]\npermissions = [\"*\"]\ndenied_tools = [\"crash\"]"),
    );
    gateway.await_log("precompiled plugin is passed over", 1);
    gateway.await_tool("echo");
    assert!(!gateway.tools().contains(&"crash".to_owned()), "the policy is the one that was shipped");
}
