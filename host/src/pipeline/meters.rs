//! The metrics of every call. Their handles are cached for each tool: finding a metric by its labels costs more than
//! counting.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use metrics::{Counter, Histogram};
use parking_lot::RwLock;

use super::Failure;
use crate::audit::Status;
use crate::backend::BackendError;

/// More names than this are looked up each time; backends that change their names would fill the memory.
const MAX_KEPT: usize = 50_000;

/// The metrics of all tools.
#[derive(Default)]
pub(super) struct Meters(RwLock<HashMap<Box<str>, Meter>>);

/// The handles of one tool's metrics that change with every successful call.
struct Meter {
    succeeded: Counter,
    duration: Histogram,
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meters({})", self.0.read().len())
    }
}

impl Meters {
    /// Counts one call. `tool` is a name from the catalog, or `unknown`.
    pub(super) fn count(&self, tool: &str, status: Status, failure: Option<&Failure>, latency: Duration) {
        if status == Status::Success && failure.is_none() {
            return self.succeeded(tool, latency);
        }
        requests(tool, status).increment(1);
        duration(tool).record(latency.as_secs_f64());
        if status == Status::RateLimited {
            metrics::counter!("sentinel_rate_limit_hits_total", "tool" => tool.to_owned()).increment(1);
        }
        let kind = match failure {
            Some(failure) => kind(failure, status),
            // The backend did answer: with an error, or with a result that says `isError`.
            None if status == Status::Error => "answer",
            None => return,
        };
        metrics::counter!("sentinel_errors_total", "tool" => tool.to_owned(), "error_type" => kind)
            .increment(1);
    }

    fn succeeded(&self, tool: &str, latency: Duration) {
        if let Some(meter) = self.0.read().get(tool) {
            meter.succeeded.increment(1);
            return meter.duration.record(latency.as_secs_f64());
        }
        let meter = Meter { succeeded: requests(tool, Status::Success), duration: duration(tool) };
        meter.succeeded.increment(1);
        meter.duration.record(latency.as_secs_f64());
        let mut kept = self.0.write();
        if kept.len() < MAX_KEPT {
            kept.insert(tool.into(), meter);
        }
    }
}

fn requests(tool: &str, status: Status) -> Counter {
    metrics::counter!("sentinel_requests_total", "tool" => tool.to_owned(), "status" => status.as_str())
}

fn duration(tool: &str) -> Histogram {
    metrics::histogram!("sentinel_request_duration_seconds", "tool" => tool.to_owned())
}

/// Why a call failed, in a word.
pub(super) fn kind(failure: &Failure, status: Status) -> &'static str {
    match failure {
        Failure::Denied(_) | Failure::Pending(_) | Failure::Backend(BackendError::Share { .. }) => {
            status.as_str()
        }
        Failure::Unknown { .. } => "unknown_target",
        Failure::Unlisted { .. } => "backend_not_listed",
        Failure::Params(_) => "invalid_args",
        Failure::Method(_) => "unknown_method",
        Failure::Backend(BackendError::Timeout { .. }) => "timeout",
        Failure::Backend(BackendError::Unreachable { .. }) => "unreachable",
        Failure::Backend(_) => "backend",
        Failure::Audit(_) => "audit",
        Failure::Cancelled => "cancelled",
    }
}
