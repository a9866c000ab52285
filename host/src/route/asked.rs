//! What a target needs of a request besides the params that policies saw and rewriters may have changed.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::table::Entry;

/// One request for a route.
#[derive(Debug)]
pub struct Asked {
    /// The route.
    pub entry: Arc<Entry>,
    /// All headers as they came; a target takes from them what it may.
    pub headers: HeaderMap,
    /// The media type of a body that is not JSON.
    pub content_type: Option<HeaderValue>,
    /// Where it came from.
    pub from: From,
    /// `HEAD` for a route that answers `GET`.
    pub head: bool,
    /// Failures say more, for whoever develops an API.
    pub dev: bool,
    /// The number of the request on record.
    pub request_id: Arc<str>,
}

/// Where a request came from, for servers behind.
#[derive(Clone, Debug)]
pub struct From {
    /// The other end of the connection.
    pub address: IpAddr,
    /// The name that the client called.
    pub host: Option<HeaderValue>,
    /// Whether it came over TLS.
    pub secure: bool,
}
