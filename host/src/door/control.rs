//! The control door: operators' commands over a Unix socket that only the user who runs the gateway can open.
//!
//! A connection is one request and one answer, each a line of JSON. Who connects is asked of the system, not of the caller:
//! another user is refused, and so is whatever a server of this gateway started, because a server must not be able to take
//! back what its operator switched off. What the caller may do then is decided as for any call: an authenticator says who
//! it is, the guards judge, and all of it is on record.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

mod kinship;

use super::log_limit::LogLimit;
use crate::call::{Credential, Denial, DenialKind, Json};
use crate::control::socket::Socket;
use crate::control::{Answer, ControlPlane, MAX_REQUEST, Request, Token, VERSION};
use crate::mcp::Params;
use crate::pipeline::{Caller, Failure, Operation, Pipeline, TurnedAway};

/// The name of the door, for authenticators, rules and the record.
pub const DOOR: &str = "control";
/// Connections at once.
const MAX_CONNECTIONS: usize = 16;
/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may stay open after its answer, and what may come of it in that time.
const LINGER: Duration = Duration::from_secs(1);
const MAX_DRAINED: usize = 4 << 20;
/// How long a command under way may take when the gateway stops.
const GRACE: Duration = Duration::from_secs(2);
/// After an error of the system, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// What stands behind the door.
#[derive(Clone, Debug)]
pub struct Control {
    /// Of the main endpoint, whose policies judge operators.
    pub pipeline: Arc<Pipeline>,
    pub plane: Arc<dyn ControlPlane>,
    /// The user of this process, by number and by name.
    pub uid: u32,
    pub user: String,
}

/// A request that is not taken up.
struct TurnAway {
    /// A word for programs.
    reason: &'static str,
    message: String,
    status: DenialKind,
}

/// Serves until `stop` ends, and then until the commands under way are done, within a bound.
pub async fn serve(socket: Socket, control: Control, stop: impl Future<Output = ()>) {
    let (places, tasks, full) =
        (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new(), LogLimit::default());
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the control socket takes no connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            if let Some(more) = full.may(Instant::now()) {
                tracing::warn!(more, "too many connections to the control socket at once");
            }
            turn_away_at_once(&stream);
            continue;
        };
        let control = control.clone();
        tasks.spawn(async move {
            control.attend(stream).await;
            drop(place);
        });
    }
    drop(socket);
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("an operator's command was not done when the gateway stopped");
    }
}

/// Answers at once and closes, without waiting for the other end.
fn turn_away_at_once(stream: &UnixStream) {
    // What is left unread at the end would take the answer away from them.
    let _ = stream.try_read(&mut [0; 4096]);
    let message = format!("{MAX_CONNECTIONS} commands are being worked on: try again in a moment");
    let answer = Answer::Error { reason: "overloaded".to_owned(), message };
    let line = serde_json::to_vec(&answer).unwrap_or_default();
    // A client that cannot take these few bytes sees that the connection ends.
    let _ = stream.try_write(&line);
}

