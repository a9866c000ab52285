//! Events behind the gateway that every client should hear of, in terms that a door understands.

use crate::backend::Event;
use crate::mcp::catalog::List;

/// Something clients should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A merged list is not what it was.
    ListChanged(List),
}

impl News {
    /// The notification that says so.
    #[must_use]
    pub fn method(self) -> &'static str {
        let Self::ListChanged(list) = self;
        match list {
            List::Tools => "notifications/tools/list_changed",
            List::Resources | List::Templates => "notifications/resources/list_changed",
            List::Prompts => "notifications/prompts/list_changed",
        }
    }
}

impl From<Event> for News {
    fn from(event: Event) -> Self {
        let Event::ListChanged(list) = event;
        Self::ListChanged(list)
    }
}
