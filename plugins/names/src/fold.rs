//! Names in characters that every client takes.

use std::borrow::Cow;

/// The longest name that every client takes.
pub const MAX_SAFE: usize = 64;
/// `_` and eight digits at the end of a name that was cut.
const MARK: usize = 9;

fn fits(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// A name as all clients take it: many accept `[a-zA-Z0-9_-]{1,64}` only, though MCP allows more. A name that had to be cut
/// ends in a checksum of the whole, so that two long ones stay apart.
#[must_use]
pub fn safe(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_SAFE && name.bytes().all(fits) {
        return Cow::Borrowed(name);
    }
    let spelled: String = name.chars().map(folded).collect();
    if spelled.len() <= MAX_SAFE {
        return Cow::Owned(spelled);
    }
    Cow::Owned(format!("{}_{:08x}", &spelled[..MAX_SAFE - MARK], crc32fast::hash(name.as_bytes())))
}

fn folded(char: char) -> char {
    if char.is_ascii() && fits(char as u8) { char } else { '_' }
}

/// Whether a name is shown as `shown`, as it is or in safe characters. The checksum of one that was cut is not computed
/// again: the question is only whether the operator gave the tool another name.
pub(crate) fn shown_as(own: &str, shown: &str) -> bool {
    if own == shown {
        return true;
    }
    let mut letters = own.chars().map(folded);
    if shown.len() == MAX_SAFE && own.chars().count() > MAX_SAFE {
        return letters.by_ref().take(MAX_SAFE - MARK).eq(shown.chars().take(MAX_SAFE - MARK));
    }
    letters.eq(shown.chars())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_fit_every_client_and_stay_apart() {
        assert_eq!(safe("read_file-2"), "read_file-2");
        assert_eq!(safe("files.read/all"), "files_read_all");
        let long = |end: &str| safe(&format!("{}{end}", "x".repeat(80))).into_owned();
        assert!(long("1").len() == MAX_SAFE && long("1") != long("2"));
    }

    proptest! {
        #[test]
        fn a_name_is_known_by_what_is_shown_of_it(own in "[a-c./ü_-]{1,90}", other in "[d-f]{1,90}") {
            prop_assert!(shown_as(&own, &safe(&own)) && shown_as(&own, &own));
            prop_assert!(!shown_as(&own, &safe(&other)));
        }
    }
}
