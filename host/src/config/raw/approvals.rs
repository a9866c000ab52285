//! The section `[approvals]`: what people are asked before a call may go on.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Seconds;

/// What happens when a guard wants a person to approve a call, such as `[[rbac.approvals]]` or a plugin of your own. The call
/// waits; people decide with `sentinel-gateway approvals`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawApprovals {
    /// The file that keeps approvals, an SQLite database; by default `approvals.db` in audit.dir. It holds the arguments of the
    /// calls as they are sent, so nobody else may have access to it. Gateways that are started with the same file share it.
    pub(in crate::config) path: Option<String>,
    /// "sqlite" keeps approvals in `path`; "postgres" keeps them in the database of [postgres], which gateways on several machines
    /// share.
    pub(in crate::config) store: RawApprovalStore,
    /// How long a call waits for a decision before its caller is told to come again, in seconds. Many clients give up after 60 s.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) wait_secs: u32,
    /// How long a request may stay open, in seconds. A guard can ask for less.
    #[schemars(range(min = 1, max = 1_209_600))]
    pub(in crate::config) decide_secs: u32,
    /// The same where a guard sees a high risk.
    #[schemars(range(min = 1, max = 1_209_600))]
    pub(in crate::config) decide_high_secs: u32,
    /// How long after the approval the call may be made, in seconds. A guard can ask for less.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 86_400))]
    pub(in crate::config) run_secs: Seconds,
    /// The roles whose members may decide where a guard names none; by default everybody who may decide at all (permission
    /// `approvals.decide`).
    pub(in crate::config) approvers: Vec<String>,
    /// So many approvals permit a call, where a guard does not say how many.
    #[schemars(range(min = 1, max = 20))]
    pub(in crate::config) approve: u32,
    /// So many rejections end a request, where a guard does not say how many.
    #[schemars(range(min = 1, max = 20))]
    pub(in crate::config) deny: u32,
    /// Requests of one caller that may be open at once.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) max_pending_per_caller: u32,
    /// Those of one caller for one tool.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) max_pending_per_target: u32,
    /// Approvals that have ended are removed after so many days.
    #[schemars(range(min = 1, max = 3_650))]
    pub(in crate::config) keep_days: u32,
    /// Whether they can be asked for and decided over HTTP: `/approvals/…` for people and programs that decide, and
    /// `/approvals/request`, `/gateway/token`, `/gateway/execute` and `/commands/…` for those who want a command run. Everybody needs a
    /// credential and the permission for what they do.
    pub(in crate::config) http: bool,
    /// Who hears what happens to them. A webhook is never waited for.
    pub(in crate::config) webhooks: Vec<RawWebhook>,
    /// A Telegram bot that shows people what waits. Its buttons reject whatever waits, and approve what has no high risk.
    pub(in crate::config) telegram: Option<RawTelegram>,
}

/// A bot of Telegram. It asks Telegram for what people press (long polling), so nothing has to reach this machine. Who presses a
/// button is known by the number of their account; whoever has that account has the rights of `subject` and `role` here.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawTelegram {
    /// The bot's token; name a variable or a file for it: "${TELEGRAM_TOKEN}".
    pub(in crate::config) token: Option<String>,
    /// The chat that it writes to. Buttons of messages in other chats count for nothing.
    pub(in crate::config) chat: Option<i64>,
    /// Whose buttons count.
    pub(in crate::config) users: Vec<RawTelegramUser>,
    /// Where Telegram's API is; by default https://api.telegram.org.
    pub(in crate::config) api: Option<String>,
}

/// Somebody whose buttons count.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawTelegramUser {
    /// The number of the account.
    pub(in crate::config) id: Option<i64>,
    /// Who that is here: as the subject of a token.
    pub(in crate::config) subject: Option<String>,
    /// Their role, which needs the permission `approvals.decide`.
    pub(in crate::config) role: Option<String>,
}

/// A receiver that hears of requests, decisions and uses, signed as "Standard Webhooks" say. It gets the text that people are
/// shown, without secrets of the configuration.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawWebhook {
    /// Where it is; `${NAME}` and `${file:PATH}` are replaced.
    pub(in crate::config) url: Option<String>,
    /// The key that the receiver checks signatures with: `whsec_` and the base64 of 24 to 64 bytes; name a variable or a file for
    /// it: "${APPROVALS_WEBHOOK_KEY}".
    pub(in crate::config) secret: Option<String>,
}

/// Where approvals are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawApprovalStore {
    Sqlite,
    Postgres,
}

impl Default for RawApprovals {
    fn default() -> Self {
        Self {
            path: None,
            store: RawApprovalStore::Sqlite,
            wait_secs: 50,
            decide_secs: 3_600,
            decide_high_secs: 900,
            run_secs: Seconds(300.0),
            approvers: Vec::new(),
            approve: 1,
            deny: 1,
            max_pending_per_caller: 20,
            max_pending_per_target: 3,
            keep_days: 30,
            http: false,
            webhooks: Vec::new(),
            telegram: None,
        }
    }
}
