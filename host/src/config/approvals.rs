//! How people are asked, as it is checked.

use std::path::PathBuf;
use std::time::Duration;

use super::{Secret, Telegram, Webhook};

/// How people are asked before a call may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    /// The database; `None` for a mount, and on a machine that has no place for one.
    pub path: Option<PathBuf>,
    /// The database that keeps them instead, by its URL with the password.
    pub postgres: Option<Secret>,
    /// How long a call waits for a decision.
    pub wait: Duration,
    /// How long a request may stay open.
    pub decide: Duration,
    /// The same where a guard sees a high risk.
    pub decide_high: Duration,
    /// How long after the approval the call may be made.
    pub run: Duration,
    /// The roles whose members may decide where a guard names none; empty: all who may decide.
    pub approvers: Vec<String>,
    /// So many approvals permit a call.
    pub approve: u32,
    /// So many rejections end a request.
    pub deny: u32,
    /// Open requests of one caller.
    pub max_pending_per_caller: u32,
    /// Those for one target.
    pub max_pending_per_target: u32,
    /// How long approvals are kept that have ended.
    pub keep: Duration,
    /// Whether they can be asked for and decided over HTTP.
    pub http: bool,
    /// Who hears what happens to them.
    pub webhooks: Vec<Webhook>,
    /// A bot that shows them and takes decisions.
    pub telegram: Option<Telegram>,
}

impl Default for Approvals {
    /// Nobody can be asked.
    fn default() -> Self {
        Self {
            path: None,
            postgres: None,
            wait: Duration::from_secs(50),
            decide: Duration::from_secs(3_600),
            decide_high: Duration::from_secs(900),
            run: Duration::from_secs(300),
            approvers: Vec::new(),
            approve: 1,
            deny: 1,
            max_pending_per_caller: 20,
            max_pending_per_target: 3,
            keep: Duration::from_secs(30 * 86_400),
            http: false,
            webhooks: Vec::new(),
            telegram: None,
        }
    }
}
