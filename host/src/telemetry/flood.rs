//! Keeps one thing that happens again and again from filling the log: of each kind of line the first hundred are written, then
//! one every five seconds, and of the others how many there were.
//!
//! Lines are of one kind if one place in the program logs them about the same backend or plugin. Only lines of the levels
//! that run every day count; who asked for `debug` gets all of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::redact::Redaction;

/// How many lines of a kind are written without a limit of their rate.
const BURST: u32 = 100;
/// After so long there is room for another one.
const REFILL: Duration = Duration::from_secs(5);
/// How often it is said how many were left out.
const REPORT: Duration = Duration::from_secs(10);
/// More kinds are not told apart: lines about whatever comes then count with the others of their place.
const MAX_KINDS: usize = 2_048;
/// The longest name that tells one kind from another, and the longest piece of a line that is shown for those left out.
const MAX_NAME: usize = 64;
const MAX_SHOWN: usize = 200;
/// The target of this module's own lines, which are not counted themselves.
const TARGET: &str = "sentinel_gateway::log";

/// Lets a line pass, or counts it.
#[derive(Clone, Debug)]
pub(super) struct Flood(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kinds: Mutex<HashMap<Kind, Bucket>>,
    redaction: Redaction,
    /// Rung when the first line is left out.
    left_out: Notify,
}

type Kind = (Identifier, Option<Box<str>>);

#[derive(Debug)]
struct Bucket {
    room: u32,
    filled: Instant,
    left_out: u64,
    level: Level,
    /// The beginning of the first line that was left out.
    shown: String,
}

impl Bucket {
    fn new(level: Level, now: Instant) -> Self {
        Self { room: BURST, filled: now, left_out: 0, level, shown: String::new() }
    }

    fn takes(&mut self, now: Instant) -> bool {
        let rounds = now.saturating_duration_since(self.filled).as_secs() / REFILL.as_secs();
        if rounds > 0 {
            self.room = self.room.saturating_add(u32::try_from(rounds).unwrap_or(BURST)).min(BURST);
            self.filled = now;
        }
        let takes = self.room > 0;
        self.room = self.room.saturating_sub(1);
        takes
    }

    /// Whether nothing of it has to be remembered.
    fn is_fresh(&self, now: Instant) -> bool {
        self.left_out == 0 && now.saturating_duration_since(self.filled) >= REFILL * BURST
    }
}

impl Flood {
    pub(super) fn new(redaction: Redaction) -> Self {
        Self(Arc::new(Shared { kinds: Mutex::default(), redaction, left_out: Notify::new() }))
    }

    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let mut about = About::default();
        event.record(&mut about);
        let mut kinds = self.0.kinds.lock();
        let mut kind: Kind = (metadata.callsite(), about.name);
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, bucket| !bucket.is_fresh(now));
            if kinds.len() >= MAX_KINDS {
                kind.1 = None;
            }
        }
        let bucket = kinds.entry(kind).or_insert_with(|| Bucket::new(*metadata.level(), now));
        if bucket.takes(now) {
            return true;
        }
        bucket.left_out += 1;
        if bucket.left_out == 1 {
            bucket.shown = self.0.redaction.excerpt(&about.message, MAX_SHOWN);
            self.0.left_out.notify_one();
        }
        false
    }

    /// Logs how many lines were left out since the last time.
    pub(super) fn report(&self) {
        let mut all = Vec::new();
        for (kind, bucket) in self.0.kinds.lock().iter_mut().filter(|(_, bucket)| bucket.left_out > 0) {
            let shown = std::mem::take(&mut bucket.shown);
            all.push((bucket.level, kind.1.clone(), std::mem::take(&mut bucket.left_out), shown));
        }
        // Without the lock: this logs.
        for (level, about, more, shown) in all {
            let about = about.as_deref();
            match level {
                Level::ERROR => {
                    tracing::error!(target: TARGET, about, "{more} more lines like this were left out: {shown}")
                }
                Level::WARN => {
                    tracing::warn!(target: TARGET, about, "{more} more lines like this were left out: {shown}")
                }
                _ => {
                    tracing::info!(target: TARGET, about, "{more} more lines like this were left out: {shown}")
                }
            }
        }
    }

    /// Reports for ever, while there is something to report.
    pub(super) async fn reports(self) {
        loop {
            self.0.left_out.notified().await;
            tokio::time::sleep(REPORT).await;
            self.report();
        }
    }
}

