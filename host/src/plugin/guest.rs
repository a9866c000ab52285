//! The host's side of one running instance: its message, its budget, and the functions it may call.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{ResourceLimiter, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::allowance::Allowance;
use super::bindings::{cells, clock, counters, log, secrets, types};
use super::meters::{Held, Instances};
use super::outgoing::{Hooks, Outgoing};
use super::reuse::Read;
use super::subject::Subject;
use super::waiting::{Patience, Waiting, Waits};
use crate::config::{Limits, Secret};
use crate::state::{CellFailure, Clock, Failure, Namespace, Rate};
use crate::text;

/// A call is ended after this many deadlines on the clock, however little of the processor it got.
const MAX_PERIODS: u32 = 200;
/// Longest log line that is kept.
const MAX_LOG_LINE: usize = 1024;
/// Most WASI resources an instance may hold: requests, bodies, streams, things to wait for.
const MAX_RESOURCES: usize = 1024;

/// What all instances of one plugin share.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) instances: Instances,
    pub(super) limits: Limits,
    pub(super) secrets: Vec<(String, Secret)>,
    pub(super) state: Namespace,
    pub(super) clock: Clock,
    /// For those that were granted HTTP.
    pub(super) outgoing: Option<Arc<Outgoing>>,
    pub(super) patience: Patience,
}

/// The store data of an instance.
pub(super) struct Guest {
    pub(super) shared: Arc<Shared>,
    pub(super) subject: Subject,
    /// The parts of the message and of its state that the guest has read in this call.
    pub(super) read: Read,
    /// What this call may use.
    pub(super) allowed: Allowance,
    log_lines: u32,
    host_bytes: usize,
    /// The last error the guest logged in this call: what its panic hook said before the trap.
    pub(super) last_error: Option<String>,
    /// The limit that ended the call, in words.
    pub(super) limit_hit: Option<String>,
    /// All its memories together, and all elements of its tables: a component may have many of both.
    memory: usize,
    elements: usize,
    /// The same, for the metrics.
    held: Held,
    /// The thread's processor time when the deadline first passed in this call, and how often it has since.
    overtime: Option<(Duration, u32)>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    waiting: Waiting,
    table: ResourceTable,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guest({})", self.shared.name)
    }
}

impl Guest {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // An inert WASI: no files, no environment, no network, no arguments; output goes nowhere. It is
        // reached only by components that were granted `wasi`.
        let wasi = WasiCtx::builder().allow_tcp(false).allow_udp(false).build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            hooks: Hooks(shared.outgoing.clone()),
            waiting: Waiting::new(shared.patience.clone()),
            held: Held::new(shared.instances.clone()),
            allowed: Allowance::new(&shared.limits, 0),
            shared,
            subject: Subject::default(),
            read: Read::default(),
            log_lines: 0,
            host_bytes: 0,
            last_error: None,
            limit_hit: None,
            memory: 0,
            elements: 0,
            overtime: None,
            wasi,
            http: WasiHttpCtx::new(),
            table,
        }
    }

    /// A new call: the budget is whole again.
    pub(super) fn begin(&mut self, allowed: Allowance) {
        self.allowed = allowed;
        self.read = Read::default();
        self.log_lines = 0;
        self.host_bytes = 0;
        self.last_error = None;
        self.limit_hit = None;
        self.overtime = None;
        self.waiting.begin();
    }

    /// Bytes of this call that have crossed the border so far.
    pub(super) fn exchanged(&self) -> usize {
        self.host_bytes
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) fn waits(&mut self) -> Waits<'_> {
        Waits { table: &mut self.table, waiting: &mut self.waiting }
    }

    /// The deadline has passed on the clock. That alone is no fault: on a busy machine the thread may have been
    /// set aside. It is one when the guest goes on to use as much processor time again, or at [`MAX_PERIODS`].
    pub(super) fn deadline_passed(&mut self) -> UpdateDeadline {
        let period = self.shared.limits.deadline_ms.max(1);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let now = Duration::try_from(now).unwrap_or_default();
        let (since, passed) = *self.overtime.get_or_insert((now, 0));
        // Time spent waiting for others has a bound of its own, and is not the guest's.
        let passed = if self.waiting.lately() { passed } else { passed + 1 };
        self.overtime = Some((since, passed));
        if passed > MAX_PERIODS || now.saturating_sub(since) >= Duration::from_millis(period) {
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::Continue(period)
    }

    /// Charges bytes that cross the border.
    pub(super) fn charge(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.host_bytes = self.host_bytes.saturating_add(bytes);
        if self.host_bytes > self.allowed.host_bytes {
            let limit =
                format!("more than {} bytes exchanged with the gateway in one call", self.allowed.host_bytes);
            return Err(self.limit(&limit));
        }
        Ok(())
    }

    /// Bytes of all its memories together.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn limit(&mut self, what: &str) -> wasmtime::Error {
        self.limit_hit = Some(what.to_owned());
        wasmtime::format_err!("{what}")
    }
}

