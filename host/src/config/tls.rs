//! TLS at the door.

use super::Secret;

/// What the door shows to clients, and what it wants to see of them.
#[derive(Debug, Clone, PartialEq)]
pub struct DoorTls {
    /// Its certificate and the key of that (PEM).
    pub identity: Secret,
    /// Whether clients may agree on HTTP/2.
    pub http2: bool,
    /// Certificates of clients; none is asked for without.
    pub clients: Option<ClientCertificates>,
}

/// The certificates that clients may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that give them out (PEM).
    pub authorities: String,
    /// Whether a client without one is turned away in the handshake.
    pub required: bool,
}
