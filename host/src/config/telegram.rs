//! A Telegram bot that shows people what waits, as it is checked.

use super::Secret;

/// The bot, the chat that it writes to, and who may press its buttons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telegram {
    /// Where Telegram's API is, without a slash at the end.
    pub api: String,
    /// The token of the bot.
    pub token: Secret,
    /// The chat that it writes to.
    pub chat: i64,
    /// Those whose buttons count.
    pub users: Vec<TelegramUser>,
}

/// Somebody who may press a button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelegramUser {
    /// Telegram's number of the user.
    pub id: i64,
    /// Who that is here.
    pub subject: String,
    pub role: String,
}
