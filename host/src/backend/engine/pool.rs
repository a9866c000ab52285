//! Warm processes: each works on one call at a time, a line of JSON in and a line of JSON out.
//!
//! A process that answers something else than what it was asked, or that is given up on, is killed with all it started: what
//! it would say next could be taken for the answer to another call.

use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::process::{self, ChildSpec, Running};
use super::judge::{self, Judged, Said};
use super::once::flooded;
use super::{Ask, EngineError};
use crate::config::rest::Engine;

/// A process that waits for longer is not kept: engines may hold much memory.
const RESTS: std::time::Duration = std::time::Duration::from_secs(600);

/// The processes that wait for a call.
#[derive(Debug, Default)]
pub(super) struct Pool {
    resting: Mutex<Vec<Worker>>,
}

/// One process, between two calls.
#[derive(Debug)]
struct Worker {
    running: Running,
    /// What it wrote beyond its last answer.
    read: BytesMut,
    uses: u64,
    since: Instant,
}

/// The line of an answer.
#[derive(Deserialize)]
struct Line<'a> {
    id: u64,
    #[serde(default)]
    error: Option<Said>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

impl Pool {
    /// Asks a process that waits, or a new one. The caller has a place, so there are never more than the pool may have.
    /// Dropped, it kills the process that works on the call.
    pub(super) async fn ask(
        &self,
        settings: &Engine,
        spec: ChildSpec,
        ask: Ask<'_>,
    ) -> Result<Judged, EngineError> {
        let mut worker = match self.rested() {
            Some(worker) => worker,
            None => Worker::start(&spec).await?,
        };
        worker.uses += 1;
        let judged = worker.ask(settings, ask).await;
        if !matches!(judged, Judged::Garbage(_)) && worker.uses < settings.max_uses && worker.read.is_empty()
        {
            worker.since = Instant::now();
            self.resting.lock().push(worker);
        }
        Ok(judged)
    }

    /// The process that worked last, because its memory is warm. Those that rest too long, or have ended, are let go.
    fn rested(&self) -> Option<Worker> {
        let mut resting = self.resting.lock();
        let (found, gone) = {
            let now = Instant::now();
            let all = std::mem::take(&mut *resting);
            let (mut keep, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(|worker| {
                now.duration_since(worker.since) < RESTS
                    && !worker.running.handle.watcher().gone().is_cancelled()
            });
            let found = keep.pop();
            *resting = keep;
            (found, gone)
        };
        drop(resting);
        drop(gone);
        found
    }

    /// Ends those that wait.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *self.resting.lock());
        drop(gone);
    }
}

impl Worker {
    async fn start(spec: &ChildSpec) -> Result<Self, EngineError> {
        let running = process::spawn(spec).await.map_err(|error| EngineError::Start(error.to_string()))?;
        Ok(Self { running, read: BytesMut::new(), uses: 0, since: Instant::now() })
    }

    async fn ask(&mut self, settings: &Engine, ask: Ask<'_>) -> Judged {
        let mut line = ask.document(Some(self.uses));
        line.push('\n');
        let Running { stdin, stdout, handle, .. } = &mut self.running;
        // It may write before it has read all, so both go on at once.
        let give = async {
            stdin.write_all(line.as_bytes()).await?;
            stdin.flush().await
        };
        let read = &mut self.read;
        let hear = async {
            loop {
                if let Some(end) = memchr::memchr(b'\n', read) {
                    let line = read.split_to(end).freeze();
                    read.advance(1);
                    return Ok(line);
                }
                if read.len() > settings.max_output {
                    return Err(flooded(settings.max_output));
                }
                match stdout.read_buf(read).await {
                    Ok(0) => return Err("it ended in the middle of a call".to_owned()),
                    Ok(_) => {}
                    Err(error) => return Err(format!("its output cannot be read: {error}")),
                }
            }
        };
        let mut give = std::pin::pin!(give);
        let mut hear = std::pin::pin!(hear);
        let heard = tokio::select! {
            biased;
            heard = &mut hear => heard,
            given = &mut give => match given {
                Ok(()) => hear.await,
                // Its end says more than a broken pipe.
                Err(error) => hear.await.map_err(|why| format!("{why} (it did not read its input: {error})")),
            },
        };
        match heard {
            Ok(line) => answer(settings, self.uses, &line),
            Err(why) => {
                let words = handle.watcher().last_words();
                Judged::Garbage(if words.is_empty() { why } else { format!("{why}; it last said: {words}") })
            }
        }
    }
}

fn answer(settings: &Engine, id: u64, line: &Bytes) -> Judged {
    if line.len() > settings.max_output {
        return Judged::Garbage(flooded(settings.max_output));
    }
    let read: Line<'_> = match serde_json::from_slice(line) {
        Ok(read) => read,
        Err(error) => return Judged::Garbage(format!("its line is not an answer: {error}")),
    };
    if read.id != id {
        return Judged::Garbage(format!("it answered call {} instead of {id}", read.id));
    }
    match (read.error, read.body) {
        (Some(said), _) => judge::failed(settings, said, None),
        (None, Some(body)) => Judged::Done(line.slice_ref(body.get().as_bytes())),
        (None, None) => Judged::Garbage("its line has neither `body` nor `error`".to_owned()),
    }
}
