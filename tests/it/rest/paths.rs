//! A path is one route's or nobody's: what other programs could read differently is refused before anything is looked up.

use super::stage::{Caller, Upstream, gateway, raw};
use crate::support::Setup;

#[test]
fn a_path_that_others_read_differently_is_refused() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo(), "");
    let ann = Caller::token(&door, "ann", "admin");
    let mut paths: Vec<String> = [
        "//pets/7",
        "/pets//7",
        "/pets/./7",
        "/pets/../pets/7",
        "/any/../pets/7",
        "/pets/%2e%2e/open/x",
        "/pets/..%2fopen",
        "/pets%2f7",
        "/pets/7%2F",
        "/pets%5c7",
        "/pets\\7",
        "/pets/%00",
        "/pets/7%00.json",
        "/pets/7;v=1",
        "/;/pets/7",
        "/%70ets/7",
        "/pet%73/7",
        "/pets/%37",
        "/pets/%zz",
        "/pets/%",
        "/pets/%c0%af",
        "/pets/%ff",
        "/pets/%e0%80%af",
        "/any/%2e",
        "/any/a%0d%0aX-A:b",
        "/any/%7e",
        "/any/a%09",
        "/any/a%7f",
    ]
    .map(str::to_owned)
    .to_vec();
    for byte in 0..=255_u8 {
        let decoded = format!("/any/%{byte:02x}");
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if unreserved || byte < 0x20 || byte >= 0x7f || b"/\\".contains(&byte) {
            paths.push(decoded);
        }
    }
    let count = paths.len();
    assert!(count > 200, "{count}");
    for path in paths {
        let reply = ann.ask("GET", &path);
        assert_eq!(reply.refusal().0, 400, "{path}: {reply:?}");
    }
    assert_eq!(upstream.asked(), 0);
    // The same with bytes that no client library would send.
    for path in [&b"/pets/\xff"[..], b"/pets/\xc3\xa4", b"/pets/ 7", b"/pets/\x01"] {
        let mut bytes = b"GET ".to_vec();
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(
            format!(" HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", door.address).as_bytes(),
        );
        let status = raw(&door.address, &bytes).map_or(0, |reply| reply.status);
        assert!((400..=404).contains(&status), "{}: {status}", path.escape_ascii());
    }
    // What is left has one meaning here and there.
    for (path, behind) in [
        ("/any/a%20b", "/a%20b"),
        ("/any/%C3%A4/x", "/%C3%A4/x"),
        ("/any/a%3Bb", "/a%3Bb"),
        ("/any/a:b@c,d=e", "/a:b@c,d=e"),
        ("/any/a%3fb%23c", "/a%3Fb%23c"),
    ] {
        let reply = ann.ask("GET", path);
        assert_eq!((reply.status, reply.json()["target"].as_str()), (200, Some(behind)), "{path}");
    }
}
