//! What an author of plugins is promised: the tools in the one binary, edits that hold, and the plugins that need no build step.

mod authenticators;
mod cel;
mod made;
mod messages;
mod redaction;
mod rewriting;
mod roles;
mod walk;
