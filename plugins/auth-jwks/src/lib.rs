//! The authenticator that knows callers by tokens whose keys an identity provider publishes, so that keys are changed
//! there and nowhere else.
//!
//! This file joins three rules to the gateway: how tokens are judged (`sentinel-jwt`), what a key set is
//! ([`document`]), and when it is fetched ([`schedule`]). The keys lie in the gateway's cells, for all instances.

pub mod document;
pub mod schedule;
pub mod settings;

use std::cell::RefCell;
use std::time::Duration;

use sentinel_jwt::decide::{Fault, Key};
use sentinel_plugin_sdk::{
    Auth, Authentication, ConfigError, Configured, Identity, Lifecycle, Refusal, Request, cells, clock, http,
    log, secrets,
};

use schedule::{Need, State, Step};
use settings::Settings;

/// Cells of the gateway: what all instances know, and the document itself behind its number.
const STATE: &str = "state";
const KEYS: &str = "keys";
/// Added to the longest age, so that the gateway forgets keys that may no longer be used.
const MARGIN_MS: u64 = 60_000;
/// How long a request may take; less than [`schedule`] gives an attempt.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a call that waits for another one's fetch looks again, and for how long in all.
const LOOK: Duration = Duration::from_millis(25);
const WAIT_MS: u64 = 5_500;
/// Rounds of one call; each waits, or makes a step that leads to the next.
const ROUNDS: usize = 256;

static SETTINGS: Configured<Settings> = Configured::of("auth-jwks");

thread_local! {
    // A guest has one thread; the keys live as long as the instance.
    static FETCHED: RefCell<Fetched> = const { RefCell::new(Fetched { set: 0, keys: Vec::new() }) };
}

/// The keys of the set with this number.
struct Fetched {
    set: u64,
    keys: Vec<Key>,
}

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct AuthJwks;

impl Lifecycle for AuthJwks {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        SETTINGS.read(&json, |config| Settings::check(config, secrets::get))
    }
}

impl Authentication for AuthJwks {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        let Some(token) = request.bearer() else { return Ok(Auth::Abstain) };
        match SETTINGS.get()? {
            settings if settings.verifier.leaves(&token) => Ok(Auth::Abstain),
            settings => judge(settings, &token).map(Auth::Accepted),
        }
    }
}

fn judge(settings: &Settings, token: &str) -> Result<Identity, Refusal> {
    let started = clock::unix_ms();
    // A token signed with a key of the configuration needs no fetched key, and a broken one is refused without any.
    match settings.verifier.accept(token, started / 1000) {
        Err(Fault::UnknownKey | Fault::BadSignature) => {}
        other => return other.map_err(|fault| settings.verifier.refusal(fault)),
    }
    let mut need = Need::Any;
    for _ in 0..ROUNDS {
        let now = clock::unix_ms();
        let (state, version) = read()?;
        match state.step(need, now, settings.times) {
            Step::Wait if now.abs_diff(started) >= WAIT_MS => return Err(unavailable(&state, now, settings)),
            Step::Wait => http::pause(LOOK),
            Step::Fetch(claim) => {
                // Another instance was faster: the next look sees its claim.
                if let Some(version) = write(STATE, &encode(&claim), version, settings)? {
                    fetch(settings, &claim, version)?;
                }
            }
            Step::Judge => {
                let usable = state.usable(now, settings.times) && adopt(&state)?;
                let judged = FETCHED.with_borrow(|fetched| {
                    let keys = if usable { fetched.keys.as_slice() } else { &[] };
                    settings.verifier.accept_with(keys, token, now / 1000)
                });
                match judged {
                    Ok(mut identity) => {
                        let until = state.good_until(now, settings.times);
                        identity.cache_until = identity.cache_until.map(|own| own.min(until));
                        return Ok(identity);
                    }
                    Err(Fault::UnknownKey | Fault::BadSignature) if !usable => {
                        return Err(unavailable(&state, now, settings));
                    }
                    Err(Fault::UnknownKey) if need == Need::Any => need = Need::Another,
                    // A server that does not answer may have the key by now.
                    Err(Fault::UnknownKey) if state.failure.is_some() => {
                        return Err(unavailable(&state, now, settings));
                    }
                    Err(Fault::UnknownKey) => return Err(unknown(settings)),
                    Err(fault) => return Err(settings.verifier.refusal(fault)),
                }
            }
        }
    }
    Err(Refusal::new(
        "keys_unavailable",
        "The keys of the token's issuer are being fetched. Try again in a moment.",
    ))
}

