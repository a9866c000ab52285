//! The part of a log line behind its level and its module: on one line, without secrets and of bounded length, wherever
//! the text came from and whichever part of the gateway logs it.

use std::fmt;

use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};

use crate::redact::Redaction;

/// The longest message of a log line with its fields, in bytes.
const MAX_LINE: usize = 8 << 10;

/// Writes the message and the fields of every event.
#[derive(Debug)]
pub(super) struct CleanFields(pub(super) Redaction);

impl<'writer> FormatFields<'writer> for CleanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut plain = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut plain), fields)?;
        writer.write_str(&self.0.excerpt(&plain, MAX_LINE))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::redact::Secrets;

    #[derive(Clone, Default)]
    pub(in crate::telemetry) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(in crate::telemetry) fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(event: impl FnOnce()) -> String {
        let kept = Kept::default();
        let secrets = Secrets { values: vec!["hunter22".to_owned()], ..Secrets::default() };
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(CleanFields(Redaction::new(&secrets)))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, event);
        let bytes = kept.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let forged = "x\n2026-11-25T00:00:00Z ERROR audit: forged\r\u{1b}[2J\u{9b}1m\u{202e}\u{200b}\u{2028}";
        let text = logged(|| {
            tracing::warn!(name = %forged, quoted = forged, debug = ?forged, "left out: {forged}");
            tracing::warn!(name = %forged);
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.replace('\n', "").contains(crate::text::is_harmful), "{text:?}");
        assert!(text.contains("left out: x"), "{text}");
    }

    #[test]
    fn secrets_are_in_no_event_and_a_long_one_is_cut() {
        let text = logged(|| {
            tracing::error!(error = %"no login for hunter22", url = "https://u:pw@h/", "Bearer abc123def is wrong");
            tracing::error!("{}", "hunter22 ".repeat(100_000));
        });
        assert!(
            !text.contains("hunter22") && !text.contains("pw@") && !text.contains("abc123def"),
            "{text:.300}"
        );
        assert!(text.contains("[redacted]") && text.len() < 10_000, "{}", text.len());
    }
}
