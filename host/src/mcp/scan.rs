//! Finds the end of a JSON string, which is most of the work of every reader of raw JSON here.

use memchr::memchr2;

/// How many bytes are looked at one by one before a search in blocks begins: most strings are shorter, and beginning
/// such a search costs more.
const SHORT: usize = 16;

/// The position after the closing quote of the string whose opening quote is at `start`; none if it does not end.
#[must_use]
pub(crate) fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    let mut near = at + SHORT;
    loop {
        if at >= near {
            at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
            // After an escape the next one is often close.
            near = at + SHORT;
        }
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_by_one(bytes: &[u8], start: usize) -> Option<usize> {
        let mut at = start + 1;
        loop {
            match bytes.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_where_looking_at_each_byte_finds_it(parts in proptest::collection::vec("[a\"\\\\é]{0,3}|[a-z]{1,60}", 0..8)) {
            let text = format!("\"{}", parts.concat());
            prop_assert_eq!(string_end(text.as_bytes(), 0), one_by_one(text.as_bytes(), 0));
        }
    }
}
