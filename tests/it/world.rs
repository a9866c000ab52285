//! The world as it is: what real servers, clients, networks and identity providers do, tried on the real binary. Each
//! situation comes from a public report; `tests/README.md` has the table.

mod start;
