//! Checks the parts of a rule: pointers, patterns, header and tool names.

use sentinel_plugin_sdk::names::{self, headers};

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

/// A pattern for the tools of a backend, in the language of all rules.
pub(crate) fn tool_pattern(text: &str, backend: &str) -> Result<(), String> {
    names::check(text)?;
    match names::backend_part(text) {
        Some(other) if !names::fits(other, backend) => {
            Err(format!("names the backend {other:?}, but these are the rules of {backend:?}"))
        }
        _ => Ok(()),
    }
}

/// A header's name, and none that the gateway keeps for itself.
pub(crate) fn header_name(name: &str) -> Result<(), String> {
    if !headers::is_name(name) {
        return Err("is not a header name".to_owned());
    }
    match headers::owner(name) {
        Some(_) => Err("is set by the gateway alone".to_owned()),
        None => Ok(()),
    }
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

    proptest! {
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
        for bad in
            ["Authorization", "cookie", "MCP-Session-Id", "Host", "Origin", "Proxy-X", "a b", "", "X:Y", "é"]
        {
            assert!(header_name(bad).is_err(), "{bad}");
        }
        assert_eq!(header_name("X-Team"), Ok(()));
        assert!(header_value("blue and green") && header_value(""));
        assert!(!header_value("a\r\nX: b") && !header_value(" a") && !header_value("ü"));
    }
}
