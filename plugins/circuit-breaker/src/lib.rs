//! The circuit breaker: a backend that fails is left alone, and comes back through a single probe.
//!
//! The circuits live in the gateway's cells and change by compare-and-swap, so that all instances of this
//! plugin see one circuit, and two callers can never both be the probe.

mod codec;
mod config;
mod decide;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Configured, Lifecycle, Outcome, Permit, Refusal, Verdict, cells, clock, log,
};

use config::{Config, Rules};
use decide::{Check, Circuit};

/// How often a change is tried again after another call was faster.
const ATTEMPTS: usize = 8;

/// How long a circuit is remembered after its last change: twice the longest time that one may be open.
const TTL_MS: u32 = 24 * 3_600_000;

/// The plugin.
#[derive(Debug)]
pub struct CircuitBreaker;

static CONFIG: Configured<Config> = Configured::of("circuit-breaker");

impl Lifecycle for CircuitBreaker {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        CONFIG.read(&json, Config::read)
    }
}

impl Admission for CircuitBreaker {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        let backend = call.backend();
        let rules = rules(&backend)?;
        for _ in 0..ATTEMPTS {
            let Ok((circuit, version)) = load(&backend) else { break };
            match circuit.check(&rules, clock::now_ns) {
                Check::Pass(permit) => return Ok(Verdict::Allow(Some(permit))),
                Check::Refuse { retry_after_ms, probing } => {
                    return Err(decide::refused(&backend, retry_after_ms, probing));
                }
                Check::Probe(next, permit) => match save(&backend, version, &next) {
                    Ok(()) => return Ok(Verdict::Allow(Some(permit))),
                    Err(cells::Failure::Stale) => {}
                    Err(cells::Failure::QuotaExceeded | cells::Failure::Unavailable) => break,
                },
            }
        }
        Err(decide::unavailable(&backend))
    }

    fn settle(call: &Call, permit: Permit, outcome: Outcome, _: u64) {
        let backend = call.backend();
        let Ok(rules) = rules(&backend) else { return };
        let health = decide::health(outcome);
        for _ in 0..ATTEMPTS {
            let Ok((circuit, version)) = load(&backend) else { break };
            let Some(next) = circuit.settle(&rules, permit, health, clock::now_ns()) else {
                return;
            };
            match save(&backend, version, &next) {
                Ok(()) => {
                    if let Some(news) = decide::news(&backend, &circuit, &next, &rules, outcome) {
                        log::emit(log::Level::Warn, &news);
                    }
                    return;
                }
                Err(cells::Failure::Stale) => {}
                Err(cells::Failure::QuotaExceeded | cells::Failure::Unavailable) => break,
            }
        }
        let message = format!("a result of the backend {backend:?} was not counted: {outcome:?}");
        log::emit(log::Level::Warn, &message);
    }
}

fn rules(backend: &str) -> Result<Rules, Refusal> {
    CONFIG.get().map(|config| *config.of(backend))
}

/// The circuit of a backend and its version. What another version of this plugin wrote is not understood,
/// and taken for nothing: a breaker that stays shut out of its own state would shut out everybody.
fn load(backend: &str) -> Result<(Circuit, u64), cells::Failure> {
    let cell = cells::get(backend)?;
    Ok(cell.map_or_else(
        || (Circuit::default(), 0),
        |cell| (codec::decode(&cell.value).unwrap_or_default(), cell.version),
    ))
}

fn save(backend: &str, version: u64, circuit: &Circuit) -> Result<(), cells::Failure> {
    cells::swap(backend, version, &codec::encode(circuit), TTL_MS).map(drop)
}

sentinel_plugin_sdk::export!(CircuitBreaker: admission);
