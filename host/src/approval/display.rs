//! The one text that a person reads before deciding, on every channel the same: one token a line, and every character that
//! could hide or reorder something spelled out.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use unicode_general_category::{GeneralCategory, get_general_category};

use super::{Approval, State};

/// Longer tokens are shown by their ends, their length and their digest, in bytes.
const LONG: usize = 256;
/// So many bytes of each end.
const END: usize = 128;

/// A time of RFC 3339, in whole seconds.
pub(crate) fn time(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "never".to_owned(), |time| time.to_string())
}

/// Everything about an approval. `action` is its canonical text, `ran_before` how often the same ran, `secret` takes out what
/// the gateway keeps secret from everybody.
pub(super) fn text(
    approval: &Approval,
    action: &str,
    ran_before: u64,
    secret: impl Fn(&str) -> Option<String>,
) -> String {
    let mut out = String::new();
    // Writing into memory cannot fail.
    let _infallible = write(&mut out, approval, action, ran_before, secret);
    out
}

fn write(
    out: &mut String,
    approval: &Approval,
    action: &str,
    ran_before: u64,
    secret: impl Fn(&str) -> Option<String>,
) -> std::fmt::Result {
    let hidden = secret(action);
    let shown: Value = serde_json::from_str(hidden.as_deref().unwrap_or(action)).unwrap_or_default();
    let at = |pointer: &str| shown.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    writeln!(out, "approval    {}", approval.id)?;
    writeln!(out, "state       {}", state(approval))?;
    writeln!(out, "risk        {}", approval.risk().as_str())?;
    let asker = &approval.requester;
    writeln!(
        out,
        "asked by    {} (role {}) over {}, {}",
        quoted(&asker.subject),
        quoted(&asker.role),
        asker.door,
        time(approval.created_ms)
    )?;
    for need in &approval.needs {
        writeln!(out, "why         {}: {} [{}]", spelled(&need.reason), spelled(&need.summary), need.guard)?;
        for (name, value) in &need.details {
            writeln!(out, "            {} = {}", spelled(name), quoted(value))?;
        }
        for group in &need.groups {
            let of = if group.roles.is_empty() {
                "all who may decide".to_owned()
            } else {
                spelled(&group.roles.join(", "))
            };
            writeln!(
                out,
                "needs       {} of {of} ({}); {} rejecting it end it",
                group.approve,
                spelled(&group.name),
                group.deny
            )?;
        }
    }
    let run = approval.needs.iter().map(|need| need.run_ms).min().unwrap_or(0) / 1000;
    writeln!(out, "open until  {}; once approved it may run for {run} s", time(approval.decide_by_ms))?;
    for review in &approval.reviews {
        let note = if review.note.is_empty() { String::new() } else { format!(": {}", quoted(&review.note)) };
        let vote = match review.vote {
            super::Vote::Approve => "approved",
            super::Vote::Reject => "rejected",
        };
        writeln!(
            out,
            "review      {vote} by {} (role {}) over {}, {}{note}",
            quoted(&review.by.subject),
            quoted(&review.by.role),
            review.by.door,
            time(review.at_ms)
        )?;
    }
    writeln!(out, "digest      {}", approval.digest)?;
    writeln!(out, "ran before  {ran_before} times")?;
    writeln!(out)?;
    let endpoint = at("/endpoint");
    if !endpoint.is_empty() {
        writeln!(out, "endpoint    {}", quoted(endpoint))?;
    }
    writeln!(out, "runs        {} {}", spelled(at("/method")), quoted(at("/target/name")))?;
    writeln!(
        out,
        "backend     {}, where it is called {}",
        quoted(at("/target/backend")),
        quoted(at("/target/upstream"))
    )?;
    if hidden.is_some() {
        writeln!(out, "note        secrets of the gateway's own configuration are not shown: [redacted]")?;
    }
    let parts = [
        ("", "/params"),
        ("header ", "/headers"),
        ("also ", "/also"),
        ("body", "/body"),
        ("resolved ", "/resolved"),
    ];
    for (name, pointer) in parts {
        tokens(out, name, "", shown.pointer(pointer).unwrap_or(&Value::Null))?;
    }
    if let Some(Value::Object(exact)) = shown.pointer("/exact") {
        for (pointer, number) in exact {
            writeln!(out, "exactly     {} = {}", spelled(pointer), number.as_str().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn state(approval: &Approval) -> String {
    match approval.state {
        State::Approved => format!("approved, until {}", time(approval.ends_ms())),
        State::Consumed => format!("consumed by the call {}", approval.consumed_by.as_deref().unwrap_or("?")),
        State::Cancelled => {
            format!("cancelled: {}", spelled(approval.ended_because.as_deref().unwrap_or("no reason given")))
        }
        other => other.as_str().to_owned(),
    }
}

/// Each leaf on a line of its own, by its pointer.
fn tokens(out: &mut String, name: &str, at: &str, value: &Value) -> std::fmt::Result {
    match value {
        Value::Null if at.is_empty() => Ok(()),
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                let key = spelled(&key.replace('~', "~0").replace('/', "~1"));
                tokens(out, name, &format!("{at}/{key}"), member)?;
            }
            Ok(())
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                tokens(out, name, &format!("{at}/{index}"), item)?;
            }
            Ok(())
        }
        Value::Array(_) | Value::Object(_) if at.is_empty() => Ok(()),
        Value::String(text) => writeln!(out, "  {name}{at} = {}", quoted(text)),
        other => writeln!(out, "  {name}{at} = {other}"),
    }
}

/// A text in quotes, on one line, whatever is in it; a long one by its ends.
fn quoted(text: &str) -> String {
    if text.len() <= LONG {
        return format!("\"{}\"", spelled(text));
    }
    let head = &text[..text.floor_char_boundary(END)];
    let tail = &text[text.ceil_char_boundary(text.len() - END)..];
    let hash = Sha256::digest(text.as_bytes());
    let digest = hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("\"{}\" … \"{}\" [{} bytes, sha256:{digest}]", spelled(head), spelled(tail), text.len())
}

/// A text in which every character can be seen: quotes and control characters as JSON escapes them, and what is invisible,
/// reorders what is read, or is only reserved by Unicode as `⟦U+202E⟧`.
fn spelled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // So that no text can pretend to be a spelled-out character.
            '⟦' | '⟧' => unseen(character, &mut out),
            ' '..='~' => out.push(character),
            _ if is_seen(character) => out.push(character),
            _ => unseen(character, &mut out),
        }
    }
    out
}

