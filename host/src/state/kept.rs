//! The store that survives the process: loads what earlier gateways kept, and hands changes to the writer.
//!
//! A gateway that starts takes over what all gateways of its configuration have kept, those that still run included: where
//! two of them know the same key, the stricter value counts. So no restart refills a limit, in whatever order gateways
//! come and go, and no two of them ever write one file.
//!
//! A damaged file never stops the start. The part of it that can be read counts, and the file is set aside with a
//! message; the rest begins anew, as on the first start. A person who can damage a file that belongs to the gateway's
//! user alone could as well remove it, so refusing to start would protect nothing. (An operator's orders are in a file
//! of their own, which does stop the start: see [`Document`](super::Document).)

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::bytes::Reader;
use super::clock::Clock;
use super::epoch::{Machine, Mark, resume};
use super::folder::{Found, Unkept, claim};
use super::gcra::Spent;
use super::record::{End, Keep, Kind, Replay, Value, replay};
use super::ring::Ring;
use super::table::{Table, Weigh};
use super::writer::Writer;
use super::{Cell, Quota, SHARDS, Space, Spaces, Store, space_name};
use crate::files::Trust;

/// How long a stop waits for the last write.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Where the state is kept, and for whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder; none: only in memory.
    pub folder: Option<PathBuf>,
    /// The file of the configuration: gateways of the same one share what they keep.
    pub config: PathBuf,
    /// Which folders are not judged.
    pub trust: Trust,
    /// The plugins that keep something: their endpoint ("" for the main one) and their name. What was kept for others is
    /// dropped.
    pub plugins: Vec<(String, String)>,
}

/// The state of a gateway, its clock, and what writes it down.
#[derive(Debug)]
pub struct Kept {
    /// The state of the main endpoint; see [`Store::within`].
    pub store: Store,
    /// The clock that all times in it are of.
    pub clock: Clock,
    /// Ends when the writer has.
    writer: Option<Receiver<()>>,
}

impl Kept {
    /// A state that ends with the process.
    #[must_use]
    pub(crate) fn in_memory() -> Self {
        Self { store: Store::new(), clock: Clock::real(), writer: None }
    }

    /// Goes on from what was kept. If nothing can be kept, that is logged, and the state ends with the process.
    #[must_use]
    pub fn open(settings: &Settings) -> Self {
        let Some(folder) = &settings.folder else { return Self::in_memory() };
        Self::in_folder(folder, settings).unwrap_or_else(|why| {
            tracing::warn!(
                "limits and circuits of this gateway end with it, because they cannot be kept: {why}"
            );
            Self::in_memory()
        })
    }

    fn in_folder(folder: &std::path::Path, settings: &Settings) -> Result<Self, Unkept> {
        // Until the file is there, so that the next one to start finds it and agrees with us on the time.
        let (place, found, _starting) = claim(folder, &settings.config, &settings.trust)?;
        let here = Machine::look();
        let replayed: Vec<(&Found, Replay<'_>)> =
            found.iter().filter_map(|found| Some((found, read(found)?))).collect();
        let marks: Vec<Mark> = replayed.iter().filter_map(|(_, replay)| replay.mark).collect();
        let now = resume(&marks, here);
        let clock = Clock::ahead(now.saturating_sub(here.boot_ns));
        let store = Store::new();
        let known: HashSet<String> =
            settings.plugins.iter().map(|(endpoint, plugin)| space_name(endpoint, plugin)).collect();
        let mut taken = Taken::default();
        for (found, replay) in &replayed {
            taken.add(store.spaces.restore(replay, &known, found.lives, now));
        }
        taken.say(found.len());
        drop(replayed);
        let of_others = found.into_iter().filter(|found| !found.lives && found.path != place.path);
        let adopted = of_others.map(Found::into_adopted).collect();
        let signal = Arc::clone(&store.spaces.signal);
        let mut writer = Writer::new(Arc::clone(&store.spaces), (clock.clone(), here.boot), place, adopted);
        // A failure is logged, and tried again when there is something to write.
        let _ = writer.write(false);
        let (running, ended) = channel();
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            signal.writer_is_here();
            writer.run(&signal);
            drop(running);
        });
        thread.map_err(|error| Unkept::io(folder, error))?;
        Ok(Self { store, clock, writer: Some(ended) })
    }

    /// Writes the rest, which takes as long as the disk does, within five seconds. To be called when nothing changes any
    /// more. Without it what changed last is lost.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        self.store.spaces.signal.stop();
        if writer.recv_timeout(LAST_WRITE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last of the limits and circuits was not written: the disk does not answer");
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a file says. One that is damaged is set aside if its gateway is gone.
fn read(found: &Found) -> Option<Replay<'_>> {
    let path = found.path.display();
    let set_aside = |why: &dyn std::fmt::Display, rest: &str| {
        if found.lives {
            tracing::warn!(
                "what another gateway of this configuration keeps cannot be read{rest}: {path}: {why}"
            );
            return;
        }
        let aside = found.path.with_extension("damaged");
        let moved = match fs::rename(&found.path, &aside) {
            Ok(()) => format!("it is set aside as {}, to be looked at or removed", aside.display()),
            Err(error) => format!("it cannot be set aside: {error}"),
        };
        tracing::warn!(
            "what guards kept (limits, circuits) cannot be read{rest}, so that begins anew: {path}: {why}; {moved}"
        );
    };
    let bytes = match &found.bytes {
        Ok(bytes) => bytes,
        Err(error) => {
            set_aside(error, "");
            return None;
        }
    };
    let replay = replay(bytes);
    match replay.end {
        End::Whole => {}
        // The gateway was killed while it wrote.
        End::Torn => tracing::debug!("the last write to {path} was cut off"),
        End::Damaged(why) => set_aside(&why, &format!(" from byte {} of {} on", replay.sound, bytes.len())),
    }
    Some(replay)
}

