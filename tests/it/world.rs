//! Situations out of public bug reports of gateways, proxies, SDKs and servers: real servers and clients are not as the
//! protocol says, and nobody should lose by it what was not broken.

mod breaker;
mod broken;
