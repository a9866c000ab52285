//! The PROXY protocol (versions 1 and 2 of the text that HAProxy keeps): a proxy in front says, before anything else, whose
//! connection it passes on. Only peers that the operator lists are asked, and those must say it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How a header of version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1, with the end of its line.
const MAX_LINE: usize = 107;
/// Longest rest of a header of version 2: its addresses, and what a proxy adds behind them, which is not looked at.
const MAX_REST: usize = 2_048;
/// How long a proxy may take to say it.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Reads the header, and nothing behind it. None if the proxy speaks for itself, or does not know for whom it speaks.
///
/// # Errors
/// It is none, too long, or cut off.
pub(super) async fn read<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    // The shortest header of either version is longer.
    io.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return second(io).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(wrong("a proxy that is listed sent no PROXY header"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(wrong("its PROXY header is too long"));
        }
        line.push(io.read_u8().await?);
    }
    first(&line).ok_or_else(|| wrong("its PROXY header cannot be read"))
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Version 1: `PROXY TCP4 198.51.100.7 203.0.113.1 56324 443`.
fn first(line: &[u8]) -> Option<Option<SocketAddr>> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.strip_suffix("\r\n")?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let words: Vec<&str> = text.split(' ').collect();
    let [family, source, target, from, to] = words.as_slice() else { return None };
    let fits = |address: &IpAddr| match *family {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    let address = |text: &str| text.parse::<IpAddr>().ok().filter(fits);
    let port = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| plain)
    };
    let (_, _) = (address(target)?, port(to)?);
    Some(Some(SocketAddr::new(address(source)?, port(from)?)))
}

/// Version 2, behind its signature.
async fn second<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 4];
    io.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(wrong("its PROXY header is too long"));
    }
    let mut rest = vec![0; length];
    io.read_exact(&mut rest).await?;
    match (command, family) {
        // A health check of the proxy's own, or no connection over TCP that it could name.
        (0x20, _) | (0x21, 0x00) => Ok(None),
        (0x21, 0x11) => addressed::<4>(&rest),
        (0x21, 0x21) => addressed::<16>(&rest),
        _ => Err(wrong("its PROXY header cannot be read")),
    }
}

/// The addresses of a header of version 2, each of so many bytes: source, target, and the ports of both.
fn addressed<const N: usize>(rest: &[u8]) -> io::Result<Option<SocketAddr>>
where
    [u8; N]: Address,
{
    let cut = || wrong("its PROXY header cannot be read");
    let (source, rest) = rest.split_first_chunk::<N>().ok_or_else(cut)?;
    let (_, rest) = rest.split_first_chunk::<N>().ok_or_else(cut)?;
    let (ports, _) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    Ok(Some(SocketAddr::new(source.address(), u16::from_be_bytes([ports[0], ports[1]]))))
}

/// An address as its bytes.
trait Address {
    fn address(&self) -> IpAddr;
}

impl Address for [u8; 4] {
    fn address(&self) -> IpAddr {
        Ipv4Addr::from(*self).into()
    }
}

impl Address for [u8; 16] {
    fn address(&self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(*self)).to_canonical()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read, and what is left for those who come after.
    fn read_all(bytes: &[u8]) -> (Result<Option<String>, String>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut left = bytes;
        let found = runtime.block_on(read(&mut left));
        let found = found.map(|found| found.map(|address| address.to_string()));
        (found.map_err(|error| error.to_string()), left.len())
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes.extend(b"GET ");
        bytes
    }

    #[test]
    fn both_versions_name_the_client_and_leave_the_rest() {
        let address = |text: &str| (Ok(Some(text.to_owned())), 4);
        for (line, expected) in [
            ("PROXY TCP4 198.51.100.7 203.0.113.1 56324 443\r\nGET ", address("198.51.100.7:56324")),
            ("PROXY TCP6 2001:db8::1 ::1 1 0\r\nGET ", address("[2001:db8::1]:1")),
            ("PROXY UNKNOWN\r\nGET ", (Ok(None), 4)),
            ("PROXY UNKNOWN ffff:: :: 1 2\r\nGET ", (Ok(None), 4)),
        ] {
            assert_eq!(read_all(line.as_bytes()), expected, "{line}");
        }
        let four = [198, 51, 100, 7, 203, 0, 113, 1, 0xdc, 4, 1, 0xbb];
        assert_eq!(read_all(&v2(0x21, 0x11, &four)), address("198.51.100.7:56324"));
        let more = [&four[..], &[4, 0, 2, 1, 1]].concat();
        assert_eq!(
            read_all(&v2(0x21, 0x11, &more)),
            address("198.51.100.7:56324"),
            "what is added is left out"
        );
        let mut six = vec![0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        (six[15], six[33]) = (1, 80);
        assert_eq!(read_all(&v2(0x21, 0x21, &six)), address("[2001:db8::1]:80"));
        assert_eq!(read_all(&v2(0x20, 0x00, &[])), (Ok(None), 4));
        assert_eq!(read_all(&v2(0x21, 0x00, &[1, 2, 3])), (Ok(None), 4));
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
        for line in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY TCP4 198.51.100.7 203.0.113.1 56324\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 198.51.100.7 203.0.113.1 1 2\r\n",
            "PROXY TCP4 198.51.100.7  203.0.113.1 1 2\r\n",
            "PROXY TCP4 198.51.100.07 203.0.113.1 1 2\r\n",
            "PROXY TCP4 198.51.100.7 203.0.113.1 +1 2\r\n",
            "PROXY TCP4 198.51.100.7 203.0.113.1 01 2\r\n",
            "PROXY TCP4 198.51.100.7 203.0.113.1 70000 2\r\n",
            "PROXY UDP4 198.51.100.7 203.0.113.1 1 2\r\n",
            "PROXY TCP4 198.51.100.7 203.0.113.1 1 2",
            long.as_str(),
            "PROXY",
            "",
        ] {
            assert!(read_all(line.as_bytes()).0.is_err(), "{line}");
        }
        for (command, family, rest) in [
            (0x21, 0x12, 12),
            (0x21, 0x31, 216),
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x11, 11),
            (0x21, 0x11, 3_000),
        ] {
            assert!(
                read_all(&v2(command, family, &vec![0; rest])).0.is_err(),
                "{command:x} {family:x} {rest}"
            );
        }
    }

    proptest! {
        /// Whatever comes is a header or an error, and never more than a header is read.
        #[test]
        fn any_bytes_are_read_or_refused(start in 0usize..3, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let start: &[u8] = [&b""[..], b"PROXY ", &SIGNATURE][start];
            let all = [start, &bytes].concat();
            let (found, left) = read_all(&all);
            prop_assert!(left <= all.len());
            if found.is_ok() {
                prop_assert!(all.len() - left >= 15);
            }
        }
    }
}
