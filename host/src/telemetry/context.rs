//! The trace that a request belongs to (W3C Trace Context, W3C Baggage). A client's values are read strictly, because
//! they go on to servers and collectors.
//!
//! A value that does not have the form that the standard prescribes counts as not sent.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;

use crate::mcp::splice;

/// Their names, as headers and as members of `_meta` (MCP, "Distributed Tracing Conventions").
pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
pub(crate) const BAGGAGE: &str = "baggage";

/// `00-` 32 digits `-` 16 digits `-` 2 digits. Later versions may have more after that.
const LENGTH: usize = 55;
const MAX_TRACEPARENT: usize = 256;
/// W3C Trace Context, section 3.3.1.5: so many bytes have to be passed on, and members longer than that may go first.
const MAX_TRACESTATE: usize = 512;
const MAX_MEMBERS: usize = 32;
const LONG_MEMBER: usize = 128;
/// W3C Baggage, section 3.3.2.
const MAX_BAGGAGE: usize = 8_192;

/// A span of another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub flags: u8,
}

impl Parent {
    /// Whether its trace is recorded there.
    #[must_use]
    pub(crate) fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

/// The trace context of an HTTP request, in its valid form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// None if only baggage came.
    traceparent: Option<Box<str>>,
    tracestate: Option<Box<str>>,
    baggage: Option<Box<str>>,
}

impl Carried {
    /// The trace context in the headers of a request; `None` if there is none that is valid.
    #[must_use]
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Arc<Self>> {
        let traceparent = headers.get(TRACEPARENT).is_some().then(|| only(headers, TRACEPARENT)).flatten();
        let traceparent = traceparent.filter(|text| parent(text).is_some());
        // Without the one the other says nothing.
        let tracestate = traceparent.as_ref().and_then(|_| state(&all(headers, TRACESTATE)?));
        let baggage = all(headers, BAGGAGE).filter(|text| is_baggage(text));
        if traceparent.is_none() && baggage.is_none() {
            return None;
        }
        let [traceparent, tracestate, baggage] =
            [traceparent, tracestate, baggage].map(|text| text.map(String::into_boxed_str));
        Some(Arc::new(Self { traceparent, tracestate, baggage }))
    }

    /// The span that the request was made in.
    #[must_use]
    pub fn parent(&self) -> Option<Parent> {
        parent(self.traceparent.as_deref()?)
    }

