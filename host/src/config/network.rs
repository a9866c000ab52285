//! Networks, and the proxies in front of the gateway that are trusted to say where a request came from.

use std::net::IpAddr;

/// A network: `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads one; none if it is not one, or has bits beyond its length.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most)?
            }
            Some(_) => return None,
            None => most,
        };
        let network = Self { address, bits };
        (network.masked(address) == number(address)).then_some(network)
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == number(self.address)
    }

    fn masked(&self, address: IpAddr) -> u128 {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let host = most - self.bits;
        if host >= 128 { 0 } else { number(address) >> host << host }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The proxies in front of the gateway, and how they say where a request came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hops {
    /// Whose word counts.
    pub trusted: Vec<Network>,
    /// They write `Forwarded` (RFC 7239), and not `X-Forwarded-For`.
    pub forwarded: bool,
    /// Those that begin each connection with the PROXY protocol; then no header is read.
    pub proxied: Vec<Network>,
}
