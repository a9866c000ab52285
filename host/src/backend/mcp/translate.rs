//! One request between a client of one era and a server of either: passed on where both speak alike, translated
//! where they do not.
//!
//! Rule: MCP 2026-07-28, "Requests", "Results" and "Multi Round-Trip Requests"; 2025-11-25, "Lifecycle".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::peer::Peer;
use super::reply::Reply;
use super::{PeerError, Server};
use crate::call::{Call, Target, TargetKind};
use crate::mcp::client::{Answered, Client, ServerRequest};
use crate::mcp::splice::{self, Edit};
use crate::mcp::{Era, code, era, header, is_custom, message};
use crate::policy::Permitted;

/// How often a stateless server may ask back within one call.
const MAX_ROUNDS: usize = 8;
/// Questions in one round.
const MAX_QUESTIONS: usize = 32;
/// How long the client may take for an answer: a person may have to give it.
const THINKING: Duration = Duration::from_secs(300);

/// Makes one request and brings the answer in the client's era.
pub(super) async fn exchange(
    backend: &Arc<Server>,
    peer: &Arc<Peer>,
    permitted: &Permitted,
    params: &str,
    mut headers: Vec<(String, String)>,
    client: &Arc<dyn Client>,
) -> Result<Reply, PeerError> {
    let call = permitted.call();
    if peer.era() == Era::Stateless && backend.reached.is_some() {
        let mirrored = backend.mirrored(&call.target.upstream);
        headers.extend(header::of_request(&call.method, params, &mirrored));
    }
    let send = async |params: &str| backend.request(peer, permitted, params, headers.clone(), client).await;
    match (client.client_info().era(), peer.era()) {
        (Era::Handshake, Era::Handshake) | (Era::Stateless, Era::Stateless) => send(params).await,
        (Era::Stateless, Era::Handshake) if splice::get(params, "/requestState").is_some() => {
            // The gateway's own did not come this far, and such a server has none.
            let text = "`requestState` is none that was given out for this request";
            let error = serde_json::json!({ "code": code::INVALID_PARAMS, "message": text });
            Ok(Reply::own(error.to_string(), true))
        }
        (Era::Stateless, Era::Handshake) => {
            let reply = send(&era::request_to_handshake(params)).await?;
            let asks = client.client_info().answers("elicitation/create");
            let url = (asks && reply.is_error()).then(|| era::url_elicitation(reply.text())).flatten();
            Ok(if let Some(required) = url {
                let server = era::server_info();
                Reply::own(era::result_to_stateless("", &required, &server), false)
            } else if reply.is_error() {
                reply.rewritten(era::error_to_stateless(reply.text(), params), true)
            } else {
                let server = era::server_info();
                reply.rewritten(era::result_to_stateless(&call.method, reply.text(), &server), false)
            })
        }
        (Era::Handshake, Era::Stateless) => {
            let courtesy = backend.courtesy(peer, call, params, client).await;
            if let Some(reply) = courtesy {
                return reply;
            }
            let mut params = era::request_to_stateless(params, client.client_info());
            for _ in 0..MAX_ROUNDS {
                let reply = send(&params).await?;
                if reply.is_error() {
                    return Ok(reply.rewritten(era::error_to_handshake(reply.text()), true));
                }
                match era::result_type(reply.text()) {
                    "complete" => return Ok(reply.rewritten(era::result_to_handshake(reply.text()), false)),
                    "input_required" => {
                        let asked = reply.whole().await?;
                        match answers(&backend.name, asked.text(), client).await? {
                            Ok(edits) => params = splice::apply(&params, &edits).unwrap_or(params),
                            Err(error) => return Ok(Reply::own(error, true)),
                        }
                    }
                    other => {
                        let text = format!(
                            "it answered with a result of the kind `{other}`, which nobody asked for"
                        );
                        return Err(PeerError::Garbage(text));
                    }
                }
            }
            Err(PeerError::Garbage(format!("it asked back more than {MAX_ROUNDS} times")))
        }
    }
}

/// Passes a notification on that is not MCP's, in the server's era.
pub(super) fn pass(
    backend: &Server,
    peer: &Peer,
    permitted: &Permitted,
    params: &str,
    mut headers: Vec<(String, String)>,
    client: &Arc<dyn Client>,
) -> Result<Reply, PeerError> {
    let translated = match (client.client_info().era(), peer.era()) {
        (Era::Handshake, Era::Handshake) | (Era::Stateless, Era::Stateless) => None,
        (Era::Stateless, Era::Handshake) => Some(era::request_to_handshake(params)),
        (Era::Handshake, Era::Stateless) => Some(era::request_to_stateless(params, client.client_info())),
    };
    let params = translated.as_deref().unwrap_or(params);
    if peer.era() == Era::Stateless && backend.reached.is_some() {
        headers.extend(header::of_request(&permitted.call().method, params, &[]));
    }
    peer.pass(permitted, params, headers)?;
    Ok(Reply::own("{}".to_owned(), false))
}