    /// What else the systems on the way wrote about the trace.
    #[must_use]
    pub(crate) fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// What the client tells everybody on the way.
    #[must_use]
    pub(crate) fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }

    /// The headers with which it goes on as it came.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            (TRACEPARENT, self.traceparent.as_deref()),
            (TRACESTATE, self.tracestate.as_deref()),
            (BAGGAGE, self.baggage.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The span that a message was sent in and its state, as `_meta` says it.
#[must_use]
pub fn of_meta(meta: &str) -> Option<(Parent, Option<String>)> {
    let text = |key: &str, most: usize| {
        let json = splice::get(meta, key).filter(|json| json.len() <= most + 2)?;
        serde_json::from_str::<Cow<'_, str>>(json).ok()
    };
    let parent = parent(&text("/traceparent", MAX_TRACEPARENT)?)?;
    // It may be shortened, so it may be longer here than there.
    let state = text("/tracestate", 8 * MAX_TRACESTATE).and_then(|text| state(&text));
    Some((parent, state))
}

/// A `traceparent` (W3C Trace Context, section 3.2). Of a later version than ours the parts that ours has are read.
#[must_use]
pub fn parent(text: &str) -> Option<Parent> {
    let bytes = text.as_bytes();
    let version = hex::<1>(bytes.get(..2)?)?[0];
    let known = version == 0;
    let ends = match bytes.len() {
        LENGTH => true,
        longer => !known && longer > LENGTH && longer <= MAX_TRACEPARENT && bytes.get(LENGTH) == Some(&b'-'),
    };
    if !ends || version == 0xff || [2, 35, 52].iter().any(|at| bytes.get(*at) != Some(&b'-')) {
        return None;
    }
    let parent = Parent {
        trace: hex(bytes.get(3..35)?)?,
        span: hex(bytes.get(36..52)?)?,
        flags: hex::<1>(bytes.get(53..55)?)?[0],
    };
    (parent.trace != [0; 16] && parent.span != [0; 8]).then_some(parent)
}

/// Digits in lower case, as the standard has them.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// A `tracestate` (section 3.3), made short enough; none if a member of it is wrong.
fn state(text: &str) -> Option<String> {
    let mut members: Vec<&str> =
        text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|m| !m.is_empty()).collect();
    if members.is_empty() || members.len() > MAX_MEMBERS || !members.iter().all(|member| is_member(member)) {
        return None;
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>() - 1;
    while !members.is_empty() && length(&members) > MAX_TRACESTATE {
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    (!members.is_empty()).then(|| members.join(","))
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let word = |text: &str, longest: usize, digit: bool| {
        let first = text.bytes().next();
        (1..=longest).contains(&text.len())
            && first.is_some_and(|b| b.is_ascii_lowercase() || digit && b.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(&b))
    };
    let key = match key.split_once('@') {
        Some((tenant, system)) => word(tenant, 241, true) && word(system, 14, false),
        None => word(key, 256, true),
    };
    let printable = |b: u8| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=';
    key && (1..=256).contains(&value.len()) && value.bytes().all(printable)
}

/// Whether it may travel in a header: `key=value` with printable characters, of bounded length (W3C Baggage, section 3).
fn is_baggage(text: &str) -> bool {
    text.len() <= MAX_BAGGAGE
        && text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        && text.split(',').all(|member| member.trim().split_once('=').is_some_and(|(key, _)| !key.is_empty()))
}

/// The only header of a name: two of them have no one meaning.
fn only(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut found = headers.get_all(name).iter();
    let text = found.next()?.to_str().ok()?.trim().to_owned();
    found.next().is_none().then_some(text)
}

/// The headers of a name as one list (RFC 9110, section 5.3).
fn all(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?;
    let texts: Option<Vec<&str>> = headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
    texts.map(|texts| texts.join(","))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_not_and_what_goes_on_is_valid(
            text in "\\PC{0,80}|([a-z0-9@_*/-]{0,12}=[ -~]{0,140},? ?){0,40}",
            hexes in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,9})?",
        ) {
            for text in [&text, &hexes] {
                if let Some(read) = parent(text) {
                    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
                    let said = format!("-{}-{}-{:02x}", hex(&read.trace), hex(&read.span), read.flags);
                    prop_assert_eq!(&text[2..LENGTH], said);
                }
                if let Some(kept) = state(text) {
                    prop_assert!(kept.len() <= MAX_TRACESTATE && kept.split(',').count() <= MAX_MEMBERS);
                    let again = state(&kept);
                    prop_assert_eq!(again.as_ref(), Some(&kept));
                    // What the SDK takes for one, it is.
                    prop_assert!(kept.parse::<opentelemetry::trace::TraceState>().is_ok(), "{}", kept);
                }
            }
        }
    }

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_strictly() {
        let read = parent(GOOD).unwrap();
        assert_eq!((read.trace[0], read.span[7], read.flags, read.is_sampled()), (0x0a, 0x31, 1, true));
        assert!(!parent(&GOOD.replace("-01", "-00")).unwrap().is_sampled());
        // A later version, with more to come.
        assert_eq!(parent(&format!("cc{}-what-is-new", &GOOD[2..])), Some(read));
        assert_eq!(parent(&format!("cc{}", &GOOD[2..])), Some(read));
        for wrong in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &format!("ff{}", &GOOD[2..]),
            &format!("cc{}.more", &GOOD[2..]),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace("8448", "84g8"),
            &GOOD.replacen('-', "_", 1),
            &GOOD.replace("0af7", "ä7"),
            &format!("cc{}-{}", &GOOD[2..], "x".repeat(300)),
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_state_is_passed_on_whole_or_shortened_or_not_at_all() {
        for (text, expected) in [
            ("a=1", Some("a=1")),
            (" a=1 ,\tb@c=x y,", Some("a=1,b@c=x y")),
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
            ("", None),
            (",", None),
            ("a", None),
            ("A=1", None),
            ("a=1,b=", None),
            ("a=1,b=\u{e9}", None),
            ("a=1,=2", None),
            ("a=b=c", None),
            ("a@1=1", None),
        ] {
            assert_eq!(state(text).as_deref(), expected, "{text}");
        }
        let many = |count: usize| (0..count).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(state(&many(32)).unwrap(), many(32));
        assert_eq!(state(&many(33)), None);
        // The long ones go first, and then the last.
        let long = |key: &str, bytes: usize| format!("{key}={}", "x".repeat(bytes));
        let text = [long("a", 100), long("b", 250), long("c", 100), long("d", 100)].join(",");
        assert_eq!(state(&text).unwrap(), [long("a", 100), long("c", 100), long("d", 100)].join(","));
        let text = (0..6).map(|at| long(&format!("k{at}"), 110)).collect::<Vec<_>>().join(",");
        assert_eq!(state(&text).unwrap().split(',').count(), 4);
    }

    #[test]
    fn headers_that_are_wrong_or_doubled_were_not_sent() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            Carried::of_headers(&headers)
        };
        let carried = headers(&[
            ("traceparent", GOOD),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("baggage", "user=ann,x=1;p"),
        ]);
        let carried = carried.unwrap();
        let expected = [("traceparent", GOOD), ("tracestate", "a=1,b=2"), ("baggage", "user=ann,x=1;p")];
        assert_eq!(carried.headers().collect::<Vec<_>>(), expected);
        assert_eq!(headers(&[]), None);
        assert_eq!(headers(&[("traceparent", GOOD), ("traceparent", GOOD)]), None);
        assert_eq!(headers(&[("traceparent", "nonsense"), ("tracestate", "a=1")]), None);
        assert_eq!(headers(&[("tracestate", "a=1")]), None);
        assert_eq!(headers(&[("baggage", "no pair")]), None);
        let only_baggage =
            headers(&[("baggage", "a=1"), ("traceparent", "x"), ("tracestate", "a=1")]).unwrap();
        assert_eq!(only_baggage.headers().collect::<Vec<_>>(), [("baggage", "a=1")]);
        assert!(only_baggage.parent().is_none());
    }

    #[test]
    fn meta_is_read_as_headers_are() {
        let meta = format!(r#"{{"traceparent":"{GOOD}","tracestate":"a=1"}}"#);
        assert_eq!(of_meta(&meta), Some((parent(GOOD).unwrap(), Some("a=1".to_owned()))));
        for wrong in ["{}", r#"{"traceparent":7}"#, r#"{"traceparent":"x"}"#, r#"{"tracestate":"a=1"}"#, "[]"]
        {
            assert_eq!(of_meta(wrong), None, "{wrong}");
        }
        let meta = format!(r#"{{"traceparent":"{GOOD}","tracestate":{}}}"#, "9".repeat(9_000));
        assert_eq!(of_meta(&meta), Some((parent(GOOD).unwrap(), None)));
    }
}
