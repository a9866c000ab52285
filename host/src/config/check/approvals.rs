//! Checks how people are asked, and the rules of rbac that ask them.

use std::time::Duration;

use super::super::raw::{RawApprovalStore, RawRbac, RawTelegram, RawWebhook};
use super::{Checker, Raw, duration};
use crate::config::problem::nearest;
use crate::config::{Approvals, Audit, Secret, Store, Telegram, TelegramUser, Webhook, WebhookKey};

impl Checker<'_> {
    /// Beside the record, unless there is no place for one. All endpoints of a gateway share one file.
    pub(super) fn approvals(&mut self, raw: &Raw, audit: &Audit, mounted: bool) -> Approvals {
        let own = &raw.approvals;
        self.roles_that_decide("/approvals/approvers", &own.approvers, &raw.rbac);
        self.asking_rules(&raw.rbac);
        if mounted && self.typed("/approvals") {
            let text = "approvals are for all endpoints alike, as the main file says";
            self.problem("/approvals", text, "leave it to the main file");
        }
        if own.http && !mounted && raw.http.is_none() {
            let text = "approvals cannot be decided over HTTP, because the gateway does not listen there";
            self.problem("/approvals/http", text, "add [http], or leave this out");
        }
        let beside =
            (raw.audit.dir.is_some() || self.state_home().is_some()).then(|| audit.dir.join("approvals.db"));
        let postgres = match (own.store, &audit.store) {
            (RawApprovalStore::Postgres, Store::Postgres { url, .. }) if !mounted => Some(url.clone()),
            (RawApprovalStore::Postgres, _) if !mounted => {
                let text = "approvals cannot be kept in PostgreSQL, because no database is named";
                self.problem("/approvals/store", text, "add [postgres] with url_env");
                None
            }
            _ => None,
        };
        if own.path.is_some() && own.store == RawApprovalStore::Postgres {
            self.warn(
                "/approvals/path",
                "it has no effect, because approvals are kept in PostgreSQL",
                "remove it",
            );
        }
        let path = match &own.path {
            _ if mounted || own.store == RawApprovalStore::Postgres => None,
            Some(typed) => Some(self.path(typed)),
            None => beside,
        };
        let seconds = |secs: u32| Duration::from_secs(u64::from(secs));
        Approvals {
            path,
            postgres,
            wait: seconds(own.wait_secs),
            decide: seconds(own.decide_secs),
            decide_high: seconds(own.decide_high_secs),
            run: duration(own.run_secs),
            approvers: own.approvers.clone(),
            approve: own.approve.max(1),
            deny: own.deny.max(1),
            max_pending_per_caller: own.max_pending_per_caller,
            max_pending_per_target: own.max_pending_per_target,
            keep: seconds(own.keep_days) * 86_400,
            http: own.http && !mounted,
            telegram: own
                .telegram
                .as_ref()
                .filter(|_| !mounted)
                .and_then(|raw_bot| self.telegram(raw_bot, &raw.rbac)),
            webhooks: if mounted { Vec::new() } else { self.webhooks(&own.webhooks) },
        }
    }

    fn telegram(&mut self, raw: &RawTelegram, rbac: &RawRbac) -> Option<Telegram> {
        const AT: &str = "/approvals/telegram";
        let at = |key: &str| format!("{AT}/{key}");
        let token = match &raw.token {
            Some(typed) => self.interpolate(&at("token"), "", typed).and_then(|token| {
                let text = token.expose();
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
                if !(16..=128).contains(&text.len()) || !text.bytes().all(plain) {
                    let hint = "it looks like 123456789:AA… and comes from @BotFather";
                    self.problem(&at("token"), "this is no token of a bot", hint);
                    return None;
                }
                if token.hidden().is_empty() {
                    let hint = "name a variable or a file: \"${NAME}\", \"${file:PATH}\"";
                    self.warn(&at("token"), "this is a secret written into the file", hint);
                }
                Some(Secret::new(text))
            }),
            None => {
                self.problem(&at("token"), "the bot needs its token", "token = \"${TELEGRAM_TOKEN}\"");
                None
            }
        };
        if raw.chat.is_none() {
            let hint = "chat = -1001234567890, the number of the group, or that of a person";
            self.problem(&at("chat"), "the bot needs the chat that it writes to", hint);
        }
        if raw.users.is_empty() {
            let hint = "users = [{ id = 123456789, subject = \"lea\", role = \"lead\" }]";
            self.warn(&at("users"), "nobody's buttons count, so it only shows what waits", hint);
        }
        let mut users: Vec<TelegramUser> = Vec::new();
        let mut roles = Vec::new();
        for (index, user) in raw.users.iter().enumerate() {
            let own = at(&format!("users/{index}"));
            let (Some(id), Some(subject), Some(role)) = (user.id, &user.subject, &user.role) else {
                let hint = "{ id = 123456789, subject = \"lea\", role = \"lead\" }";
                self.problem(&own, "a user needs an id, a subject and a role", hint);
                continue;
            };
            if users.iter().any(|known| known.id == id) {
                self.problem(&own, format!("the id {id} stands there twice"), "one entry for each account");
            }
            roles.push(role.clone());
            users.push(TelegramUser { id, subject: subject.clone(), role: role.clone() });
        }
        self.roles_that_decide(&at("users"), &roles, rbac);
        let api = match &raw.api {
            Some(typed) => self.url(&at("api"), typed)?.expose().trim_end_matches('/').to_owned(),
            None => "https://api.telegram.org".to_owned(),
        };
        Some(Telegram { api, token: token?, chat: raw.chat?, users })
    }

    fn webhooks(&mut self, raw: &[RawWebhook]) -> Vec<Webhook> {
        const MOST: usize = 8;
        if raw.len() > MOST {
            let text = format!("there are {} webhooks", raw.len());
            self.problem("/approvals/webhooks", text, format!("{MOST} at most"));
        }
        let mut webhooks = Vec::new();
        for (index, typed) in raw.iter().enumerate() {
            let at = format!("/approvals/webhooks/{index}");
            let (url_at, secret_at) = (format!("{at}/url"), format!("{at}/secret"));
            let url = match &typed.url {
                Some(typed) => self.url(&url_at, typed),
                None => {
                    let hint = "url = \"https://example.org/approvals\"";
                    self.problem(&url_at, "a webhook needs its url", hint);
                    None
                }
            };
            let secret = match &typed.secret {
                Some(typed) => {
                    let secret = self.interpolate(&secret_at, "", typed);
                    secret.map(|secret| {
                        if secret.hidden().is_empty() {
                            let hint = "name a variable or a file: \"${NAME}\", \"${file:PATH}\"";
                            self.warn(&secret_at, "this is a secret written into the file", hint);
                        }
                        // Whatever it was made of.
                        Secret::new(secret.expose())
                    })
                }
                None => {
                    let hint = "secret = \"${APPROVALS_WEBHOOK_KEY}\", a text like whsec_ and the base64 of 32 random bytes";
                    self.problem(
                        &secret_at,
                        "a webhook needs the key that its messages are signed with",
                        hint,
                    );
                    None
                }
            };
            let (Some(url), Some(secret)) = (url, secret) else { continue };
            match WebhookKey::parse(secret.expose()) {
                Ok(key) => {
                    webhooks.push(Webhook { name: format!("approvals.webhooks[{index}]"), url, secret, key })
                }
                Err(error) => {
                    let hint = "make one: echo whsec_$(head -c 32 /dev/urandom | base64)";
                    self.problem(&secret_at, error.to_string(), hint);
                }
            }
        }
        webhooks
    }

    fn asking_rules(&mut self, rbac: &RawRbac) {
        for (index, rule) in rbac.approvals.iter().enumerate() {
            let at = format!("/rbac/approvals/{index}");
            self.roles_that_decide(&format!("{at}/approvers"), &rule.approvers, rbac);
            self.roles_that_decide(&format!("{at}/roles"), &rule.roles, rbac);
        }
    }

    /// A role that the file does not define may come with a token all the same, but nobody of it may do anything.
    fn roles_that_decide(&mut self, at: &str, roles: &[String], rbac: &RawRbac) {
        if rbac.roles.is_empty() || self.gone("/rbac/roles") {
            return;
        }
        for (index, role) in roles.iter().enumerate() {
            // The user who runs the gateway, where the file gives them no role of their own.
            if rbac.roles.contains_key(role) || role == super::plugins::OPERATOR {
                continue;
            }
            let known = rbac.roles.keys().map(String::as_str);
            let near = nearest(role, known.clone()).map(|near| format!("did you mean {near}?"));
            let hint =
                near.unwrap_or_else(|| format!("the roles are: {}", known.collect::<Vec<_>>().join(", ")));
            let message = format!("there is no role {role:?} in [rbac.roles]");
            self.problem(&format!("{at}/{index}"), message, hint);
        }
    }
}
