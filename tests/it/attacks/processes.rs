//! What a server started ends with it, no child reads what belongs to the gateway, and a sandbox holds.

mod sandbox;
mod secrets;
mod survivors;

use crate::support::{Gateway, Setup, alive, eventually, pid_in};

/// The code of a server that leaves something behind: `leave(name, code)` runs code in a process that lost its parent,
/// writes its id into a file of that name, and is not heard of again.
const LEAVE: &str = r#"
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)


def write_pid(name):
    with open(name + ".new", "w") as out:
        out.write(str(os.getpid()))
    os.rename(name + ".new", name)


def leave(name, session=True, deaf=False, quiet=True):
    middle = os.fork()
    if middle == 0:
        if session:
            os.setsid()
        if os.fork() == 0:
            if deaf:
                for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                    signal.signal(one, signal.SIG_IGN)
            if quiet:
                os.closerange(0, 3)
            write_pid(name)
            while True:
                time.sleep(100)
        os._exit(0)
    os.waitpid(middle, 0)
    while not os.path.exists(name):
        time.sleep(0.01)
"#;

/// The ids that these files hold.
fn pids(gateway: &Gateway, names: &[&str]) -> Vec<i32> {
    names.iter().map(|name| pid_in(&gateway.setup.path(name))).collect()
}

fn await_end(pids: &[i32]) {
    eventually(&format!("the end of {pids:?}"), || pids.iter().all(|pid| !alive(*pid)).then_some(()));
}

/// A field of `/proc/PID/status`.
fn status(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn parent(pid: i32) -> i32 {
    status(pid, "PPid").parse().unwrap_or(0)
}

/// A gateway of an ordinary user, wherever the test runs.
fn ordinary() -> Setup {
    Setup::new().ordinary_user()
}
