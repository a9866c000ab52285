//! `subscriptions/listen` (2026-07-28): a request whose stream says what changes, for as long as its client listens.

use std::sync::Arc;

use serde_json::json;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::conversation::Conversation;
use super::hub::Listener;
use super::line::{Out, Outbound};
use crate::mcp::catalog::List;
use crate::mcp::{era, message, splice};
use crate::pipeline::{Answer, Failure, News};

/// One client that listens.
#[derive(Debug)]
struct Subscription {
    id: Box<RawValue>,
    out: Out,
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Listener for Subscription {
    fn hear_news(&self, news: News) {
        let News::ListChanged(list) = news;
        let wanted = match list {
            List::Tools => self.tools,
            List::Prompts => self.prompts,
            // Both lists have one notification; the templates follow the resources.
            List::Resources => self.resources,
            List::Templates => false,
        };
        if wanted {
            // Whoever does not read is told by the next one: it says that something changed, not what.
            let _ = self.out.try_send(Outbound::Part(self.tagged(news.method(), "{}")));
        }
    }
}

impl Subscription {
    /// A notification that says which subscription it belongs to.
    fn tagged(&self, method: &str, params: &str) -> bytes::Bytes {
        let set = splice::Edit::Set {
            pointer: "/_meta/io.modelcontextprotocol~1subscriptionId".to_owned(),
            json: self.id.get().to_owned(),
        };
        let params = splice::apply(params, &[set]).unwrap_or_else(|_| params.to_owned());
        message::notification(method, Some(&params))
    }
}

impl Conversation {
    pub(super) async fn listen(
        &self,
        id: &RawValue,
        params: &RawValue,
        out: &Out,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        self.pipeline().identify(&self.caller)?;
        let wants = |kind: &str| splice::get(params.get(), &format!("/notifications/{kind}")) == Some("true");
        let subscription = Arc::new(Subscription {
            id: id.to_owned(),
            out: out.clone(),
            tools: wants("toolsListChanged"),
            prompts: wants("promptsListChanged"),
            resources: wants("resourcesListChanged"),
        });
        // What is granted is said first, and only what was asked for.
        let mut granted = json!({});
        for (kind, wanted) in [
            ("toolsListChanged", subscription.tools),
            ("promptsListChanged", subscription.prompts),
            ("resourcesListChanged", subscription.resources),
        ] {
            if wanted {
                granted[kind] = true.into();
            }
        }
        let params = json!({ "notifications": granted }).to_string();
        let acknowledged = subscription.tagged("notifications/subscriptions/acknowledged", &params);
        if out.send(Outbound::Part(acknowledged)).await.is_err() {
            return Err(Failure::Cancelled);
        }
        let listener: Arc<dyn Listener> = subscription;
        let _membership = self.house.hub.join(&listener);
        tokio::select! {
            () = cancelled.cancelled() => Err(Failure::Cancelled),
            () = out.closed() => Err(Failure::Cancelled),
            () = self.house.stopping.cancelled() => {
                let ended = era::result_to_stateless("", "{}", &era::server_info());
                Ok(Answer::Result(ended.into()))
            }
        }
    }
}
