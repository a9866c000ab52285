//! What people see: tables while it runs, `tests/BENCHMARKS.md` and the chart of the README from what was kept.

mod chart;
mod page;
pub(crate) mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::result::Results;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The results to write about
    #[arg(long)]
    json: PathBuf,
    /// The page to write
    #[arg(long)]
    page: PathBuf,
    /// The chart to write
    #[arg(long)]
    chart: PathBuf,
    /// The output of the layer of single steps, to be kept with the results
    #[arg(long)]
    micro: Option<PathBuf>,
}

/// Writes page and chart.
///
/// # Errors
/// If there are no results, or they are of a quick run, or a file cannot be read or written.
pub(crate) fn write(options: &Options) -> anyhow::Result<()> {
    let results = Results::read(&options.json)?;
    if results.fields.is_empty() && results.growth.is_none() {
        bail!("{} holds nothing yet: `cargo xtask bench all`", options.json.display());
    }
    let abouts = results.fields.values().map(|field| &field.about);
    if abouts.chain(results.growth.iter().map(|growth| &growth.about)).any(|about| about.quick) {
        bail!("{} holds results of a quick run, which mean nothing", options.json.display());
    }
    let micro = match &options.micro {
        Some(path) => fs::read_to_string(path).ok(),
        None => None,
    };
    // What peers said of themselves may name folders of this machine.
    let here = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
    let put = |path: &PathBuf, text: &str| {
        fs::write(path, without(text, &here)).with_context(|| format!("cannot write {}", path.display()))
    };
    put(&options.page, &page::page(&results, micro.as_deref()))?;
    if let Some(field) = results.fields.get("peers").or_else(|| results.fields.get("whole")) {
        put(&options.chart, &chart::chart(field))?;
    }
    println!("written: {}, {}", options.page.display(), options.chart.display());
    Ok(())
}

/// A text that does not name the folder we stand in.
fn without(text: &str, here: &str) -> String {
    // At the root there is no name to hide.
    if here.len() > 1 { text.replace(here, "…") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_said_names_no_folder_of_this_machine() {
        assert_eq!(without("/home/ann/x/peer: no such file", "/home/ann/x"), "…/peer: no such file");
        assert_eq!(without("/usr/bin/peer", "/"), "/usr/bin/peer");
    }
}
