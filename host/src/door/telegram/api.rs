//! Telegram's API, as much of it as the bot needs (https://core.telegram.org/bots/api). The token stands in the path of every
//! request, so no error says where it went.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Secret, Telegram};

/// How long Telegram waits for something to be pressed, in seconds.
const POLL: u64 = 25;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(POLL + 15);
/// The longest answer, in bytes.
const MOST: usize = 1 << 20;
/// The longest that somebody is told who pressed a button, in characters.
const TOLD: usize = 190;

/// Why Telegram did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    #[error("the token is not known there")]
    Unknown,
    #[error("it answered {0}")]
    Refused(String),
    #[error("it cannot be reached: {0}")]
    Away(String),
}

/// The API for one bot.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    base: String,
    token: Secret,
    chat: i64,
}

/// A button that somebody pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pressed {
    pub(super) query: String,
    pub(super) user: i64,
    /// The chat that the message is in; none where Telegram does not say.
    pub(super) chat: Option<i64>,
    pub(super) message: i64,
    pub(super) data: String,
}

#[derive(Deserialize)]
struct Said {
    ok: bool,
    #[serde(default)]
    result: Value,
    description: Option<String>,
}

impl Api {
    pub(super) fn new(settings: &Telegram) -> reqwest::Result<Self> {
        let client = crate::approval::notify::client(PATIENCE)?;
        let Telegram { api, token, chat, .. } = settings;
        Ok(Self { client, base: api.clone(), token: token.clone(), chat: *chat })
    }

    /// Sends a message, and gives its number.
    pub(super) async fn send(&self, text: &str, keyboard: &Value) -> Result<i64, Gone> {
        let params = json!({
            "chat_id": self.chat,
            "text": text,
            "reply_markup": keyboard,
            "link_preview_options": { "is_disabled": true },
            "protect_content": true,
        });
        let sent = self.call("sendMessage", &params).await?;
        sent["message_id"].as_i64().ok_or_else(|| Gone::Refused("a message without a number".to_owned()))
    }

    /// Changes a message.
    pub(super) async fn edit(&self, message: i64, text: &str, keyboard: &Value) -> Result<(), Gone> {
        let params = json!({
            "chat_id": self.chat,
            "message_id": message,
            "text": text,
            "reply_markup": keyboard,
            "link_preview_options": { "is_disabled": true },
        });
        match self.call("editMessageText", &params).await {
            // It says so already.
            Err(Gone::Refused(why)) if why.contains("not modified") => Ok(()),
            done => done.map(drop),
        }
    }

    /// Tells somebody what came of what they pressed.
    pub(super) async fn answer(&self, query: &str, text: &str) -> Result<(), Gone> {
        let text: String = text.chars().take(TOLD).collect();
        let params = json!({ "callback_query_id": query, "text": text, "show_alert": true });
        self.call("answerCallbackQuery", &params).await.map(drop)
    }

    /// What was pressed since the update before `from`, and the next such number.
    pub(super) async fn pressed(&self, from: i64) -> Result<(i64, Vec<Pressed>), Gone> {
        let params = json!({ "offset": from, "timeout": POLL, "allowed_updates": ["callback_query"] });
        let updates = self.call("getUpdates", &params).await?;
        let updates = updates.as_array().map(Vec::as_slice).unwrap_or_default();
        let next = updates.iter().filter_map(|update| update["update_id"].as_i64()).max();
        let next = next.map_or(from, |last| last.saturating_add(1).max(from));
        Ok((next, updates.iter().filter_map(pressed).collect()))
    }

    async fn call(&self, method: &str, params: &Value) -> Result<Value, Gone> {
        let url = format!("{}/bot{}/{method}", self.base, self.token.expose());
        let away = |error: reqwest::Error| Gone::Away(error.without_url().to_string());
        let mut answer = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .body(params.to_string())
            .send()
            .await
            .map_err(away)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(away)? {
            if body.len() + piece.len() > MOST {
                return Err(Gone::Refused("something that is too long".to_owned()));
            }
            body.extend_from_slice(&piece);
        }
        if matches!(status.as_u16(), 401 | 404) {
            return Err(Gone::Unknown);
        }
        let said: Said =
            serde_json::from_slice(&body).map_err(|_| Gone::Refused(format!("{status}, and no JSON")))?;
        if said.ok {
            return Ok(said.result);
        }
        let why: String = said.description.unwrap_or_default().chars().take(200).collect();
        Err(Gone::Refused(format!("{status}: {why}")))
    }
}

/// A button in an update.
fn pressed(update: &Value) -> Option<Pressed> {
    let query = &update["callback_query"];
    Some(Pressed {
        query: query["id"].as_str()?.to_owned(),
        user: query["from"]["id"].as_i64()?,
        chat: query["message"]["chat"]["id"].as_i64(),
        message: query["message"]["message_id"].as_i64().unwrap_or_default(),
        data: query["data"].as_str().unwrap_or_default().to_owned(),
    })
}
