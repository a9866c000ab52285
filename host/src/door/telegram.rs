//! A Telegram bot: shows people what waits, and takes what they press as their decision.
//!
//! It asks for what was pressed (long polling), so nothing has to reach this machine. Who pressed is known by the number of the
//! account, which the file binds to a subject and a role; their decision is a command like one over the control socket, and
//! comes through the guards onto the record. A chat is a weaker proof than a token, so a button approves nothing that has a high
//! risk, and nothing that the message could not show whole.

mod api;
mod button;
mod message;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::api::{Api, Gone, Pressed};
use self::button::Button;
use self::message::Shape;
use crate::approval::notes::{Event, Note, next};
use crate::approval::{Approvals, Shown, Vote};
use crate::call::{Credential, Principal};
use crate::config::{Telegram, TelegramUser};
use crate::control::{Command, ControlPlane, Report, Request, VERSION};
use crate::mcp::Params;
use crate::pipeline::{Caller, Failure, Operation, Pipeline};

/// The name of this door for guards and the record.
const DOOR: &str = "telegram";
/// Messages that are remembered, to be changed when something happens to what they show.
const SHOWN: usize = 1_000;
/// After a failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The bot at work.
#[derive(Debug)]
pub struct Bot {
    pub settings: Telegram,
    pub approvals: Arc<Approvals>,
    /// Of the main endpoint, whose policies judge decisions.
    pub pipeline: Arc<Pipeline>,
    pub plane: Arc<dyn ControlPlane>,
}

struct Work {
    bot: Bot,
    api: Api,
    /// The message that shows an approval.
    shown: Mutex<HashMap<String, i64>>,
}

/// Works until `stop`, or until Telegram does not know the bot.
pub async fn serve(bot: Bot, stop: CancellationToken) {
    let api = match Api::new(&bot.settings) {
        Ok(api) => api,
        Err(error) => {
            return tracing::error!(
                "telegram: there is no HTTP client, so nobody is shown anything: {error}"
            );
        }
    };
    let work = Work { bot, api, shown: Mutex::default() };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work.show() => {}
        () = work.listen() => {}
    }
}

impl Work {
    /// Shows what comes to wait, and changes the message when something has happened to it.
    async fn show(&self) {
        let mut notes = self.bot.approvals.notes();
        // What waits already was shown before a restart, and its buttons count still.
        while let Some(Note { event, id }) = next(&mut notes).await {
            let Ok(shown) = self.bot.approvals.show(&id).await else { continue };
            let result = match event {
                Event::Requested => self.send(&shown).await,
                Event::Decided | Event::Consumed | Event::Expired | Event::Cancelled => {
                    let known = self.shown.lock().get(&id).copied();
                    match known {
                        Some(message) => self.update(&shown, message).await,
                        None => Ok(()),
                    }
                }
            };
            if let Err(why) = result {
                metrics::counter!("sentinel_notifications_total", "result" => "lost").increment(1);
                tracing::warn!(approval = id, "telegram: {why}");
            }
        }
    }

    async fn send(&self, shown: &Shown) -> Result<(), String> {
        let shape = Shape::of(shown, &self.bot.settings.token);
        let message = self.api.send(&shape.text, &shape.keyboard()).await.map_err(|gone| gone.to_string())?;
        metrics::counter!("sentinel_notifications_total", "result" => "delivered").increment(1);
        let mut known = self.shown.lock();
        if known.len() >= SHOWN {
            known.clear();
        }
        known.insert(shown.approval.id.clone(), message);
        Ok(())
    }

    /// The message as it stands now; without buttons once nothing can be decided any more.
    async fn update(&self, shown: &Shown, message: i64) -> Result<(), String> {
        let shape = Shape::of(shown, &self.bot.settings.token);
        self.api.edit(message, &shape.text, &shape.keyboard()).await.map_err(|gone| gone.to_string())
    }

    /// Takes what people press.
    async fn listen(&self) {
        let (mut from, mut pause) = (0, PAUSE);
        loop {
            match self.api.pressed(from).await {
                Ok((next, pressed)) => {
                    (from, pause) = (next, PAUSE);
                    for press in pressed {
                        let told = self.take(&press).await;
                        if let Err(why) = self.api.answer(&press.query, &told).await {
                            tracing::warn!("telegram: who pressed a button was not answered: {why}");
                        }
                    }
                }
                Err(Gone::Unknown) => {
                    return tracing::error!(
                        "telegram: the token is not known there, so nobody is shown anything: see [approvals.telegram] token"
                    );
                }
                Err(why) => {
                    tracing::warn!("telegram: what people press is not heard: {why}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// What somebody who pressed a button is told.
    async fn take(&self, press: &Pressed) -> String {
        let settings = &self.bot.settings;
        let Some(user) = settings.users.iter().find(|user| user.id == press.user) else {
            tracing::warn!(
                user = press.user,
                "telegram: somebody pressed a button who is not in approvals.telegram.users"
            );
            return "You may not decide here: your account is not known to the gateway.".to_owned();
        };
        if press.chat != Some(settings.chat) {
            tracing::warn!(user = press.user, "telegram: a button in another chat was pressed");
            return "This button is not in the chat that the gateway writes to, so it counts for nothing."
                .to_owned();
        }
        let Some(button) = Button::read(&press.data, &settings.token) else {
            tracing::warn!(user = press.user, "telegram: a button was pressed that is not the gateway's");
            return "This button is not the gateway's.".to_owned();
        };
        let Ok(shown) = self.bot.approvals.show(&button.approval).await else {
            return "There is no such request any more.".to_owned();
        };
        // The message that was pressed may be older than this process.
        self.shown.lock().entry(button.approval.clone()).or_insert(press.message);
        if button.vote == Vote::Approve && !Shape::of(&shown, &settings.token).can_approve {
            return "This cannot be approved here.".to_owned();
        }
        let told = match self.decide(user, &button).await {
            Ok(told) => told,
            Err(why) => why,
        };
        // Whoever looks at it next sees how it stands.
        if let Ok(shown) = self.bot.approvals.show(&button.approval).await
            && let Err(why) = self.update(&shown, press.message).await
        {
            tracing::debug!("telegram: {why}");
        }
        told
    }

    /// The decision of a person, as an operator's command.
    async fn decide(&self, user: &TelegramUser, button: &Button) -> Result<String, String> {
        let principal = Principal {
            subject: user.subject.clone(),
            role: user.role.clone(),
            issuer: None,
            audience: None,
            token_id: None,
            expires_at: None,
            claims: vec![("telegram.user".to_owned(), user.id.to_string())],
        };
        let credential = Credential { door: DOOR, bearer: None, attrs: Vec::new() };
        let caller = Caller::vouched(credential, principal);
        let command = Command::ApprovalsReview {
            id: button.approval.clone(),
            vote: button.vote,
            digest: button.digest.clone(),
        };
        let (name, method) = command.names();
        let reason = format!("pressed in Telegram by the user {}", user.id);
        let request = Request { version: VERSION, command, reason, token: None };
        let params = super::control::params(&request)?;
        let params = Params::read(method, params).map_err(|error| error.to_string())?;
        let operation = Operation { caller: &caller, door: DOOR, name, method, params: &params };
        match self.bot.pipeline.operate(operation, &request, &*self.bot.plane).await {
            Ok(Ok(Report::Done(told))) => Ok(told),
            Ok(Ok(_)) => Err("the gateway answered something else".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(Failure::Denied(denial)) => Err(denial.message),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("chat", &json!(self.bot.settings.chat)).finish_non_exhaustive()
    }
}
