//! The tiers as the operator wrote them, read and checked.

use std::net::{IpAddr, Ipv6Addr};

use sentinel_plugin_sdk::fields::{Fields, below};
use sentinel_plugin_sdk::{ConfigError, names};
use serde_json::Value;

/// Longest window, in seconds: what a cell can be remembered for, with room for the last part.
const LONGEST: u32 = 40 * 86_400;
/// Most windows of one tier.
const MAX_WINDOWS: usize = 4;
/// Most calls at once.
const MAX_CONCURRENT: u32 = 1_000;

/// Every tier, and how a caller's is found.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The claim that names the tier.
    pub(crate) claim: String,
    /// Who has a token without that claim, or with one that names no tier of ours.
    default: String,
    /// The tier of those without credentials.
    anonymous: String,
    /// The role that those without credentials have.
    anonymous_role: String,
    by_client: bool,
    tiers: Vec<(String, Tier)>,
}

/// What the callers of one tier may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    pub(crate) name: String,
    pub(crate) windows: Vec<Window>,
    /// Calls at once; none if there is no limit.
    pub(crate) concurrent: Option<u32>,
    /// After this a call that has not ended is taken to have ended.
    pub(crate) lease_ms: u64,
}

/// So many calls in so much time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) name: String,
    pub(crate) limit: u32,
    pub(crate) seconds: u32,
}

impl Tier {
    /// Whether it limits anything.
    pub(crate) fn is_limited(&self) -> bool {
        !self.windows.is_empty() || self.concurrent.is_some()
    }

    /// How long a cell must be remembered after its last change.
    pub(crate) fn remembered_ms(&self) -> u32 {
        let windows = self.windows.iter().map(|window| u64::from(window.seconds) * 1_050 + 1_000);
        let leases = self.concurrent.map(|_| self.lease_ms);
        let longest = windows.chain(leases).max().unwrap_or(1_000);
        u32::try_from(longest).unwrap_or(u32::MAX)
    }
}

impl Rules {
    /// Reads the configuration; see the example in the tests.
    pub(crate) fn read(config: Value) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let Some(mut fields) = Fields::of(config, String::new(), &mut errors) else { return Err(errors) };
        let claim = fields.take("claim", "a text", &mut errors).unwrap_or_else(|| "tier".to_owned());
        let default: Option<String> = fields.take("default", "the name of a tier", &mut errors);
        let anonymous: Option<String> = fields.take("anonymous", "the name of a tier", &mut errors);
        let anonymous_role =
            fields.take("anonymous_role", "a text", &mut errors).unwrap_or_else(|| "anonymous".to_owned());
        let by: Option<String> = fields.take("by", "\"subject\" or \"client\"", &mut errors);
        let lease =
            fields.take("longest_call_secs", "a whole number of seconds", &mut errors).unwrap_or(3_600_u32);
        let mut tiers = Vec::new();
        match fields.raw("tiers") {
            Some(Value::Object(map)) if !map.is_empty() => {
                for (name, value) in map {
                    let path = below(&fields.at("tiers"), &name);
                    if let Err(why) = names::check(&name) {
                        errors.push(ConfigError::new(path.clone(), why));
                    }
                    if let Some(tier) =
                        tier(&name, value, path, u64::from(lease.clamp(1, LONGEST)) * 1_000, &mut errors)
                    {
                        tiers.push((name, tier));
                    }
                }
            }
            _ => errors.push(
                ConfigError::new(fields.at("tiers"), "must be an object with at least one tier")
                    .hint(r#"{"free": {"per_hour": 100, "per_day": 1000, "concurrent": 5}}"#),
            ),
        }
        let known = |name: &str| tiers.iter().any(|(tier, _)| tier == name);
        for (key, named) in [("default", &default), ("anonymous", &anonymous)] {
            let name = named.as_deref().unwrap_or(if key == "default" { "free" } else { "anonymous" });
            if !tiers.is_empty() && !known(name) {
                let hint = format!(
                    "tiers: {}",
                    tiers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
                );
                errors
                    .push(ConfigError::new(fields.at(key), format!("there is no tier {name:?}")).hint(hint));
            }
        }
        if by.as_deref().is_some_and(|by| !["subject", "client"].contains(&by)) {
            errors.push(ConfigError::new(fields.at("by"), "must be \"subject\" or \"client\""));
        }
        fields.finish(&mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let or = |name: Option<String>, usual: &str| name.unwrap_or_else(|| usual.to_owned());
        let (default, anonymous) = (or(default, "free"), or(anonymous, "anonymous"));
        Ok(Self {
            claim,
            default,
            anonymous,
            anonymous_role,
            by_client: by.as_deref() == Some("client"),
            tiers,
        })
    }

    /// The tier of a caller, and the key under which their calls are counted. Callers without credentials are counted by their address,
    /// and where there is none, all together.
    pub(crate) fn whose(
        &self,
        subject: &str,
        role: &str,
        claim: Option<&str>,
        client: Option<&str>,
    ) -> (&Tier, String) {
        let anonymous = role == self.anonymous_role || subject.is_empty();
        let wanted = if anonymous { &self.anonymous } else { claim.unwrap_or(&self.default) };
        let tier = self.tier(wanted).or_else(|| self.tier(&self.default)).unwrap_or(&self.tiers[0].1);
        let key = match client.filter(|_| anonymous || self.by_client) {
            Some(client) => format!("c:{}", network(client)),
            None if anonymous => "c:".to_owned(),
            None => format!("s:{subject}"),
        };
        (tier, key)
    }

    fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.iter().find(|(tier, _)| tier == name).map(|(_, tier)| tier)
    }
}

