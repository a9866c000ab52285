//! What a gateway is started with: its file, its environment, its folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::json;

/// The signing secret of every test.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef-tests-only";

/// The folder that cargo builds into, without the profile: `target`.
pub(crate) fn target() -> PathBuf {
    gateway().ancestors().nth(2).unwrap().to_owned()
}

fn gateway() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sentinel-gateway"))
}

/// The gateway where every user reaches it. A checkout may stand in a folder that is its owner's alone; then it is a copy,
/// with its plugins beside it, made once.
fn reachable_gateway() -> &'static Path {
    static COPY: std::sync::OnceLock<Option<tempfile::TempDir>> = std::sync::OnceLock::new();
    let copy = COPY.get_or_init(|| {
        use std::os::unix::fs::PermissionsExt as _;
        let open = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o001 != 0;
        if gateway().ancestors().all(open) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("sentinel-it-gateway-").tempdir().unwrap();
        let plugins = dir.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        for folder in [dir.path(), &plugins] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::copy(gateway(), dir.path().join("sentinel-gateway")).unwrap();
        for entry in std::fs::read_dir(gateway().with_file_name("plugins")).unwrap().flatten() {
            // What was compiled is sealed for its own folder.
            if entry.path().extension().is_some_and(|kind| kind == "wasm" || kind == "toml") {
                std::fs::copy(entry.path(), plugins.join(entry.file_name())).unwrap();
            }
        }
        Some(dir)
    });
    static PATH: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PATH.get_or_init(|| {
        copy.as_ref().map_or_else(|| gateway().to_owned(), |dir| dir.path().join("sentinel-gateway"))
    })
}

/// The backend of the tests, beside the gateway.
pub(crate) fn fixture() -> PathBuf {
    let path = gateway().with_file_name("fixture-backend");
    assert!(path.exists(), "{} is missing: run `cargo xtask build --guests`", path.display());
    path
}

