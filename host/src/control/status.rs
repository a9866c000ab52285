//! The state of a gateway, in a form that can be sent and shown.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Switch;

/// A moment: on the wire RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(jiff::Timestamp);

impl Time {
    #[must_use]
    pub fn now() -> Self {
        Self::from_ms(jiff::Timestamp::now().as_millisecond())
    }

    /// From milliseconds since 1970; what no calendar has is its end.
    #[must_use]
    pub(crate) fn from_ms(ms: i64) -> Self {
        Self(jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX))
    }

    /// So long ago, seen from `now`.
    #[must_use]
    pub(crate) fn ago(self, age: Duration) -> Self {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Self::from_ms(self.0.as_millisecond().saturating_sub(age))
    }

    /// How long after the other it is; nothing if before.
    #[must_use]
    pub fn since(self, other: Self) -> Duration {
        let ms = self.0.as_millisecond().saturating_sub(other.0.as_millisecond());
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    #[must_use]
    pub fn timestamp(self) -> jiff::Timestamp {
        self.0
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

/// How a gateway is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// The configuration file.
    pub config: String,
    pub now: Time,
    pub started: Time,
    /// `stdio`, or the addresses of the endpoints.
    pub door: String,
    /// How callers prove who they are: `jwt` or `local`.
    pub mode: String,
    pub generation: Generation,
    pub record: Record,
    pub endpoints: Vec<EndpointStatus>,
    pub switched_off: Vec<OffStatus>,
    /// Calls under way, all endpoints together.
    pub in_flight: usize,
    /// Those that began first.
    pub calls: Vec<CallStatus>,
    /// The newest first.
    pub refused: Vec<RefusedStatus>,
    /// A command that changes something and is not done yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
}

/// Which configuration is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Counts the configurations since the start.
    pub number: u64,
    pub since: Time,
    /// Earlier ones on which calls are still under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<u64>,
}

/// How the audit record is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub healthy: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes that are not in the database yet.
    pub backlog_bytes: u64,
}

/// One endpoint with its backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its path, if it is not the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Clients that are connected and hear of changes.
    pub sessions: usize,
    pub tools: usize,
    pub backends: Vec<BackendStatus>,
}

/// How a backend is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    pub name: String,
    /// `ready`, `starting`, `down` or `stopped`.
    pub state: String,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when it is so.
    pub since: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often it came up since the gateway started.
    pub starts: u64,
    /// Calls under way.
    pub in_flight: usize,
    pub switched_off: bool,
    /// Why its last connection ended, or could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Time>,
}

/// Where it is said that something is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `[kill_switch]` of the configuration.
    File,
    /// A command, which `revive` takes back.
    Order,
}

/// Something that is off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffStatus {
    pub what: Switch,
    pub origin: Origin,
    /// The endpoint whose file says so; orders hold for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A call under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallStatus {
    /// As in the record.
    pub id: String,
    pub subject: String,
    pub method: String,
    pub name: String,
    pub backend: String,
    pub since: Time,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedStatus {
    pub at: Time,
    pub subject: String,
    pub role: String,
    pub door: String,
    /// The word in the record.
    pub status: String,
    pub asked: String,
    pub why: String,
}

/// A command that is not done yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub who: String,
    pub what: String,
    pub since: Time,
}