/// One client has one IPv4 address, and a whole /64 of IPv6.
fn network(client: &str) -> String {
    match client.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => client.to_owned(),
    }
}

fn tier(
    name: &str,
    value: Value,
    path: String,
    lease_ms: u64,
    errors: &mut Vec<ConfigError>,
) -> Option<Tier> {
    let mut fields = Fields::of(value, path, errors)?;
    let mut windows = Vec::new();
    for (key, window, seconds) in
        [("per_minute", "minute", 60), ("per_hour", "hour", 3_600), ("per_day", "day", 86_400)]
    {
        if let Some(limit) = fields.take(key, "a whole number", errors) {
            windows.push(Window { name: window.to_owned(), limit, seconds });
        }
    }
    let more: Option<Value> = fields.raw("windows");
    if let Some(more) = more {
        match more {
            Value::Array(list) => {
                for (index, value) in list.into_iter().enumerate() {
                    windows.extend(custom(value, below(&fields.at("windows"), &index.to_string()), errors));
                }
            }
            _ => errors.push(
                ConfigError::new(fields.at("windows"), "must be a list")
                    .hint(r#"[{"name": "week", "limit": 5000, "seconds": 604800}]"#),
            ),
        }
    }
    if windows.len() > MAX_WINDOWS {
        errors.push(ConfigError::new(
            fields.at("windows"),
            format!("a tier has at most {MAX_WINDOWS} windows"),
        ));
    }
    let twice = windows.iter().enumerate().find(|(at, one)| {
        windows[..*at].iter().any(|other| other.name == one.name || other.seconds == one.seconds)
    });
    if let Some((_, window)) = twice {
        errors.push(ConfigError::new(
            fields.at("windows"),
            format!("two windows have the name or the length of {:?}", window.name),
        ));
    }
    let concurrent: Option<u32> = fields.take("concurrent", "a whole number", errors);
    if concurrent.is_some_and(|most| most > MAX_CONCURRENT) {
        errors.push(ConfigError::new(fields.at("concurrent"), format!("must be at most {MAX_CONCURRENT}")));
    }
    fields.finish(errors);
    // By length, so that a window keeps its place when limits change.
    windows.sort_by_key(|window| window.seconds);
    Some(Tier { name: name.to_owned(), windows, concurrent, lease_ms })
}

fn custom(value: Value, path: String, errors: &mut Vec<ConfigError>) -> Option<Window> {
    let mut fields = Fields::of(value, path, errors)?;
    let name: Option<String> = fields.take("name", "a text", errors);
    let limit: Option<u32> = fields.take("limit", "a whole number", errors);
    let seconds: Option<u32> = fields.take("seconds", "a whole number", errors);
    if name.as_ref().is_none_or(|name| names::check(name).is_err() || !name.is_ascii()) {
        errors.push(ConfigError::new(fields.at("name"), "a window needs a name of plain characters"));
    }
    if limit.is_none() {
        errors.push(ConfigError::new(fields.at("limit"), "a window needs a limit"));
    }
    if seconds.is_none_or(|seconds| !(1..=LONGEST).contains(&seconds)) {
        errors.push(ConfigError::new(fields.at("seconds"), format!("must be a number from 1 to {LONGEST}")));
    }
    fields.finish(errors);
    Some(Window { name: name?, limit: limit?, seconds: seconds? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn rules() -> Rules {
        Rules::read(json!({
            "claim": "plan",
            "tiers": {
                "anonymous": {"per_hour": 10, "concurrent": 1},
                "free": {"per_hour": 100, "per_day": 1000, "concurrent": 5},
                "pro": {"per_minute": 100, "windows": [{"name": "week", "limit": 50000, "seconds": 604800}]},
                "enterprise": {},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_gives_the_tier_and_the_subject_the_key() {
        let rules = rules();
        let whose = |subject, role, claim, client| {
            let (tier, key) = rules.whose(subject, role, claim, client);
            (tier.name.clone(), key)
        };
        let pair = |tier: &str, key: &str| (tier.to_owned(), key.to_owned());
        assert_eq!(whose("ann", "user", Some("pro"), Some("10.0.0.1")), pair("pro", "s:ann"));
        assert_eq!(whose("ann", "user", Some("platinum"), None), pair("free", "s:ann"));
        assert_eq!(whose("ann", "user", None, None), pair("free", "s:ann"));
        assert_eq!(
            whose("", "anonymous", Some("enterprise"), Some("10.0.0.1")),
            pair("anonymous", "c:10.0.0.1")
        );
        assert_eq!(
            whose("anonymous", "anonymous", None, Some("2001:db8:1:2:3::4")),
            pair("anonymous", "c:2001:db8:1:2::/64")
        );
        assert_eq!(
            whose("anonymous", "anonymous", None, Some("::ffff:10.0.0.1")),
            pair("anonymous", "c:10.0.0.1")
        );
        assert_eq!(whose("anonymous", "anonymous", None, None), pair("anonymous", "c:"));
        // A subject cannot pose as an address.
        assert_eq!(whose("c:10.0.0.1", "user", None, None), pair("free", "s:c:10.0.0.1"));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let errors = Rules::read(json!({
            "default": "gold", "by": "cookie", "tears": 1,
            "tiers": {"anonymous": {"per_hour": -1, "per_year": 1}, "a?": {}, "free": {
                "per_hour": 1, "concurrent": 5000, "windows": [{"name": "hour", "limit": 1, "seconds": 5}, {"name": "x", "seconds": 0}]}},
        }))
        .unwrap_err();
        let mut paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/by",
                "/default",
                "/tears",
                "/tiers/a?",
                "/tiers/anonymous/per_hour",
                "/tiers/anonymous/per_year",
                "/tiers/free/concurrent",
                "/tiers/free/windows",
                "/tiers/free/windows/1/limit",
                "/tiers/free/windows/1/seconds",
            ]
        );
        assert_eq!(Rules::read(json!({})).unwrap_err()[0].path, "/tiers");
        assert_eq!(Rules::read(json!({"tiers": {"free": {}}})).unwrap_err()[0].path, "/anonymous");
    }
}
