//! `openapi`: documents of other APIs become routes, and the routes of a file a document.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use sentinel_gateway::openapi::{self, Access, Imported, Operation, Pick, Sizes};
use sentinel_gateway::text::line;

use super::place::Place;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make routes of the operations of an OpenAPI document (3.0, 3.1 or 3.2; JSON or YAML)
    Import(Import),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The document
    #[arg(value_name = "FILE")]
    document: PathBuf,
    /// Only operations with this tag; `*` stands for any characters
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only operations with this id; `*` stands for any characters
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// Only operations with this method
    #[arg(long, value_name = "METHOD")]
    method: Vec<String>,
    /// What to make: routes for the configuration file, or the list of tools that they would be for an MCP client
    #[arg(long = "as", value_enum, default_value_t = Form::Routes)]
    form: Form,
    /// Where the API is, instead of the first server that the document names
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// What the API is called in the file, instead of its title
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Who may call the routes that are new
    #[arg(long, value_enum, default_value_t = Auth::Jwt)]
    auth: Auth,
    /// Add the routes to this file, or bring those in it up to date; it is made if it does not exist
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show what would change in the file at --out, and change nothing
    #[arg(long, requires = "out")]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// `[[routes]]` of the configuration file
    Routes,
    /// The list of tools as JSON, as `tools/list` would hold it
    Tools,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Auth {
    Jwt,
    ApiKey,
    None,
}

impl Auth {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
            Self::None => "none",
        }
    }
}

pub(crate) fn execute(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Import(options) = command;
    let (imported, bytes) = read(&options.document)?;
    let pick = Pick { tags: options.tag.clone(), ids: options.id.clone(), methods: options.method.clone() };
    let unmatched = pick.unmatched(&imported.operations);
    if !unmatched.is_empty() {
        let said: Vec<_> =
            unmatched.iter().map(|(what, word)| format!("no operation has the {what} {word:?}")).collect();
        bail!("{}; the document has {}", said.join(", "), known(&imported.operations));
    }
    let mut picked: Vec<&Operation> =
        imported.operations.iter().filter(|operation| pick.takes(operation)).collect();
    let mut notes = imported.notes.to_string();
    picked.retain(|operation| match openapi::unusable(operation) {
        Some(why) => {
            let _ = writeln!(notes, "left out: {} ({})", line(&why), line(&operation.label()));
            false
        }
        None => true,
    });
    let mut said = format!(
        "{}: {} bytes, {} operations{}, {} taken\n",
        options.document.display(),
        bytes,
        imported.operations.len(),
        if imported.left > 0 { format!(" and {} that cannot be read", imported.left) } else { String::new() },
        picked.len()
    );
    said.push_str(&notes);
    let _ = write!(said, "{}", Sizes::of(picked.iter().copied()));
    match options.form {
        Form::Tools => tools(options, &picked, &said),
        Form::Routes => routes(options, &imported, &picked, said),
    }
}

fn tools(options: &Import, picked: &[&Operation], said: &str) -> anyhow::Result<ExitCode> {
    let tools: Vec<_> = picked.iter().map(|operation| openapi::tool(operation)).collect();
    let text = serde_json::to_string_pretty(&serde_json::json!({ "tools": tools }))?;
    match &options.out {
        Some(path) if !options.dry_run => drop(Place::find(path)?.put(&format!("{text}\n"))?),
        Some(_) => {}
        None => drop(super::say_json(&text)?),
    }
    super::complain(said);
    Ok(ExitCode::SUCCESS)
}

fn routes(
    options: &Import,
    imported: &Imported,
    picked: &[&Operation],
    mut said: String,
) -> anyhow::Result<ExitCode> {
    let url = upstream(options, picked)?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => name_of(imported, &options.document),
    };
    let access = Access { upstream: &name, url: &url, auth: options.auth.as_str() };
    let place = options.out.as_deref().map(Place::find).transpose()?;
    let old = place.as_ref().and_then(|place| place.text.clone()).unwrap_or_default();
    let merged = openapi::merge(&old, &imported.operations, picked, &access).with_context(|| {
        format!(
            "{} cannot take routes",
            place.as_ref().map_or(Path::new("the file"), |place| &place.path).display()
        )
    })?;
    said.push_str(&merged.notes.to_string());
    credentials(&mut said, picked, &name);
    let _ = writeln!(
        said,
        "routes to {name:?}: {} new, {} changed, {} as they were",
        merged.added.len(),
        merged.changed.len(),
        merged.same.len()
    );
    if !merged.gone.is_empty() {
        let _ = writeln!(
            said,
            "not in the document, and still in the file: {}; take them out if they are no longer served",
            merged.gone.join(", ")
        );
    }
    let Some(place) = place else {
        super::say(&merged.text)?;
        super::complain(&said);
        return Ok(ExitCode::SUCCESS);
    };
    if merged.text == old {
        let _ = writeln!(said, "{} says all this already", place.path.display());
        super::complain(&said);
        return Ok(ExitCode::SUCCESS);
    }
    super::say(&difference(&old, &merged.text))?;
    if options.dry_run {
        let _ = writeln!(said, "nothing was written");
        super::complain(&said);
        return Ok(ExitCode::SUCCESS);
    }
    said.push_str(&super::import::put(&place, &merged.text)?);
    super::complain(&said);
    super::import::check(&place.path)
}

