//! Nothing that a server started outlives the gateway, however either of them ends.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{LEAVE, await_end, parent, pids};
use crate::support::{Gateway, Setup, alive, eventually, said};

const SELF: &str = "\nwrite_pid('server')\n";

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// A gateway with a server that has left these, which are alive.
fn left(code: &str, names: &[&str]) -> (Gateway, Vec<i32>) {
    let setup = Setup::new().scripted("srv", &format!("{LEAVE}{code}{SELF}"), "");
    let gateway = Gateway::start(setup);
    let mut all = names.to_vec();
    all.push("server");
    let pids = pids(&gateway, &all);
    assert!(pids.iter().all(|pid| alive(*pid)), "{pids:?}");
    (gateway, pids)
}

const EVERYBODY: &str = "
leave('child', session=False)
leave('daemon')
leave('deaf', deaf=True)
leave('talkative', deaf=True, quiet=False)
# One that is still a child, and whose own child is a daemon.
if os.fork() == 0:
    leave('cousin', deaf=True)
    write_pid('brother')
    while True:
        time.sleep(100)
";
const NAMES: [&str; 6] = ["child", "daemon", "deaf", "talkative", "cousin", "brother"];

#[test]
fn grandchild_survives_kill_9() {
    let (mut gateway, pids) = left(EVERYBODY, &NAMES);
    let keeper = parent(*pids.last().unwrap());
    gateway.signal(Signal::KILL);
    gateway.wait_exit();
    await_end(&pids);
    await_end(&[keeper]);
}

#[test]
fn daemon_survives_an_orderly_stop() {
    for how in [Gateway::hang_up as fn(&mut Gateway), |gateway| gateway.signal(Signal::TERM)] {
        let (mut gateway, pids) = left(EVERYBODY, &NAMES);
        how(&mut gateway);
        assert!(gateway.wait_exit().success(), "{}", gateway.log());
        // Not soon: when the gateway has ended, they have.
        let late: Vec<&i32> = pids.iter().filter(|pid| alive(**pid)).collect();
        assert!(late.is_empty(), "{late:?} of {pids:?}");
    }
}

#[test]
fn daemon_survives_its_server() {
    // The server ends by itself, with stdout still open in what it leaves; it is started again all the same.
    let code = "
def call(id, params):
    os._exit(3)
";
    let (mut gateway, old) = left(&format!("{EVERYBODY}{code}"), &NAMES);
    // The next one writes the same files.
    for name in NAMES.iter().chain(&["server"]) {
        std::fs::remove_file(gateway.setup.path(name)).unwrap();
    }
    gateway.call("echo", json!({}));
    await_end(&old);
    gateway.await_log("exited with code 3", 1);
    gateway.await_log("backend is ready backend=srv ", 2);
    let next = pids(&gateway, &NAMES);
    assert!(next.iter().all(|pid| alive(*pid) && !old.contains(pid)));
    gateway.end();
    await_end(&next);
}

#[test]
fn server_behind_a_shell_survives() {
    // As `npx`, `uvx` and `sh -c` do it: the real server is a child.
    for script in ["python3 srv.py & wait", "setsid python3 srv.py & wait", "(python3 srv.py &) ; sleep 1000"]
    {
        let setup = Setup::new().scripted("srv", &format!("{LEAVE}leave('daemon')\n{SELF}"), "").more(&format!(
            "[[backends]]\nname = \"shell\"\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\ncwd = \"shell\"\n"
        ));
        std::fs::create_dir(setup.path("shell")).unwrap();
        std::fs::copy(setup.path("srv.py"), setup.path("shell/srv.py")).unwrap();
        let mut gateway = Gateway::start(setup);
        let pids = pids(&gateway, &["daemon", "server", "shell/daemon", "shell/server"]);
        gateway.signal(Signal::KILL);
        gateway.wait_exit();
        await_end(&pids);
    }
}

#[test]
fn server_survives_while_it_starts() {
    // It has not answered `initialize`, and will not.
    let code = format!("{LEAVE}leave('daemon', deaf=True)\n{SELF}time.sleep(1000)\n");
    let mut gateway = Gateway::spawn(Setup::new().scripted("srv", &code, "").unawaited());
    let pids = pids(&gateway, &["daemon", "server"]);
    gateway.signal(Signal::KILL);
    gateway.wait_exit();
    await_end(&pids);
    // Nor does anything live of a gateway that is killed at other moments of its start.
    for lines in 1..6 {
        let mut gateway = Gateway::spawn(Setup::new().scripted("srv", &code, "").unawaited());
        eventually("its log", || (gateway.log().lines().count() >= lines.min(2)).then_some(()));
        if lines > 2 {
            eventually("its server", || gateway.setup.path("srv.py").exists().then_some(()));
            (0..lines).for_each(|_| std::thread::yield_now());
        }
        gateway.signal(Signal::KILL);
        gateway.wait_exit();
        let folder = gateway.setup.path("");
        eventually("the end of all that works in its folder", || works_in(&folder).is_empty().then_some(()));
    }
}

/// The processes whose working directory is this folder.
fn works_in(folder: &std::path::Path) -> Vec<i32> {
    let folder = folder.canonicalize().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let works = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    pids.filter(|pid| works(pid) && alive(*pid)).collect()
}

#[test]
fn server_kills_its_keeper() {
    // The server tells the kernel not to kill it with its parent, leaves a daemon behind, and kills its keeper.
    let code = "
libc.prctl(1, 0, 0, 0, 0)


def call(id, params):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)
";
    let (mut gateway, old) = left(&format!("{EVERYBODY}{code}"), &NAMES);
    for name in NAMES.iter().chain(&["server"]) {
        std::fs::remove_file(gateway.setup.path(name)).unwrap();
    }
    gateway.call("echo", json!({}));
    await_end(&old);
    gateway.await_log("the keeper process of this server was killed", 1);
    gateway.await_log("backend is ready backend=srv ", 2);
    let next = pids(&gateway, &NAMES);
    gateway.end();
    assert!(next.iter().all(|pid| !alive(*pid)), "{next:?}");
}

#[test]
fn server_stops_its_keeper() {
    let code = "
def call(id, params):
    os.kill(os.getppid(), signal.SIGSTOP)
    text(id, 'stopped')
";
    let (mut gateway, pids) = left(&format!("{EVERYBODY}{code}"), &NAMES);
    assert_eq!(said(&gateway.call("echo", json!({}))), "stopped");
    gateway.end();
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}

#[test]
fn keeper_takes_no_signal_that_is_meant_for_the_gateway() {
    // `pkill sentinel`, and a shell that hangs up.
    let (mut gateway, pids) = left("", &[]);
    let keeper = parent(pids[0]);
    for each in
        [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::PIPE, Signal::ALARM]
    {
        signal(keeper, each);
    }
    assert_eq!(said(&gateway.call("echo", json!({}))), "called echo");
    assert_eq!(parent(pids[0]), keeper);
    gateway.end();
}

#[test]
fn servers_that_end_leave_no_zombie() {
    let code = "
def call(id, params):
    for number in range(20):
        leave('short')
        os.kill(int(open('short').read()), signal.SIGKILL)
        os.remove('short')
    text(id, 'done')
";
    let (mut gateway, pids) = left(code, &[]);
    let keeper = parent(pids[0]);
    assert_eq!(said(&gateway.call("echo", json!({}))), "done");
    eventually("the keeper has only its server", || {
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
        (children.split_whitespace().count() == 1).then_some(())
    });
    gateway.end();
}