fn unseen(character: char, out: &mut String) {
    // Writing into memory cannot fail.
    let _infallible = write!(out, "⟦U+{:04X}⟧", u32::from(character));
}

fn is_seen(character: char) -> bool {
    // Variation selectors and fillers are letters and marks for Unicode, and nothing for the eye.
    if matches!(
        character,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}'
    ) {
        return false;
    }
    !matches!(
        get_general_category(character),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::SpaceSeparator
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_the_display_corpus_can_be_seen() {
        let hidden =
            "a\u{202e}b\u{200b}c\u{e0041}d\u{fe0f}e\u{a0}f\u{1b}[31m\rg\n\th\u{2066}i\u{feff}j\u{3164}";
        let shown = spelled(hidden);
        for character in shown.chars() {
            assert!(
                character == ' ' || is_seen(character) || ('!'..='~').contains(&character),
                "{character:?}"
            );
        }
        for part in [
            "⟦U+202E⟧",
            "⟦U+200B⟧",
            "⟦U+E0041⟧",
            "⟦U+FE0F⟧",
            "⟦U+00A0⟧",
            "⟦U+001B⟧[31m\\r",
            "\\n\\t",
            "⟦U+3164⟧",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(spelled("⟦U+202E⟧"), "⟦U+27E6⟧U+202E⟦U+27E7⟧", "a text cannot pretend");
        assert_eq!(spelled("grüße 你好"), "grüße 你好");
        for point in 0..=0x10_ffff_u32 {
            let Some(character) = char::from_u32(point) else { continue };
            let shown = spelled(&character.to_string());
            assert!(!shown.is_empty() && !shown.chars().any(crate::text::is_harmful), "{point:x}");
        }
    }

    #[test]
    fn a_long_token_is_shown_by_both_ends_and_its_digest_on_one_line() {
        let long = format!("{}\n{}", "a".repeat(5_000), "ü".repeat(2_000));
        let shown = quoted(&long);
        assert!(!shown.contains('\n') && shown.len() < 1_000, "{shown}");
        assert!(shown.contains("[9001 bytes, sha256:"), "{shown}");
    }
}
