//! `plugin new`: a project that builds, is tested and loads, in any folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

use super::vendor;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What it is called: lower case letters, digits and `-`. A folder of this name is made
    name: String,
    /// What it is to do
    #[arg(long, value_enum)]
    role: Role,
    /// In which language
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    lang: Lang,
    /// Where to put it, instead of a folder of its name
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Says whether a call may go on
    Guard,
    /// Edits requests, answers and lists
    Rewriter,
    /// Says who is calling
    Authenticator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lang {
    Rust,
}

/// The plugin that a project begins as.
struct Template {
    lib: &'static str,
    decide: &'static str,
    manifest: &'static str,
    cases: &'static str,
    /// Its name in this repository.
    name: &'static str,
    world: &'static str,
    /// The `[[plugins]]` entry of the README, below its name and file.
    entry: &'static str,
}

macro_rules! template {
    ($folder:literal, $world:literal, $entry:literal) => {
        Template {
            lib: include_str!(concat!("../../../../plugins/", $folder, "/src/lib.rs")),
            decide: include_str!(concat!("../../../../plugins/", $folder, "/src/decide.rs")),
            manifest: include_str!(concat!("../../../../plugins/", $folder, "/plugin.toml")),
            cases: include_str!(concat!("../../../../plugins/", $folder, "/cases.toml")),
            name: $folder,
            world: $world,
            entry: $entry,
        }
    };
}

const GUARD: Template = template!("template", "guard", "stage = \"guard\"\nconfig = { from = 8, to = 18 }");
const REWRITER: Template = template!(
    "template-rewriter",
    "rewriter",
    "stage = \"rewrite\"\nconfig = { argument = \"limit\", most = 100, hide = [\"/structuredContent/internal\"] }"
);
const AUTHENTICATOR: Template = template!(
    "template-authenticator",
    "authenticator",
    "stage = \"authenticate\"\nsecrets = [\"TEAM_TOKEN\"]\nconfig = { token = \"TEAM_TOKEN\", prefix = \"team_\", subject = \"blue-team\", role = \"member\" }"
);

impl Role {
    fn template(self) -> &'static Template {
        match self {
            Self::Guard => &GUARD,
            Self::Rewriter => &REWRITER,
            Self::Authenticator => &AUTHENTICATOR,
        }
    }
}

pub(super) fn execute(options: &Options) -> anyhow::Result<ExitCode> {
    let Lang::Rust = options.lang;
    named(&options.name)?;
    let folder = options.dir.clone().unwrap_or_else(|| PathBuf::from(&options.name));
    ensure!(
        !folder.exists() || is_empty(&folder),
        "{} is not empty; name another folder with --dir",
        folder.display()
    );
    for (path, content) in project(&options.name, options.role.template())? {
        write(&folder.join(path), &content)?;
    }
    crate::cli::say(&format!(
        "{} is a plugin that builds. Next:\n  cd {}\n  sentinel-gateway plugin build\n  sentinel-gateway plugin test dist/{}.wasm --cases cases.toml\nIts rule stands in src/decide.rs; README.md says how it is loaded.",
        options.name,
        folder.display(),
        options.name,
    ))
}

/// Whether cargo, the gateway's configuration and a file can all have this name.
fn named(name: &str) -> anyhow::Result<()> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    ensure!(
        letters && begins && name.len() <= 64 && !name.ends_with('-'),
        "{name:?} cannot be the name of a plugin: it has at most 64 lower case letters, digits and `-`, and begins with a letter"
    );
    ensure!(
        !["test", "core", "std", "alloc", "sentinel-names", "sentinel-plugin-sdk"].contains(&name),
        "a crate called {name:?} cannot be built; choose another name"
    );
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    std::fs::write(path, content).with_context(failed)
}

