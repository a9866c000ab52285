//! Verifies signed tokens (JWT), for the two authenticators that judge them: `auth-jwt`, which has all keys from the
//! configuration and needs nothing from outside, and `auth-jwks`, which fetches them.

pub mod config;
pub mod decide;
