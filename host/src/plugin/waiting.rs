//! Waiting inside a call, which only plugins with WASI can do: bounded in time, and in how many calls wait at once.
//!
//! wasmtime's own `wasi:io` waits for as long as the guest asks; no fuel and no epoch ends that, because no guest
//! code runs. So the gateway gives plugins these two interfaces instead: the same resources behind the same
//! functions, and every wait ends at the call's deadline.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::{error, poll as parked, streams as flowing};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::in_tokio;

/// Why a wait ended without what was waited for; the instance is lost with it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Overlong {
    #[error("too many of its calls wait already")]
    Crowd,
    #[error("it waited longer than {0} ms in one call")]
    Time(u128),
}

/// How long the calls of one plugin may wait, and how many at once.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    pub(super) limit: Duration,
    pub(super) places: Arc<Semaphore>,
}

/// The waiting of the call under way.
#[derive(Debug)]
pub(super) struct Waiting {
    patience: Patience,
    until: Option<Instant>,
    /// Whether the call waited since this was last asked.
    waited: bool,
}

impl Waiting {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, until: None, waited: false }
    }

    /// A new call.
    pub(super) fn begin(&mut self) {
        self.until = None;
        self.waited = false;
    }

    /// Whether the call waited since this was last asked.
    pub(super) fn lately(&mut self) -> bool {
        std::mem::take(&mut self.waited)
    }

    /// Waits on this thread, which announced that it may block.
    fn wait<R>(&mut self, future: impl Future<Output = R>) -> Result<R, Overlong> {
        let Patience { limit, places } = &self.patience;
        let waited = &mut self.waited;
        let until = &mut self.until;
        in_tokio(async move {
            let mut future = pin!(future);
            // What is there already costs no place.
            if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
                return Ok(done);
            }
            let _place = places.try_acquire().map_err(|_| Overlong::Crowd)?;
            *waited = true;
            let until = *until.get_or_insert_with(|| Instant::now() + *limit);
            tokio::time::timeout_at(until, future).await.map_err(|_| Overlong::Time(limit.as_millis()))
        })
    }
}

/// `wasi:io`, in the place of wasmtime's, for stores whose data has a table and a budget of waiting.
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    table: fn(&mut T) -> &mut ResourceTable,
    waits: fn(&mut T) -> Waits<'_>,
) -> wasmtime::Result<()> {
    error::add_to_linker::<T, Table>(linker, table)?;
    poll::add_to_linker::<T, Bounded>(linker, waits)?;
    streams::add_to_linker::<T, Bounded>(linker, waits)
}

/// Names an instance's resources for wasmtime.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Names [`Waits`] for wasmtime.
struct Bounded;

impl HasData for Bounded {
    type Data<'a> = Waits<'a>;
}

/// The resources of an instance, and the budget they are waited for on.
pub(super) struct Waits<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) waiting: &'a mut Waiting,
}

impl Waits<'_> {
    /// A stream's operation that may wait.
    fn stream<R>(waiting: &mut Waiting, operation: impl Future<Output = StreamResult<R>>) -> StreamResult<R> {
        waiting.wait(operation).map_err(|error| StreamError::Trap(error.into()))?
    }
}

impl poll::Host for Waits<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.waiting.wait(parked::Host::poll(self.table, pollables))?
    }
}

impl poll::HostPollable for Waits<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.waiting.wait(parked::HostPollable::ready(self.table, pollable))?
    }
    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.waiting.wait(parked::HostPollable::block(self.table, pollable))?
    }
    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        parked::HostPollable::drop(self.table, pollable)
    }
}

impl streams::Host for Waits<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        Ok(flowing::Host::convert_stream_error(self.table, error)?.into())
    }
}

impl streams::HostInputStream for Waits<'_> {
    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        flowing::HostInputStream::read(self.table, stream, len)
    }
    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        Self::stream(self.waiting, flowing::HostInputStream::blocking_read(self.table, stream, len))
    }
    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        flowing::HostInputStream::skip(self.table, stream, len)
    }
    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        Self::stream(self.waiting, flowing::HostInputStream::blocking_skip(self.table, stream, len))
    }
    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        flowing::HostInputStream::subscribe(self.table, stream)
    }
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        self.waiting.wait(flowing::HostInputStream::drop(self.table, stream))?
    }
}

impl streams::HostOutputStream for Waits<'_> {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        flowing::HostOutputStream::check_write(self.table, stream)
    }
    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        flowing::HostOutputStream::write(self.table, stream, bytes)
    }
    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let written = flowing::HostOutputStream::blocking_write_and_flush(self.table, stream, bytes);
        Self::stream(self.waiting, written)
    }
    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        flowing::HostOutputStream::flush(self.table, stream)
    }
    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        Self::stream(self.waiting, flowing::HostOutputStream::blocking_flush(self.table, stream))
    }
    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        flowing::HostOutputStream::subscribe(self.table, stream)
    }
    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        flowing::HostOutputStream::write_zeroes(self.table, stream, len)
    }
    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        let written = flowing::HostOutputStream::blocking_write_zeroes_and_flush(self.table, stream, len);
        Self::stream(self.waiting, written)
    }
    fn splice(
        &mut self,
        into: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        flowing::HostOutputStream::splice(self.table, into, from, len)
    }
    fn blocking_splice(
        &mut self,
        into: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let spliced = flowing::HostOutputStream::blocking_splice(self.table, into, from, len);
        Self::stream(self.waiting, spliced)
    }
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.waiting.wait(flowing::HostOutputStream::drop(self.table, stream))?
    }
}
