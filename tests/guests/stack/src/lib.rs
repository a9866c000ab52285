//! Shows that endless recursion in a guard ends in a trap that names the stack.

use std::hint::black_box;

use sentinel_plugin_sdk::{Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict};

/// A guard that recurses without end.
#[derive(Debug)]
pub struct Stack;

impl Lifecycle for Stack {
    fn configure(_json: String) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }
}

/// The result of the inner call is used by an operation that cannot be moved into an accumulator, so
/// the compiler cannot make a loop of it; nothing lives in linear memory, so it is the stack of the
/// engine that overflows. `floor` is opaque: without a way out the rest would be unreachable.
#[inline(never)]
fn descend(depth: u64, floor: u64) -> u64 {
    if depth == floor {
        return depth;
    }
    descend(depth + 1, floor).rotate_left(7) ^ depth
}

impl Admission for Stack {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        Ok(Verdict::Allow(Some(descend(0, black_box(u64::MAX)))))
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(Stack: admission);