/// How many of the values that were found were used or dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) kept: usize,
    /// Their plugin is not configured.
    pub(super) strangers: usize,
    /// Nothing can be like this.
    pub(super) unsound: usize,
}

impl Taken {
    fn add(&mut self, more: Self) {
        self.kept += more.kept;
        self.strangers += more.strangers;
        self.unsound += more.unsound;
    }

    fn say(self, files: usize) {
        let Self { kept, strangers, unsound } = self;
        if files > 0 {
            tracing::debug!(
                files,
                kept,
                strangers,
                "limits and circuits go on from where earlier gateways left them"
            );
        }
        if unsound > 0 {
            tracing::warn!("{unsound} values that guards kept make no sense; they begin anew");
        }
    }
}

impl Spaces {
    /// Takes over what a file says. From a gateway that still runs no gauge is taken: what it counts is undone there.
    pub(super) fn restore(
        &self,
        replay: &Replay<'_>,
        known: &HashSet<String>,
        lives: bool,
        now: u64,
    ) -> Taken {
        let mut taken = Taken::default();
        let Some(mark) = replay.mark else { return taken };
        for ((name, kind, key), value) in &replay.values {
            if !known.contains(*name) {
                taken.strangers += 1;
                continue;
            }
            if value.expires <= now || lives && *kind == Kind::Gauge {
                continue;
            }
            let space = self.get(name);
            // The bound comes with the plugin.
            space.usage.set_quota(Quota { keys: usize::MAX, bytes: usize::MAX });
            let restored = match kind {
                Kind::Spent => space.restore::<Box<Spent>>(&space.spent, key, *value, (mark.now_ns, now)),
                Kind::Window => space.restore::<Box<Ring>>(&space.windows, key, *value, (mark.now_ns, now)),
                Kind::Gauge => space.restore::<i64>(&space.gauges, key, *value, (mark.now_ns, now)),
                Kind::Cell => space.restore::<Cell>(&space.cells, key, *value, (mark.now_ns, now)),
            };
            if restored.is_some() { taken.kept += 1 } else { taken.unsound += 1 }
        }
        taken
    }
}

impl Space {
    fn restore<T: Keep + Weigh + Numbered>(
        &self,
        shards: &[parking_lot::Mutex<Table<T>>; SHARDS],
        key: &str,
        value: Value<'_>,
        (written, now): (u64, u64),
    ) -> Option<()> {
        let mut from = Reader::new(value.body);
        let restored = T::read(&mut from, written)?;
        if !from.rest().is_empty() {
            return None;
        }
        if let Some(number) = restored.number() {
            // A key comes into another shard with each start, so none of them may give a number again.
            shards.iter().for_each(|shard| shard.lock().serials_after(number));
        }
        let shard = self.shard(shards, key);
        shard.lock().restore(key, restored, value.expires, now, &self.usage);
        Some(())
    }
}

/// A value may have a number that is never used again.
trait Numbered {
    fn number(&self) -> Option<u64> {
        None
    }
}

impl Numbered for Box<Spent> {}
impl Numbered for Box<Ring> {}
impl Numbered for i64 {}

impl Numbered for Cell {
    fn number(&self) -> Option<u64> {
        Some(self.version)
    }
}