/// A token that ends in so many seconds from now; negative for one that has ended.
pub(crate) fn mint(subject: &str, role: &str, seconds: i64) -> String {
    let now = i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap();
    let claims = json!({
        "sub": subject, "role": role, "iss": "sentinel-gateway", "aud": "sentinel-api",
        "jti": "test", "iat": now, "exp": now + seconds,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

/// The file, piece by piece, and the environment.
#[derive(Debug)]
pub(crate) struct Setup {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
    gateway: String,
    auth: String,
    roles: String,
    kill_switch: String,
    rate_limits: String,
    /// Everything else, as it stands.
    rest: String,
    /// The backends that are up soon after the start.
    prompt: Vec<String>,
    whole: Option<String>,
    /// The user it runs as, instead of the test's own.
    user: Option<u32>,
    /// What a shell does first, such as `umask 000`.
    first: Option<String>,
    /// The program, if it is not the one that cargo built.
    program: Option<PathBuf>,
}

impl Setup {
    /// No backends; the caller is `ann` with the role `admin`, who may do everything; no health port.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sentinel-it-").tempdir().unwrap();
        let mut setup = Self {
            env: BTreeMap::new(),
            gateway: "health_listen = \"off\"\n".to_owned(),
            auth: String::new(),
            roles: "[rbac.roles.admin]\npermissions = [\"*\"]\n".to_owned(),
            kill_switch: String::new(),
            rate_limits: "default_rpm = 1000000\n".to_owned(),
            rest: String::new(),
            prompt: Vec::new(),
            whole: None,
            user: None,
            first: None,
            program: None,
            dir,
        };
        setup = setup.env("JWT_SECRET_KEY", SECRET).env("SENTINEL_TOKEN", &mint("ann", "admin", 3600));
        let home = setup.path("").to_string_lossy().into_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        setup.env("HOME", &home).env("XDG_STATE_HOME", &home).env("PATH", &path)
    }

    /// One stdio backend called `echo`, with all the tools.
    pub(crate) fn echo() -> Self {
        Self::new().backend("echo", &[], "")
    }

    /// A stdio backend that is the fixture with these flags; `more` are further keys, one a line.
    pub(crate) fn backend(mut self, name: &str, flags: &[&str], more: &str) -> Self {
        if !flags.iter().any(|flag| ["--never-start", "--start-delay-ms"].contains(flag)) {
            self.prompt.push(name.to_owned());
        }
        let mut args = vec!["stdio"];
        args.extend(flags);
        self.rest += &format!(
            "[[backends]]\nname = {name:?}\ntype = \"stdio\"\ncommand = {:?}\nargs = {args:?}\n{more}\n",
            fixture().to_str().unwrap()
        );
        self
    }

    /// A stdio backend that can start only while the file `NAME.up` exists.
    pub(crate) fn gated(mut self, name: &str, flags: &[&str], more: &str) -> Self {
        let script = format!(
            "test -e '{}' && exec '{}' stdio {}",
            self.text(&format!("{name}.up")),
            fixture().display(),
            flags.join(" ")
        );
        self.rest += &format!(
            "[[backends]]\nname = {name:?}\ntype = \"stdio\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n{more}\n"
        );
        self
    }

    /// A stdio backend that is `scripted.py` with this code of the test's own. It works in the folder of this gateway.
    pub(crate) fn scripted(mut self, name: &str, code: &str, more: &str) -> Self {
        let file = self.path(&format!("{name}.py"));
        std::fs::write(&file, format!("{}\n{code}\nserve()\n", include_str!("scripted.py"))).unwrap();
        self.prompt.push(name.to_owned());
        self.rest += &format!(
            "[[backends]]\nname = {name:?}\ntype = \"stdio\"\ncommand = \"python3\"\nargs = [{:?}]\ncwd = \".\"\n{more}\n",
            file.to_str().unwrap()
        );
        self
    }

    /// The gateway runs as an ordinary user. A test that root runs makes it `nobody`.
    pub(crate) fn ordinary_user(mut self) -> Self {
        const NOBODY: u32 = 65_534;
        static WARM: Mutex<bool> = Mutex::new(false);
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        // What root has compiled is not for others; they compile for themselves, once for all tests.
        let cache = match reachable_gateway() {
            own if own == gateway() => target().join("tmp/cache-of-nobody"),
            copy => copy.with_file_name("cache-of-nobody"),
        };
        std::fs::create_dir_all(&cache).unwrap();
        std::os::unix::fs::chown(&cache, Some(NOBODY), Some(NOBODY)).unwrap();
        self.user = Some(NOBODY);
        self = self.env("XDG_CACHE_HOME", cache.to_str().unwrap());
        let mut warm = WARM.lock().unwrap();
        if !std::mem::replace(&mut *warm, true) {
            let (code, said) = self.refused(&["check"]);
            assert_eq!(code, Some(0), "{said}");
        }
        drop(warm);
        self
    }

    /// Every command begins with these words of a shell: `umask 000`, `ulimit -n 64`.
    pub(crate) fn first(mut self, words: &str) -> Self {
        self.first = Some(words.to_owned());
        self
    }

    /// Another program than the one that cargo built: one that was unpacked, say.
    pub(crate) fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// The backends that are there need not be up before the first call.
    pub(crate) fn unawaited(mut self) -> Self {
        self.prompt.clear();
        self
    }

    /// An HTTP backend.
    pub(crate) fn http(mut self, name: &str, url: &str, more: &str) -> Self {
        self.rest += &format!("[[backends]]\nname = {name:?}\ntype = \"http\"\nurl = {url:?}\n{more}\n");
        self
    }

    /// Further keys of `[gateway]`; a health port takes the place of none.
    pub(crate) fn gateway(mut self, keys: &str) -> Self {
        if keys.contains("health_listen") {
            self.gateway.clear();
        }
        self.gateway += &format!("{keys}\n");
        self
    }

    /// The keys of `[auth]`.
    pub(crate) fn auth(mut self, keys: &str) -> Self {
        self.auth = format!("{keys}\n");
        self
    }

    /// All roles, instead of `admin`'s.
    pub(crate) fn roles(mut self, text: &str) -> Self {
        self.roles = format!("{text}\n");
        self
    }

    /// The caller has this role.
    pub(crate) fn role(self, role: &str) -> Self {
        let token = mint("ann", role, 3600);
        self.env("SENTINEL_TOKEN", &token)
    }

    /// The keys of `[rate_limits]`, instead of the generous default.
    pub(crate) fn rate_limits(mut self, keys: &str) -> Self {
        self.set_rate_limits(keys);
        self
    }

    pub(crate) fn set_rate_limits(&mut self, keys: &str) {
        self.rate_limits = format!("{keys}\n");
    }

    pub(crate) fn set_kill_switch(&mut self, keys: &str) {
        self.kill_switch = format!("{keys}\n");
    }

    /// Anything else, as it shall stand in the file.
    pub(crate) fn more(mut self, text: &str) -> Self {
        self.rest += &format!("{text}\n");
        self
    }

    /// The whole file, instead of all pieces.
    pub(crate) fn whole(mut self, text: &str) -> Self {
        self.set_whole(text);
        self
    }

    pub(crate) fn set_whole(&mut self, text: &str) {
        self.whole = Some(text.to_owned());
    }

    /// The pieces again.
    pub(crate) fn set_pieces(&mut self) {
        self.whole = None;
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// A path in the folder of this gateway.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text, for flags.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The backends to wait for before the first call.
    pub(crate) fn prompt(&self) -> &[String] {
        &self.prompt
    }

    pub(crate) fn env_value(&self, name: &str) -> String {
        self.env[name].clone()
    }

    /// All files below a folder of this gateway.
    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.path(folder)], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        assert!(!files.is_empty(), "there is nothing in {folder}");
        files
    }

    /// Writes the file as it now is. Renamed into place, so that nobody reads half of it.
    pub(crate) fn write(&self) -> PathBuf {
        let text = self.whole.clone().unwrap_or_else(|| {
            format!(
                "[gateway]\n{}[auth]\n{}{}[rate_limits]\n{}[kill_switch]\n{}{}",
                self.gateway, self.auth, self.roles, self.rate_limits, self.kill_switch, self.rest
            )
        });
        let (draft, path) = (self.path("sentinel.toml.new"), self.path("sentinel.toml"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::fs::rename(&draft, &path).unwrap();
        path
    }

    /// The gateway with this environment and no other, and `--config`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let usual = if self.user.is_some() { reachable_gateway() } else { gateway() };
        let gateway = self.program.as_deref().unwrap_or(usual);
        let mut command = match &self.first {
            None => Command::new(gateway),
            Some(words) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(format!("{words}; exec \"$0\" \"$@\"")).arg(gateway);
                shell
            }
        };
        command.env_clear().envs(&self.env).current_dir(self.dir.path());
        command.args(args).arg("--config").arg(self.write());
        if let Some(user) = self.user {
            // All files so far are the test's; from now on the gateway makes its own.
            for path in self.files("").iter().flat_map(|file| file.ancestors().collect::<Vec<_>>()) {
                if path.starts_with(self.dir.path()) {
                    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
                }
            }
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, user);
        }
        command
    }

    /// Runs a command that ends by itself; a gateway that must not start finds its input closed.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// A command without `--config`, in the folder of this gateway: its exit code, and what stands on stdout and stderr.
    pub(crate) fn bare(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let program = self.program.as_deref().unwrap_or_else(|| gateway());
        let mut command = Command::new(program);
        command.env_clear().envs(&self.env).current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The exit code and what stands on stderr.
    pub(crate) fn refused(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.run(args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
