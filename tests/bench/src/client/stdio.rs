//! A caller at the end of a pipe. It never waits to write before it reads on, or two full pipes would wait for
//! each other; whatever one read brings is answered with one write.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};

use super::pacer::Pacer;
use crate::call::{Calls, Verdict, shown};
use crate::load::{BEHIND, GRACE, Load, Pace, Schedule, Tally};

/// Calls without an answer at which an open load has lost.
const MOST_OPEN: usize = 8_192;

#[derive(Debug)]
pub(crate) struct Stdio {
    input: ChildStdin,
    output: ChildStdout,
    /// What was read and belongs to no whole line yet.
    held: Vec<u8>,
    next: u64,
}

/// The calls under way: when each began, from the oldest to the newest.
#[derive(Debug)]
struct Open {
    first: u64,
    began: VecDeque<Option<Instant>>,
    count: usize,
}

impl Open {
    fn begin(&mut self, at: Instant) {
        self.began.push_back(Some(at));
        self.count += 1;
    }

    /// When the call of this number began; none if it is not under way.
    fn end(&mut self, number: u64) -> Option<Instant> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let began = self.began.get_mut(index)?.take()?;
        self.count -= 1;
        while let Some(None) = self.began.front() {
            self.began.pop_front();
            self.first += 1;
        }
        Some(began)
    }
}

impl Stdio {
    pub(crate) fn new(input: ChildStdin, output: ChildStdout) -> Self {
        Self { input, output, held: Vec::with_capacity(1 << 18), next: 1 }
    }

    pub(super) async fn notify(&mut self, method: &str) -> anyhow::Result<()> {
        let mut line = super::message(None, method, &serde_json::json!({}));
        line.push(b'\n');
        self.input.write_all(&line).await.context("cannot write")
    }

    pub(super) async fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let id = self.number();
        let mut line = super::message(Some(id), method, params);
        line.push(b'\n');
        self.input.write_all(&line).await.context("cannot write")?;
        loop {
            let line = self.line().await?;
            let value: Value = serde_json::from_slice(&line).with_context(|| shown(&line))?;
            if value["id"] == id && value.get("method").is_none() {
                return Ok(value);
            }
        }
    }

    pub(super) async fn call(&mut self, calls: &Calls) -> anyhow::Result<()> {
        let number = self.number();
        let mut line = Vec::new();
        calls.request(number, &mut line);
        line.push(b'\n');
        self.input.write_all(&line).await.context("cannot write")?;
        loop {
            let line = self.line().await?;
            match calls.judge(&line) {
                Verdict::Good(answered) if answered == number => return Ok(()),
                // The answer to a call that was given up, or no answer.
                Verdict::Good(_) | Verdict::Aside => {}
                Verdict::Wrong(why) => bail!(why),
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    async fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.held.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.held.drain(..=end).collect();
                line.pop();
                return Ok(line);
            }
            if self.output.read_buf(&mut self.held).await.context("cannot read")? == 0 {
                bail!("it closed its output");
            }
        }
    }

    pub(super) async fn drive(&mut self, load: &Load, calls: &Calls) -> Tally {
        let mut tally = Tally::new();
        if let Err(error) = self.run(load, calls, &mut tally).await {
            tally.spoil(|| format!("{error:#}"));
        }
        tally
    }

    async fn run(&mut self, load: &Load, calls: &Calls, tally: &mut Tally) -> anyhow::Result<()> {
        let first = self.next;
        let start = Instant::now();
        let end = start + load.lasts;
        let (at_once, mut pacer) = match load.pace {
            Pace::Closed(at_once) => (at_once, None),
            Pace::Open(per_second) => {
                (0, Some((Pacer::new(Schedule::new(start, per_second, load.lasts))?, per_second)))
            }
        };
        let schedule = Schedule::new(start, pacer.as_ref().map_or(1, |pacer| pacer.1), load.lasts);
        let mut open = Open { first, began: VecDeque::new(), count: 0 };
        let (mut out, mut written, mut searched) = (Vec::new(), 0, 0);
        let mut last = start;
        let give_up = tokio::time::sleep(load.lasts + GRACE);
        tokio::pin!(give_up);
        loop {
            let now = Instant::now();
            // One call at least, also where the machine stood still for the whole of the time.
            while (now < end || self.next == first) && open.count < at_once {
                calls.request(self.number(), &mut out);
                out.push(b'\n');
                open.begin(Instant::now());
            }
            let over = if at_once > 0 { now >= end } else { pacer.is_none() };
            if over && open.count == 0 {
                break;
            }
            if open.count > MOST_OPEN || (load.lasts + BEHIND < start.elapsed() && at_once == 0) {
                tally.behind = true;
                // Later answers belong to nobody.
                self.drain(open.count).await;
                break;
            }
            let mut pending = false;
            tokio::select! {
                biased;
                count = self.input.write(&out[written..]), if written < out.len() => {
                    written += count.context("cannot write")?;
                    if written == out.len() {
                        out.clear();
                        written = 0;
                    }
                }
                count = self.output.read_buf(&mut self.held) => {
                    if count.context("cannot read")? == 0 {
                        bail!("it closed its output");
                    }
                    pending = true;
                }
                due = next(&mut pacer) => {
                    let Some(due) = due? else { pacer = None; continue };
                    for index in due {
                        calls.request(self.number(), &mut out);
                        out.push(b'\n');
                        open.begin(schedule.due(index));
                    }
                }
                () = &mut give_up => bail!("{} calls without an answer after {} s", open.count, GRACE.as_secs()),
            }
            if !pending {
                continue;
            }
            let now = Instant::now();
            let mut from = 0;
            while let Some(length) = self.held[searched..].iter().position(|&byte| byte == b'\n') {
                let stop = searched + length;
                match calls.judge(&self.held[from..stop]) {
                    Verdict::Good(number) => {
                        let began =
                            open.end(number).with_context(|| format!("call {number} was answered twice"))?;
                        tally.good(now.saturating_duration_since(began));
                        last = now;
                    }
                    Verdict::Aside => {}
                    Verdict::Wrong(why) => bail!(why),
                }
                (from, searched) = (stop + 1, stop + 1);
            }
            self.held.drain(..from);
            searched = self.held.len();
        }
        tally.elapsed = last.saturating_duration_since(start);
        Ok(())
    }

    /// Reads away the answers that nobody waits for any more.
    async fn drain(&mut self, mut count: usize) {
        let reading = async {
            while count > 0 && self.line().await.is_ok() {
                count -= 1;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(60), reading).await;
    }
}

/// The next calls that are due; never, if nothing is scheduled.
async fn next(pacer: &mut Option<(Pacer, u32)>) -> anyhow::Result<Option<std::ops::Range<u64>>> {
    match pacer {
        Some((pacer, _)) => pacer.next().await,
        None => std::future::pending().await,
    }
}
