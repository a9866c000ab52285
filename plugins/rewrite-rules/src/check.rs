//! What may stand in a rule: pointers, patterns, header and tool names.

/// Headers that the gateway or the transport sets, or that carry credentials; rules are no place for either.
const RESERVED: [&str; 16] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// RFC 6901: empty, or steps that each begin with `/`, in which `~` is written `~0` and `/` is written `~1`.
pub(crate) fn pointer(text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err("a JSON pointer begins with `/`".to_owned());
    }
    for (at, _) in text.match_indices('~') {
        if !matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1')) {
            return Err("in a JSON pointer `~` is written `~0`".to_owned());
        }
    }
    Ok(())
}

/// The last step of a pointer with its escapes resolved; none for the empty pointer.
pub(crate) fn last_step(pointer: &str) -> Option<String> {
    let (_, step) = pointer.rsplit_once('/')?;
    Some(step.replace("~1", "/").replace("~0", "~"))
}

/// A pattern for tool names: `*` stands for anything, everything else for itself.
pub(crate) fn glob(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 128 {
        return Err("a pattern has 1 to 128 characters".to_owned());
    }
    if text.contains(|char: char| char.is_control() || "?[]{}\\".contains(char)) {
        return Err("in a pattern only `*` has a meaning; other wildcards do not exist".to_owned());
    }
    Ok(())
}

/// Whether a name fits a pattern. Looks at every part between two `*` where it first occurs, which is
/// enough, and so never goes back to try another place.
pub(crate) fn matches(glob: &str, name: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

/// A header's name: a token of RFC 9110, and none that the gateway keeps for itself.
pub(crate) fn header_name(name: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("is not a header name".to_owned());
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("mcp-") {
        return Err("is set by the gateway alone".to_owned());
    }
    Ok(())
}

/// A header's value: visible ASCII, with blanks only inside.
pub(crate) fn header_value(value: &str) -> bool {
    value.trim_matches([' ', '\t']) == value
        && value.bytes().all(|byte| matches!(byte, b' ' | b'\t' | 0x21..=0x7e))
}

/// A tool's name as MCP recommends it: letters, digits, `_`, `-` and `.`, 1 to 128 of them.
pub(crate) fn tool_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of a pattern, without regard to cost.
    fn slow(glob: &[char], name: &[char]) -> bool {
        match glob.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
            Some((char, rest)) => {
                name.split_first().is_some_and(|(first, tail)| first == char && slow(rest, tail))
            }
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_they_are_defined_to(glob in "[ab*]{0,7}", name in "[ab]{0,9}") {
            let (chars, letters): (Vec<_>, Vec<_>) = (glob.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&glob, &name), slow(&chars, &letters));
        }

        #[test]
        fn a_pointer_made_of_any_keys_is_one(keys in proptest::collection::vec(".{0,5}", 1..4)) {
            let text: String = keys.iter()
                .map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1")))
                .collect();
            prop_assert_eq!(pointer(&text), Ok(()));
            prop_assert_eq!(last_step(&text), keys.last().cloned());
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for bad in ["limit", "/a~", "/a~2", "#/a", "/~~0"] {
            assert!(pointer(bad).is_err(), "{bad}");
        }
        assert_eq!(pointer(""), Ok(()));
    }

    #[test]
    fn headers_of_the_gateway_and_broken_ones_are_refused() {
        for bad in ["Authorization", "cookie", "MCP-Session-Id", "Host", "a b", "", "X:Y", "é"] {
            assert!(header_name(bad).is_err(), "{bad}");
        }
        assert_eq!(header_name("X-Team"), Ok(()));
        assert!(header_value("blue and green") && header_value(""));
        assert!(!header_value("a\r\nX: b") && !header_value(" a") && !header_value("ü"));
    }
}
