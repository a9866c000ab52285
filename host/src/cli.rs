//! The command line. Without a command the gateway runs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use sentinel_gateway::{app, config, text};

mod about;
mod approvals;
mod audit;
mod call;
mod check;
mod client;
mod confined;
mod control;
mod executor;
mod import;
mod init;
mod openapi;
mod place;
mod plan;
mod plugin;
mod routes;
mod token;

/// A gateway between AI agents and what they may touch; every policy is a sandboxed WebAssembly component.
#[derive(Debug, Parser)]
#[command(name = "sentinel-gateway", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  sentinel-gateway import mcp.json -o sentinel.toml   the servers of a client's file, as a file of the gateway
  sentinel-gateway check --probe                      is everything in order, and do the backends start?
  sentinel-gateway client install cursor              register the gateway with a client
  sentinel-gateway --config sentinel.toml             serve one MCP client over stdio
  sentinel-gateway token mint --sub ada --role admin  a token for SENTINEL_TOKEN
  sentinel-gateway audit tail --status denied         watch what is being refused
  sentinel-gateway status                             what is up, off, under way, and who was refused last
  sentinel-gateway kill tool delete_file              switch a tool off, at once and until `revive`
  sentinel-gateway approvals list                     what waits for a person

Exit codes: 0 in order · 1 something failed or is missing on this machine · 2 the configuration is wrong";

#[derive(Debug, Args)]
struct Common {
    /// The configuration file
    #[arg(
        long,
        short,
        global = true,
        env = "SENTINEL_CONFIG",
        value_name = "FILE",
        default_value = "sentinel.toml"
    )]
    config: PathBuf,
    /// error, warn, info, debug, trace, or a filter such as `info,sentinel_gateway::backend=debug`
    #[arg(long, global = true, env = "LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one MCP client over stdin and stdout (the default)
    Run,
    /// Make a first configuration file; asks on a terminal
    Init(init::Options),
    /// Make a configuration file of the servers that MCP clients know
    Import(import::Options),
    /// Load and check everything, start nothing, print every problem with its place in the file
    Check(check::Options),
    /// Show how the gateways that run with the configuration file are: what is up, off, under way, and who was refused last
    Status(control::Status),
    /// Switch a tool, a backend, a caller or everything off, at once and until `revive`
    Kill(control::Kill),
    /// Switch on again what `kill` switched off
    Revive(control::Revive),
    /// See what waits for a person, and approve or reject it
    Approvals(approvals::Approvals),
    /// Restart, stop or start a backend of a gateway that runs
    #[command(subcommand)]
    Backend(control::Backend),
    /// Make or read the tokens that say who is calling
    #[command(subcommand)]
    Token(token::Command),
    /// Read the audit record
    #[command(subcommand)]
    Audit(audit::Command),
    /// Make one call of a tool, as a client on stdio would, and show what every plugin said to it
    Call(call::Options),
    /// Make, build, test and look at plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// List the routes of the HTTP API, or ask a running gateway at each of them
    Routes(routes::Options),
    /// Take over the operations of an OpenAPI document
    #[command(subcommand)]
    Openapi(openapi::Command),
    /// Register the gateway with an MCP client
    #[command(subcommand)]
    Client(client::Command),
    /// The process that runs commands for gateways, with a file, a user and a record of its own
    #[command(subcommand)]
    Executor(executor::Command),
    /// Several commands in stages, each of which people approve, with validation and a way back
    Plan(plan::Options),
    /// About the configuration file: its schema, and what of it is in force
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what makes a shell complete commands and options
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man(about::Man),
    /// What a gateway has a process of its own do; see `confined`
    #[command(hide = true)]
    Confined {
        #[arg(value_enum)]
        work: confined::Work,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Show what the file says now that is not in force in the gateways that run, key by key
    Diff(control::Options),
    /// Put in force what the file says now, as SIGHUP does, and say what came of it
    Apply(control::Apply),
}

/// Runs a command and says what went wrong, once.
pub(crate) fn main() -> ExitCode {
    // Before anything is read: what this process knows is closed to the servers it will start.
    if let Err(error) = app::shield() {
        complain(&format!(
            "the secrets of this process cannot be protected from others of its user: {error}"
        ));
        return ExitCode::from(1);
    }
    if let Some(code) = app::serve_as_keeper_if_asked() {
        return ExitCode::from(code);
    }
    let cli = Cli::parse();
    sentinel_gateway::confined::use_this_program();
    match execute(cli) {
        Ok(code) => code,
        Err(error) => {
            let code = if error.is::<config::Problems>() { 2 } else { 1 };
            complain(&format!("{error:#}"));
            ExitCode::from(code)
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let path = cli.common.config;
    match cli.command {
        None | Some(Command::Run) => {
            let level = cli.common.log_level;
            // On a thread of the runtime. This one is none, and whatever is waited for here is handed over and back
            // between threads: every line of stdin was.
            let run =
                async move { tokio::spawn(async move { app::run(&path, level.as_deref()).await }).await };
            match runtime()?.block_on(run) {
                Ok(done) => done.map(|()| ExitCode::SUCCESS),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => Err(error.into()),
                },
            }
        }
        Some(Command::Init(options)) => init::execute(&path, &options),
        Some(Command::Import(options)) => import::execute(&options),
        Some(Command::Check(options)) => check::execute(&path, &options),
        Some(Command::Token(command)) => token::execute(&path, command),
        Some(Command::Audit(command)) => audit::execute(&path, command),
        Some(Command::Call(options)) => call::execute(&path, cli.common.log_level.as_deref(), &options),
        Some(Command::Plugin(command)) => plugin::execute(command),
        Some(Command::Routes(options)) => routes::execute(&path, &options),
        Some(Command::Openapi(command)) => openapi::execute(&command),
        Some(Command::Client(command)) => client::execute(&path, &command),
        Some(Command::Plan(command)) => plan::execute(&path, command),
        Some(Command::Executor(command)) => executor::execute(command, cli.common.log_level.as_deref()),
        Some(Command::Config(ConfigCommand::Schema)) => say_json(&config::schema_json()),
        Some(Command::Config(ConfigCommand::Diff(options))) => control::diff(&path, &options),
        Some(Command::Config(ConfigCommand::Apply(options))) => control::apply(&path, &options),
        Some(Command::Status(options)) => control::status(&path, &options),
        Some(Command::Kill(kill)) => control::kill(&path, kill),
        Some(Command::Revive(revive)) => control::revive(&path, revive),
        Some(Command::Approvals(what)) => approvals::execute(&path, what),
        Some(Command::Backend(backend)) => control::backend(&path, backend),
        Some(Command::Completions { shell }) => about::completions(shell, &Cli::command()),
        Some(Command::Man(options)) => about::man(&options, Cli::command()),
        Some(Command::Confined { work }) => confined::execute(work),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Prints to stdout, without what would steer a terminal. A reader that has gone (`| head`) is no error.
fn say(text: &str) -> anyhow::Result<ExitCode> {
    say_as_it_is(&text::lines(text))
}

/// Prints JSON to stdout; what would steer a terminal is escaped as JSON does it.
fn say_json(json: &str) -> anyhow::Result<ExitCode> {
    say_as_it_is(&text::json(json))
}

fn say_as_it_is(text: &str) -> anyhow::Result<ExitCode> {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints to stderr, for a person, without the control characters that would steer a terminal.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text::lines(text.trim_end()));
}
