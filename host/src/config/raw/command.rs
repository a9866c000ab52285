//! `[[executors]]`: the processes that run commands. `[[commands]]` is read by the executors as well, so it stands in
//! `command::raw`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A process that runs commands for this gateway: `sentinel-gateway executor run FILE`. It has a file, a user and a record of
/// its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawExecutor {
    /// What rules know it by, and `name` in the executor's own file; unique among backends.
    pub(in crate::config) name: Option<String>,
    /// Its socket, relative to this file.
    pub(in crate::config) socket: Option<String>,
    /// The environment that it is for, such as `dev` or `prd`, as in the executor's own file. Capabilities for one environment
    /// are worth nothing in another.
    pub(in crate::config) environment: Option<String>,
    /// The file with the gateway's secret key (Ed25519, PEM), relative to this file: `sentinel-gateway executor keys` makes
    /// one, with the public key for the executor.
    pub(in crate::config) key_file: Option<String>,
    /// Commands under way at once.
    #[schemars(range(min = 1, max = 1_024))]
    pub(in crate::config) max_in_flight: usize,
}

impl Default for RawExecutor {
    fn default() -> Self {
        Self { name: None, socket: None, environment: None, key_file: None, max_in_flight: 16 }
    }
}

/// What becomes of a command that no rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawDefault {
    Allow,
    Ask,
    Deny,
}

/// Which commands are run at once, which are refused, and about which a person is asked first: the plugin
/// `command-policy`. It is asked after the roles, which say who may use which tool at all.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawCommandPolicy {
    /// The environments in which commands may be run; by default those of the variable `ALLOWED_ENVIRONMENTS`, with commas
    /// between them. One of the two is needed.
    pub(in crate::config) allowed_environments: Option<Vec<String>>,
    /// The environments that are production: there a person is always asked, with the highest risk.
    pub(in crate::config) production: Vec<String>,
    /// What becomes of a command that no rule is about: "ask", "deny", or "allow" (not in production).
    pub(in crate::config) default_decision: RawDefault,
    /// The rules, in any order: the strictest that fits decides. `decision` ("allow", "ask" or "deny") and any of `commands`,
    /// `environments`, `subjects`, `roles`, `slots` (lists of values by slot), `risk` ("LOW", "MEDIUM", "HIGH"), `approvers`
    /// (roles), `approvals` (how many), `reason`. The plugin checks them.
    pub(in crate::config) rules: Vec<Map<String, Value>>,
}

impl Default for RawCommandPolicy {
    fn default() -> Self {
        Self {
            allowed_environments: None,
            production: ["prd", "prod", "production"].map(str::to_owned).to_vec(),
            default_decision: RawDefault::Ask,
            rules: Vec::new(),
        }
    }
}