/// The params with the server's own name for the target; `None` if they have that name already.
pub(super) fn own_names(call: &Call, params: &str) -> Option<String> {
    let target = &call.target;
    let place = match (target.kind, call.method.as_str()) {
        (TargetKind::Prompt, "completion/complete") => "/ref/name",
        (_, "tools/call" | "prompts/get") => "/name",
        (TargetKind::Tool | TargetKind::Prompt, method) if is_custom(method) => {
            return own_names_of_custom(target, params);
        }
        _ => return None,
    };
    // A tool has several names, and the client may have used any of them.
    let same = splice::get(params, place).is_some_and(|json| {
        let plain = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
        // A name spelled with escapes may be the same one, and then keeps its spelling.
        plain == Some(&*target.upstream)
            || (json.contains('\\')
                && serde_json::from_str::<String>(json).is_ok_and(|name| *name == *target.upstream))
    });
    let set = Edit::Set { pointer: place.to_owned(), json: message::quoted(&target.upstream) };
    (!same).then(|| splice::apply(params, &[set]).ok()).flatten()
}

/// A method that is not MCP's names it where one of MCP's would, and may name something else in another place.
fn own_names_of_custom(target: &Target, params: &str) -> Option<String> {
    if target.name == target.upstream {
        return None;
    }
    let is_it = |place: &&str| {
        let name = splice::get(params, place).and_then(|name| serde_json::from_str::<String>(name).ok());
        name.as_deref() == Some(&*target.name)
    };
    let json = message::quoted(&target.upstream);
    let set = |place: &str| Edit::Set { pointer: place.to_owned(), json: json.clone() };
    let edits: Vec<Edit> = ["/name", "/ref/name"].into_iter().filter(is_it).map(set).collect();
    splice::apply(params, &edits).ok().filter(|_| !edits.is_empty())
}

/// Asks the client what a server wants to know; the edits that turn the request into its repetition, or the error
/// object that the client answered with.
async fn answers(
    backend: &str,
    result: &str,
    client: &Arc<dyn Client>,
) -> Result<Result<Vec<Edit>, String>, PeerError> {
    #[derive(serde::Deserialize)]
    struct Wanted {
        method: String,
        #[serde(default)]
        params: Option<Box<RawValue>>,
    }
    let wanted = splice::get(result, "/inputRequests").unwrap_or("{}");
    let wanted: BTreeMap<String, Wanted> = serde_json::from_str(wanted)
        .map_err(|error| PeerError::Garbage(format!("its `inputRequests` cannot be read: {error}")))?;
    if wanted.len() > MAX_QUESTIONS {
        return Err(PeerError::Garbage(format!("it asked more than {MAX_QUESTIONS} questions at once")));
    }
    let mut waiting = Vec::with_capacity(wanted.len());
    for (key, Wanted { method, params }) in wanted {
        if !client.client_info().answers(&method) {
            let text = format!("backend \"{backend}\" wants `{method}`, which the client did not declare");
            let error = serde_json::json!({ "code": code::INVALID_REQUEST, "message": text });
            return Ok(Err(error.to_string()));
        }
        let (tell, told) = oneshot::channel();
        // The caller may have given up in the meantime.
        let question = ServerRequest::new(format!("round:{key}"), method, params, move |answer| {
            drop(tell.send(answer));
        });
        client.ask(question.clone());
        waiting.push((key, question, told));
    }
    let mut responses = Vec::new();
    for (key, question, told) in waiting {
        match tokio::time::timeout(THINKING, told).await {
            Ok(Ok(Answered::Result(result))) => {
                responses.push(format!("{}:{}", message::quoted(&key), result.get()));
            }
            Ok(Ok(Answered::Error(error))) => return Ok(Err(error.get().to_owned())),
            Ok(Err(_)) | Err(_) => {
                client.withdraw(&question.key, None);
                return Err(PeerError::Timeout { after: THINKING, alive: true });
            }
        }
    }
    let set = |pointer: &str, json: String| Edit::Set { pointer: pointer.to_owned(), json };
    let mut edits = vec![set("/inputResponses", format!("{{{}}}", responses.join(",")))];
    edits.push(match splice::get(result, "/requestState") {
        Some(state) => set("/requestState", state.to_owned()),
        None => Edit::Remove { pointer: "/requestState".to_owned() },
    });
    Ok(Ok(edits))
}