/// A layer and no filter of one layer: tracing-subscriber forgets to forget what such a filter said of an event that no layer
/// wants, and its debug build ends at the next one.
impl<S: Subscriber> Layer<S> for Flood {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event, Instant::now())
    }
}

/// Whom a line is about, and what it says.
#[derive(Default)]
struct About {
    name: Option<Box<str>>,
    message: String,
}

impl Visit for About {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "backend" | "plugin" => {
                let name = format!("{value:?}");
                self.name = Some(name[..name.floor_char_boundary(MAX_NAME)].into());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::redact::Secrets;
    use crate::telemetry::fields::tests::Kept;

    fn logged(events: impl FnOnce(&Flood)) -> Vec<String> {
        let secrets = Secrets { values: vec!["hunter22".to_owned()], ..Secrets::default() };
        let (kept, flood) = (Kept::default(), Flood::new(Redaction::new(&secrets)));
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer).with(flood.clone());
        tracing::subscriber::with_default(subscriber, || events(&flood));
        kept.lines()
    }

    fn with(lines: &[String], text: &str) -> usize {
        lines.iter().filter(|line| line.contains(text)).count()
    }

    #[test]
    fn of_a_flood_the_first_are_written_and_the_others_counted() {
        let lines = logged(|flood| {
            for number in 0..1_000 {
                tracing::warn!(backend = "chatty", "hunter22 is down, {number}");
                tracing::warn!("something else, {}", number / 100);
            }
            tracing::warn!(backend = "quiet", "is down");
            flood.report();
            flood.report();
        });
        assert_eq!(with(&lines, "hunter22 is down"), 100);
        assert_eq!(with(&lines, "is down backend=\"quiet\""), 1, "{lines:#?}");
        let said =
            lines.iter().find(|line| line.contains("900 more lines") && line.contains("chatty")).unwrap();
        assert!(said.contains("[redacted] is down, 100") && said.contains("WARN"), "{said}");
        assert_eq!(with(&lines, "more lines like this"), 2, "once for each kind");
    }

    #[test]
    fn backends_are_told_apart_and_details_are_not_counted() {
        let lines = logged(|flood| {
            for round in 0..5 {
                for backend in ["a", "b", "c"] {
                    for _ in 0..20 {
                        tracing::info!(%backend, round, "is ready");
                    }
                }
            }
            for number in 0..500 {
                tracing::debug!(backend = "a", "detail {number}");
            }
            flood.report();
        });
        assert_eq!(
            (with(&lines, "is ready"), with(&lines, "detail"), with(&lines, "more lines")),
            (300, 500, 0)
        );
    }

    #[test]
    fn kinds_without_end_take_no_memory_without_end() {
        logged(|flood| {
            for number in 0..5_000 {
                tracing::info!(backend = number.to_string(), "one of many");
            }
            assert!(flood.0.kinds.lock().len() <= MAX_KINDS + 1);
        });
    }

    #[test]
    fn room_comes_back() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Level::INFO, now);
        assert_eq!((0..200).filter(|_| bucket.takes(now)).count(), 100);
        assert!(!bucket.takes(now + REFILL / 2));
        assert!(bucket.takes(now + REFILL) && !bucket.takes(now + REFILL));
        assert_eq!((0..200).filter(|_| bucket.takes(now + REFILL * 50)).count(), 49);
    }
}
