//! `[…]` and the classes with a letter, as ranges that say exactly what ECMA-262 means by them.

use std::fmt::Write as _;

/// One member of a class.
pub(super) enum Member {
    One(char),
    Ranges(Vec<(char, char)>),
    /// `\p{…}`, which both spell alike.
    Property(String),
}

const DIGIT: [(char, char); 1] = [('0', '9')];
const WORD: [(char, char); 4] = [('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
const SPACE: [(char, char); 10] = [
    ('\t', '\r'),
    (' ', ' '),
    ('\u{a0}', '\u{a0}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{2000}', '\u{200a}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{202f}', '\u{202f}'),
    ('\u{205f}', '\u{205f}'),
    ('\u{3000}', '\u{3000}'),
    ('\u{feff}', '\u{feff}'),
];
/// What `.` does not take.
const LINE_ENDS: [(char, char); 3] = [('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')];

/// What a letter after a backslash stands for.
pub(super) fn of_letter(letter: char) -> Option<Vec<(char, char)>> {
    let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
        'd' => &DIGIT,
        'w' => &WORD,
        's' => &SPACE,
        _ => return None,
    };
    Some(if letter.is_ascii_uppercase() { complement(ranges) } else { ranges.to_vec() })
}

pub(super) fn dot() -> String {
    class(false, &[Member::Ranges(complement(&LINE_ENDS))])
}

/// All characters that are in none of the ranges, which are in order.
fn complement(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let before = |c: char| match c {
        '\u{e000}' => Some('\u{d7ff}'),
        c => u32::from(c).checked_sub(1).and_then(char::from_u32),
    };
    let after = |c: char| match c {
        '\u{d7ff}' => Some('\u{e000}'),
        c => char::from_u32(u32::from(c) + 1),
    };
    let mut others = Vec::new();
    let mut from = Some('\0');
    for (first, last) in ranges {
        if let (Some(from), Some(to)) = (from, before(*first))
            && from <= to
        {
            others.push((from, to));
        }
        from = after(*last);
    }
    others.extend(from.map(|from| (from, char::MAX)));
    others
}

/// Spells a class so that no reader can take one of its characters for a sign.
pub(super) fn class(negated: bool, members: &[Member]) -> String {
    if members.is_empty() {
        // `[^]` is everything, `[]` nothing.
        return if negated { r"[\x{0}-\x{10FFFF}]" } else { r"[^\x{0}-\x{10FFFF}]" }.to_owned();
    }
    let mut text = String::from(if negated { "[^" } else { "[" });
    for member in members {
        match member {
            Member::One(c) => one(&mut text, *c),
            Member::Property(property) => text.push_str(property),
            Member::Ranges(ranges) => {
                for (first, last) in ranges {
                    one(&mut text, *first);
                    if first != last {
                        text.push('-');
                        one(&mut text, *last);
                    }
                }
            }
        }
    }
    text.push(']');
    text
}

fn one(text: &mut String, c: char) {
    if c.is_ascii_alphanumeric() {
        text.push(c);
    } else {
        // Writing to a text cannot fail.
        let _ = write!(text, "\\x{{{:X}}}", u32::from(c));
    }
}
