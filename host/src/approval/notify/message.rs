//! What a message says.

use serde_json::json;

use super::super::notes::Note;
use super::super::{Shown, display};

/// So much of the text that people see is in a message, in bytes: with everything else it is under 20 kB.
const TEXT: usize = 12 << 10;

/// The body of a message. `at_ms` is the moment, in milliseconds since 1970.
pub(super) fn body(note: &Note, shown: &Shown, at_ms: u64) -> String {
    let approval = &shown.approval;
    json!({
        "type": format!("approval.{}", note.event.word()),
        "timestamp": display::time(at_ms),
        "data": {
            "approval_id": approval.id,
            "state": approval.state.as_str(),
            "risk": approval.risk().as_str(),
            "requested_by": approval.requester.subject,
            "target": shown.target,
            "backend": shown.backend,
            "digest": approval.digest,
            "open_until": display::time(approval.ends_ms()),
            "approved_by": approval.approvers(),
            "text": cut(&shown.text, &approval.id),
        },
    })
    .to_string()
}

/// The text, and at its end that it is not all of it, if it is not.
fn cut(text: &str, id: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(TEXT);
    let left = text.len() - end;
    format!(
        "{}\n[NOT ALL OF IT: {left} more bytes; `sentinel-gateway approvals show {id}` shows them]\n",
        &text[..end]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_cut_says_so() {
        assert_eq!(cut("short", "appr_1"), "short");
        let long = "ü".repeat(TEXT);
        let shown = cut(&long, "appr_1");
        assert!(shown.len() < TEXT + 200 && shown.contains("[NOT ALL OF IT: 12288 more bytes"), "{shown}");
        assert!(shown.contains("approvals show appr_1"));
    }
}
