//! Headers of an answer that plugins want the caller to get. A door that has headers offers a [`Told`] for its request; the
//! plugins that judge the call write into it, and the door puts what it holds on the answer, whatever that is.

use std::sync::{Arc, Mutex, PoisonError};

/// The headers that a plugin may give: what limits there are (draft-ietf-httpapi-ratelimit-headers), how long something stays
/// (RFC 9745, RFC 8594), and where to go instead (RFC 8288).
const HEADERS: [&str; 5] = ["ratelimit", "ratelimit-policy", "deprecation", "sunset", "link"];
/// The longest value, in bytes.
const MAX_VALUE: usize = 1_024;
/// Most headers that all plugins together may give one answer.
const MAX_ENTRIES: usize = 32;

/// What plugins want the caller of one request to be told.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    plugin: Arc<str>,
    header: &'static str,
    value: String,
}

impl Told {
    /// Takes a header of the answer; what the same plugin said of it before is replaced. Whether the caller will get it: not
    /// with another name than those above, nor with a value that is empty, too long, or no visible ASCII.
    pub(crate) fn add(&self, plugin: &Arc<str>, header: &str, value: &str) -> bool {
        let Some(header) = HEADERS.into_iter().find(|known| known.eq_ignore_ascii_case(header)) else {
            return false;
        };
        let fits = (1..=MAX_VALUE).contains(&value.len())
            && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            && value.trim_ascii() == value;
        if !fits {
            return false;
        }
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.iter().position(|entry| entry.header == header && entry.plugin == *plugin);
        if known.is_none() && entries.len() >= MAX_ENTRIES {
            return false;
        }
        match known.and_then(|place| entries.get_mut(place)) {
            Some(entry) => value.clone_into(&mut entry.value),
            None => entries.push(Entry { plugin: plugin.clone(), header, value: value.to_owned() }),
        }
        true
    }

    /// All headers, in the order in which they were given first.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|entry| (entry.header, entry.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gives_the_headers_it_may_and_corrects_only_itself() {
        let told = Told::default();
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        assert!(told.add(&one, "RateLimit", "\"hour\";r=2"));
        assert!(told.add(&two, "ratelimit", "\"day\";r=9"));
        assert!(told.add(&one, "RATELIMIT", "\"hour\";r=1"));
        let long = "x".repeat(MAX_VALUE + 1);
        for (header, value) in [
            ("Set-Cookie", "a=b"),
            ("Link", ""),
            ("Link", "a\r\nSet-Cookie: b"),
            ("Link", "ä"),
            ("Link", " a"),
            ("Link", long.as_str()),
        ] {
            assert!(!told.add(&one, header, value), "{header}: {value:?}");
        }
        let expected = [("ratelimit", "\"hour\";r=1"), ("ratelimit", "\"day\";r=9")];
        assert_eq!(told.headers(), expected.map(|(header, value)| (header, value.to_owned())));
        for number in 0..100 {
            told.add(&format!("p{number}").into(), "link", "<a>");
        }
        assert_eq!(told.headers().len(), MAX_ENTRIES);
    }
}