/// All files of a new project.
fn project(name: &str, template: &Template) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut files = vendor::files()?;
    files.extend([
        ("Cargo.toml", manifest(name, template.world)?),
        ("src/lib.rs", template.lib.to_owned()),
        ("src/decide.rs", template.decide.to_owned()),
        ("plugin.toml", template.manifest.replace(&format!("\"{}\"", template.name), &format!("\"{name}\""))),
        ("cases.toml", template.cases.to_owned()),
        (
            ".gitignore",
            "/target\n/dist\n# Written by `cargo component` and used by nothing here.\n/src/bindings.rs\n"
                .to_owned(),
        ),
        ("README.md", readme(name, template)),
    ]);
    Ok(files)
}

fn manifest(name: &str, world: &str) -> anyhow::Result<String> {
    let serde = vendor::version("serde")?;
    Ok(format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"
publish = false

[lib]
# cdylib is the plugin; rlib lets the rules be tested natively.
crate-type = ["cdylib", "rlib"]

[dependencies]
# The SDK and the contract came with this project: sentinel/ and wit/.
sentinel-plugin-sdk = {{ path = "sentinel/sdk" }}
serde = {{ version = "{serde}", features = ["derive"] }}

# Function names stay, so that a trap can say where it happened.
[profile.release]
opt-level = 3
lto = true
codegen-units = 1
strip = "debuginfo"
panic = "abort"

# For `cargo component build`; plain cargo does not read it.
[package.metadata.component]
package = "local:{name}"

[package.metadata.component.target]
path = "wit/0.1"
world = "sentinel:plugin/{world}"

[workspace]
"#
    ))
}

fn readme(name: &str, template: &Template) -> String {
    format!(
        r#"# {name}

A plugin of Sentinel Gateway. Its rule stands in `src/decide.rs` and knows nothing of WebAssembly; `src/lib.rs` joins it to the
gateway, `plugin.toml` says what it asks the operator for, and `cases.toml` what it must answer.

```sh
cargo test                                                              # the rule, natively
sentinel-gateway plugin build                                           # dist/{name}.wasm
sentinel-gateway plugin test dist/{name}.wasm --cases cases.toml        # the component, with clock, state and secrets of the cases
sentinel-gateway plugin inspect dist/{name}.wasm                        # all it could touch
```

An entry in the gateway's file loads it, `sentinel-gateway check` says whether it fits, and `sentinel-gateway call TOOL JSON`
shows what it says to one call:

```toml
[[plugins]]
name = "{name}"
wasm = "dist/{name}.wasm"
{}
```

`plugin build` makes a component that imports nothing but the gateway's own interfaces. `cargo build --release --target
wasm32-wasip2` and `cargo component build --release` build it as well, but what they make imports WASI: then `wasi = true` under
`[request]` of `plugin.toml` and `grants = ["wasi"]` in the entry are needed, and each call costs about 20 microseconds more.

`wit/` is the contract and `sentinel/` the SDK, both as they were in the gateway that made this project.
"#,
        template.entry
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_and_the_configuration_take() {
        for good in ["office-hours", "a", "x2"] {
            assert!(named(good).is_ok(), "{good}");
        }
        for bad in ["", "Office", "office_hours", "2x", "-a", "a-", "../x", "test", "sentinel-names"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_project_is_called_as_it_was_asked_for() {
        for role in [Role::Guard, Role::Rewriter, Role::Authenticator] {
            let files = project("my-plugin", role.template()).unwrap();
            let of = |path: &str| files.iter().find(|(name, _)| *name == path).unwrap().1.clone();
            let manifest: toml_edit::DocumentMut = of("plugin.toml").parse().unwrap();
            assert_eq!(manifest["name"].as_str(), Some("my-plugin"), "{role:?}");
            assert!(of("Cargo.toml").contains("name = \"my-plugin\""));
            assert!(of("README.md").contains("wasm = \"dist/my-plugin.wasm\""));
            assert!(files.iter().all(|(_, content)| !content.contains("workspace = true")), "{role:?}");
        }
    }
}
