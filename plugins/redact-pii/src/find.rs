//! Finds personal data in a text. Every search goes over the text once, forwards, and looks at most a few dozen characters
//! back and ahead, so that no text makes it slow.

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Email,
    Phone,
    Card,
    Iban,
    Key,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Email, Self::Phone, Self::Card, Self::Iban, Self::Key];

    /// Its word in the configuration and in what is left in its place.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Key => "key",
        }
    }
}

/// One find: its place in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Find {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: Kind,
}

/// The longest part before the `@` (RFC 5321, section 4.5.3.1.1), and the longest name of a host (4.5.3.1.2).
const LOCAL: usize = 64;
const HOST: usize = 255;
/// Whether a byte may be a letter of a key.
type Letters = fn(u8) -> bool;
/// Beginnings of keys, the least that follows, and what may follow.
const KEYS: [(&str, usize, Letters); 12] = [
    ("AKIA", 16, is_upper),
    ("ASIA", 16, is_upper),
    ("AIza", 35, is_word),
    ("ghp_", 36, is_word),
    ("gho_", 36, is_word),
    ("ghs_", 36, is_word),
    ("github_pat_", 22, is_word),
    ("glpat-", 20, is_word),
    ("sk-", 20, is_word),
    ("sk_live_", 16, is_word),
    ("xoxb-", 20, is_word),
    ("xoxp-", 20, is_word),
];
/// The beginning of a private key in PEM, and what ends it.
const PEM: (&str, &str) = ("-----BEGIN ", "PRIVATE KEY-----");

