//! The memory, the environment and the descriptors of the gateway are nobody's business, not even its user's.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use super::{ordinary, parent, status};
use crate::support::{Gateway, SECRET, Setup, pid_in, said};

/// `peek(pid)`: every way to look into a process that gave something, with the beginning of what.
const PEEK: &str = r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.syscall.restype = ctypes.c_long
MACHINE = os.uname().machine
KCMP = {"x86_64": 312, "aarch64": 272}[MACHINE]


class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def first(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read(200)


def memory(pid):
    # Opening it is what is judged; what is read depends on what is mapped where.
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
    return "open"


def attach(pid, request):
    check(libc.ptrace(request, pid, None, None))
    if request == 16:
        os.waitpid(pid, 0)
        libc.ptrace(17, pid, None, None)
    else:
        os.kill(pid, 9)
    return "attached"


def vm(pid):
    # An address that is mapped in every process of this program, forked or not, or no address at all.
    target = ctypes.create_string_buffer(b"x" * 64)
    here = ctypes.create_string_buffer(64)
    local, remote = Vec(ctypes.addressof(here), 64), Vec(ctypes.addressof(target), 64)
    read = libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    if read < 0 and ctypes.get_errno() == 14:
        return "let in, wrong address"
    return str(check(read))


def steal(pid):
    return str(check(libc.syscall(438, os.pidfd_open(pid), 0, 0)))


def unshared(*command):
    """As the root of a user namespace of one's own, where the system allows such."""
    import subprocess
    done = subprocess.run(["unshare", "-Ur", *command], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        raise OSError("refused")
    return done.stdout


WAYS = {
    "environ": lambda pid: first(pid, "environ"), "maps": lambda pid: first(pid, "maps"),
    "auxv": lambda pid: first(pid, "auxv"), "pagemap": lambda pid: first(pid, "pagemap"),
    "smaps": lambda pid: first(pid, "smaps"), "io": lambda pid: first(pid, "io"),
    "task environ": lambda pid: first(pid, f"task/{pid}/environ"),
    "mem": memory, "fd": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "fd 0": lambda pid: os.readlink(f"/proc/{pid}/fd/0"), "exe": lambda pid: os.readlink(f"/proc/{pid}/exe"),
    "cwd": lambda pid: os.readlink(f"/proc/{pid}/cwd"), "root": lambda pid: os.listdir(f"/proc/{pid}/root"),
    "map_files": lambda pid: os.listdir(f"/proc/{pid}/map_files"),
    "process_vm_readv": vm, "pidfd_getfd": steal,
    "kcmp": lambda pid: str(check(libc.syscall(KCMP, pid, os.getpid(), 0, 0, 0))),
    "root of a namespace": lambda pid: unshared("cat", f"/proc/{pid}/environ"),
    "PTRACE_ATTACH": lambda pid: attach(pid, 16), "PTRACE_SEIZE": lambda pid: attach(pid, 0x4206),
}


def peek(pid):
    seen = {}
    for way, look in WAYS.items():
        try:
            seen[way] = repr(look(pid))[:300]
        except OSError:
            pass
    return seen


def of_parent(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("PPid:"):
            return int(line.split()[1])


def look_up():
    """The keeper, the gateway, and what can be seen of each; and of a child of our own, where all must be seen."""
    import subprocess
    own = os.fork()
    if own == 0:
        time.sleep(100)
        os._exit(0)
    keeper = os.getppid()
    gateway = of_parent(keeper)
    return {"keeper": [keeper, peek(keeper)], "gateway": [gateway, peek(gateway)], "own": peek(own)}


def call(id, params):
    text(id, json.dumps(look_up()))
"#;

/// What a server sees of a child of its own, if the test itself is sound.
const WAYS: [&str; 17] = [
    "environ",
    "maps",
    "auxv",
    "pagemap",
    "smaps",
    "io",
    "task environ",
    "mem",
    "fd",
    "fd 0",
    "exe",
    "cwd",
    "root",
    "process_vm_readv",
    "pidfd_getfd",
    "PTRACE_ATTACH",
    "PTRACE_SEIZE",
];

fn refused_everywhere(seen: &Value) {
    for way in WAYS {
        assert!(seen["own"][way].is_string(), "{way} shows nothing of anybody: {seen:#}");
    }
    for who in ["keeper", "gateway"] {
        assert!(seen[who][0].as_i64().unwrap() > 1, "{seen:#}");
        assert_eq!(seen[who][1], json!({}), "of the {who}");
    }
    assert!(!seen.to_string().contains(SECRET) && !seen.to_string().contains("JWT_SECRET_KEY"), "{seen:#}");
}

#[test]
fn secrets_of_the_parent() {
    let setup = ordinary().scripted("srv", PEEK, "").env("OTHER_KEY", "hush-hush");
    let mut gateway = Gateway::start(setup);
    let seen: Value = serde_json::from_str(said(&gateway.call("echo", json!({})))).unwrap();
    refused_everywhere(&seen);
    assert!(!seen.to_string().contains("hush-hush"));
    assert_eq!(seen["gateway"][0], gateway.pid(), "the chain of ancestors ends at the gateway");
    let keeper = i32::try_from(seen["keeper"][0].as_i64().unwrap()).unwrap();
    for pid in [keeper, gateway.pid()] {
        // What the kernel says to everybody: of an undumpable process all belongs to root.
        assert_eq!(std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core: Vec<&str> =
            limits.lines().find(|line| line.starts_with("Max core")).unwrap().split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"]);
    }
    assert_ne!(status(gateway.pid(), "Uid").split_whitespace().next(), Some("0"), "an ordinary user");
    gateway.end();
}

#[test]
fn secrets_of_a_check_that_probes() {
    // Not only the gateway that serves starts servers.
    let code = format!("{PEEK}\nwith open('seen', 'w') as out:\n    json.dump(look_up(), out)\n");
    let setup = ordinary().scripted("srv", &code, "");
    let output = setup.run(&["check", "--probe"]);
    assert!(output.status.success(), "{output:?}");
    let seen = std::fs::read_to_string(setup.path("seen")).unwrap();
    refused_everywhere(&serde_json::from_str(&seen).unwrap());
}

#[test]
fn secrets_of_one_server_are_not_the_keepers() {
    let code = "open('pid', 'w').write(str(os.getpid()))";
    let setup =
        Setup::new().scripted("srv", code, "env = { API_KEY = \"${OTHER}\" }\n").env("OTHER", "hush-hush");
    let mut gateway = Gateway::start(setup);
    let keeper = parent(pid_in(&gateway.setup.path("pid")));
    assert_eq!(parent(keeper), gateway.pid());
    // A process that may look into the keeper finds no environment, and arguments that say nothing.
    for file in ["environ", "cmdline"] {
        let text = std::fs::read(format!("/proc/{keeper}/{file}")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(
            !text.contains("hush-hush") && !text.contains(SECRET) && !text.contains("API_KEY"),
            "{text:?}"
        );
    }
    gateway.end();
}

#[test]
fn secrets_behind_an_open_descriptor() {
    // The process that started the gateway left a file open, without the flag that closes it on exec.
    let code = r#"
def call(id, params):
    seen = []
    for number in os.listdir("/proc/self/fd"):
        try:
            seen.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    text(id, json.dumps(seen))
"#;
    let setup = Setup::new().scripted("srv", code, "");
    let secret = setup.path("secret.key");
    std::fs::write(&secret, "hush-hush").unwrap();
    let file = std::fs::File::open(&secret).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let mut gateway = Gateway::start(setup);
    let inherited = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    let inherited = inherited.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    assert!(inherited.into_iter().any(|path| path == secret), "the gateway has it");
    let seen = said(&gateway.call("echo", json!({}))).to_owned();
    assert!(!seen.contains("secret.key") && !seen.contains("socket:"), "{seen}");
    gateway.end();
}
