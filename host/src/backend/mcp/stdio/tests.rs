//! The promises of the stdio transport, each against a real child.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Instant;

use rustix::process::{Pid, test_kill_process};

use super::*;
use crate::redact::Secrets;

/// Nothing here takes long; a test that hangs fails instead.
const LONG: Duration = Duration::from_secs(20);

fn spec(command: &str, args: &[&str]) -> StdioSpec {
    StdioSpec {
        name: "test".to_owned(),
        command: command.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        sandbox: None,
        max_line: 1000.into(),
        spool: None,
        redaction: Redaction::new(&Secrets { values: vec!["hunter2".to_owned()], ..Secrets::default() }),
    }
}

async fn sh(script: &str) -> Transport {
    open(&spec("sh", &["-c", script])).await.unwrap()
}

fn message(body: &str) -> Outgoing {
    Outgoing { id: Some(1), method: "m".to_owned(), body: body.to_owned().into(), headers: Vec::new() }
}

async fn next(wire: &mut Transport) -> Incoming {
    timeout(LONG, wire.receiver.recv()).await.unwrap()
}

async fn text(wire: &mut Transport) -> String {
    match next(wire).await {
        Incoming::Message(body) => String::from_utf8(body.text().to_vec()).unwrap(),
        other => panic!("not a message: {other:?}"),
    }
}

async fn closed(wire: &mut Transport) -> String {
    match next(wire).await {
        Incoming::Closed(reason) => reason,
        other => panic!("not the end: {other:?}"),
    }
}

/// The number after `"pid":` in the child's message.
fn pid_in(text: &str) -> Pid {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    Pid::from_raw(digits.parse().unwrap()).unwrap()
}

/// True once no such process exists, or only one its new parent has not reaped.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    test_kill_process(pid).is_err() || stat.is_ok_and(|stat| stat.contains(") Z ") || stat.contains(") X "))
}

