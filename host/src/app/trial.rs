//! Asks one plugin what a file of cases says, without a gateway: the clock, the state and the secrets are the file's.
//!
//! The plugin runs as it does in a gateway: the same sandbox, the same limits but for the deadline, the same checks of its
//! edits. So what passes here behaves there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sentinel_names::Names;
use serde_json::Value;

mod cases;
mod found;
mod message;

pub use self::cases::Cases;
use self::cases::{Case, Hook, Verdict};
pub use self::found::Found;
use crate::call::{Call, Denial, Json, Outcome, TargetKind};
use crate::config::{self, Isolation, OnFailure, Secret, Stage};
use crate::mcp::catalog::{List, Offer};
use crate::mcp::message::raw;
use crate::plugin::{self, Auth, BackendResponse, Engine, Fuel, LoadError, Plugin, Refusal, Row};
use crate::policy::{Chain, KillSwitch, Permitted, Policy};
use crate::rewrite::{Prepared, Rewriters};
use crate::state::{Clock, ManualClock, Store};

/// How long a call may take: the time of a machine that does other work is not what cases are about.
const DEADLINE_MS: u64 = 2_000;

/// A case that ran.
#[derive(Debug)]
pub struct Tried {
    pub name: String,
    pub found: Found,
    /// Everything that is not as expected; empty if the case passed.
    pub wrong: Vec<String>,
}

/// A plugin with the world of a file of cases.
#[derive(Debug)]
pub struct Trial {
    plugin: Arc<Plugin>,
    fuel: Fuel,
    clock: Clock,
    hands: ManualClock,
}

impl Trial {
    /// Loads the plugin as the file wants it configured.
    ///
    /// # Errors
    /// It cannot be loaded, or refuses the configuration.
    pub fn load(engine: &Engine, wasm: &Path, cases: &Cases) -> anyhow::Result<Self> {
        let artifact = plugin::load_artifact(engine, wasm, None, None)?;
        let stage = stage(&artifact.exports).context("it has no role that can be asked")?;
        let settings = settings(wasm, stage, cases);
        let (clock, hands) = Clock::manual();
        // A clock that stands at zero would make a first sliding window look half past.
        hands.advance(Duration::from_secs(1_767_225_600));
        let fuel = Fuel::default();
        let loaded = Plugin::load_counted(engine, wasm, &settings, &Store::new(), &clock, fuel.clone());
        let plugin = loaded.map_err(|error| match error {
            LoadError::Config(mistakes) => {
                let lines = mistakes.into_iter().map(|(path, message, hint)| {
                    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                    format!("\n  config{}: {message}{hint}", path.replace('/', "."))
                });
                anyhow::anyhow!("it refuses the configuration of the cases:{}", lines.collect::<String>())
            }
            error => error.into(),
        })?;
        Ok(Self { plugin: Arc::new(plugin), fuel, clock, hands })
    }

    /// Runs one case.
    ///
    /// # Errors
    /// The case does not say what to ask.
    pub fn run(&self, case: &Case) -> anyhow::Result<Tried> {
        self.set_clock(case)?;
        let began = Instant::now();
        let mut found = match self.hook(case)? {
            Hook::Authenticate => self.authenticate(case),
            Hook::Check => self.check(case),
            Hook::Visible => self.visible(case),
            Hook::OnRequest => self.on_request(case),
            Hook::OnResponse => self.on_response(case),
            Hook::OnCatalog => self.on_catalog(case),
        }?;
        found.took = began.elapsed();
        found.fuel = self.fuel.take();
        self.settle(case, &found)?;
        let wrong = found.against(&case.expect);
        Ok(Tried { name: case.name.clone(), found, wrong })
    }

    fn set_clock(&self, case: &Case) -> anyhow::Result<()> {
        if let Some(at) = &case.at {
            let at: jiff::Timestamp = at.parse().with_context(|| {
                format!("`at` of {:?} is no time such as 2026-01-05T09:30:00Z", case.name)
            })?;
            self.hands.set_unix_ms(u64::try_from(at.as_millisecond()).unwrap_or_default());
            self.hands.set_ns(u64::try_from(at.as_nanosecond()).unwrap_or_default());
        }
        self.hands.advance(Duration::from_millis(case.after_ms.unwrap_or(0)));
        Ok(())
    }

    fn hook(&self, case: &Case) -> anyhow::Result<Hook> {
        let roles = self.plugin.roles();
        Ok(match case {
            Case { hook: Some(hook), .. } => *hook,
            Case { request: Some(_), .. } => Hook::Authenticate,
            Case { list: Some(_), .. } => Hook::OnCatalog,
            Case { answer: Some(_), .. } => Hook::OnResponse,
            Case { rows: Some(_), .. } => Hook::Visible,
            Case { call: Some(_), .. } if roles.admission => Hook::Check,
            Case { call: Some(_), .. } => Hook::OnRequest,
            _ => bail!("the case {:?} asks nothing: it needs `call`, `request` or `list`", case.name),
        })
    }

