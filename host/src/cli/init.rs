//! `init`: writes a first file. It asks on a terminal, takes flags everywhere, and a gateway starts with the file it
//! writes.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use ring::rand::{SecureRandom, SystemRandom};
use sentinel_gateway::{app, config};

use super::client::Client;
use super::import::{self, Head};
use super::place::Place;

/// How long an answer may be.
const LONGEST: u64 = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One person on one machine: everybody who can start the gateway may use it
    Local,
    /// Every caller brings a token
    Jwt,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Who may call
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Serve many clients over HTTP, instead of the one that starts the gateway
    #[arg(long)]
    http: bool,
    /// The first role, which may do everything
    #[arg(long)]
    role: Option<String>,
    /// Take the servers of these files of clients
    #[arg(long, value_name = "FILE")]
    import: Vec<PathBuf>,
    /// Ask nothing: what no flag says is as it usually is
    #[arg(long, short)]
    yes: bool,
    /// Write over the file if it exists; a copy of what it was stays beside it
    #[arg(long)]
    force: bool,
}

/// The answers that the file is made from.
struct Answers {
    mode: Mode,
    http: bool,
    role: String,
    import: Vec<PathBuf>,
}

pub(crate) fn execute(path: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let place = Place::find(path)?;
    ensure!(
        place.text.is_none() || options.force,
        "{} exists: write over it with --force, add servers to it with `import --output FILE --add`, or name another file with --config",
        place.path.display()
    );
    let asks = !options.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let answers = if asks { ask(options)? } else { given(options) };
    ensure!(!answers.role.is_empty() && !answers.role.contains(['"', '\n']), "a role needs a name");
    let imported = import::read(&answers.import, Vec::new())?;
    let key_file = place.path.with_extension("key");
    let key = key_file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let jwt = answers.mode == Mode::Jwt;
    let text = imported.whole(&Head {
        about: "Made by `sentinel-gateway init`.",
        key_file: jwt.then_some(key.as_str()),
        http: answers.http,
        role: &answers.role,
    });
    let mut said = String::new();
    if jwt {
        said.push_str(&make_key(&key_file)?);
    }
    let empty = answers.import.is_empty();
    let text = if empty { format!("{text}{EXAMPLE}") } else { text };
    said.push_str(&import::put(&place, &text)?);
    if !empty {
        said.push_str(&imported.report(None));
    }
    said.push_str(&next(&place.path, &answers));
    super::complain(&said);
    Ok(works(&place.path))
}

/// The example for a file without servers.
const EXAMPLE: &str = r#"
# A server that the gateway starts. Several clients' servers at once: sentinel-gateway import FILE --output THIS --add
# [[backends]]
# name = "files"
# type = "stdio"
# command = "npx"
# args = ["-y", "@modelcontextprotocol/server-filesystem", "/the/folder/it/may/use"]

# A server that is there already.
# [[backends]]
# name = "search"
# type = "http"
# url = "https://mcp.example.org/mcp"
# headers = { Authorization = "Bearer ${SEARCH_KEY}" }
"#;

fn given(options: &Options) -> Answers {
    Answers {
        mode: options.mode.unwrap_or(Mode::Local),
        http: options.http,
        role: options.role.clone().unwrap_or_else(|| "admin".to_owned()),
        import: options.import.clone(),
    }
}

/// Asks what no flag says.
fn ask(options: &Options) -> anyhow::Result<Answers> {
    let mut answers = given(options);
    if options.mode.is_none() {
        let question = "Who may use it? 1: you, on this machine. 2: everybody who brings a token.";
        answers.mode = if choice(question, 2)? == 1 { Mode::Local } else { Mode::Jwt };
    }
    if !options.http {
        let question = "How do clients come? 1: they start the gateway. 2: over HTTP, many at once.";
        answers.http = choice(question, 2)? == 2;
    }
    if options.import.is_empty() {
        for client in Client::value_variants() {
            let Some(file) = client.file(&app::environment).filter(|file| file.is_file()) else { continue };
            let Ok(found) = import::read(std::slice::from_ref(&file), Vec::new()) else { continue };
            if found.on() > 0
                && choice(
                    &format!("Take the {} servers of {}? 1: yes. 2: no.", found.on(), file.display()),
                    2,
                )? == 1
            {
                answers.import.push(file);
            }
        }
    }
    Ok(answers)
}

/// One of so many; the first if nothing is typed.
fn choice(question: &str, most: u32) -> anyhow::Result<u32> {
    for _ in 0..3 {
        let mut err = std::io::stderr().lock();
        write!(err, "{} [1] ", sentinel_gateway::text::line(question))?;
        err.flush()?;
        let mut answer = String::new();
        let read = std::io::Read::take(std::io::stdin().lock(), LONGEST).read_line(&mut answer)?;
        ensure!(read > 0, "nobody answers; --yes asks nothing");
        match answer.trim() {
            "" => return Ok(1),
            typed => match typed.parse() {
                Ok(number) if (1..=most).contains(&number) => return Ok(number),
                _ => writeln!(err, "a number from 1 to {most}")?,
            },
        }
    }
    bail!("no answer that means anything; nothing was written")
}

/// The key that tokens are signed with, in a file of its own; one that is there already stays.
fn make_key(path: &Path) -> anyhow::Result<String> {
    let place = Place::find(path)?;
    if place.text.is_some() {
        return Ok(format!("{} is the key, as it was\n", place.path.display()));
    }
    place.put(&format!("{}\n", random_key()?))?;
    Ok(format!(
        "{} is the key that tokens are signed with: anybody who can read it can make tokens\n",
        place.path.display()
    ))
}

/// 256 random bits, in hex.
fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(bytes.iter().fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    }))
}

/// The commands to type next.
fn next(path: &Path, answers: &Answers) -> String {
    let file = path.display();
    let mut text = "next:\n".to_owned();
    if answers.mode == Mode::Jwt {
        let role = &answers.role;
        let _ = writeln!(
            text,
            "  export SENTINEL_TOKEN=$(sentinel-gateway token mint --sub NAME --role {role} --config {file})"
        );
    }
    let _ = writeln!(text, "  sentinel-gateway check --probe --config {file}");
    if answers.http {
        let _ = writeln!(text, "  sentinel-gateway --config {file}    # serves http://127.0.0.1:9200/mcp");
    }
    let _ = write!(text, "  sentinel-gateway client install CLIENT --config {file}");
    text
}

/// Whether the gateway starts with it. The token of the caller is the next step, and no mistake of the file.
fn works(path: &Path) -> ExitCode {
    let loaded = config::load(path, &|name| {
        app::environment(name).or_else(|| (name == "SENTINEL_TOKEN").then(|| "to be made".to_owned()))
    });
    match loaded {
        Ok(_) => ExitCode::SUCCESS,
        Err(problems) => {
            super::complain(&format!("the gateway does not start with it yet:\n{problems}"));
            ExitCode::from(2)
        }
    }
}