/// A signal is delivered soon, not at once, and nothing tells when a process that is not our child has gone.
async fn wait_until_gone(pid: Pid) {
    let gone = async {
        while !is_gone(pid) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(LONG, gone).await.is_ok(), "{pid:?} lives");
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

#[tokio::test]
async fn messages_travel_both_ways_one_per_line() {
    let mut wire = open(&spec("cat", &[])).await.unwrap();
    let pretty = "{\n  \"a\":\r\n1}";
    for body in ["{\"id\":1}", pretty, "[]"] {
        wire.sender.send(message(body)).await.unwrap();
    }
    assert_eq!(text(&mut wire).await, "{\"id\":1}");
    assert_eq!(text(&mut wire).await, "{   \"a\":  1}");
    assert_eq!(text(&mut wire).await, "[]");
    let pid = as_pid(wire.control.pid().unwrap());
    let Transport { sender, mut receiver, control } = wire;
    timeout(LONG, control.stop(LONG)).await.unwrap();
    // Reaped, not merely dead.
    assert!(test_kill_process(pid).is_err());
    let Incoming::Closed(reason) = receiver.recv().await else { panic!("not closed") };
    assert_eq!(reason, "stopped: exited with code 0");
    assert_eq!(sender.send(message("{}")).await, Err(TransportError::Closed(reason)));
}

#[tokio::test]
async fn what_is_queued_is_written_before_stdin_closes() {
    let mut wire = open(&spec("cat", &[])).await.unwrap();
    for number in 0..100 {
        wire.sender.try_send(message(&format!("{{\"n\":{number}}}"))).unwrap();
    }
    let (control, mut seen) = (wire.control, 0);
    let stop = tokio::spawn(control.stop(LONG));
    loop {
        match timeout(LONG, wire.receiver.recv()).await.unwrap() {
            Incoming::Message(body) => {
                assert_eq!(body.json(), format!("{{\"n\":{seen}}}"));
                seen += 1;
            }
            Incoming::Closed(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 100);
    stop.await.unwrap();
}

#[tokio::test]
async fn a_dying_child_says_why_after_its_last_message() {
    let mut wire = sh(
        "echo noise; echo; echo ' {\"a\":1} '; echo 'pw hunter2' >&2; echo 'no disk' >&2; printf '[2]'; exit 9",
    ).await;
    let pid = as_pid(wire.control.pid().unwrap());
    assert_eq!(text(&mut wire).await, "{\"a\":1}");
    assert_eq!(text(&mut wire).await, "[2]");
    let expected = "exited with code 9; last stderr: pw [redacted] | no disk";
    assert_eq!(closed(&mut wire).await, expected);
    assert_eq!(closed(&mut wire).await, expected);
    assert!(test_kill_process(pid).is_err(), "a zombie is left");
    assert_eq!(wire.control.stderr_tail(), "pw [redacted]\nno disk\n");
}

#[tokio::test]
async fn lines_over_the_limit_are_discarded_and_reported() {
    let mut wire = sh(
        "python3 -c 'print(\"{\" + \"x\" * 3000000); print(\"{}\"); print(\"[\" + \"1\" * 999); print(\"[\" + \"1\" * 1000)'",
    ).await;
    assert!(matches!(next(&mut wire).await, Incoming::Oversized { limit: 1000, .. }));
    assert_eq!(text(&mut wire).await, "{}");
    assert_eq!(text(&mut wire).await.len(), 1000);
    assert!(matches!(next(&mut wire).await, Incoming::Oversized { limit: 1000, .. }));
    assert_eq!(closed(&mut wire).await, "exited with code 0");
}

#[tokio::test]
async fn a_flood_on_stderr_blocks_nothing() {
    let mut wire = sh(
        "head -c 1048576 /dev/zero | tr '\\0' 'e' >&2; for i in $(seq 1000); do echo \"line $i\" >&2; done; echo '{}'; cat >/dev/null",
    ).await;
    assert_eq!(text(&mut wire).await, "{}");
    let tail = wire.control.stderr_tail();
    assert!(tail.len() <= 64 * 1024);
    let control = wire.control;
    timeout(LONG, control.stop(LONG)).await.unwrap();
}

#[tokio::test]
async fn a_child_that_never_reads_is_still_heard() {
    let mut wire = sh("while :; do echo '{}'; done").await;
    let mut refused = false;
    for _ in 0..2000 {
        // More than the pipe and the queue hold.
        refused |= wire.sender.try_send(message(&format!("[{:1000}]", 1))) == Err(TransportError::Busy);
        assert_eq!(text(&mut wire).await, "{}");
    }
    assert!(refused, "the queue has no bound");
    let (pid, control) = (as_pid(wire.control.pid().unwrap()), wire.control);
    timeout(LONG, control.stop(Duration::from_millis(20))).await.unwrap();
    assert!(test_kill_process(pid).is_err());
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed() {
    let mut wire = sh("trap '' TERM; echo '{}'; while :; do read x || :; done").await;
    assert_eq!(text(&mut wire).await, "{}");
    let (pid, control) = (as_pid(wire.control.pid().unwrap()), wire.control);
    timeout(LONG, control.stop(Duration::from_millis(60))).await.unwrap();
    assert!(test_kill_process(pid).is_err());
    let mut receiver = wire.receiver;
    assert!(
        matches!(receiver.recv().await, Incoming::Closed(why) if why == "stopped: was killed by signal 9")
    );
}

#[tokio::test]
async fn sigterm_reaches_the_group_when_closing_stdin_is_not_enough() {
    let mut wire = sh("sleep 300 & echo \"{\\\"pid\\\":$!}\"; wait").await;
    let sleeper = pid_in(&text(&mut wire).await);
    let control = wire.control;
    timeout(LONG, control.stop(Duration::from_secs(2))).await.unwrap();
    let mut receiver = wire.receiver;
    assert!(
        matches!(receiver.recv().await, Incoming::Closed(why) if why == "stopped: was killed by signal 15")
    );
    wait_until_gone(sleeper).await;
}

#[tokio::test]
async fn the_group_dies_with_its_leader() {
    let mut wire = sh("sleep 300 & echo \"{\\\"pid\\\":$!}\"; exit 3").await;
    let sleeper = pid_in(&text(&mut wire).await);
    assert_eq!(closed(&mut wire).await, "exited with code 3");
    wait_until_gone(sleeper).await;
}

#[tokio::test]
async fn dropping_the_control_kills_the_group() {
    let mut wire = sh("sleep 300 & echo \"{\\\"pid\\\":$!}\"; wait").await;
    let sleeper = pid_in(&text(&mut wire).await);
    let pid = as_pid(wire.control.pid().unwrap());
    drop(wire);
    wait_until_gone(sleeper).await;
    wait_until_gone(pid).await;
}

#[test]
fn the_end_of_the_runtime_kills_the_group() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (wire, sleeper) = runtime.block_on(async {
        let mut wire = sh("sleep 300 & echo \"{\\\"pid\\\":$!}\"; wait").await;
        let sleeper = pid_in(&text(&mut wire).await);
        (wire, sleeper)
    });
    drop(runtime);
    let start = Instant::now();
    while !is_gone(sleeper) {
        assert!(start.elapsed() < LONG, "{sleeper:?} lives");
        std::thread::yield_now();
    }
    drop(wire);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_survives_the_thread_that_asked_for_it() {
    // The kernel's parent-death signal belongs to the forking thread; a thread of the caller's would end here.
    let handle = tokio::runtime::Handle::current();
    let mut wire =
        std::thread::spawn(move || handle.block_on(open(&spec("cat", &[]))).unwrap()).join().unwrap();
    wire.sender.send(message("{}")).await.unwrap();
    assert_eq!(text(&mut wire).await, "{}");
}

#[tokio::test]
async fn the_kernel_is_asked_to_kill_the_child_with_the_gateway() {
    let script = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); \
                  import resource, os; print([n.value, resource.getrlimit(resource.RLIMIT_CORE)[0], os.getpgid(0) == os.getpid()])";
    let mut wire = open(&spec("python3", &["-c", script])).await.unwrap();
    assert_eq!(text(&mut wire).await, "[9, 0, True]");
}

#[tokio::test]
async fn the_environment_is_made_from_scratch() {
    let mut spec = spec(
        "sh",
        &["-c", "env | sort | sed 's/=.*//' | tr '\\n' ' ' | sed 's/^/[/'; echo; echo \"[$TOKEN] $(pwd)\""],
    );
    spec.env = vec![("TOKEN".to_owned(), "a b".to_owned())];
    spec.cwd = Some(PathBuf::from("/"));
    let mut wire = open(&spec).await.unwrap();
    let names = text(&mut wire).await;
    // The shell itself adds these.
    let allowed = ["TOKEN", "PWD", "OLDPWD", "SHLVL", "_"];
    let known = |name: &&str| allowed.contains(name) || crate::config::is_inherited(name);
    let foreign: Vec<&str> =
        names.trim_start_matches('[').split_whitespace().filter(|name| !known(name)).collect();
    assert!(foreign.is_empty() && names.contains("TOKEN") && names.contains("PATH"), "{names}");
    assert_eq!(text(&mut wire).await, "[a b] /");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let error = open(&spec("no-such-program", &[])).await.unwrap_err();
    assert!(
        matches!(&error.error, TransportError::Unreachable(why) if why.contains("`no-such-program`") && error.lasting),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_child_that_closes_stdout_is_ended() {
    let mut wire = sh("exec >&-; exec sleep 300").await;
    assert_eq!(closed(&mut wire).await, "closed its standard output and was killed by signal 15");
    let mut wire = sh("exec >&-; exit 4").await;
    assert_eq!(closed(&mut wire).await, "exited with code 4");
}

/// Prints its process id in a session of its own, where the signals of the group do not reach it.
const DAEMON: &str = "setsid sh -c 'echo \"{\\\"pid\\\":$$}\"; exec sleep 300' &";
/// The same, and deaf to SIGTERM.
const STUBBORN: &str =
    "setsid sh -c 'trap \"\" TERM; echo \"{\\\"pid\\\":$$}\"; while :; do sleep 300; done' &";

#[tokio::test]
async fn a_daemon_that_left_the_group_ends_with_the_child() {
    for daemon in [DAEMON, STUBBORN] {
        let mut wire = sh(&format!("{daemon} read x; exit 5")).await;
        let daemon = pid_in(&text(&mut wire).await);
        wire.sender.send(message("{}")).await.unwrap();
        assert_eq!(closed(&mut wire).await, "exited with code 5");
        assert!(is_gone(daemon), "{daemon:?} lives");
    }
}

#[tokio::test]
async fn a_daemon_ends_with_an_orderly_stop_and_with_a_drop() {
    for orderly in [true, false] {
        for daemon in [DAEMON, STUBBORN] {
            let mut wire = sh(&format!("{daemon} cat > /dev/null")).await;
            let daemon = pid_in(&text(&mut wire).await);
            if orderly {
                timeout(LONG, wire.control.stop(LONG)).await.unwrap();
                assert!(is_gone(daemon), "{daemon:?} lives");
            } else {
                drop(wire);
                wait_until_gone(daemon).await;
            }
        }
    }
}

#[tokio::test]
async fn the_end_of_the_runtime_ends_a_daemon() {
    let daemon = std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut wire = sh(&format!("{STUBBORN} cat > /dev/null")).await;
            let daemon = pid_in(&text(&mut wire).await);
            std::mem::forget(wire.control);
            daemon
        })
    });
    wait_until_gone(daemon.join().unwrap()).await;
}

#[tokio::test]
async fn a_child_that_kills_its_keeper_gains_nothing() {
    // It does not want to die with its parent, it has a daemon, and it kills the keeper.
    let script = "import ctypes, os, sys, time\n\
                  ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n\
                  sys.stdin.readline()\n\
                  keeper = os.getppid()\n\
                  if os.fork() == 0:\n    os.setsid(); print([os.getpid()], flush=True); os.kill(keeper, 9); time.sleep(300)\n\
                  time.sleep(300)";
    let mut wire = open(&spec("python3", &["-c", script])).await.unwrap();
    let child = as_pid(wire.control.pid().unwrap());
    wire.sender.send(message("{}")).await.unwrap();
    let daemon = pid_in(&text(&mut wire).await);
    assert_eq!(closed(&mut wire).await, "ended in an unknown way");
    assert!(test_kill_process(child).is_err() && test_kill_process(daemon).is_err());
}

/// There the session of the gateway has the number 0, as where CI runs the tests.
#[test]
fn the_same_holds_where_the_leader_of_the_session_is_in_another_pid_namespace() {
    let alone = ["--map-root-user", "--pid", "--fork", "--mount-proc"];
    let can = std::process::Command::new("unshare").args(alone).arg("true").status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("not tried: this machine lets nobody make a PID namespace");
        return;
    }
    let mut test = std::process::Command::new("unshare");
    test.args(alone).arg(std::env::current_exe().unwrap()).arg("a_child_that_kills_its_keeper_gains_nothing");
    let output = test.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn a_child_that_stops_its_keeper_is_ended_by_the_gateway() {
    let script =
        "import os, time; os.kill(os.getppid(), 19); print([os.getpid()], flush=True); time.sleep(300)";
    let mut wire = open(&spec("python3", &["-c", script])).await.unwrap();
    let child = pid_in(&text(&mut wire).await);
    timeout(LONG, wire.control.stop(Duration::from_millis(50))).await.unwrap();
    assert!(is_gone(child), "{child:?} lives");
}

#[tokio::test]
async fn an_open_that_nobody_waits_for_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec("sh", &["-c", "echo $$ > new; mv new pid; exec sleep 300"]);
    spec.cwd = Some(folder.path().to_owned());
    // Polled once, which begins the start, and dropped.
    assert!(timeout(Duration::ZERO, open(&spec)).await.is_err());
    let pid = folder.path().join("pid");
    let gone = async {
        crate::backend::process::kin::settle(LONG).await;
        std::fs::read_to_string(&pid).ok()
    };
    // It may have been killed before it could write.
    if let Some(text) = timeout(LONG, gone).await.unwrap() {
        wait_until_gone(Pid::from_raw(text.trim().parse().unwrap()).unwrap()).await;
    }
}

#[test]
fn a_spec_shows_no_secret() {
    let mut spec = spec("sh", &["--token=hush"]);
    spec.env = vec![("TOKEN".to_owned(), "hush".to_owned())];
    let shown = format!("{spec:?}");
    assert!(shown.contains("TOKEN") && !shown.contains("hush") && !shown.contains("hunter2"), "{shown}");
}
