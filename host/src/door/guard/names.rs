//! The names a gateway answers to, and the web origins whose pages may call it.

use std::net::{IpAddr, Ipv6Addr};

/// A list entry that would never do what its author meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error(
        "the allowed host {0:?} is not a name with an optional port: write for instance \"gateway.example:8443\""
    )]
    Host(String),
    #[error(
        "the allowed origin {0:?} is not one: write for instance \"https://app.example\", without path or \"*\""
    )]
    Origin(String),
}

/// A host name or address in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Ip(IpAddr),
    /// In lower case.
    Text(String),
}

impl Name {
    fn loopback(&self) -> bool {
        match self {
            Self::Ip(address) => address.is_loopback(),
            Self::Text(name) => name == "localhost",
        }
    }
}

/// A name with an optional port: the value of Host, the middle of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    name: Name,
    port: Option<u16>,
}

impl Authority {
    /// Whether it is a name or an address of the loopback.
    pub(super) fn loopback(&self) -> bool {
        self.name.loopback()
    }

    /// Whether it is this address.
    pub(super) fn is(&self, address: IpAddr) -> bool {
        match self.name {
            Name::Ip(sent) => sent.to_canonical() == address.to_canonical(),
            Name::Text(_) => false,
        }
    }

    /// None for user information, paths, broken addresses, empty names and everything that is not plain ASCII.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
                (Name::Ip(IpAddr::V6(address)), port)
            }
            None => {
                let (name, port) =
                    text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
                let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                if name.is_empty() || !name.bytes().all(known) {
                    return None;
                }
                let name = match name.parse() {
                    Ok(address) => Name::Ip(IpAddr::V4(address)),
                    Err(_) => Name::Text(name.to_ascii_lowercase()),
                };
                (name, port)
            }
        };
        let port = match port {
            // RFC 3986 allows a colon without digits; it means the default port.
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Self { name, port })
    }
}

/// The names a request may be addressed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    loopback: bool,
    listed: Vec<Authority>,
}

impl Hosts {
    /// The configured names (with a port: that port only; without: any), and `localhost`, `127.0.0.1` and `[::1]`
    /// with any port if the door is bound to a loopback address. Bound elsewhere and nothing listed admits nobody.
    ///
    /// # Errors
    /// An entry that is not a name with an optional port.
    pub fn new<S: AsRef<str>>(bound: IpAddr, listed: &[S]) -> Result<Self, ListError> {
        let entry = |text: &S| {
            let text = text.as_ref();
            Authority::parse(text.as_bytes()).ok_or_else(|| ListError::Host(text.to_owned()))
        };
        let listed = listed.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { loopback: bound.is_loopback(), listed })
    }

    pub(super) fn admit(&self, sent: &Authority) -> bool {
        (self.loopback && sent.name.loopback())
            || self
                .listed
                .iter()
                .any(|held| held.name == sent.name && (held.port.is_none() || held.port == sent.port))
    }
}

/// The web origins whose pages may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    loopback: bool,
    listed: Vec<Origin>,
}

/// Scheme in lower case, name, and port unless it is the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    place: Authority,
}

impl Origin {
    /// None for `null`, lists, paths and wildcards.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (scheme, rest) = std::str::from_utf8(bytes).ok()?.split_once("://")?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(known) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let mut place = Authority::parse(rest.as_bytes())?;
        if matches!((scheme.as_str(), place.port), ("http", Some(80)) | ("https", Some(443))) {
            place.port = None;
        }
        Some(Self { scheme, place })
    }

    fn loopback(&self) -> bool {
        matches!(self.scheme.as_str(), "http" | "https") && self.place.name.loopback()
    }
}

impl Origins {
    /// The configured origins, exactly, and `http` and `https` of loopback names with any port if the door is bound
    /// to a loopback address. `null` (sandboxed pages, files) is never admitted.
    ///
    /// # Errors
    /// An entry that is not a scheme, `://` and a name with an optional port.
    pub fn new<S: AsRef<str>>(bound: IpAddr, listed: &[S]) -> Result<Self, ListError> {
        let entry = |text: &S| {
            let text = text.as_ref();
            Origin::parse(text.as_bytes()).ok_or_else(|| ListError::Origin(text.to_owned()))
        };
        let listed = listed.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { loopback: bound.is_loopback(), listed })
    }

    pub(super) fn admit(&self, sent: &[u8]) -> bool {
        Origin::parse(sent)
            .is_some_and(|sent| (self.loopback && sent.loopback()) || self.listed.contains(&sent))
    }
}
