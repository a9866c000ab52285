//! An executor that runs, with its files, and a hand on its socket.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use sentinel_gateway::capability::{Key, Purpose, Token};
use sentinel_gateway::command::Given;
use sentinel_gateway::command::frames::{Call, Ended, FRAME, Question, Reply, Stream};

use crate::support::{Setup, eventually};

/// The files of an executor and of the gateway that knows it.
pub(crate) struct Scene {
    pub(crate) setup: Setup,
    pub(crate) key: Key,
}

/// An executor that runs until this is dropped.
pub(crate) struct Executor {
    child: Child,
    log: Arc<Mutex<String>>,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    /// How it ended, or why it was refused: the reason, the slot and the message.
    pub(crate) end: Result<Ended, (String, String, String)>,
}

impl Ran {
    /// Why it was refused, in one word.
    #[track_caller]
    pub(crate) fn refused(&self) -> &str {
        assert_eq!((self.out.as_str(), self.err.as_str()), ("", ""), "it said something");
        &self.end.as_ref().unwrap_err().0
    }
}

impl Scene {
    /// An executor `exec` for the environment `dev`, and these commands. `{dir}` in them is a folder that commands may see.
    pub(crate) fn new(commands: &str) -> Self {
        Self::with(Setup::new(), commands)
    }

    pub(crate) fn with(setup: Setup, commands: &str) -> Self {
        // The executor becomes another user where root runs the tests, and has to reach its files.
        let open =
            |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        open(&setup.path(""));
        for folder in ["data", "run"] {
            std::fs::create_dir(setup.path(folder)).unwrap();
            open(&setup.path(folder));
        }
        let (code, out, err) = setup.bare(&["executor", "keys", "--out", "."]);
        assert_eq!(code, Some(0), "{out}{err}");
        let key = Key::from_pem(&std::fs::read_to_string(setup.path("capability.key")).unwrap()).unwrap();
        let user = if rustix::process::geteuid().is_root() { "user = \"nobody\"\n" } else { "" };
        let text = format!(
            "name = \"exec\"\nenvironment = \"dev\"\nsocket = \"run/exec.sock\"\ndir = \"run/state\"\n\
             public_keys = [\"capability.pub\"]\n{user}commands_from = \"sentinel.toml\"\n"
        );
        std::fs::write(setup.path("executor.toml"), text).unwrap();
        let commands = commands.replace("{dir}", &setup.text("data"));
        let setup = setup.more(&format!(
            "[[executors]]\nname = \"exec\"\nenvironment = \"dev\"\nsocket = \"run/exec.sock\"\nkey_file = \"capability.key\"\n{commands}"
        ));
        setup.write();
        Self { setup, key }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.setup.path("run/exec.sock")
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.setup.path("data").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.data(name), text).unwrap();
    }

    /// Starts the executor, and waits until it answers.
    pub(crate) fn start(&self) -> Executor {
        let mut executor = self.spawn();
        eventually("the executor answers", || {
            assert!(executor.child.try_wait().unwrap().is_none(), "it ended: {}", executor.log());
            let healthy = ask(&self.socket(), &Question::Health.encode()).ok()?;
            matches!(healthy.as_slice(), [Reply::Healthy { .. }]).then_some(())
        });
        executor
    }

    pub(crate) fn spawn(&self) -> Executor {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel-gateway"));
        command.env_clear().current_dir(self.setup.path("")).args(["executor", "run", "executor.toml"]);
        // A secret that commands must not see.
        command.env("EXECUTORS_SECRET", "hidden");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut pipe, lines) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                lines.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Executor { child, log }
    }

    /// What a call would run.
    pub(crate) fn prepare(&self, call: &Call) -> Result<(String, [u8; 32]), String> {
        match ask(&self.socket(), &Question::Prepare(call.clone()).encode()).unwrap().pop() {
            Some(Reply::Prepared { digest, action }) => Ok((action, digest)),
            Some(Reply::Refused { reason, .. }) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// A token for just this.
    pub(crate) fn token(&self, command: &str, digest: [u8; 32]) -> Token {
        self.key.mint(&purpose(command, digest), now(), 30).unwrap()
    }

    pub(crate) fn run_with(&self, call: &Call, token: &Token) -> Ran {
        let question = Question::Run { call: call.clone(), token: token.bytes().to_vec() };
        let mut replies = ask(&self.socket(), &question.encode()).unwrap();
        let end = match replies.pop() {
            Some(Reply::Ended(ended)) => Ok(ended),
            Some(Reply::Refused { reason, slot, message }) => Err((reason, slot, message)),
            other => panic!("{other:?}"),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for reply in replies {
            match reply {
                Reply::Output { stream: Stream::Stdout, bytes } => out.extend(bytes),
                Reply::Output { stream: Stream::Stderr, bytes } => err.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { out: text(out), err: text(err), end }
    }

    /// Prepares and runs.
    pub(crate) fn run(&self, call: &Call) -> Ran {
        let (_, digest) = self.prepare(call).unwrap();
        self.run_with(call, &self.token(&call.command, digest))
    }

    /// Runs, and expects it to end well.
    #[track_caller]
    pub(crate) fn output(&self, call: &Call) -> String {
        let ran = self.run(call);
        assert!(ran.end.as_ref().is_ok_and(|ended| ended.code == 0), "{ran:?}");
        ran.out
    }

    /// The executor's record.
    pub(crate) fn record(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.setup.path("run/state/record.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `executor verify` of the record.
    pub(crate) fn verify(&self) -> (Option<i32>, String) {
        let (code, out, _) = self.setup.bare(&["executor", "verify", "run/state/record.jsonl"]);
        (code, out)
    }
}

pub(crate) fn purpose(command: &str, digest: [u8; 32]) -> Purpose<'_> {
    Purpose { audience: "exec", environment: "dev", command, subject: "ann", call: "call-1", digest }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A call with texts for slots.
pub(crate) fn call(command: &str, given: &[(&str, &str)]) -> Call {
    let given =
        given.iter().map(|(name, text)| ((*name).to_owned(), Given::Text((*text).to_owned()))).collect();
    Call { command: command.to_owned(), given, stdin: None }
}

impl Executor {
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its exit code and what it said, when it ends by itself.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let status = eventually("the executor ends", || self.child.try_wait().unwrap());
        let log = eventually("its last words", || Some(self.log()).filter(|log| !log.is_empty()));
        (status.code(), log)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Executor {
    #[allow(clippy::print_stderr, reason = "only a test that failed says more")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the executor's log:\n{}---", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one message, and takes in everything that comes back.
pub(crate) fn ask(socket: &Path, message: &[u8]) -> std::io::Result<Vec<Reply>> {
    let socket = connected(socket)?;
    match send(&socket, message, SendFlags::NOSIGNAL) {
        // It refused before it read; what it said is still there.
        Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(answers(&socket)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn connected(path: &Path) -> std::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_secs(60)),
    )?;
    Ok(socket)
}

/// Everything that comes until the other side hangs up.
pub(crate) fn answers(socket: &OwnedFd) -> Vec<Reply> {
    let (mut replies, mut buffer, mut reset) = (Vec::new(), vec![0; FRAME], false);
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            // It hung up before it read what was sent; what it said before that is still there.
            Err(rustix::io::Errno::CONNRESET) if !reset => reset = true,
            Ok((_, 0)) | Err(_) => return replies,
            Ok((_, length)) => replies.push(Reply::decode(&buffer[..length]).unwrap()),
        }
    }
}
