//! Which spellings some readers take for a name. Go's `encoding/json` and many others ignore case, and some end a text
//! at a NUL: a member `Name` means nothing to this gateway, and is the name of the tool to such a server.

/// Whether some reader takes this text for that name, which is ASCII. Also true of the name itself.
#[must_use]
pub(super) fn reads_like(text: &str, name: &str) -> bool {
    // One character is one character in every reader's folding, so a text of the same length in bytes is ASCII too.
    if text.len() == name.len() {
        return text.eq_ignore_ascii_case(name);
    }
    if text.len() < name.len() || (text.is_ascii() && !text.contains('\0')) {
        return false;
    }
    let text = text.split_once('\0').map_or(text, |(before, _)| before);
    text.chars().map(folded).eq(name.chars().map(folded))
}

/// A character as readers compare it that ignore case: Unicode's simple folding, and the two kinds of i that only some
/// readers fold. No others fold into ASCII.
fn folded(character: char) -> char {
    match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        '\u{130}' | '\u{131}' => 'i',
        _ => character.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_reader_takes_for_a_name_is_known() {
        for like in ["name", "Name", "NAME", "nAmE", "name\0", "Name\0x"] {
            assert!(reads_like(like, "name"), "{like:?}");
        }
        assert!(reads_like("params", "params") && reads_like("param\u{17f}", "params"));
        assert!(reads_like("ta\u{17f}\u{212a}", "task") && reads_like("ur\u{131}", "uri"));
        assert!(reads_like("\u{130}D", "id"));
        for unlike in ["nam", "names", "na me", "näme", "namé", "", "\0", "n\0ame", "ｎａｍｅ", "nаme"]
        {
            assert!(!reads_like(unlike, "name"), "{unlike:?}");
        }
    }
}
