//! Refuses paths that two programs could read differently. A route is chosen by the bytes that were sent; what is left after
//! these checks has one meaning for nginx, HAProxy, Node and the servers behind.
//!
//! Rule: RFC 3986, sections 2.3 (characters that need no escape), 3.3 (path) and 6.2.2.3 (dot segments).

/// Longest path, in bytes.
pub(crate) const MAX_PATH: usize = 8 << 10;
/// Longest query, in bytes.
pub(crate) const MAX_QUERY: usize = 16 << 10;

/// Why a path or a query is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is longer than any route needs.
    #[error("the path or the query is longer than {0} bytes: send less of it")]
    TooLong(usize),
    /// It does not begin with `/`.
    #[error("the request needs a path that begins with `/`")]
    NoPath,
    /// Some servers fold `//`, others do not.
    #[error("the path has an empty segment (`//`): write each slash once")]
    Empty,
    /// `.` and `..`.
    #[error("the path has a segment of dots: write the path that is meant")]
    Dots,
    /// `%2F`, `%5C`, `%00` and other controls.
    #[error(
        "the path has an escape (%{0:02X}) that some servers take for a separator or an end: leave it out"
    )]
    Separator(u8),
    /// `%41` for `A`.
    #[error("the path has an escape (%{0:02X}) for a character that needs none: write the character itself")]
    Needless(u8),
    /// `%` without two digits.
    #[error("a `%` is not followed by two hexadecimal digits")]
    Escape,
    /// `\`, `;`, and what no URI may have.
    #[error("the byte 0x{0:02X} may not stand in the path or query as it is: escape it or leave it out")]
    Byte(u8),
    /// The bytes of a segment are no text.
    #[error("the path is not UTF-8 after its escapes are read")]
    Text,
}

/// Checks a path as it was sent.
///
/// # Errors
/// The first thing that two readers could read differently.
pub fn check(path: &str) -> Result<(), PathError> {
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong(MAX_PATH));
    }
    let Some(rest) = path.strip_prefix('/') else { return Err(PathError::NoPath) };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => return Err(PathError::Empty),
            "." | ".." => return Err(PathError::Dots),
            _ => self::segment(segment)?,
        }
    }
    Ok(())
}

fn segment(text: &str) -> Result<(), PathError> {
    let bytes = text.as_bytes();
    let (mut at, mut escaped) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let byte = escape(bytes, at)?;
            match byte {
                b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(PathError::Separator(byte)),
                _ if is_unreserved(byte) => return Err(PathError::Needless(byte)),
                _ => {}
            }
            escaped |= !byte.is_ascii();
            at += 3;
        } else if is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte) {
            at += 1;
        } else {
            // `;` as well: some servers cut the segment there.
            return Err(PathError::Byte(byte));
        }
    }
    if escaped && decode(text).is_none() {
        return Err(PathError::Text);
    }
    Ok(())
}

/// Checks a query as it was sent. It chooses no route, so only what is no query at all is refused.
///
/// # Errors
/// What no query may have.
pub(crate) fn check_query(query: &str) -> Result<(), PathError> {
    if query.len() > MAX_QUERY {
        return Err(PathError::TooLong(MAX_QUERY));
    }
    let bytes = query.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                if escape(bytes, at)? == 0 {
                    return Err(PathError::Separator(0));
                }
                at += 3;
            }
            // What browsers send as it is, beyond RFC 3986: `[`, `]`, `|`, `^`, braces, quotes.
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'^'..=b'~' | b'"' => at += 1,
            _ => return Err(PathError::Byte(byte)),
        }
    }
    Ok(())
}

/// The byte of an escape.
fn escape(bytes: &[u8], at: usize) -> Result<u8, PathError> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else { return Err(PathError::Escape) };
    u8::try_from(high * 16 + low).map_err(|_| PathError::Escape)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A segment that was checked, with its escapes read once. None if that is no text.
#[must_use]
pub fn decode(segment: &str) -> Option<std::borrow::Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(segment.into());
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            decoded.push(escape(bytes, at).ok()?);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok().map(Into::into)
}

/// Writes a text as one segment of a path.
pub fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_servers_read_differently_is_refused() {
        for path in [
            "",
            "*",
            "x",
            "//",
            "/a//b",
            "/a/./b",
            "/a/..",
            "/..",
            "/.",
            "/a/%2e%2e/b",
            "/%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%7f",
            "/%61dmin",
            "/admin%7E",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a;b",
            "/;/a",
            "/a;jsessionid=1/b",
            "/a?b",
            "/a#b",
            "/a b",
            "/ä",
            "/a%ff",
            "/a%c3",
            "/a%c3%28",
            "/a|b",
            "/a\"",
            "/a<b",
            "/a^b",
            "/a`b",
            "/a{b}",
            "/a[b]",
            "/a%c0%af",
            "/a%e0%80%af",
            "/a\u{1}",
            "/.%2e/a",
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/...",
            "/.a",
            "/a..b",
            "/a%20b",
            "/%C3%A4",
            "/a%3Bb",
            "/a%3fb",
            "/a%25b",
            "/a:b@c=d,e+f",
            "/~x/-_.",
        ] {
            assert_eq!(check(path), Ok(()), "{path:?}");
        }
        assert_eq!(check(&format!("/{}", "a".repeat(MAX_PATH))), Err(PathError::TooLong(MAX_PATH)));
    }

    #[test]
    fn a_query_is_nearly_free() {
        for query in ["", "a=b&c", "a=%20+", "f[a]=1", "q=a|b", "x={\"a\":1}", "a=b?c/d;e"] {
            assert_eq!(check_query(query), Ok(()), "{query:?}");
        }
        for query in ["a=%", "a=%0", "a=%00", "a b", "ä", "a#b", "a\\b", "a<b"] {
            assert!(check_query(query).is_err(), "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "\\PC{1,20}") {
            let mut written = String::from("/");
            encode(&text, &mut written);
            let segment = &written[1..];
            prop_assert_eq!(decode(segment).unwrap(), text.as_str());
            let is_dots = text == "." || text == "..";
            // A segment with a separator cannot be sent, and is refused instead of being misread.
            let odd = text.contains(['/', '\\']) || text.chars().any(|c| c.is_ascii_control());
            prop_assert_eq!(check(&written).is_ok(), !odd && !is_dots);
        }

        /// What other programs do to a path before they choose by it leaves one that was taken as it is.
        #[test]
        fn what_is_taken_is_normal_already(path in "/([a-c%./;\\\\2feE5cC0]{0,6}/){0,3}[a-c%.2fF]{0,6}") {
            if check(&path).is_ok() {
                // nginx: decodes, folds slashes, removes dot segments, and matches that.
                let decoded: String = path.split('/').map(|s| decode(s).unwrap()).collect::<Vec<_>>().join("/");
                prop_assert_eq!(decoded.matches('/').count(), path.matches('/').count());
                prop_assert!(!decoded.contains("//") && !decoded.contains('\\') && !decoded.contains('\0'));
                prop_assert!(decoded.split('/').all(|s| s != "." && s != ".."));
                // Node's `new URL(path)` and browsers: the path stays as it was sent.
                let url = reqwest::Url::parse(&format!("http://x{path}")).unwrap();
                prop_assert_eq!(url.path(), path.as_str());
            }
        }
    }
}
