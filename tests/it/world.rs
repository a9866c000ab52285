//! What the world does to a gateway: situations from public reports of other gateways, proxies, clients and servers, each
//! tried on the real binary.

mod archive;
mod first_minutes;
mod registering;
