//! The names of tools, the patterns by which rules name them, and the headers that only the gateway may set
//! ([`headers`]).
//!
//! The gateway and its plugins read the same words in the same rules (`denied_tools`, `per_tool`, `disabled_tools` and the
//! rest), so the language stands here and nowhere else:
//!
//! * A name stands for itself, letter for letter; `*` in it stands for any number of characters, also none.
//! * Without a `/` it is compared with the names of the tool: the one that lists show, the server's own, and each with the
//!   name of the backend before it (`backend_name`; a pattern with `*` only if it has all of the backend's name: `repos_*`, not `re*`).
//! * With a `/` it names the backend as well: what stands before the first `/` is compared with the name of the backend, the
//!   rest with the server's own name of the tool. `files/delete`, `files/*` and `*/delete` are such patterns.
//!
//! A denial, a limit or a switch holds if any name of the tool fits ([`Rules::hits`]). An allowance is narrower
//! ([`Rules::grants`]), it names what is shown or `backend/own`: a server chooses its tools' own names itself, and so could
//! name one as another server's tool that is allowed.

mod fold;
mod glob;
pub mod headers;
mod rules;
mod table;

pub use fold::{MAX_SAFE, safe};
pub use glob::Patterns;
pub use rules::{Names, Rules, backend_part, check, fits};
pub use table::Table;
