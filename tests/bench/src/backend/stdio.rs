//! The echo server on a pipe: whatever lines one read brings are answered with one write.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Options, Reply, answer};

pub(super) fn serve(options: &Options) -> anyhow::Result<()> {
    let late = (!options.delay().is_zero()).then(|| {
        let (sender, replies) = channel();
        std::thread::spawn(move || write_late(&replies));
        sender
    });
    // Locked for each write: the thread of late answers writes, too. Not std's own, which looks for lines.
    let mut input = std::io::stdin().lock();
    let mut held = Vec::with_capacity(1 << 18);
    let mut out = Vec::with_capacity(1 << 18);
    let mut chunk = vec![0; 1 << 18];
    // Where the search for the end of a line goes on.
    let mut searched = 0;
    loop {
        let count = input.read(&mut chunk).context("cannot read")?;
        if count == 0 {
            return Ok(());
        }
        held.extend_from_slice(&chunk[..count]);
        let mut start = 0;
        while let Some(length) = held[searched..].iter().position(|&byte| byte == b'\n') {
            let end = searched + length;
            let mark = out.len();
            let reply = answer(options, &held[start..end], &mut out);
            if reply != Reply::None {
                out.push(b'\n');
            }
            if reply == Reply::Delayed
                && let Some(late) = &late
            {
                let line = out.split_off(mark);
                late.send((Instant::now() + options.delay(), line)).context("the writer is gone")?;
            }
            (start, searched) = (end + 1, end + 1);
        }
        held.drain(..start);
        searched = held.len();
        if !out.is_empty() {
            write(&out)?;
            out.clear();
        }
    }
}

fn write(bytes: &[u8]) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).context("cannot write")
}

/// Every answer waits equally long, so they leave in the order they came; those that are due leave together.
fn write_late(replies: &Receiver<(Instant, Vec<u8>)>) {
    let mut next: Option<(Instant, Vec<u8>)> = None;
    loop {
        let Some((due, mut out)) = next.take().or_else(|| replies.recv().ok()) else { return };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        while let Ok((due, line)) = replies.try_recv() {
            if due > Instant::now() + Duration::from_micros(50) {
                next = Some((due, line));
                break;
            }
            out.extend_from_slice(&line);
        }
        if write(&out).is_err() {
            return;
        }
    }
}
