//! What makes a signed token (JWT) believable, for the two authenticators that judge tokens: `auth-jwt`, which has all
//! keys from the configuration and needs nothing from outside, and `auth-jwks`, which fetches them.

pub mod config;
pub mod decide;
