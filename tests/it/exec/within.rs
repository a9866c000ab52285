//! What a command can do while it runs, and what is left of it afterwards.

use sha2::{Digest as _, Sha256};

use super::scene::{Scene, call};
use crate::support::eventually;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A command that is this program of the system, whatever it is, pinned, with these arguments.
fn pinned(name: &str, program: &str, argv: &[&str], more: &str) -> String {
    let program = std::fs::canonicalize(program).unwrap();
    let digest = hex(&Sha256::digest(std::fs::read(&program).unwrap()));
    format!(
        "[[commands]]\nname = {name:?}\nexecutable = {program:?}\nsha256 = {digest:?}\nargv = {argv:?}\n{more}\n"
    )
}

#[test]
fn a_command_reaches_what_it_was_given_and_nothing_else() {
    let probe = r#"
import os, socket, sys
def tried(name, what):
    try:
        what()
        print(name, "WORKS")
    except BaseException as error:
        print(name, type(error).__name__)
pid = int(sys.argv[1])
tried("inet", lambda: socket.socket(socket.AF_INET))
tried("inet6", lambda: socket.socket(socket.AF_INET6))
tried("unix", lambda: socket.socket(socket.AF_UNIX))
tried("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
tried("shadow", lambda: open("/etc/shadow").read())
tried("root", lambda: os.listdir("/root"))
tried("tmp", lambda: os.listdir("/tmp"))
tried("proc", lambda: open(f"/proc/{pid}/environ").read())
tried("record", lambda: open(sys.argv[2] + "/record.jsonl").read())
tried("used", lambda: os.listdir(sys.argv[2] + "/used"))
tried("write", lambda: open("/usr/bin/evil", "w"))
tried("dev", lambda: open("/dev/shm/evil", "w"))
tried("kill", lambda: os.kill(pid, 0))
tried("mount", lambda: os.setns(0, 0))
tried("setuid", lambda: os.setuid(0) if os.getuid() else (_ for _ in ()).throw(PermissionError()))
tried("core", lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_CORE, (1, 1)))
tried("secret", lambda: os.environ["EXECUTORS_SECRET"])
tried("own", lambda: open(sys.argv[3] + "/out/file", "w").write("x"))
tried("read", lambda: open(sys.argv[3] + "/in/file").read())
tried("beside", lambda: open(sys.argv[3] + "/beside").read())
print("env", sorted(os.environ))
"#;
    let more = "slots = { pid = { type = \"int\", min = 1, max = 9999999 }, state = { type = \"enum\", values = [\"STATE\"] }, \
                data = { type = \"enum\", values = [\"{dir}\"] } }\nread = [\"{dir}/in\"]\nwrite = [\"{dir}/out\"]\n";
    let scene = Scene::new(&pinned(
        "probe",
        "/usr/bin/python3",
        &["-I", "{dir}/in/probe.py", "{pid}", "{state}", "{data}"],
        more,
    ));
    let state = scene.setup.text("run/state");
    let file = scene.setup.path("sentinel.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("STATE", &state)).unwrap();
    for folder in ["in", "out"] {
        std::fs::create_dir(scene.data(folder)).unwrap();
        std::fs::set_permissions(scene.data(folder), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
    }
    std::fs::write(scene.data("in/probe.py"), probe).unwrap();
    std::fs::write(scene.data("in/file"), "x").unwrap();
    scene.write("beside", "x");
    let executor = scene.start();
    let mut probe = call("probe", &[("state", &state), ("data", &scene.setup.text("data"))]);
    probe.given.push(("pid".to_owned(), sentinel_gateway::command::Given::Int(executor.pid().into())));
    let said = scene.output(&probe);
    for line in said.lines() {
        let (what, came) = line.split_once(' ').unwrap();
        match what {
            "own" | "read" => assert_eq!(came, "WORKS", "{said}"),
            "env" => assert_eq!(came, "['LANG', 'PATH']"),
            _ => assert_ne!(came, "WORKS", "{line}"),
        }
    }
    assert!(said.lines().count() > 20, "{said}");
}

#[test]
fn what_takes_too_long_is_killed_with_all_it_started() {
    let script = "setsid sleep 4242.1 & (setsid sleep 4242.2 &) ; sleep 4242.3 & echo begun; wait";
    let scene = Scene::new(&pinned("long", "/usr/bin/dash", &["-c", script], "timeout_secs = 1\n"));
    let _executor = scene.start();
    let ran = scene.run(&call("long", &[]));
    assert_eq!(ran.out, "begun\n");
    let ended = ran.end.unwrap();
    assert!(ended.timed_out, "{ended:?}");
    assert_eq!(sleepers("4242."), 0, "something has survived");
    let outcome = scene.record().pop().unwrap();
    assert_eq!((&outcome["event"], &outcome["timed_out"]), (&"outcome".into(), &true.into()));
}

#[test]
fn what_is_left_behind_is_killed_and_holds_up_nothing() {
    let scene = Scene::new(&pinned(
        "leave",
        "/usr/bin/dash",
        &["-c", "setsid sleep 4243.1 & sleep 4243.2 & echo done"],
        "",
    ));
    let _executor = scene.start();
    assert_eq!(scene.output(&call("leave", &[])), "done\n");
    assert_eq!(sleepers("4243."), 0);
}

#[test]
fn a_client_that_hangs_up_ends_its_command() {
    let scene =
        Scene::new("[[commands]]\nname = \"sleep\"\nexecutable = \"/usr/bin/sleep\"\nargv = [\"4244.1\"]\n");
    let _executor = scene.start();
    let sleep = call("sleep", &[]);
    let (_, digest) = scene.prepare(&sleep).unwrap();
    let token = scene.token("sleep", digest).bytes().to_vec();
    let question = sentinel_gateway::command::frames::Question::Run { call: sleep, token };
    let socket = super::scene::connected(&scene.socket()).unwrap();
    rustix::net::send(&socket, &question.encode(), rustix::net::SendFlags::NOSIGNAL).unwrap();
    eventually("it runs", || (sleepers("4244.") == 1).then_some(()));
    drop(socket);
    eventually("it is ended", || (sleepers("4244.") == 0).then_some(()));
    eventually("its end is on record", || {
        scene.record().iter().any(|line| line["event"] == "outcome").then_some(())
    });
}

#[test]
fn an_executor_that_is_killed_leaves_nothing_running() {
    let scene =
        Scene::new("[[commands]]\nname = \"sleep\"\nexecutable = \"/usr/bin/sleep\"\nargv = [\"4245.1\"]\n");
    let executor = scene.start();
    let sleep = call("sleep", &[]);
    let (_, digest) = scene.prepare(&sleep).unwrap();
    let token = scene.token("sleep", digest);
    let question = sentinel_gateway::command::frames::Question::Run {
        call: sleep.clone(),
        token: token.bytes().to_vec(),
    };
    let socket = super::scene::connected(&scene.socket()).unwrap();
    rustix::net::send(&socket, &question.encode(), rustix::net::SendFlags::NOSIGNAL).unwrap();
    eventually("it runs", || (sleepers("4245.") == 1).then_some(()));
    drop(executor);
    eventually("it is ended", || (sleepers("4245.") == 0).then_some(()));
    // The intent stands without its end, and the token is used.
    let (code, said) = scene.verify();
    assert_eq!(code, Some(0));
    assert!(said.contains("no end of it is on record"), "{said}");
    let _executor = scene.start();
    assert_eq!(scene.run_with(&sleep, &token).refused(), "consumed");
}

#[test]
fn of_long_output_the_beginning_is_kept_and_the_digest_is_of_all() {
    let seq = "[[commands]]\nname = \"seq\"\nexecutable = \"/usr/bin/seq\"\nargv = [\"{to}\"]\nmax_output_bytes = 100\n\
               slots = { to = { type = \"int\", min = 1, max = 9000000 } }\n";
    let scene = Scene::new(seq);
    let _executor = scene.start();
    let mut seq = call("seq", &[]);
    seq.given.push(("to".to_owned(), sentinel_gateway::command::Given::Int(300_000)));
    let ran = scene.run(&seq);
    let all: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(ran.out, all[..100]);
    let ended = ran.end.unwrap();
    assert_eq!((ended.totals[0], ended.digests[0]), (all.len() as u64, Sha256::digest(&all).into()));
    assert_eq!((ended.totals[1], ended.digests[1]), (0, Sha256::digest("").into()));
}

#[test]
fn limits_are_held() {
    let busy =
        pinned("busy", "/usr/bin/dash", &["-c", "while :; do :; done"], "cpu_secs = 1\ntimeout_secs = 60\n");
    let large = pinned(
        "large",
        "/usr/bin/dash",
        &["-c", "trap '' XFSZ; head -c 3000000 /dev/zero > out"],
        "cwd = \"{dir}/w\"\nwrite = [\"{dir}/w\"]\nfile_mb = 1\n",
    );
    let codes = "[[commands]]\nname = \"fail\"\nexecutable = \"/usr/bin/false\"\n";
    let scene = Scene::new(&format!("{busy}{large}{codes}"));
    std::fs::create_dir(scene.data("w")).unwrap();
    std::fs::set_permissions(scene.data("w"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let _executor = scene.start();
    let ended = scene.run(&call("busy", &[])).end.unwrap();
    assert!(ended.signal != 0 && !ended.timed_out, "{ended:?}");
    let ended = scene.run(&call("large", &[])).end.unwrap();
    assert_ne!(ended.code, 0);
    assert_eq!(scene.data("w/out").metadata().unwrap().len(), 1 << 20);
    assert_eq!(scene.run(&call("fail", &[])).end.unwrap().code, 1);
}

#[test]
fn stdin_is_what_was_approved() {
    let wc = "[[commands]]\nname = \"count\"\nexecutable = \"/usr/bin/wc\"\nargv = [\"-c\"]\nstdin = { pattern = \"[a-z\\n]*\", max_bytes = 60000 }\n";
    let scene = Scene::new(wc);
    let _executor = scene.start();
    let with = |text: &str| sentinel_gateway::command::frames::Call {
        stdin: Some(text.to_owned()),
        ..call("count", &[])
    };
    assert_eq!(scene.output(&with(&"a\n".repeat(30_000))), "60000\n");
    let (_, digest) = scene.prepare(&with("abc")).unwrap();
    assert_eq!(scene.run_with(&with("abd"), &scene.token("count", digest)).refused(), "changed");
    assert_eq!(scene.prepare(&with("ABC")), Err("argument_refused".to_owned()));
    assert_eq!(scene.prepare(&call("count", &[])), Err("argument_refused".to_owned()));
}

/// How many processes sleep for so long.
fn sleepers(seconds: &str) -> usize {
    let sleeps = |pid: &std::path::Path| {
        let line = std::fs::read(pid.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .split('\0')
            .nth(1)
            .is_some_and(|argument| argument.starts_with(seconds))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| sleeps(&entry.path())).count()
}
