//! Limits by tier: how many calls a caller may make in each of several windows, and how many at once.
//!
//! What a caller has used stands in one of the gateway's cells and changes by compare-and-swap: a call is counted in all windows or in
//! none, so that a refused call costs nothing. A call that is under way holds a lease, which ends by itself if nothing else ends it.

mod codec;
mod config;
mod decide;
mod said;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Configured, Lifecycle, Outcome, Permit, Refusal, TargetKind, Verdict,
    cells, clock, log,
};

use config::{Rules, Tier};
use decide::Usage;

/// How often a caller's usage is read again because another call of the same caller was faster.
const ATTEMPTS: u32 = 64;

/// The plugin.
#[derive(Debug)]
pub struct TierLimits;

static RULES: Configured<Rules> = Configured::of("tier-limits");

impl Lifecycle for TierLimits {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        RULES.read(&json, Rules::read)
    }
}

impl Admission for TierLimits {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        // What an operator does must work when a limit is reached, most of all then.
        if call.kind() == TargetKind::Control {
            return Ok(Verdict::ALLOW);
        }
        let rules = RULES.get()?;
        let (tier, key) = whose(rules, call);
        for _ in 0..ATTEMPTS {
            let (mut usage, version) = match load(&key) {
                Ok(found) => found,
                Err(failure) => return Err(failed(failure)),
            };
            let now = now_ms();
            let permit = match usage.take(tier, now) {
                Ok(permit) => permit,
                Err(full) => {
                    tell(call, tier, || said::left(tier, &usage, now, Some(&full)));
                    return Err(said::refused(tier, &usage, &full, now));
                }
            };
            match save(&key, version, &usage, tier) {
                Ok(()) => {
                    tell(call, tier, || said::left(tier, &usage, now, None));
                    return Ok(Verdict::Allow(tier.concurrent.map(|_| permit)));
                }
                Err(cells::Failure::Stale) => {}
                Err(failure) => return Err(failed(failure)),
            }
        }
        Err(said::busy())
    }

    fn settle(call: &Call, permit: Permit, _: Outcome, _: u64) {
        let Ok(rules) = RULES.get() else { return };
        let (tier, key) = whose(rules, call);
        for _ in 0..ATTEMPTS {
            let Ok((mut usage, version)) = load(&key) else { break };
            if !usage.give_back(permit) {
                return;
            }
            match save(&key, version, &usage, tier) {
                Ok(()) => return,
                Err(cells::Failure::Stale) => {}
                Err(cells::Failure::QuotaExceeded | cells::Failure::Unavailable) => break,
            }
        }
        log::emit(
            log::Level::Warn,
            "the end of a call was not counted: its place is free when its lease ends",
        );
    }
}

/// Says the limits of the tier and what is left of them, where answers have headers. A tier without limits has nothing to say.
fn tell(call: &Call, tier: &Tier, left: impl FnOnce() -> String) {
    if tier.is_limited() && call.tell("RateLimit-Policy", &said::policy(tier)) {
        call.tell("RateLimit", &left());
    }
}

/// The tier of a caller, and the key of what they have used.
fn whose<'a>(rules: &'a Rules, call: &Call) -> (&'a Tier, String) {
    let subject = call.subject();
    let claim = call.claim(&rules.claim);
    // Where the gateway knows it: of callers of routes for everybody, who have no other name.
    let client = call.attr("peer.ip").or_else(|| call.claim("peer.ip"));
    rules.whose(&subject, &call.role(), claim.as_deref(), client.as_deref())
}

fn now_ms() -> u64 {
    clock::now_ns() / 1_000_000
}

/// What a caller has used. What another version of this plugin wrote is not understood, and the caller begins anew.
fn load(key: &str) -> Result<(Usage, u64), cells::Failure> {
    let cell = cells::get(key)?;
    Ok(cell.map_or_else(
        || (Usage::default(), 0),
        |cell| (codec::decode(&cell.value).unwrap_or_default(), cell.version),
    ))
}

fn save(key: &str, version: u64, usage: &Usage, tier: &Tier) -> Result<(), cells::Failure> {
    cells::swap(key, version, &codec::encode(usage), tier.remembered_ms()).map(drop)
}

/// A limit that cannot be checked counts as reached.
fn failed(failure: cells::Failure) -> Refusal {
    log::emit(log::Level::Error, &format!("what callers have used cannot be read or written: {failure:?}"));
    said::unavailable()
}

sentinel_plugin_sdk::export!(TierLimits: admission);
