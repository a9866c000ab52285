//! What a message shows: the text that people see on every channel, cut visibly where Telegram takes no more.

use serde_json::{Value, json};

use super::button::Button;
use crate::approval::{Risk, Shown, State, Vote};
use crate::config::Secret;

/// Telegram takes 4,096 units of UTF-16; the rest is for what is said below.
const UNITS: usize = 3_600;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) text: String,
    /// Whether a button may approve it: it has no high risk, and all of it is in the message.
    pub(super) can_approve: bool,
    buttons: Vec<(String, String)>,
}

impl Shape {
    pub(super) fn of(shown: &Shown, token: &Secret) -> Self {
        let approval = &shown.approval;
        let (mut text, whole) = cut(&shown.text);
        let open = approval.state == State::Pending;
        let can_approve = open && whole && approval.risk() < Risk::High;
        if open && !can_approve {
            let why = if whole { "its risk is high" } else { "not all of it is shown here" };
            text += &format!(
                "\nIt cannot be approved here, because {why}. Look at it with: sentinel-gateway approvals approve {}\n",
                approval.id
            );
        }
        let mut buttons = Vec::new();
        if open {
            let votes = [("Approve", Vote::Approve, can_approve), ("Reject", Vote::Reject, true)];
            for (name, vote, _) in votes.into_iter().filter(|(_, _, offered)| *offered) {
                let button = Button::new(vote, &approval.id, &approval.digest);
                buttons.extend(button.map(|button| (name.to_owned(), button.data(token))));
            }
        }
        Self { text, can_approve, buttons }
    }

    /// The buttons, as Telegram wants them.
    pub(super) fn keyboard(&self) -> Value {
        let button = |(text, data): &(String, String)| json!({ "text": text, "callback_data": data });
        let row: Vec<Value> = self.buttons.iter().map(button).collect();
        json!({ "inline_keyboard": if row.is_empty() { Vec::new() } else { vec![row] } })
    }
}

/// As much of a text as a message takes, and whether that is all.
fn cut(text: &str) -> (String, bool) {
    let mut units = 0;
    for (at, character) in text.char_indices() {
        units += character.len_utf16();
        if units > UNITS {
            let left = text.len() - at;
            return (format!("{}\n[NOT ALL OF IT: {left} more bytes]\n", &text[..at]), false);
        }
    }
    (text.to_owned(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_never_too_long_and_says_what_is_missing() {
        assert_eq!(cut("short"), ("short".to_owned(), true));
        for character in ["a", "ü", "你", "😀"] {
            let (text, whole) = cut(&character.repeat(5_000));
            assert!(!whole && text.contains("[NOT ALL OF IT: "), "{character}");
            assert!(text.encode_utf16().count() < 4_000, "{character}");
        }
    }
}
