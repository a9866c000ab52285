//! What an author of plugins is promised: the tools in the one binary, and edits that hold.

mod walk;