    fn call(&self, case: &Case) -> anyhow::Result<Arc<Call>> {
        let asked = case.call.as_ref().with_context(|| format!("the case {:?} needs a `call`", case.name))?;
        message::call(asked).with_context(|| format!("the case {:?}", case.name))
    }

    fn authenticate(&self, case: &Case) -> anyhow::Result<Found> {
        let knock =
            case.request.as_ref().with_context(|| format!("the case {:?} needs a `request`", case.name))?;
        Ok(match self.plugin.authenticate(&Arc::new(message::credential(knock))) {
            Ok(Ok(Auth::Abstain)) => Found::new(Verdict::Abstain),
            Ok(Ok(Auth::Accepted { principal, .. })) => Found {
                subject: Some(principal.subject),
                role: Some(principal.role),
                claims: principal.claims,
                ..Found::new(Verdict::Accepted)
            },
            Ok(Err(refusal)) => refused(refusal),
            Err(error) => fault(error.fault.to_string()),
        })
    }

    fn check(&self, case: &Case) -> anyhow::Result<Found> {
        let call = self.call(case)?;
        Ok(match self.plugin.check(&call) {
            Ok(Ok(plugin::Verdict::Allow(permit))) => {
                Found { given: permit, permit: Some(permit.is_some()), ..Found::new(Verdict::Allow) }
            }
            Ok(Ok(plugin::Verdict::Ask(request))) => Found {
                reason: Some(request.reason),
                message: Some(request.summary),
                risk: Some(request.risk.as_str().to_owned()),
                details: request.details,
                ..Found::new(Verdict::Ask)
            },
            Ok(Err(refusal)) => refused(refusal),
            Err(error) => fault(error.fault.to_string()),
        })
    }

    /// Tells a guard how its call ended: as the case says, or well.
    fn settle(&self, case: &Case, found: &Found) -> anyhow::Result<()> {
        let Some(permit) = found.given else {
            let none = case.settle.is_none();
            anyhow::ensure!(none, "the case {:?} settles a permit that the plugin did not give", case.name);
            return Ok(());
        };
        let (outcome, latency) = match &case.settle {
            Some(settled) => (message::outcome(settled.outcome), Duration::from_millis(settled.latency_ms)),
            None => (Outcome::Success, Duration::ZERO),
        };
        self.plugin.settle(&self.call(case)?, permit, outcome, latency)?;
        Ok(())
    }

    fn visible(&self, case: &Case) -> anyhow::Result<Found> {
        let (call, rows) = (self.call(case)?, case.rows.as_deref().unwrap_or_default());
        let row = |name| Row {
            kind: TargetKind::Tool,
            names: Names { shown: name, own: name, backend: &call.target.backend },
        };
        let rows: Vec<Row<'_>> = rows.iter().map(|name| row(name.as_str())).collect();
        Ok(match self.plugin.visible(&call, &rows) {
            Ok(visible) => Found { visible: Some(visible), ..Found::new(Verdict::Filtered) },
            Err(error) => fault(error.fault.to_string()),
        })
    }

    /// The rewriters of a gateway that has only this one.
    fn rewriters(&self, backend: &str) -> anyhow::Result<Rewriters> {
        let rewriters = Rewriters::new(std::slice::from_ref(&self.plugin), [backend])?;
        // It was asked which hooks it wants, which is not what the case is about.
        let _ = self.fuel.take();
        Ok(rewriters)
    }

    fn permitted(&self, call: &Arc<Call>) -> anyhow::Result<Permitted> {
        let kill = KillSwitch::new(&config::KillSwitch::default());
        let policy = Policy::new(Chain::default(), kill, self.clock.clone());
        policy.decide(call, None).map_err(|denial| anyhow::anyhow!(denial.message))
    }

    fn on_request(&self, case: &Case) -> anyhow::Result<Found> {
        let call = self.call(case)?;
        let permitted = self.permitted(&call)?;
        Ok(match self.rewriters(&call.target.backend)?.request(&permitted) {
            Ok(prepared) => {
                let params = prepared.params.as_ref().unwrap_or(&call.params);
                let changed = prepared.params.is_some() || !prepared.headers.is_empty();
                Found {
                    params: Some(parsed(params)?),
                    headers: prepared.headers,
                    notes: prepared.notes,
                    ..Found::new(if changed { Verdict::Changed } else { Verdict::Unchanged })
                }
            }
            Err(denial) => denied(denial),
        })
    }

