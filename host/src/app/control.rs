//! What operators can do: the control socket of this gateway, and the [`ControlPlane`] behind it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

mod approvals;
mod backends;
mod kills;
mod status;

use super::apply::{self, ApplyError};
use super::endpoint::EndpointView;
use super::reload::Reloader;
use super::resident::Activity;
use super::{started, user_name};
use crate::config::{self, Config};
use crate::control::socket::{self, Socket};
use crate::control::{
    Change, Changes, Command, ControlError, ControlPlane, Effect, Permitted, Report, Request, Time,
};
use crate::door::control::{self, Control};
use crate::mcp::catalog::List;
use crate::pipeline::ListChanged;
use crate::policy::{Orders, OrdersFile};

/// Everything that commands are about.
#[derive(Debug)]
pub(super) struct Plane {
    config: String,
    started: Time,
    mode: &'static str,
    /// Where the door is open, once it is.
    door: Arc<OnceLock<String>>,
    reloader: Arc<Reloader>,
    /// The command that changes something, while there is one.
    running: Mutex<Option<Running>>,
}

/// A command under way.
#[derive(Clone, Debug)]
struct Running {
    who: String,
    what: &'static str,
    since: Instant,
}

/// Keeps others from changing something at the same time.
struct Turn<'p>(&'p Plane);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.running.lock().take();
    }
}

/// Opens the socket of this gateway. Without one it serves all the same, and the log says why.
pub(super) async fn listen(config: &Config) -> Option<Socket> {
    let folder = config.gateway.control_dir.as_ref()?;
    match socket::listen(folder, &config.gateway.trust).await {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(
                "no control socket, so `status`, `kill` and their like do not reach this gateway: {error}"
            );
            None
        }
    }
}

/// What operators have switched off in earlier runs, or in other gateways of this file.
///
/// # Errors
/// It cannot be read, so it is not known what is off.
pub(super) async fn orders(config: &Config) -> anyhow::Result<Arc<Orders>> {
    let Some(folder) = &config.gateway.control_dir else { return Ok(Arc::default()) };
    let file = OrdersFile::in_folder(folder, &config.gateway.trust);
    let orders = tokio::task::spawn_blocking(move || Orders::open(file)).await??;
    for order in orders.list() {
        let (by, why) = (&order.by, &order.why);
        tracing::warn!(
            by,
            why,
            "{} is switched off by an order; `sentinel-gateway revive` takes it back",
            order.what
        );
    }
    Ok(orders)
}

