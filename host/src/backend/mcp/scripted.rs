//! Backends whose server is a few lines of shell: for what a well-behaved server would never show.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::open::{Common, Opener};
use crate::config::{self, BackendEra, Secret, TransportSettings};
use crate::redact::Redaction;

/// Nothing here takes long; a test that hangs fails instead.
pub(in crate::backend) const LONG: Duration = Duration::from_secs(20);

/// What answers the first request as a server of the handshake era that has log levels.
pub(super) const GREET: &str = r#"read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"logging":{}},"serverInfo":{"name":"s","version":"1"}}}'; read -r line"#;

/// A backend whose server is this script; `patience` is how long a request waits.
pub(in crate::backend) fn backend(script: &str, patience: Duration) -> Arc<Server> {
    let settings = config::Backend {
        name: "scripted".to_owned(),
        transport: TransportSettings::Stdio {
            command: "sh".to_owned(),
            args: vec![Secret::new("-c"), Secret::new(script)],
            env: Vec::new(),
            cwd: None,
            sandbox: None,
        },
        timeout: patience,
        longest: patience,
        arguments: config::Arguments::default(),
        tools: config::ToolRules::default(),
        errors_count: false,
        start_timeout: patience,
        retries: 0,
        restart_on_exit: false,
        max_restarts: 0,
        health_interval: LONG,
        max_in_flight: 8,
        always_prefix: false,
        strict_schemas: false,
        era: BackendEra::Handshake,
        max_connections: 8,
        idle_timeout: 10 * LONG,
        required: false,
        absent: None,
    };
    let common = Common {
        max_message: 1 << 20,
        spool: None,
        redaction: Redaction::default(),
        safe_names: false,
        memory: Arc::default(),
        first_lists: Duration::from_secs(1),
    };
    Arc::new(Server::new(
        Arc::new(settings),
        Arc::new(Opener::new(common)),
        tokio_util::sync::CancellationToken::new(),
    ))
}
