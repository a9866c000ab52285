//! A guest's log lines: some reach the operator, a flood does not.

use std::io::Write;

use parking_lot::Mutex;

use super::*;

/// What was logged while it was the subscriber of this thread.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs on this thread, as a policy does, and returns the lines that were logged meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(sink.0.lock().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn with<'a>(lines: &'a [String], text: &str) -> Vec<&'a String> {
    lines.iter().filter(|line| line.contains(text)).collect()
}

#[test]
fn a_flood_of_log_lines_is_cut_off_and_the_call_goes_on() {
    let mut settings = guard_settings("chatty");
    settings.limits.log_lines = 7;
    let plugin = load(&settings, &Store::new());
    for _ in 0..2 {
        let lines =
            logged(|| assert_eq!(plugin.check(&call("order")).unwrap().unwrap(), Verdict::Allow(None)));
        assert_eq!(with(&lines, "and another thing").len(), 7);
        let cut = with(&lines, "further log lines of this call are dropped");
        assert_eq!(cut.len(), 1);
        assert!(cut[0].contains("chatty"), "{}", cut[0]);
        assert_eq!(lines.len(), 8, "{lines:#?}");
    }
}

#[test]
fn a_fault_reaches_the_operators_log_with_the_plugins_name() {
    let policy = policy(vec![load(&guard_settings("panic"), &Store::new())]);
    let lines = logged(|| drop(policy.decide(&call("order"), None)));
    let told = with(&lines, "guest says boom");
    assert!(
        told.iter().any(|line| line.contains("plugin `panic`") && line.contains("refused")),
        "{lines:#?}"
    );
}