impl Plane {
    pub(super) fn new(config: &Config, reloader: Arc<Reloader>, door: Arc<OnceLock<String>>) -> Arc<Self> {
        let full = std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone());
        Arc::new(Self {
            config: full.display().to_string(),
            started: Time::now(),
            mode: started::mode(config),
            door,
            reloader,
            running: Mutex::default(),
        })
    }

    /// Takes commands until `stop`; nothing without an endpoint to judge them.
    pub(super) fn serve(
        self: Arc<Self>,
        socket: Socket,
        stop: CancellationToken,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let pipeline = self.endpoints().first()?.pipeline.clone();
        let uid = rustix::process::getuid().as_raw();
        tracing::info!("commands are taken at {}", socket.path().display());
        let control = Control { pipeline, plane: self, uid, user: user_name(uid) };
        Some(control::serve(socket, control, stop.cancelled_owned()))
    }

    fn orders(&self) -> &Arc<Orders> {
        &self.reloader.resident().orders
    }

    fn activity(&self) -> &Activity {
        &self.reloader.resident().activity
    }

    /// As they are now.
    fn endpoints(&self) -> Arc<Vec<EndpointView>> {
        self.reloader.endpoints()
    }

    /// What stands without a request is judged anew, at all endpoints.
    async fn judge_standing(&self) {
        let endpoints = self.endpoints();
        futures_util::future::join_all(endpoints.iter().map(EndpointView::judge_standing)).await;
    }

    /// Clients hear that they may see other lists now.
    fn lists_changed(&self) {
        for endpoint in self.endpoints().iter() {
            for list in List::ALL {
                // Full means that a change is being announced already.
                let _ = endpoint.news.try_send(ListChanged(list));
            }
        }
    }

    /// One command that changes something at a time.
    fn turn(&self, permitted: &Permitted, command: &Command) -> Result<Turn<'_>, ControlError> {
        let mut running = self.running.lock();
        if let Some(Running { who, what, since }) = &*running {
            return Err(ControlError::Busy { who: who.clone(), what, since: since.elapsed() });
        }
        let who = permitted.call().principal.subject.clone();
        *running = Some(Running { who, what: command.names().0, since: Instant::now() });
        Ok(Turn(self))
    }

    async fn done(&self, permitted: &Permitted, request: &Request) -> Result<Report, ControlError> {
        let command = &request.command;
        let _turn = if command.is_exclusive() { Some(self.turn(permitted, command)?) } else { None };
        match command {
            Command::Status => Ok(Report::Status(Box::new(self.status()))),
            Command::Kill { what, even_unknown } => {
                self.kill(permitted, what, *even_unknown, &request.reason).await.map(Report::Done)
            }
            Command::Revive { what } => self.revive(permitted, what).await.map(Report::Done),
            Command::Backend { name, deed } => self.of_backend(name, *deed).await.map(Report::Done),
            Command::ConfigDiff => {
                let found = self.reloader.diff().await.map_err(not_applied)?;
                let changes = found.changes.into_iter().map(change).collect();
                let (generation, notes) = (found.generation, Vec::new());
                Ok(Report::Changes(Changes { applied: false, generation, changes, notes }))
            }
            Command::ConfigApply => {
                let who = &permitted.call().principal.subject;
                let report =
                    self.reloader.apply(&format!("{who} (config apply)")).await.map_err(not_applied)?;
                report.log();
                Ok(Report::Changes(applied(report)))
            }
            Command::ApprovalsList { all, limit } => self.list_approvals(*all, *limit).await,
            Command::ApprovalsShow { id } => self.show_approval(id).await,
            Command::ApprovalsOwn { id } => self.own_approval(permitted, id).await,
            Command::ApprovalsReview { id, vote, digest } => {
                self.review_approval(permitted, id, *vote, digest, &request.reason).await
            }
            Command::ApprovalsCancel { id } => self.cancel_approval(permitted, id, &request.reason).await,
        }
    }
}

impl ControlPlane for Plane {
    fn perform<'a>(
        &'a self,
        permitted: &'a Permitted,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Report, ControlError>> {
        async move {
            let (command, who) = (request.command.names().0, permitted.call().principal.subject.as_str());
            let done = self.done(permitted, request).await;
            match (&done, &request.command) {
                // Looking changes nothing.
                (
                    _,
                    Command::Status
                    | Command::ConfigDiff
                    | Command::ApprovalsList { .. }
                    | Command::ApprovalsShow { .. }
                    | Command::ApprovalsOwn { .. },
                ) => {}
                (Ok(_), _) => {
                    tracing::info!(who, why = request.reason, "an operator's command was done: {command}")
                }
                (Err(error), _) => {
                    tracing::warn!(who, "an operator's command was not done: {command}: {error}")
                }
            }
            done
        }
        .boxed()
    }
}

/// The same word, to be sent.
fn change(change: config::Change) -> Change {
    let effect = match change.effect {
        config::Effect::Live => Effect::Live,
        config::Effect::Drain => Effect::Drain,
        config::Effect::Restart => Effect::Restart,
    };
    Change { key: change.key, effect }
}

fn applied(report: apply::Report) -> Changes {
    let servers = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("servers {what}: {}", names.join(", ")))
    };
    let mut notes = vec![format!("generation {} is in force", report.generation)];
    notes.extend(servers("started", &report.started));
    notes.extend(servers("ended", &report.ended));
    let changes = report.applied.into_iter().chain(report.refused).map(change).collect();
    Changes { applied: true, generation: report.generation, changes, notes }
}

fn not_applied(error: ApplyError) -> ControlError {
    match error {
        ApplyError::Refused(problems) => {
            let reasons: Vec<String> = problems.iter().map(ToString::to_string).collect();
            ControlError::Refused(format!(
                "the configuration in force stays as it is, for these reasons:\n{}",
                reasons.join("\n")
            ))
        }
        ApplyError::Busy { by, since_secs } => ControlError::Busy {
            who: by,
            what: "a reading of the configuration",
            since: std::time::Duration::from_secs(since_secs),
        },
        error @ ApplyError::Failed(_) => ControlError::Failed(error.to_string()),
    }
}
