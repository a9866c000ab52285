//! Gathers the state of the gateway for `status`.

use std::sync::Arc;
use std::time::Instant;

use super::{EndpointView, Plane};
use crate::backend::{self, Backend, Server, exec};
use crate::control::{
    BackendStatus, CallStatus, EndpointStatus, Generation, OffStatus, Origin, Record, RefusedStatus, Running,
    Status, Switch, Time,
};
use crate::policy::Order;

/// So many calls under way are listed.
const MAX_CALLS: usize = 20;

impl Plane {
    pub(super) fn status(&self) -> Status {
        let now = Time::now();
        let health = self.reloader.resident().audit.status();
        let running = self.running.lock().clone().map(|running| Running {
            who: running.who,
            what: running.what.to_owned(),
            since: now.ago(running.since.elapsed()),
        });
        let calls = self.activity().flights.oldest(MAX_CALLS).into_iter().map(|flight| CallStatus {
            id: flight.call.id.clone(),
            subject: flight.call.principal.subject.clone(),
            method: flight.call.method.clone(),
            name: flight.call.target.name.to_string(),
            backend: flight.call.target.backend.to_string(),
            since: now.ago(flight.since.elapsed()),
        });
        let refused = self.activity().refusals.newest().into_iter().map(|refused| RefusedStatus {
            at: Time::from_ms(refused.at_ms),
            subject: refused.subject,
            role: refused.role,
            door: refused.door.to_owned(),
            status: refused.status.to_owned(),
            asked: refused.asked,
            why: refused.why,
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: self.config.clone(),
            now,
            started: self.started,
            door: self.door.get().cloned().unwrap_or_else(|| "not open yet".to_owned()),
            mode: self.mode.to_owned(),
            generation: self.generation(),
            record: Record {
                healthy: health.healthy,
                reason: health.reason,
                backlog_bytes: health.backlog_bytes,
            },
            endpoints: self.endpoints().iter().map(|endpoint| endpoint.status(now)).collect(),
            switched_off: self.switched_off(),
            in_flight: self.activity().flights.count(),
            calls: calls.collect(),
            refused: refused.collect(),
            running,
        }
    }

    fn generation(&self) -> Generation {
        let number = self.reloader.generation();
        let older = self.reloader.generations().into_iter().map(|(id, _)| id).filter(|id| *id < number);
        Generation { number, since: Time::from_ms(self.reloader.since_ms()), older: older.collect() }
    }

    /// By order first, and then what the files say.
    fn switched_off(&self) -> Vec<OffStatus> {
        let mut off: Vec<OffStatus> = self.orders().list().into_iter().map(ordered).collect();
        for endpoint in self.endpoints().iter() {
            let settings = endpoint.pipeline.policy().kill().settings();
            let tools = settings.disabled_tools.into_iter().map(Switch::Tool);
            let backends = settings.disabled_backends.into_iter().map(Switch::Backend);
            off.extend(tools.chain(backends).map(|what| OffStatus {
                what,
                origin: Origin::File,
                mount: endpoint.mount.clone(),
                since: None,
                by: None,
                why: None,
            }));
        }
        off
    }
}

fn ordered(order: Order) -> OffStatus {
    OffStatus {
        what: order.what,
        origin: Origin::Order,
        mount: None,
        since: Some(Time::from_ms(order.at_ms)),
        by: Some(order.by),
        why: (!order.why.is_empty()).then_some(order.why),
    }
}

impl EndpointView {
    fn status(&self, now: Time) -> EndpointStatus {
        let generation = self.pipeline.current();
        let servers = generation.registry().backends().iter().map(|server| self.backend(server, now));
        let executors = generation.backends().filter_map(|backend| match backend {
            Backend::Exec(client) => Some(self.executor(&client, now)),
            Backend::Mcp(_) | Backend::Http(_) | Backend::Engine(_) => None,
        });
        EndpointStatus {
            mount: self.mount.clone(),
            sessions: self.subscribers.count(),
            tools: self.pipeline.tools(),
            backends: servers.chain(executors).collect(),
        }
    }

    /// Its process is the operator's, so it is known only whether it answers.
    fn executor(&self, client: &exec::Client, now: Time) -> BackendStatus {
        let exec::Seen { status, since, starts, last_error } = client.seen();
        let at = |moment: Instant| now.ago(moment.elapsed());
        let (state, why) = match status {
            backend::Status::Ready => ("ready", None),
            backend::Status::Starting => ("starting", Some("it has not been asked yet".to_owned())),
            backend::Status::Down { reason, .. } => ("down", Some(reason.to_string())),
            backend::Status::Stopped => ("stopped", None),
        };
        let (last_error, last_error_at) =
            last_error.map(|(error, moment)| (error.to_string(), at(moment))).unzip();
        BackendStatus {
            name: client.name().to_string(),
            state: state.to_owned(),
            why,
            since: at(since),
            pid: None,
            starts,
            in_flight: client.in_flight(),
            switched_off: self.pipeline.policy().kill().is_off(client.name()),
            last_error,
            last_error_at,
        }
    }

    fn backend(&self, backend: &Arc<Server>, now: Time) -> BackendStatus {
        let history = backend.history();
        let at = |moment: Instant| now.ago(moment.elapsed());
        let (state, why) = match backend.status() {
            backend::Status::Ready => ("ready", None),
            backend::Status::Starting => ("starting", Some(backend.starting())),
            backend::Status::Down { .. } if backend.is_stopped() => ("stopped", None),
            backend::Status::Down { reason, again } => {
                let left = again.map(|again| again.saturating_duration_since(Instant::now()));
                ("down", Some(format!("{reason}{}", backend::tried_again(left))))
            }
            backend::Status::Stopped => ("stopped", Some("the gateway is shutting down".to_owned())),
        };
        let (last_error, last_error_at) =
            history.last_error.map(|(error, moment)| (error.to_string(), at(moment))).unzip();
        BackendStatus {
            name: backend.name().to_string(),
            state: state.to_owned(),
            why,
            since: at(history.since),
            pid: history.pid,
            starts: history.starts,
            in_flight: backend.in_flight(),
            switched_off: self.pipeline.policy().kill().is_off(backend.name()),
            last_error,
            last_error_at,
        }
    }
}
