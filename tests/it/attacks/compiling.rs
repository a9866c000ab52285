//! Compiling a plugin is bounded in time, memory and nesting, and happens in a process of its own.

mod bombs;
mod sealed;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Gateway, Setup, alive, eventually, target};
use bombs::{additions, function, functions, ifs, locals, nested_blocks, within_each_other};

/// What nobody has to wait for, whatever the file.
const BOUND: Duration = Duration::from_secs(10);

fn with_bomb(bytes: &[u8]) -> (Setup, PathBuf) {
    let setup = Setup::echo();
    let path = setup.path("bomb.wasm");
    std::fs::write(&path, bytes).unwrap();
    (setup, path)
}

/// What `plugin inspect` says of it, in time.
fn inspected(name: &str, bytes: &[u8], more: &[&str]) -> String {
    let (setup, path) = with_bomb(bytes);
    let started = Instant::now();
    let (code, said) = setup.refused(&[&["plugin", "inspect", path.to_str().unwrap()], more].concat());
    assert!(started.elapsed() < BOUND, "{name} took {:?}", started.elapsed());
    assert_eq!(code, Some(1), "{name}: {said}");
    assert!(said.contains("bomb.wasm"), "{name}: {said}");
    said
}

#[test]
fn compile_without_end() {
    let bomb = function(&nested_blocks(100_000));
    let said = inspected("nested blocks", &bomb, &[]);
    assert!(said.contains("100000 blocks within each other; at most 4096"), "{said}");
    // Nor do the check and the start wait for it.
    let (setup, path) = with_bomb(&bomb);
    let setup = setup.more(&format!(
        "[[plugins]]\nname = \"bomb\"\nstage = \"guard\"\nwasm = {:?}\n",
        path.to_str().unwrap()
    ));
    for arguments in [&["check"][..], &[]] {
        let started = Instant::now();
        let (code, said) = setup.refused(arguments);
        assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("plugins.bomb") && said.contains("at most 4096"), "{said}");
    }
}

#[test]
fn every_way_to_be_too_large_has_a_name() {
    let cases = [
        ("many ifs over many locals", function(&ifs(200_000, 1_500)), "bytes; at most"),
        ("two megabytes of additions", function(&additions(680_000)), "2040004 bytes; at most 524288"),
        ("ifs in a small function", function(&ifs(50_000, 3)), "50000 blocks; at most 16384"),
        ("ifs times locals", function(&ifs(10_000, 1_000)), "10000000 blocks times locals; at most 8000000"),
        ("locals", function(&locals(49_000)), "49000 locals; at most 10000"),
        (
            "within each other",
            within_each_other(5_000),
            "modules and components within each other; at most 16",
        ),
        ("functions", functions(200_000), "200000 functions; at most 100000"),
    ];
    for (name, bytes, words) in cases {
        let said = inspected(name, &bytes, &[]);
        assert!(said.contains(words), "{name}: {said}");
    }
}

#[test]
fn what_is_within_all_bounds_still_has_a_limit_of_time() {
    let said = inspected("many functions", &functions(90_000), &["--compile-secs", "1"]);
    assert!(said.contains("longer than 1 s") && said.contains("plugin_compile_secs"), "{said}");
}

#[test]
fn and_a_limit_of_memory() {
    // Some 230 MiB without one.
    let (setup, path) = with_bomb(&function(&ifs(8_000, 900)));
    let setup = setup.gateway("plugin_compile_memory_bytes = 67108864\nplugin_compile_secs = 60").more(
        &format!("[[plugins]]\nname = \"bomb\"\nstage = \"guard\"\nwasm = {:?}\n", path.to_str().unwrap()),
    );
    let (code, said) = setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("more than 64 MiB of memory") && said.contains("plugin_compile_memory_bytes"),
        "{said}"
    );
}

#[test]
fn a_compiler_dies_with_the_gateway() {
    let (setup, path) = with_bomb(&functions(90_000));
    let mut parent = setup
        .command(&["plugin", "inspect", path.to_str().unwrap(), "--compile-secs", "300"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(parent.id()).unwrap();
    let child = eventually("the process that compiles", || child_of(pid));
    // It is the same program, started with nothing.
    let environment = eventually("its own program", || {
        let command = std::fs::read(format!("/proc/{child}/cmdline")).ok()?;
        let confined = command.windows(9).any(|part| part == b"\0confined");
        confined.then(|| std::fs::read(format!("/proc/{child}/environ")).unwrap())
    });
    let environment = String::from_utf8(environment).unwrap();
    assert!(
        environment.split('\0').all(|entry| entry.is_empty() || entry.starts_with("MIMALLOC_")),
        "{environment}"
    );
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    parent.wait().unwrap();
    eventually("its end", || (!alive(child)).then_some(()));
}

/// The one child of a process.
fn child_of(parent: i32) -> Option<i32> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        (fields.get(1)?.parse() == Ok(parent)).then_some(pid)
    })
}

#[test]
fn a_bomb_in_a_reload_changes_nothing() {
    let setup = Setup::echo();
    let plugins = setup.path("plugins");
    sealed::copy_folder(&target().join("debug/plugins"), &plugins);
    let mut gateway = Gateway::start(setup.gateway("plugin_dir = \"plugins\""));
    gateway.await_tool("echo");
    std::fs::write(plugins.join("rate-limit.wasm"), function(&nested_blocks(100_000))).unwrap();
    gateway.reload(|_| {});
    gateway.await_log("the old configuration stays in force", 1);
    assert!(gateway.log().contains("at most 4096"), "{}", gateway.log());
    assert_eq!(gateway.ask("echo")["name"], "echo");
    assert_eq!(gateway.request("ping", &json!({}))["result"], json!({}));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let setup = Setup::echo();
    for (name, words) in [("/dev/zero", "no file"), ("/", "no file"), ("fifo", "no file")] {
        let path = if name == "fifo" { setup.text("fifo.wasm") } else { name.to_owned() };
        if name == "fifo" {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap();
        }
        let (code, said) = setup.refused(&["plugin", "inspect", &path]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{name}: {said}");
    }
}

#[test]
fn what_a_plugin_says_of_itself_does_not_move_the_terminal() {
    let setup = Setup::echo();
    let plugin = setup.path("rbac.wasm");
    std::fs::copy(target().join("debug/plugins/rbac.wasm"), &plugin).unwrap();
    std::fs::write(
        setup.path("rbac.toml"),
        "name = \"a\\u001B[2J\"\ndescription = \"b\\u0007\\nroles  none\"\n",
    )
    .unwrap();
    let said = setup.run(&["plugin", "inspect", plugin.to_str().unwrap(), "--compile-secs", "120"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("sha256") && !said.contains(['\u{1b}', '\u{7}']), "{said:?}");
    assert!(!said.contains("\nroles"), "{said:?}");
}