impl Control {
    async fn attend(&self, mut stream: UnixStream) {
        let began = Instant::now();
        let peer = stream.peer_cred().ok();
        let answer = match self.take(&mut stream, peer.as_ref()).await {
            Ok(Some((request, params))) => self.perform(&request, &params, peer.as_ref()).await,
            // Another gateway that starts looks so whether somebody listens here.
            Ok(None) => return,
            Err(refused) => {
                self.record(&refused, peer.as_ref(), began).await;
                Answer::Error { reason: refused.reason.to_owned(), message: refused.message }
            }
        };
        let mut line = serde_json::to_vec(&answer).unwrap_or_default();
        line.push(b'\n');
        let written = timeout(PATIENCE, async {
            stream.write_all(&line).await?;
            stream.shutdown().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            tracing::debug!("the sender of a command did not wait for the answer");
            return;
        }
        drain(&mut stream).await;
    }

    /// Who it is, and then what they want; nothing if they say nothing and go.
    async fn take(
        &self,
        stream: &mut UnixStream,
        peer: Option<&UCred>,
    ) -> Result<Option<(Request, Params)>, TurnAway> {
        let away = |status, reason, message: String| TurnAway { reason, message, status };
        let stranger = |message: String| away(DenialKind::Unauthenticated, "not_the_operator", message);
        let Some(peer) = peer else {
            return Err(stranger("the system does not say who is connected".to_owned()));
        };
        if peer.uid() != self.uid {
            let (user, uid, own) = (&self.user, peer.uid(), self.uid);
            let text = format!(
                "this gateway runs as the user {user} (uid {own}) and takes commands of that user only, not of uid {uid}: \
                 run the command as {user}, such as with `sudo -u {user}`"
            );
            return Err(stranger(text));
        }
        match kinship::descends_from_us(peer.pid()) {
            Ok(false) => {}
            Ok(true) => {
                let text =
                    "this process was started by a server of the gateway, and such must not command it"
                        .to_owned();
                return Err(stranger(text));
            }
            Err(why) => return Err(stranger(format!("it cannot be told which process is connected: {why}"))),
        }
        let malformed = |reason, message: String| away(DenialKind::InvalidArguments, reason, message);
        let line = match timeout(PATIENCE, read_line(stream)).await {
            Ok(Ok(Line::Whole(line))) => line,
            Ok(Ok(Line::None)) => return Ok(None),
            Ok(Ok(Line::TooLong)) => {
                return Err(malformed("too_long", format!("a request may have {MAX_REQUEST} bytes at most")));
            }
            Ok(Err(error)) => {
                return Err(malformed("cut_off", format!("the request cannot be read: {error}")));
            }
            Err(_) => {
                return Err(malformed(
                    "too_slow",
                    format!("the request did not arrive within {} s", PATIENCE.as_secs()),
                ));
            }
        };
        let request: Request = serde_json::from_slice(&line).map_err(|error| {
            let text = format!(
                "this is no command that this gateway knows ({error}); `sentinel-gateway status` and its like speak \
                 version {VERSION}"
            );
            malformed("not_a_command", text)
        })?;
        if request.version != VERSION {
            let text = format!(
                "the command speaks version {}, the gateway version {VERSION}: use the program that the gateway runs",
                request.version
            );
            return Err(malformed("another_version", text));
        }
        let (_, method) = request.command.names();
        let params =
            params(&request).and_then(|json| Params::read(method, json).map_err(|error| error.to_string()));
        let params = params.map_err(|error| malformed("not_a_command", error))?;
        Ok(Some((request, params)))
    }

    async fn perform(&self, request: &Request, params: &Params, peer: Option<&UCred>) -> Answer {
        let caller = Caller::new(self.credential(peer, request.token.as_ref()));
        let (name, method) = request.command.names();
        let operation = Operation { caller: &caller, door: DOOR, name, method, params };
        match self.pipeline.operate(operation, request, &*self.plane).await {
            Ok(Ok(report)) => Answer::Ok(report),
            Ok(Err(error)) => Answer::Error { reason: error.word().to_owned(), message: error.to_string() },
            Err(failure) => {
                let reason = match &failure {
                    Failure::Denied(denial) => denial.reason.clone(),
                    Failure::Audit(_) => "audit_unavailable".to_owned(),
                    _ => "failed".to_owned(),
                };
                Answer::Error { reason, message: failure.to_string() }
            }
        }
    }

    /// The credential for the authenticators: what the system says about the connected process, and the token it sent.
    fn credential(&self, peer: Option<&UCred>, token: Option<&Token>) -> Credential {
        let mut attrs =
            vec![("peer.uid".into(), self.uid.to_string()), ("peer.user".into(), self.user.clone())];
        if let Some(pid) = peer.and_then(UCred::pid) {
            attrs.push(("peer.pid".into(), pid.to_string()));
        }
        Credential { door: DOOR, bearer: token.map(|Token(token)| token.clone()), attrs }
    }

    /// What was turned away leaves a row, too.
    async fn record(&self, refused: &TurnAway, peer: Option<&UCred>, since: Instant) {
        let who = peer.map_or_else(
            || "unknown".to_owned(),
            |peer| format!("uid {}, pid {}", peer.uid(), peer.pid().unwrap_or(0)),
        );
        let source = peer.map_or_else(|| "unknown".to_owned(), |peer| format!("uid {}", peer.uid()));
        tracing::warn!("the control socket refused {who}: {}", refused.message);
        let request = TurnedAway {
            door: DOOR,
            who: None,
            address: &who,
            source: &source,
            asked: "control/connect",
            rpc_id: "",
            since,
        };
        let denial = Denial::new(refused.status, refused.reason, refused.message.as_str());
        self.pipeline.turned_away(request, &denial).await;
    }
}

/// What the guards and the record see of a request.
pub(super) fn params(request: &Request) -> Result<Json, String> {
    let mut arguments = match serde_json::to_value(&request.command) {
        // A command without anything beside its name.
        Ok(serde_json::Value::String(_)) => serde_json::json!({}),
        Ok(serde_json::Value::Object(mut of)) => {
            of.iter_mut().next().map_or_else(|| serde_json::json!({}), |(_, inner)| inner.take())
        }
        Ok(other) => other,
        Err(error) => return Err(error.to_string()),
    };
    if !request.reason.is_empty() {
        arguments["reason"] = request.reason.as_str().into();
    }
    let text = serde_json::json!({ "arguments": arguments }).to_string();
    Ok(Json::from(text))
}

/// Reads what is still to come, within bounds, until the other end has gone: a connection that is closed with something
/// unread is reset, and an answer that was not read by then is lost.
async fn drain(stream: &mut UnixStream) {
    let mut piece = [0; 4096];
    let reading = async {
        for _ in 0..MAX_DRAINED / piece.len() {
            if !matches!(stream.read(&mut piece).await, Ok(1..)) {
                return;
            }
        }
    };
    // A client that stays longer is cut.
    let _ = timeout(LINGER, reading).await;
}

/// What was read of a request.
enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// The rest is not read.
    TooLong,
    /// The client has gone.
    None,
}

async fn read_line(stream: &mut UnixStream) -> io::Result<Line> {
    let (mut line, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).await?;
        if read == 0 && line.is_empty() {
            return Ok(Line::None);
        }
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before the end of its line"));
        }
        let end = memchr::memchr(b'\n', &piece[..read]);
        line.extend_from_slice(&piece[..end.unwrap_or(read)]);
        if line.len() > MAX_REQUEST {
            return Ok(Line::TooLong);
        }
        if end.is_some() {
            return Ok(Line::Whole(line));
        }
    }
}