/// Whether one part of what an instance has may grow, given all of it. What was allowed and failed then counts as well: it
/// cannot be told from a failure before anybody was asked.
fn grows(
    all: &mut usize,
    (current, desired): (usize, usize),
    declared: Option<usize>,
    most: usize,
) -> Growth {
    if declared.is_some_and(|declared| desired > declared) {
        return Growth::Undeclared;
    }
    let after = all.saturating_add(desired.saturating_sub(current));
    if after > most {
        return Growth::TooMuch;
    }
    *all = after;
    Growth::Fine
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    Fine,
    /// More than the component said it would ever have; the guest is told, and it is no limit of ours.
    Undeclared,
    TooMuch,
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        declared: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let most = self.allowed.memory_bytes;
        let growth = grows(&mut self.memory, (current, desired), declared, most);
        self.held.set(self.memory);
        match growth {
            // A guest that survived a refusal and grows again is no longer dying of it.
            Growth::Fine => self.limit_hit = None,
            Growth::Undeclared => {}
            Growth::TooMuch => self.limit_hit = Some(format!("more than {} MiB of memory", most >> 20)),
        }
        Ok(growth == Growth::Fine)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        declared: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let most = self.shared.limits.table_elements;
        let growth = grows(&mut self.elements, (current, desired), declared, most);
        if growth == Growth::TooMuch {
            self.limit_hit = Some(format!("more than {most} table elements"));
        }
        Ok(growth == Growth::Fine)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

impl types::Host for Guest {}

impl clock::Host for Guest {
    fn now_ns(&mut self) -> wasmtime::Result<u64> {
        self.read.more = true;
        Ok(self.shared.clock.now_ns())
    }
    fn unix_ms(&mut self) -> wasmtime::Result<u64> {
        self.read.more = true;
        Ok(self.shared.clock.unix_ms())
    }
}

impl log::Host for Guest {
    fn emit(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.read.more = true;
        self.charge(message.len())?;
        if level == log::Level::Error {
            self.last_error = Some(text::excerpt(message.as_bytes(), MAX_LOG_LINE));
        }
        self.log_lines += 1;
        let limit = self.shared.limits.log_lines;
        if self.log_lines > limit {
            if self.log_lines == limit + 1 {
                tracing::warn!(plugin = %self.shared.name, limit, "further log lines of this call are dropped");
            }
            return Ok(());
        }
        let message = text::excerpt(message.as_bytes(), MAX_LOG_LINE);
        let plugin = &*self.shared.name;
        match level {
            log::Level::Trace => tracing::trace!(plugin, "{message}"),
            log::Level::Debug => tracing::debug!(plugin, "{message}"),
            log::Level::Info => tracing::info!(plugin, "{message}"),
            log::Level::Warn => tracing::warn!(plugin, "{message}"),
            log::Level::Error => tracing::error!(plugin, "{message}"),
        }
        Ok(())
    }
}

impl secrets::Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.charge(name.len())?;
        let found = self.shared.secrets.iter().find(|(granted, _)| *granted == name);
        let found = found.map(|(_, secret)| secret.expose().to_owned());
        self.charge(found.as_ref().map_or(0, String::len))?;
        Ok(found)
    }
}

impl counters::Host for Guest {
    fn acquire(
        &mut self,
        key: String,
        cost: u32,
        rate: counters::Rate,
    ) -> wasmtime::Result<Result<counters::Take, counters::Failure>> {
        self.read.more = true;
        self.charge(key.len())?;
        let rate = Rate { limit: rate.limit, window_ms: rate.window_ms, burst: rate.burst };
        let taken = self.shared.state.acquire(&key, cost, rate, self.shared.clock.now_ns());
        Ok(taken.map_err(counters::Failure::from).map(|take| counters::Take {
            allowed: take.allowed,
            remaining: take.remaining,
            retry_after_ms: take.retry_after_ms,
        }))
    }
    fn window_add(
        &mut self,
        key: String,
        delta: u32,
        window_ms: u32,
    ) -> wasmtime::Result<Result<u64, counters::Failure>> {
        self.read.more = true;
        self.charge(key.len())?;
        let now = self.shared.clock.now_ns();
        Ok(self.shared.state.window_add(&key, delta, window_ms, now).map_err(Into::into))
    }
    fn gauge_add(
        &mut self,
        key: String,
        delta: i64,
        ttl_ms: u32,
    ) -> wasmtime::Result<Result<i64, counters::Failure>> {
        self.read.more = true;
        self.charge(key.len())?;
        let now = self.shared.clock.now_ns();
        Ok(self.shared.state.gauge_add(&key, delta, ttl_ms, now).map_err(Into::into))
    }
}

impl From<Failure> for counters::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::QuotaExceeded => Self::QuotaExceeded,
            Failure::Unavailable => Self::Unavailable,
        }
    }
}

impl cells::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<cells::Cell>, cells::Failure>> {
        self.read.more = true;
        self.charge(key.len())?;
        let found = self.shared.state.cell_get(&key, self.shared.clock.now_ns());
        Ok(match found {
            Ok(found) => {
                if let Some((value, _)) = &found {
                    self.charge(value.len())?;
                }
                Ok(found.map(|(value, version)| cells::Cell { value, version }))
            }
            Err(Failure::QuotaExceeded) => Err(cells::Failure::QuotaExceeded),
            Err(Failure::Unavailable) => Err(cells::Failure::Unavailable),
        })
    }
    fn swap(
        &mut self,
        key: String,
        expect: u64,
        value: Vec<u8>,
        ttl_ms: u32,
    ) -> wasmtime::Result<Result<u64, cells::Failure>> {
        self.read.more = true;
        self.charge(key.len())?;
        self.charge(value.len())?;
        let swapped = self.shared.state.cell_swap(&key, expect, &value, ttl_ms, self.shared.clock.now_ns());
        Ok(swapped.map_err(|failure| match failure {
            CellFailure::QuotaExceeded => cells::Failure::QuotaExceeded,
            CellFailure::Unavailable => cells::Failure::Unavailable,
            CellFailure::Stale => cells::Failure::Stale,
        }))
    }
}