/// Fetches under a claim, and says what came of it.
fn fetch(settings: &Settings, claim: &State, version: u64) -> Result<(), Refusal> {
    let limits = http::Limits { timeout: TIMEOUT, max_bytes: document::MAX_BYTES };
    let got = http::get(&settings.url, limits).map_err(|error| error.to_string()).and_then(|answer| {
        match answer.status {
            200 => {
                let document = document::read(&answer.body).map_err(|error| error.to_string())?;
                Ok((answer, document))
            }
            status @ 300..=399 => {
                Err(format!("it answers {status}; redirects are not followed, give the final address"))
            }
            status => Err(format!("it answers {status}")),
        }
    });
    let now = clock::unix_ms();
    let state = match got {
        Ok((answer, document)) => {
            let age = answer.header("cache-control").and_then(schedule::server_max_age);
            let state = claim.succeeded(now, age, settings.times);
            if !document.left_out.is_empty() {
                let text = format!("keys of {} are not used: {}", settings.url, document.left_out.join("; "));
                log::emit(log::Level::Warn, &text);
            }
            let text = format!("fetched {} keys from {}", document.keys.len(), settings.url);
            log::emit(log::Level::Info, &text);
            // The document is written first: an instance that sees the new state finds it.
            let mut cell = state.set.to_le_bytes().to_vec();
            cell.extend_from_slice(&answer.body);
            overwrite(KEYS, &cell, settings)?;
            state
        }
        Err(why) => {
            let then = if claim.usable(now, settings.times) {
                "the last ones stay in use for now"
            } else {
                "until then its tokens are refused"
            };
            log::emit(
                log::Level::Warn,
                &format!("the keys of {} cannot be fetched: {why}; {then}", settings.url),
            );
            claim.failed(&why)
        }
    };
    // If the claim was given up meanwhile, another's result stands.
    write(STATE, &encode(&state), version, settings)?;
    Ok(())
}

/// Makes the keys of a state this instance's own; false if they are gone.
fn adopt(state: &State) -> Result<bool, Refusal> {
    if FETCHED.with_borrow(|fetched| fetched.set == state.set) {
        return Ok(true);
    }
    let Some(cell) = cells::get(KEYS).map_err(lost)? else { return Ok(false) };
    let Some((number, body)) = cell.value.split_first_chunk::<8>() else { return Ok(false) };
    let Ok(document) = document::read(body) else { return Ok(false) };
    FETCHED.set(Fetched { set: u64::from_le_bytes(*number), keys: document.keys });
    Ok(true)
}

fn read() -> Result<(State, u64), Refusal> {
    let Some(cell) = cells::get(STATE).map_err(lost)? else { return Ok((State::default(), 0)) };
    // A state of another version of this plugin is as good as none.
    Ok((serde_json::from_slice(&cell.value).unwrap_or_default(), cell.version))
}

fn encode(state: &State) -> Vec<u8> {
    serde_json::to_vec(state).unwrap_or_default()
}

/// Swaps a cell; `None` if another instance was faster.
fn write(key: &str, value: &[u8], version: u64, settings: &Settings) -> Result<Option<u64>, Refusal> {
    let ttl = settings.times.max_age + settings.times.stale + MARGIN_MS;
    match cells::swap(key, version, value, u32::try_from(ttl).unwrap_or(u32::MAX)) {
        Ok(version) => Ok(Some(version)),
        Err(cells::Failure::Stale) => Ok(None),
        Err(failure) => Err(lost(failure)),
    }
}

fn overwrite(key: &str, value: &[u8], settings: &Settings) -> Result<(), Refusal> {
    for _ in 0..8 {
        let version = cells::get(key).map_err(lost)?.map_or(0, |cell| cell.version);
        if write(key, value, version, settings)?.is_some() {
            return Ok(());
        }
    }
    Err(lost(cells::Failure::Stale))
}

fn lost(_: cells::Failure) -> Refusal {
    Refusal::new(
        "state_unavailable",
        "The gateway cannot keep the keys of the token's issuer. Ask its operator.",
    )
}

fn unavailable(state: &State, now: u64, settings: &Settings) -> Refusal {
    let text = "The keys of the token's issuer cannot be fetched right now, so the token cannot be checked. Try again later.";
    let mut refusal = Refusal::new("keys_unavailable", text);
    refusal.retry_after_ms = Some(state.next_attempt_in(now, settings.times));
    refusal
}

/// The refusal for a caller who waited for a new key, which may just not be published yet.
fn unknown(settings: &Settings) -> Refusal {
    let text = format!(
        "The key that signed the token is not among those that its issuer publishes. If it is new, try again in {} s; otherwise get another token.",
        settings.times.refetch / 1000
    );
    Refusal::new(Fault::UnknownKey.reason(), text)
}

sentinel_plugin_sdk::export!(AuthJwks: authentication);
