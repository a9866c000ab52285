//! `sandbox` of a backend: every path is there, and this system can hold it.

use std::path::PathBuf;

use super::super::raw::{RawNetwork, RawReach, RawSandbox};
use super::super::sandbox::{Network, Sandbox, walls};
use super::Checker;

impl Checker<'_> {
    pub(super) fn sandbox(&mut self, at: &str, raw: &RawSandbox) -> Option<Sandbox> {
        let read = self.doors(&format!("{at}/read"), &raw.read);
        let write = self.doors(&format!("{at}/write"), &raw.write);
        let network = match &raw.network {
            RawNetwork::Reach(RawReach::None) => Some(Network::None),
            RawNetwork::Reach(RawReach::All) => Some(Network::All),
            RawNetwork::Hosts(_) => {
                let message = "a list of hosts cannot be held: the kernel tells ports apart, and not hosts";
                let hint = "\"none\", or \"all\" and a firewall for the user that the gateway runs as";
                self.problem(&format!("{at}/network"), message, hint);
                None
            }
        };
        if let Some(network) = network
            && let Err(missing) = walls(network)
        {
            let hint =
                "run the gateway on such a system, or remove the sandbox: nothing is started without it";
            self.problem(at, missing, hint);
        }
        let own = self.path("");
        if let Some(folder) = write.iter().flatten().find(|folder| own.starts_with(folder)) {
            let message = format!("the server may change this file: it is in {}", folder.display());
            self.warn(&format!("{at}/write"), message, "give it a folder of its own");
        }
        Some(Sandbox {
            read: read?,
            write: write?,
            network: network?,
            processes: raw.processes,
            open_files: raw.open_files,
            memory: raw.memory_mb.map(|mb| mb.saturating_mul(1 << 20)),
        })
    }

    /// Paths that exist; relative ones start at the folder of the file. Nothing unless all do.
    fn doors(&mut self, at: &str, typed: &[String]) -> Option<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (index, typed) in typed.iter().enumerate() {
            let (at, path) = (format!("{at}/{index}"), self.path(typed));
            // The real path: what a link points to later is another matter.
            match path.canonicalize() {
                _ if typed.is_empty() => self.problem(&at, "an empty path", "name a file or a folder"),
                Ok(real) => paths.push(real),
                Err(error) => {
                    let hint = if typed.starts_with('~') {
                        "~ is not replaced here; write the whole path"
                    } else {
                        "relative paths start at this file's folder"
                    };
                    self.problem(&at, format!("{}: {error}", path.display()), hint);
                }
            }
        }
        (paths.len() == typed.len()).then_some(paths)
    }
}