/// The lines that change, each with three around it.
fn difference(old: &str, new: &str) -> String {
    similar::TextDiff::configure()
        .timeout(std::time::Duration::from_secs(5))
        .diff_lines(old, new)
        .unified_diff()
        .to_string()
}

/// A document that is read with the files beside it that it refers to, and its own length.
fn read(path: &Path) -> anyhow::Result<(Imported, usize)> {
    let text = bounded(path)?;
    let mut document = openapi::read(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let folder = path
        .parent()
        .map_or(Path::new("."), |folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folder = folder.canonicalize().with_context(|| format!("cannot look at {}", folder.display()))?;
    let notes = openapi::bundle(&mut document, &mut |beside| {
        let whole = folder.join(beside).canonicalize().map_err(|error| error.to_string())?;
        // By a link it could be anywhere.
        if !whole.starts_with(&folder) {
            return Err("it is not in the folder of the document".to_owned());
        }
        bounded(&whole).map_err(|error| format!("{error:#}"))
    });
    let mut imported = openapi::operations(&document);
    imported.notes.extend(notes);
    Ok((imported, text.len()))
}

fn bounded(path: &Path) -> anyhow::Result<String> {
    let what = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(what)?;
    ensure!(file.metadata().with_context(what)?.is_file(), "{} is not an ordinary file", path.display());
    let mut bytes = Vec::new();
    file.take(openapi::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).with_context(what)?;
    String::from_utf8(bytes).ok().with_context(|| format!("{} is not a text in UTF-8", path.display()))
}

fn known(operations: &[Operation]) -> String {
    let mut tags: Vec<&str> =
        operations.iter().flat_map(|operation| &operation.tags).map(String::as_str).collect();
    tags.sort_unstable();
    tags.dedup();
    if tags.is_empty() {
        return format!("{} operations without tags", operations.len());
    }
    let more = tags.len().saturating_sub(20);
    let named: Vec<_> = tags.iter().take(20).map(|tag| line(tag)).collect();
    format!(
        "the tags {}{}",
        named.join(", "),
        if more > 0 { format!(" and {more} more") } else { String::new() }
    )
}

/// Where the operations lead. One upstream takes them all, so they must be at one address.
fn upstream(options: &Import, picked: &[&Operation]) -> anyhow::Result<String> {
    if let Some(url) = &options.upstream {
        ensure!(is_absolute(url), "--upstream {url:?} is not an http or https URL");
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let mut servers: Vec<&str> = picked.iter().filter_map(|operation| operation.server.as_deref()).collect();
    servers.sort_unstable();
    servers.dedup();
    match servers.as_slice() {
        [] => bail!("the document does not say where the API is: name it with --upstream URL"),
        [url] if is_absolute(url) => Ok(url.trim_end_matches('/').to_owned()),
        [url] => bail!(
            "the document says only where the API is on its own host, {:?}: name the whole address with --upstream URL",
            line(url)
        ),
        [one, two, ..] => bail!(
            "the operations are served at different addresses ({}, {}): take those of one with --tag, --id or --method, or name the address of all with --upstream URL",
            line(one),
            line(two)
        ),
    }
}

fn is_absolute(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && !url.contains(['?', '#', '{', ' '])
}

/// The title in small letters, as a backend is called.
fn name_of(imported: &Imported, document: &Path) -> String {
    let stem = document.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let from = if imported.title.trim().is_empty() { &stem } else { &imported.title };
    let mut name = String::new();
    for character in from.chars() {
        if character.is_ascii_alphanumeric() {
            name.push(character.to_ascii_lowercase());
        } else if !name.ends_with('-') && !name.is_empty() {
            name.push('-');
        }
    }
    let name: String = name.chars().take(40).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "api".to_owned() } else { name.to_owned() }
}

/// What the API itself wants to see, which the gateway does not have yet.
fn credentials(said: &mut String, picked: &[&Operation], name: &str) {
    let schemes = picked.iter().flat_map(|operation| &operation.security).flat_map(|way| &way.0);
    let mut kinds: Vec<String> =
        schemes.map(|scheme| format!("{} ({})", line(&scheme.name), line(&scheme.kind))).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if !kinds.is_empty() {
        let _ = writeln!(
            said,
            "the API wants credentials: {}; give the upstream {name:?} what it needs, for example headers = {{ Authorization = \"Bearer ${{NAME}}\" }}",
            kinds.join(", ")
        );
    }
}
