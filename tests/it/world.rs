//! The world as it is: what public reports of other gateways, proxies, SDKs and servers describe, tried against this one.

mod record;
