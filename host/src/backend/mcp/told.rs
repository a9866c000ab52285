//! Requests that changed a session at the server (log level, subscriptions), to be sent again when the server has
//! forgotten the session.

use std::collections::BTreeMap;

use super::errand::Own;
use crate::mcp::splice;

/// How many bytes of them are kept; what does not fit is lost with the session.
const MOST: usize = 1 << 20;

/// The last request about each matter, as it was sent.
#[derive(Debug, Default)]
pub(super) struct Told {
    level: Option<String>,
    /// By URI.
    subscriptions: BTreeMap<String, String>,
    bytes: usize,
}

impl Told {
    /// Whether a request says something that belongs to the session.
    pub(super) fn concerns(method: &str) -> bool {
        matches!(method, "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe")
    }

    /// The server has accepted this.
    pub(super) fn note(&mut self, method: &str, params: &str) {
        if method == Own::SetLevel.method() {
            self.level = Some(params.to_owned()).filter(|params| params.len() <= MOST);
            return;
        }
        let Some(uri) = splice::get(params, "/uri") else { return };
        if let Some(gone) = self.subscriptions.remove(uri) {
            self.bytes -= uri.len() + gone.len();
        }
        let bytes = uri.len() + params.len();
        if method == Own::Subscribe.method() && self.bytes + bytes <= MOST {
            self.bytes += bytes;
            self.subscriptions.insert(uri.to_owned(), params.to_owned());
        }
    }

    /// All of it, to be sent again.
    pub(super) fn again(&self) -> Vec<(Own, String)> {
        let level = self.level.iter().map(|params| (Own::SetLevel, params.clone()));
        level.chain(self.subscriptions.values().map(|params| (Own::Subscribe, params.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_all_of_it_is_bounded() {
        let mut told = Told::default();
        for level in ["debug", "error"] {
            told.note("logging/setLevel", &format!("{{\"level\":\"{level}\"}}"));
        }
        for (method, uri) in
            [("subscribe", "a://1"), ("subscribe", "a://2"), ("subscribe", "a://1"), ("unsubscribe", "a://2")]
        {
            told.note(&format!("resources/{method}"), &format!("{{\"uri\":\"{uri}\"}}"));
        }
        let again = [(Own::SetLevel, "{\"level\":\"error\"}"), (Own::Subscribe, "{\"uri\":\"a://1\"}")];
        assert_eq!(told.again(), again.map(|(own, params)| (own, params.to_owned())));
        for number in 0..3_000 {
            told.note("resources/subscribe", &format!("{{\"uri\":\"a://{number:01000}\"}}"));
        }
        let (held, counted) = (told.subscriptions.iter(), told.bytes);
        assert_eq!(held.map(|(uri, params)| uri.len() + params.len()).sum::<usize>(), counted);
        assert!(counted <= MOST && told.again().len() > 100);
        assert!(Told::concerns("logging/setLevel") && !Told::concerns("tools/call"));
    }
}
