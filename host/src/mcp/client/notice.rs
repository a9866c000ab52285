//! The notifications of MCP that a client may send to servers beside its calls. The list is closed: a [`ClientNotice`]
//! is made only from what gives the client the right to send it, and a connection takes no other.

use super::super::params::Params;
use super::super::splice::{self, Edit};
use super::super::{message, method};
use super::{ClientInfo, ServerRequest};

/// A notification of a client that may be passed on to a server.
#[derive(Clone, Debug)]
pub struct ClientNotice {
    method: &'static str,
    params: Option<String>,
}

impl ClientNotice {
    /// The client's roots have changed. None if it did not declare that it has any.
    #[must_use]
    pub(crate) fn roots_changed(client_info: &ClientInfo, params: Option<&Params>) -> Option<Self> {
        let declared = splice::get(client_info.capabilities.get(), "/roots").is_some();
        let params = params.map(|params| params.get().to_owned());
        declared.then_some(Self { method: method::ROOTS_CHANGED, params })
    }

    /// The client's progress with a question. `None` if the server did not ask to be told.
    #[must_use]
    pub fn progress(question: &ServerRequest, params: &Params) -> Option<Self> {
        let json = question.progress_token()?.to_owned();
        let edit = Edit::Set { pointer: "/progressToken".to_owned(), json };
        let params = splice::apply(params.get(), &[edit]).ok()?;
        Some(Self { method: method::PROGRESS, params: Some(params) })
    }

    /// The state of a task with which the client answered a question. `None` if the server did not allow a task.
    #[must_use]
    pub(crate) fn task_status(question: &ServerRequest, params: &Params) -> Option<Self> {
        let params = Some(params.get().to_owned());
        question.may_be_task().then_some(Self { method: method::TASK_STATUS, params })
    }

    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The whole message.
    #[must_use]
    pub fn message(&self) -> bytes::Bytes {
        message::notification(self.method, self.params.as_deref())
    }
}