    fn on_response(&self, case: &Case) -> anyhow::Result<Found> {
        let call = self.call(case)?;
        let permitted = self.permitted(&call)?;
        let given =
            case.answer.as_ref().with_context(|| format!("the case {:?} needs an `answer`", case.name))?;
        let result = given.result.clone().unwrap_or(Value::Null);
        let is_error = given.error_code.is_some() || result.get("isError") == Some(&Value::Bool(true));
        let text = if given.error_code.is_some() { String::new() } else { result.to_string() };
        let answer = BackendResponse { is_error, error_code: given.error_code, result: text.into() };
        let rewriters = self.rewriters(&call.target.backend)?;
        let mut prepared = Prepared::default();
        let mut found = match rewriters.response(&permitted, &mut prepared, &answer) {
            Ok(Some(changed)) => {
                Found { result: Some(serde_json::from_slice(&changed)?), ..Found::new(Verdict::Changed) }
            }
            Ok(None) => Found { result: Some(result), ..Found::new(Verdict::Unchanged) },
            Err(denial) => denied(denial),
        };
        found.notes = prepared.notes;
        Ok(found)
    }

    fn on_catalog(&self, case: &Case) -> anyhow::Result<Found> {
        let listed =
            case.list.as_ref().with_context(|| format!("the case {:?} needs a `list`", case.name))?;
        let list = match listed.kind {
            cases::Kind::Tool => List::Tools,
            cases::Kind::Resource => List::Resources,
            cases::Kind::Prompt => List::Prompts,
            _ => bail!("the case {:?} lists what is in no list: tools, resources or prompts", case.name),
        };
        let (_, _, key) = list.wire();
        let offers = listed.items.iter().map(|item| {
            let name = item.get(key).and_then(Value::as_str);
            let name = name.with_context(|| format!("an item of {:?} has no `{key}`", case.name))?.to_owned();
            Ok(Offer { name: name.clone(), upstream: name, item: raw(item.to_string()) })
        });
        let offers: Vec<Offer> = offers.collect::<anyhow::Result<_>>()?;
        let backend: Arc<str> = listed.backend.as_str().into();
        let shown = self.rewriters(&backend)?.catalog(&backend, list, offers);
        let shown = shown.into_iter().map(|offer| {
            let mut item: Value = serde_json::from_str(offer.item.get())?;
            if let Some(name) = item.get_mut(key) {
                *name = offer.name.into();
            }
            Ok(item)
        });
        let items = shown.collect::<anyhow::Result<Vec<Value>>>()?;
        let verdict = if items == listed.items { Verdict::Unchanged } else { Verdict::Changed };
        Ok(Found { items: Some(items), ..Found::new(verdict) })
    }
}

fn parsed(json: &Json) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(json.get())?)
}

fn refused(refusal: Refusal) -> Found {
    Found {
        reason: Some(refusal.reason),
        message: Some(refusal.message),
        retry_after_ms: refusal.retry_after.map(millis),
        details: refusal.details,
        ..Found::new(Verdict::Deny)
    }
}

fn denied(denial: Denial) -> Found {
    if denial.reason == "plugin_failed" {
        return fault(denial.message);
    }
    Found {
        reason: Some(denial.reason),
        message: Some(denial.message),
        retry_after_ms: denial.retry_after.map(millis),
        details: denial.details,
        ..Found::new(Verdict::Deny)
    }
}

fn fault(message: String) -> Found {
    Found { message: Some(message), ..Found::new(Verdict::Fault) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A stage in which the gateway would ask it.
fn stage(exports: &std::collections::BTreeSet<String>) -> Option<Stage> {
    let has = |role: &str| exports.contains(role);
    Some(match () {
        () if has("authentication") => Stage::Authenticate,
        () if has("admission") || has("visibility") => Stage::Guard,
        () if has("rewriting") => Stage::Rewrite,
        () => return None,
    })
}

fn settings(wasm: &Path, stage: Stage, cases: &Cases) -> config::Plugin {
    let defaults = config::Limits::default();
    let limits = config::Limits {
        fuel: cases.limits.fuel.unwrap_or(defaults.fuel),
        memory_bytes: cases.limits.memory_bytes.unwrap_or(defaults.memory_bytes),
        host_bytes: cases.limits.host_bytes.unwrap_or(defaults.host_bytes),
        deadline_ms: DEADLINE_MS,
        ..defaults
    };
    config::Plugin {
        name: wasm.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        artifact: "",
        stage,
        wasm: Some(wasm.to_owned()),
        sha256: None,
        on_failure: OnFailure::Deny,
        secrets: cases
            .secrets
            .iter()
            .map(|(name, value)| (name.clone(), Secret::new(value.as_str())))
            .collect(),
        grants: vec!["wasi".to_owned()],
        http: None,
        isolation: Isolation::Shared,
        limits,
        config: Value::Object(cases.config.clone()),
        section: "plugins".to_owned(),
    }
}