/// Everything in a text, in its order, without overlaps.
pub(crate) fn all(text: &str) -> Vec<Find> {
    let (bytes, mut finds) = (text.as_bytes(), Vec::new());
    // Within a word nothing begins; an address is found from its middle.
    let mut word = false;
    let mut numbers_from = 0;
    for (at, byte) in bytes.iter().copied().enumerate() {
        match byte {
            b'@' => finds.extend(email(text, at)),
            _ if word => {}
            b'0'..=b'9' | b'+' | b'(' if at >= numbers_from => {
                if let Some(find) = number(bytes, at) {
                    numbers_from = find.end;
                    finds.push(find);
                }
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'-' => {
                let account =
                    (byte.is_ascii_uppercase() && at >= numbers_from).then(|| iban(bytes, at)).flatten();
                if let Some(end) = account {
                    numbers_from = end;
                    finds.push(Find { start: at, end, kind: Kind::Iban });
                } else if let Some(end) = key(text, at) {
                    finds.push(Find { start: at, end, kind: Kind::Key });
                }
            }
            _ => {}
        }
        word = byte.is_ascii_alphanumeric();
    }
    finds.sort_by_key(|find| (find.start, std::cmp::Reverse(find.end)));
    let mut until = 0;
    finds.retain(|find| {
        let free = find.start >= until;
        if free {
            until = find.end;
        }
        free
    });
    finds
}

/// The address around an `@`.
fn email(text: &str, at: usize) -> Option<Find> {
    let local = |c: char| c.is_alphanumeric() || "._%+'-".contains(c);
    let before = &text[..at];
    let (mut start, _) = before.char_indices().rev().take(LOCAL).take_while(|(_, c)| local(*c)).last()?;
    // What only separates it from the sentence before is no part of it.
    while text[start..at].starts_with(['.', '\'', '-', '%']) {
        start += 1;
    }
    let after = &text[at + 1..];
    let host = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
    let length: usize = after.chars().take(HOST).take_while(|c| host(*c)).map(char::len_utf8).sum();
    let name = after[..length].trim_end_matches(['.', '-']);
    let last = name.rsplit('.').next().unwrap_or_default();
    let labels = name.contains('.') && name.split('.').all(|label| !label.is_empty());
    let top = last.chars().count() >= 2 && last.chars().any(char::is_alphabetic);
    (start < at && labels && top).then(|| Find { start, end: at + 1 + name.len(), kind: Kind::Email })
}

/// Where a key ends that begins here.
fn key(text: &str, start: usize) -> Option<usize> {
    let rest = &text.as_bytes()[start..];
    match rest.first()? {
        b'A' | b'g' | b's' | b'x' => KEYS.iter().find_map(|(prefix, least, may)| {
            let tail = rest.strip_prefix(prefix.as_bytes())?;
            let length = tail.iter().take_while(|byte| may(**byte)).count();
            (length >= *least).then_some(start + prefix.len() + length)
        }),
        b'e' if rest.starts_with(b"eyJ") => token(rest).map(|length| start + length),
        b'-' if rest.starts_with(PEM.0.as_bytes()) => {
            let head = &text[start..];
            head.find(PEM.1).filter(|at| *at <= 64 && !head[PEM.0.len()..*at].contains('-'))?;
            let end = head.find("-----END ").and_then(|at| Some(at + head[at..].find(PEM.1)? + PEM.1.len()));
            Some(start + end.unwrap_or(head.len()))
        }
        _ => None,
    }
}

/// The length of a token of three parts (RFC 7519) that begins here.
fn token(bytes: &[u8]) -> Option<usize> {
    let part =
        |from: usize| bytes.get(from..).map(|rest| rest.iter().take_while(|byte| is_word(**byte)).count());
    let first = part(0).filter(|length| *length >= 10)?;
    let second = (bytes.get(first) == Some(&b'.')).then(|| part(first + 1))??;
    let two = first + 1 + second;
    let third = (second >= 4 && bytes.get(two) == Some(&b'.')).then(|| part(two + 1))??;
    Some(two + 1 + third)
}

/// A card or a phone that begins here.
fn number(bytes: &[u8], start: usize) -> Option<Find> {
    let found = card(bytes, start).map(|end| (end, Kind::Card));
    let (end, kind) = found.or_else(|| phone(bytes, start).map(|end| (end, Kind::Phone)))?;
    Some(Find { start, end, kind })
}

/// An account number that begins here (ISO 13616): two letters, two check digits, up to 30 more, in groups of four or without
/// spaces; the check digits are right.
fn iban(bytes: &[u8], start: usize) -> Option<usize> {
    let head = bytes.get(start..start + 4)?;
    if !(head[..2].iter().all(u8::is_ascii_uppercase) && head[2..].iter().all(u8::is_ascii_digit)) {
        return None;
    }
    let mut letters: Vec<(u8, usize)> = Vec::with_capacity(34);
    let mut at = start;
    while letters.len() < 34 {
        match bytes.get(at) {
            Some(byte) if byte.is_ascii_uppercase() || byte.is_ascii_digit() => {
                letters.push((*byte, at + 1));
                at += 1;
            }
            Some(b' ') if letters.len().is_multiple_of(4) => at += 1,
            _ => break,
        }
    }
    // The longest beginning whose check digits are right: a word in capitals may follow.
    (15..=letters.len()).rev().find_map(|length| {
        let end = letters[length - 1].1;
        let ends = bytes.get(end).is_none_or(|next| !is_alphanumeric(*next));
        (ends && checked(letters[..length].iter().map(|(byte, _)| *byte))).then_some(end)
    })
}

/// ISO 7064, MOD 97-10, of the number with its first four characters at the end.
fn checked(iban: impl Iterator<Item = u8> + Clone) -> bool {
    let turned = iban.clone().skip(4).chain(iban.take(4));
    let rest = turned.fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    rest == 1
}

/// The digits of a run with single separators, each with the place after it, and how far it goes.
fn digits(bytes: &[u8], start: usize, most: usize, between: &[u8]) -> Vec<(u8, usize)> {
    let mut digits = Vec::with_capacity(20);
    let (mut at, mut separators) = (start, 0);
    while let Some(byte) = bytes.get(at) {
        if byte.is_ascii_digit() {
            digits.push((byte - b'0', at + 1));
            separators = 0;
            // One more than may be tells that the run is too long.
            if digits.len() > most {
                break;
            }
        } else if between.contains(byte) && separators < 2 && !digits.is_empty() {
            separators += 1;
        } else {
            break;
        }
        at += 1;
    }
    digits
}

/// A card number that begins here (ISO/IEC 7812): 13 to 19 digits of which the last is right by the formula of Luhn.
fn card(bytes: &[u8], start: usize) -> Option<usize> {
    if !matches!(bytes.get(start)?, b'2'..=b'6') {
        return None;
    }
    let digits = digits(bytes, start, 19, b" -");
    (13..=digits.len().min(19)).rev().find_map(|length| {
        let end = digits[length - 1].1;
        let ends = bytes.get(end).is_none_or(|next| !is_alphanumeric(*next));
        let same = digits[..length].iter().all(|(digit, _)| *digit == digits[0].0);
        (ends && !same && luhn(digits[..length].iter().map(|(digit, _)| *digit))).then_some(end)
    })
}

fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let sum: u32 = digits
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => 2 * digit - 9,
            (_, digit) => 2 * digit,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A phone number that begins here: `+` and 8 to 15 digits (E.164), or ten digits in three groups as in North America.
fn phone(bytes: &[u8], start: usize) -> Option<usize> {
    const BETWEEN: &[u8] = b" -./()";
    if bytes[start] == b'+' {
        let digits = digits(bytes, start + 1, 15, BETWEEN);
        let end = digits.last()?.1;
        return (8..=15).contains(&digits.len()).then_some(end);
    }
    let from = start + usize::from(bytes[start] == b'(');
    let digits = digits(bytes, from, 10, BETWEEN);
    let groups =
        |index: usize| digits.get(index).zip(digits.get(index + 1)).is_some_and(|(a, b)| b.1 > a.1 + 1);
    let end = digits.last()?.1;
    let ends = bytes.get(end).is_none_or(|next| !is_alphanumeric(*next));
    let ten = digits.len() == 10 && digits[0].0 >= 2 && groups(2) && groups(5);
    (ten && ends && (0..9).filter(|index| groups(*index)).count() == 2).then_some(end)
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Vec<(Kind, &str)> {
        all(text).iter().map(|find| (find.kind, &text[find.start..find.end])).collect()
    }

    #[test]
    fn each_kind_is_found_in_a_sentence() {
        for (text, kind, part) in [
            ("write to ann.lee+x@mail.example.org, please", Kind::Email, "ann.lee+x@mail.example.org"),
            ("<jörg@bücher.example>.", Kind::Email, "jörg@bücher.example"),
            ("call +49 (30) 901820-0 now", Kind::Phone, "+49 (30) 901820-0"),
            ("call (415) 555-2671.", Kind::Phone, "415) 555-2671"),
            ("paid with 4111 1111 1111 1111 today", Kind::Card, "4111 1111 1111 1111"),
            ("card:5500005555555559", Kind::Card, "5500005555555559"),
            ("to DE89 3704 0044 0532 0130 00 by", Kind::Iban, "DE89 3704 0044 0532 0130 00"),
            ("GB82WEST12345698765432", Kind::Iban, "GB82WEST12345698765432"),
            ("key AKIAIOSFODNN7EXAMPLE!", Kind::Key, "AKIAIOSFODNN7EXAMPLE"),
            ("sk-0123456789abcdef01234567", Kind::Key, "sk-0123456789abcdef01234567"),
            (
                "t eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln x",
                Kind::Key,
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            ),
        ] {
            let found = found(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert_eq!(found[0].0, kind, "{text}");
            assert!(found[0].1.contains(part), "{text}: {found:?}");
        }
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----";
        assert_eq!(found(&format!("a {pem} b")), [(Kind::Key, pem)]);
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "user@localhost",
            "@mention and a@b",
            "4111 1111 1111 1112",
            "order 4111111111111111234567",
            "0000000000000000",
            "DE89 3704 0044 0532 0130 02",
            "2026-11-26T10:00:00.123456789Z",
            "id 123e4567-e89b-12d3-a456-426614174000",
            "1 + 2345",
            "task-list-for-everybody-in-the-house",
            "192.168.100.200",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    proptest! {
        /// Nothing makes it panic, and finds are in order and on the borders of characters.
        #[test]
        fn any_text_can_be_searched(text in "[\\PC@+ 0-9-]{0,200}") {
            let mut until = 0;
            for find in all(&text) {
                prop_assert!(find.start >= until && find.end > find.start);
                prop_assert!(text.is_char_boundary(find.start) && text.is_char_boundary(find.end));
                until = find.end;
            }
        }

        /// An address is found wherever it stands.
        #[test]
        fn an_address_is_found_anywhere(before in "[a-z ]{0,40} ", after in " [a-z ]{0,40}") {
            let text = format!("{before}canary-7@mail.example.org{after}");
            prop_assert!(found(&text).contains(&(Kind::Email, "canary-7@mail.example.org")));
        }
    }
}
