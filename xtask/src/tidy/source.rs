//! Rules for Rust source, and the view of it that the rules need: code without comments, text and tests.

use super::File;

/// A file with more lines of code than this asks to be split by step or by state.
const MAX_CODE_LINES: usize = 500;

pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for File { path, text } in files {
        let Some(text) = text.as_deref().filter(|_| path.ends_with(".rs")) else { continue };
        let documented = ["host/", "plugins/", "xtask/"].iter().any(|folder| path.starts_with(folder));
        let opening = text.lines().find(|line| !line.trim().is_empty());
        if documented && !opening.is_some_and(|line| line.starts_with("//!")) {
            breaches.push(format!("{path}: does not open with a `//!` sentence on why it exists"));
        }
        let code = code_only(text);
        for (number, _) in code.lines().enumerate().filter(|(_, line)| line.contains("#[ignore")) {
            breaches.push(format!("{path}:{}: a test that never runs proves nothing", number + 1));
        }
        if is_test_file(path) {
            continue;
        }
        let lines = without_tests(&code).lines().filter(|line| !line.trim().is_empty()).count();
        if lines > MAX_CODE_LINES {
            breaches.push(format!("{path}: {lines} lines of code, more than {MAX_CODE_LINES}: split it"));
        }
    }
    breaches
}

/// Whether a file of a crate's source holds tests only: the `tests` of a module, kept beside it.
pub(super) fn is_test_file(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

/// The source with comments and the content of strings replaced by blanks; lines keep their numbers.
pub(super) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes.get(at + 1) == Some(&b'*') => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' if !follows_a_word(bytes, at) => end_of_raw_string(bytes, at).unwrap_or(at),
            b'\'' => end_of_char(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The code without the items that exist in tests only, whose lines become blank.
pub(super) fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = ["#[cfg(test)]", "#[cfg(all(test,"].iter().find_map(|mark| out.find(mark)) {
        let attribute = out[start..].find(']').map_or(out.len(), |length| start + length + 1);
        let end = end_of_item(out.as_bytes(), attribute);
        let blank: String = out[start..end].chars().filter(|&c| c == '\n').collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Behind the item that begins at or after `at`: its `;`, or the brace that closes its body.
fn end_of_item(code: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, &byte) in code.iter().enumerate().skip(at) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && byte == b'}' {
                    // `use a::{b, c};` ends behind its semicolon.
                    let rest = &code[index + 1..];
                    let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                    return index + 1 + if rest.get(blanks) == Some(&b';') { blanks + 1 } else { 0 };
                }
            }
            b';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    bytes.get(from..)?.windows(needle.len()).position(|window| window == needle).map(|offset| from + offset)
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#` and so on; none if this `r` begins something else, such as `r#type`.
fn end_of_raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), "#".repeat(hashes).as_bytes()].concat();
    Some(find(bytes, open + 1, &close).map_or(bytes.len(), |at| at + close.len()))
}

/// A character, which may be a quote or a brace; none for a lifetime.
fn end_of_char(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return find(bytes, start + 3, b"'").map(|at| at + 1);
    }
    let text = std::str::from_utf8(&bytes[start + 1..bytes.len().min(start + 5)]);
    let valid = match &text {
        Ok(text) => text,
        // Cut in the middle of a later character.
        Err(error) => {
            std::str::from_utf8(&bytes[start + 1..start + 1 + error.valid_up_to()]).unwrap_or_default()
        }
    };
    let end = start + 1 + valid.chars().next()?.len_utf8();
    (bytes.get(end) == Some(&b'\'')).then_some(end + 1)
}

/// Whether this letter is inside a word: the `r` of `for` begins no raw string. The `b` of `br"…"` does not count.
fn follows_a_word(bytes: &[u8], at: usize) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let Some(before) = at.checked_sub(1) else { return false };
    let prefix =
        matches!(bytes[before], b'b' | b'c') && !before.checked_sub(1).is_some_and(|i| word(bytes[i]));
    word(bytes[before]) && !prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blank() {
        let source = "a // crate::b\nc /* crate::d /* e */ f */ g \"crate::\\\"h\" i r#\"crate::\"j\"# k 'l' '\\'' 'm: n";
        let code = code_only(source);
        assert!(!code.contains("crate"), "{code}");
        let words: Vec<_> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "c", "g", "i", "k", "'m:", "n"]);
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn braces_in_characters_do_not_count() {
        let code = code_only("#[cfg(test)]\nmod tests { fn a() { b('{', \"{\") } }\nuse crate::c;\n");
        assert_eq!(without_tests(&code), "\n\nuse crate::c;\n");
    }

    #[test]
    fn test_items_of_any_shape_are_left_out() {
        let code = "#[cfg(test)]\nuse a::{b, c};\n#[cfg(test)]\n#[allow(x)]\nmod tests;\nfn kept() {}\n";
        let left = without_tests(code);
        assert_eq!(left.trim(), "fn kept() {}");
        assert_eq!(left.lines().count(), code.lines().count());
    }

    #[test]
    fn a_long_file_a_bare_file_and_a_sleeping_test_are_named() {
        let text = format!("{}#[ignore]\n", "let a = 1; // x\n\n// only words\n".repeat(501));
        let files = [File { path: "host/src/long.rs".to_owned(), text: Some(text) }];
        let breaches = check(&files);
        assert_eq!(breaches.len(), 3, "{breaches:?}");
        assert!(breaches[2].contains("502 lines"), "{breaches:?}");
    }
}
