//! Which headers of an HTTP message are not anybody's to set, and for what reason: one list for the gateway, its
//! configuration and its plugins.

/// To whom a header belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It frames the message or belongs to one hop (RFC 9110, section 7.6.1; RFC 9112). Set by hand it breaks a request, or
    /// smuggles another one.
    Connection,
    /// The transport writes it for each message, from what it sends and what it understands.
    Transport,
    /// It says who is calling, or from where.
    Caller,
    /// MCP gives it a meaning, message by message.
    Protocol,
}

const OWNED: [(&str, Owner); 19] = [
    ("accept", Owner::Transport),
    ("accept-encoding", Owner::Transport),
    ("authorization", Owner::Caller),
    ("connection", Owner::Connection),
    ("content-encoding", Owner::Transport),
    ("content-length", Owner::Connection),
    ("content-type", Owner::Transport),
    ("cookie", Owner::Caller),
    ("expect", Owner::Connection),
    ("host", Owner::Connection),
    ("http2-settings", Owner::Connection),
    ("keep-alive", Owner::Connection),
    ("last-event-id", Owner::Transport),
    ("mcp-session-id", Owner::Transport),
    ("origin", Owner::Caller),
    ("te", Owner::Connection),
    ("trailer", Owner::Connection),
    ("transfer-encoding", Owner::Connection),
    ("upgrade", Owner::Connection),
];
/// All headers that begin so have one owner, unless they stand in the list.
const FAMILIES: [(&str, Owner); 2] = [("mcp-", Owner::Protocol), ("proxy-", Owner::Connection)];

/// Who alone may set this header, whatever its case; `None` if everybody may.
#[must_use]
pub fn owner(name: &str) -> Option<Owner> {
    let listed = OWNED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let family = || {
        FAMILIES
            .iter()
            .find(|(start, _)| name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
    };
    listed.or_else(family).map(|(_, owner)| *owner)
}

/// Whether this can be the name of a header: a token (RFC 9110, section 5.6.2).
#[must_use]
pub fn is_name(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_known_in_any_case() {
        for (name, expected) in [
            ("Host", Some(Owner::Connection)),
            ("Proxy-Authorization", Some(Owner::Connection)),
            ("proxy-", Some(Owner::Connection)),
            ("Content-Type", Some(Owner::Transport)),
            ("MCP-Session-Id", Some(Owner::Transport)),
            ("MCP-Protocol-Version", Some(Owner::Protocol)),
            ("authorization", Some(Owner::Caller)),
            ("X-Team", None),
            ("mcp", None),
            ("hosts", None),
            ("prüfe", None),
            ("", None),
        ] {
            assert_eq!(owner(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_is_a_token() {
        assert!(is_name("X-Team") && is_name("x_1.2~"));
        for bad in ["", "a b", "X:Y", "é", "a\r\nb"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
