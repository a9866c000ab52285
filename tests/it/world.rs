//! The world as it is: situations from public bug reports, each with the real binary. `tests/README.md` has the table.

mod to_servers;
mod web;
