//! The client of a call, as a backend sees it whose words rewriters look at: its log messages, its progress and its questions go
//! through them first.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Prepared, Rewriters};
use crate::call::Call;
use crate::mcp::client::{Affinity, Client, ClientInfo, ServerRequest};
use crate::mcp::splice::{self, Edit};
use crate::mcp::{code, message};

/// The client behind the rewriters that look at what a backend says beside its results; none if there are no such.
#[must_use]
pub(crate) fn sieved(
    rewriters: &Arc<Rewriters>,
    call: &Arc<Call>,
    prepared: &Prepared,
    client: &Arc<dyn Client>,
) -> Option<Arc<dyn Client>> {
    let sieved =
        || Sieved { rewriters: rewriters.clone(), call: prepared.as_sent(call), client: client.clone() };
    rewriters.sieves(&call.target.backend).then(|| Arc::new(sieved()) as Arc<dyn Client>)
}

struct Sieved {
    rewriters: Arc<Rewriters>,
    call: Arc<Call>,
    client: Arc<dyn Client>,
}

impl fmt::Debug for Sieved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sieved").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Client for Sieved {
    fn client_info(&self) -> &ClientInfo {
        self.client.client_info()
    }

    fn affinity(&self) -> Affinity {
        self.client.affinity()
    }

    fn notify(&self, message: Bytes) {
        let Ok(text) = std::str::from_utf8(&message) else { return };
        let method: String =
            splice::get(text, "/method").and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
        let Some(params) = splice::get(text, "/params") else { return self.client.notify(message) };
        match self.rewriters.sieve(&self.call, &method, params) {
            Ok(None) => self.client.notify(message),
            Ok(Some(json)) => {
                let edit = Edit::Set { pointer: "/params".to_owned(), json };
                // What cannot be written anew must not pass as it was.
                if let Ok(changed) = splice::apply(text, &[edit]) {
                    self.client.notify(Bytes::from(changed));
                }
            }
            Err(denial) => {
                let (backend, why) = (&self.call.target.backend, &denial.message);
                tracing::debug!(%backend, method, "a notification of the server is not passed on: {why}");
            }
        }
    }

    fn ask(&self, question: Arc<ServerRequest>) {
        let Some(params) = question.params.as_deref() else { return self.client.ask(question) };
        match self.rewriters.sieve(&self.call, &question.method, params.get()) {
            Ok(None) => self.client.ask(question),
            Ok(Some(json)) => self.client.ask(reworded(question, message::raw(json))),
            Err(denial) => question.refuse(code::INTERNAL_ERROR, &denial.message),
        }
    }

    fn withdraw(&self, key: &str, said: Option<&str>) {
        // Why it was taken back may name anything; that it was is enough.
        let quiet = said.filter(|said| {
            matches!(self.rewriters.sieve(&self.call, "notifications/cancelled", said), Ok(None))
        });
        self.client.withdraw(key, quiet);
    }

    fn is_sieved(&self) -> bool {
        true
    }

    fn has_asked_before(&self) -> bool {
        self.client.has_asked_before()
    }

    fn cancel_reason(&self) -> Option<Box<RawValue>> {
        self.client.cancel_reason()
    }
}

/// The same question with other params; the answer goes to the one who asked.
fn reworded(question: Arc<ServerRequest>, params: Box<RawValue>) -> Arc<ServerRequest> {
    let (key, method) = (question.key.clone(), question.method.clone());
    let heard = question.clone();
    ServerRequest::heard(
        key,
        method,
        Some(params),
        move |answer| question.answer(answer),
        move |notice| heard.notify(notice),
    )
}
