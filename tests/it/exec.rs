//! Commands: what may be asked, what runs, and that nothing else does. With real programs, a real executor on its socket, and
//! a real gateway before it.

mod approved;
mod corpus;
mod direct;
mod drift;
mod over_http;
mod plans;
mod scene;
mod through;
mod within;
