//! A server in a sandbox reaches what its file lists, and nothing else; where that cannot be held, it does not run.

use serde_json::{Value, json};

use super::{LEAVE, await_end, ordinary, pids};
use crate::support::{Gateway, Setup, alive, said};
use rustix::process::Signal;

/// `try_all(paths)`: what each way in gave, "yes" or the error's name.
const TRY: &str = r#"
import ctypes, errno, signal, socket, subprocess
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = os.uname().machine == "x86_64"


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def attempt(what):
    try:
        what()
        return "yes"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


def number(call, *args):
    return lambda: check(libc.syscall(call, *args))


def write(path, mode="w"):
    with open(path, mode) as out:
        out.write("x")


def scribble(folder):
    path = f"{folder}/sentinel-it-{os.getpid()}"
    write(path)
    os.remove(path)


def family(number, kind=socket.SOCK_STREAM):
    return lambda: socket.socket(number, kind).close()


def pair():
    one, other = socket.socketpair()
    one.send(b"x")
    assert other.recv(1) == b"x"


def connect(port):
    socket.create_connection(("127.0.0.1", port), 5).close()


def run(*args):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    if done.returncode:
        raise OSError(errno.EACCES, done.stderr.decode())


def call(id, params):
    a = params["arguments"]
    ways = {
        "read a listed file": lambda: open("shown/file").read(),
        "list a listed folder": lambda: os.listdir("shown"),
        "write a listed file": lambda: write("kept/file"),
        "make a folder": lambda: os.makedirs("kept/a/b", exist_ok=True),
        "a program of the system": lambda: run("/bin/sh", "-c", "exit 0"),
        "random": lambda: open("/dev/urandom", "rb").read(1),
        "null": lambda: write("/dev/null"),
        "pair": pair,
        "signal a child": lambda: run("sh", "-c", "sleep 100 & kill $!"),
        "read its folder": lambda: os.listdir("."),
        "read an unlisted file": lambda: open("hidden/file").read(),
        "run an unlisted file": lambda: run("./hidden/run"),
        "write an unlisted file": lambda: write("hidden/file"),
        "write a readable file": lambda: write("shown/file"),
        "append to a readable file": lambda: write("shown/file", "a"),
        "truncate a readable file": lambda: os.truncate("shown/file", 0),
        "remove a readable file": lambda: os.remove("shown/spare"),
        "move a readable file out": lambda: os.rename("shown/third", "kept/third"),
        "link a hidden file in": lambda: os.link("hidden/file", f"kept/link{os.getpid()}"),
        "read through a link": lambda: (os.path.lexists("kept/way") or os.symlink("../hidden/file", "kept/way"),
                                        open("kept/way").read()),
        "read around": lambda: open("shown/../hidden/file").read(),
        "the configuration": lambda: open("sentinel.toml").read(),
        "shadow": lambda: open("/etc/shadow").read(1),
        "tmp": lambda: scribble("/tmp"),
        "shm": lambda: scribble("/dev/shm"),
        "arguments of others": lambda: open(f"/proc/{a['other']}/cmdline").read(),
        "environment of others": lambda: open(f"/proc/{a['other']}/environ").read(),
        "mount": lambda: check(libc.mount(b"none", b"kept", b"tmpfs", 0, None)),
        "kill others": lambda: os.kill(a["other"], 0),
        "kill the gateway": lambda: os.kill(a["gateway"], 0),
        "kill the keeper": lambda: os.kill(os.getppid(), 0),
        "kill by descriptor": lambda: signal.pidfd_send_signal(os.pidfd_open(a["other"]), 0),
        "keys": number(250 if X86 else 219, 0, -3, 0),
        "io_uring": number(425, 1, ctypes.create_string_buffer(200)),
        "bpf": number(321 if X86 else 280, 0, None, 0),
        "ptrace": lambda: check(libc.ptrace(16, a["other"], None, None)),
        "tcp": lambda: connect(a["port"]),
        "tcp of a child": lambda: run("python3", "-c",
            f"import socket; socket.create_connection(('127.0.0.1', {a['port']}), 5)"),
        "inet": family(socket.AF_INET), "inet6": family(socket.AF_INET6),
        "udp": family(socket.AF_INET, socket.SOCK_DGRAM), "unix": family(socket.AF_UNIX),
        "netlink": family(socket.AF_NETLINK, socket.SOCK_RAW), "vsock": family(40), "alg": family(38, 5),
        "inet pair": number(53 if X86 else 199, 2, 1, 0, ctypes.create_string_buffer(8)),
        "listen on a Unix socket": lambda: socket.socket(socket.AF_UNIX).bind(f"kept/s{os.getpid()}"),
        "socket by its second number": number((41 | 0x40000000) if X86 else 198, 2, 1, 0),
    }
    result(id, {"content": [], "structuredContent": {name: attempt(way) for name, way in ways.items()}})
"#;

/// What a server does that lives by its list.
const ALLOWED: [&str; 9] = [
    "read a listed file",
    "list a listed folder",
    "write a listed file",
    "make a folder",
    "a program of the system",
    "random",
    "null",
    "pair",
    "signal a child",
];

/// What the system gives to none of its users by itself, sandbox or not; or not to all systems.
const RARE: [&str; 14] = [
    "shadow",
    "mount",
    "keys",
    "io_uring",
    "bpf",
    "ptrace",
    "netlink",
    "vsock",
    "alg",
    "inet6",
    "inet pair",
    "socket by its second number",
    "environment of others",
    "link a hidden file in",
];
/// Only sockets.
const NETWORK: [&str; 12] = [
    "tcp",
    "tcp of a child",
    "inet",
    "inet6",
    "udp",
    "unix",
    "netlink",
    "vsock",
    "alg",
    "inet pair",
    "listen on a Unix socket",
    "socket by its second number",
];

/// Files to try, and a Python of the system: one in somebody's home is out of reach.
fn folders(setup: Setup) -> Setup {
    use std::os::unix::fs::PermissionsExt;
    for file in ["shown/file", "shown/spare", "shown/third", "kept/file", "hidden/file", "hidden/run"] {
        let path = setup.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    setup.env("PATH", "/usr/bin:/bin")
}

/// What a server gets with this sandbox.
fn attempts(setup: Setup, sandbox: &str) -> Value {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = std::process::Command::new("sleep").arg("100").spawn();
    let mut other = other.unwrap();
    let setup = folders(setup).scripted("srv", TRY, sandbox);
    let mut gateway = Gateway::start(setup);
    let arguments = json!({
        "other": other.id(), "gateway": gateway.pid(), "port": listener.local_addr().unwrap().port(),
    });
    let seen = gateway.call("echo", arguments)["result"]["structuredContent"].clone();
    gateway.end();
    other.kill().unwrap();
    other.wait().unwrap();
    seen
}

const WALLS: &str = "sandbox = { read = [\"srv.py\", \"shown\"], write = [\"kept\"] }";

fn refused(seen: &Value, way: &str) -> bool {
    seen[way].as_str().is_some_and(|error| ["EACCES", "EPERM", "EXDEV"].contains(&error))
}

#[test]
fn sandbox_holds_for_root_and_for_a_user() {
    for setup in [Setup::new(), ordinary()] {
        let seen = attempts(setup, WALLS);
        let ways = seen.as_object().unwrap();
        assert!(ways.len() > 40, "{seen:#}");
        for way in ways.keys() {
            let right =
                if ALLOWED.contains(&way.as_str()) { seen[way] == "yes" } else { refused(&seen, way) };
            assert!(right, "{way}: {}", seen[way]);
        }
    }
}

#[test]
fn sandbox_is_what_holds() {
    // The same server without one gets all that the test above sees refused, but for what no user gets.
    let seen = attempts(Setup::new(), "");
    for way in seen.as_object().unwrap().keys().filter(|way| !RARE.contains(&way.as_str())) {
        assert_eq!(seen[way], "yes", "{way}");
    }
}

#[test]
fn sandbox_opens_what_it_is_told_to() {
    let walls =
        "sandbox = { read = [\"srv.py\", \"shown\", \"/proc\"], write = [\"kept\"], network = \"all\" }";
    let seen = attempts(ordinary(), walls);
    for way in
        ["tcp", "tcp of a child", "inet", "udp", "unix", "listen on a Unix socket", "arguments of others"]
    {
        assert_eq!(seen[way], "yes", "{way}");
    }
    for way in seen.as_object().unwrap().keys() {
        let open = ALLOWED.contains(&way.as_str())
            || NETWORK.contains(&way.as_str())
            || way == "arguments of others";
        assert!(open || refused(&seen, way), "{way}: {}", seen[way]);
    }
}

#[test]
fn sandbox_ends_with_all_in_it() {
    let code =
        format!("{LEAVE}os.chdir('kept')\nleave('daemon', deaf=True)\nwrite_pid('server')\nos.chdir('..')\n");
    for kill in [true, false] {
        let setup = folders(Setup::new());
        let mut gateway = Gateway::start(setup.scripted("srv", &code, WALLS));
        let pids = pids(&gateway, &["kept/daemon", "kept/server"]);
        if kill {
            gateway.signal(Signal::KILL);
            gateway.wait_exit();
            await_end(&pids);
        } else {
            gateway.end();
            assert!(pids.iter().all(|pid| !alive(*pid)));
        }
    }
}

#[test]
fn fork_storm_in_a_sandbox() {
    let code = "
def call(id, params):
    made = 0
    try:
        while made < 20000:
            if os.fork() == 0:
                time.sleep(100)
                os._exit(0)
            made += 1
    except OSError as error:
        text(id, f'{error.errno} after {made}')
        return
    text(id, f'no end after {made}')
";
    // The kernel counts by user, and does not hold root to it.
    let setup = ordinary().env("PATH", "/usr/bin:/bin");
    let walls = "sandbox = { read = [\"srv.py\"], processes = 20, open_files = 64 }";
    let mut gateway = Gateway::start(setup.scripted("srv", code, walls));
    let answer = said(&gateway.call("echo", json!({}))).to_owned();
    assert!(answer.starts_with("11 after "), "{answer}");
    gateway.end();
}

#[test]
fn sandbox_with_a_door_that_is_gone() {
    // Checked when the file was read; by the time the server is started again, the folder is not there.
    let setup = folders(Setup::new());
    let code = "
def call(id, params):
    os._exit(0)
";
    let mut gateway = Gateway::start(setup.scripted("srv", code, WALLS));
    std::fs::remove_dir_all(gateway.setup.path("shown")).unwrap();
    gateway.call("echo", json!({}));
    gateway.await_log("its sandbox has no door to", 1);
    assert_eq!(gateway.log().matches("backend is ready").count(), 1, "nothing is started without its walls");
    gateway.end();
}

#[test]
fn sandbox_that_does_not_let_its_program_start() {
    let setup = folders(Setup::new());
    let setup = setup.more(
        "[[backends]]\nname = \"own\"\ncommand = \"sh\"\nargs = [\"-c\", \"exec ./hidden/run\"]\ncwd = \".\"\nsandbox = {}\n\
         [[backends]]\nname = \"interpreted\"\ncommand = \"hidden/script\"\ncwd = \".\"\nsandbox = {}\n",
    );
    // The program itself may be read; what it needs is another matter.
    std::fs::copy(setup.path("hidden/run"), setup.path("hidden/script")).unwrap();
    std::fs::copy("/bin/sh", setup.path("hidden/sh")).unwrap();
    let text = format!("#!{}\nexit 0\n", setup.text("hidden/sh"));
    std::fs::write(setup.path("hidden/script"), text).unwrap();
    let mut gateway = Gateway::start(setup.unawaited());
    gateway.await_log("cannot start `hidden/script`: Permission denied (os error 13) (in its sandbox;", 1);
    gateway.await_log("exited with code 126", 1);
    gateway.end();
}

#[test]
fn sandbox_mistakes_are_told_at_once() {
    let setup = Setup::new().more(
        "[[backends]]\nname = \"a\"\ncommand = \"cat\"\n\
         sandbox = { read = [\"nowhere\", \"\", \"~/x\"], write = [\".\"], network = [\"example.org:443\"], reed = [] }\n\
         [[backends]]\nname = \"b\"\nurl = \"http://127.0.0.1:1/mcp\"\nsandbox = {}\n\
         [[backends]]\nname = \"c\"\ncommand = \"cat\"\nsandbox = { network = \"some\", processes = 0 }\n",
    );
    let (code, told) = setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{told}");
    for part in [
        "backends[0].sandbox.read[0]: ",
        "No such file or directory",
        "backends[0].sandbox.read[1]: an empty path",
        "~ is not replaced here",
        "backends[0].sandbox.network: a list of hosts cannot be held",
        "backends[0].sandbox.reed: unknown key",
        "backends[1].sandbox: a backend of type \"http\" has no sandbox",
        "backends[2].sandbox.network",
        "backends[2].sandbox.processes",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}
