//! The rule, apart from the gateway, so that it can be tested natively and at once.

use sentinel_plugin_sdk::ConfigError;
use serde::Deserialize;

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;

/// The value of `config` in the plugin's `[[plugins]]` entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The hour (UTC) at which the office opens, 0 to 23.
    from: u64,
    /// The hour (UTC) at which it closes, 0 to 24. Before `from` it means: on the next day.
    to: u64,
}

/// A configuration that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Hours {
    from: u64,
    to: u64,
}

impl Config {
    /// Finds every mistake, not only the first: the operator wants to put all of them right at once.
    ///
    /// # Errors
    /// All mistakes, each with the key it stands at.
    pub fn check(self) -> Result<Hours, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if self.from > 23 {
            errors.push(ConfigError::new("/from", "is no hour of the day").hint("0 to 23"));
        }
        if self.to > 24 {
            errors.push(ConfigError::new("/to", "is no hour of the day").hint("0 to 24"));
        }
        if self.from == self.to {
            errors.push(
                ConfigError::new("/to", "the office would never open").hint("another hour than `from`"),
            );
        }
        if errors.is_empty() { Ok(Hours { from: self.from, to: self.to }) } else { Err(errors) }
    }
}

impl Hours {
    /// None while the office is open, else the milliseconds until it opens. `unix_ms` counts from 1970, UTC.
    #[must_use]
    pub fn closed_for(self, unix_ms: u64) -> Option<u64> {
        let now = unix_ms / MINUTE_MS % DAY_MINUTES;
        let (from, to) = (self.from * 60, self.to * 60);
        let open = if from < to { (from..to).contains(&now) } else { now >= from || now < to };
        let minutes = (from + DAY_MINUTES - now) % DAY_MINUTES;
        // The minute that has begun is over in less than a minute.
        (!open).then(|| minutes * MINUTE_MS - unix_ms % MINUTE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * MINUTE_MS;

    fn mistakes(from: u64, to: u64) -> Vec<String> {
        match (Config { from, to }).check() {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.path).collect(),
        }
    }

    #[test]
    fn the_office_opens_and_closes_on_the_hour() {
        let hours = Hours { from: 8, to: 18 };
        assert_eq!(hours.closed_for(8 * HOUR_MS - 1), Some(1));
        assert_eq!(hours.closed_for(8 * HOUR_MS), None);
        assert_eq!(hours.closed_for(18 * HOUR_MS - 1), None);
        assert_eq!(hours.closed_for(18 * HOUR_MS), Some(14 * HOUR_MS));
    }

    #[test]
    fn a_night_shift_lasts_past_midnight() {
        let hours = Hours { from: 22, to: 6 };
        assert_eq!(hours.closed_for(23 * HOUR_MS), None);
        assert_eq!(hours.closed_for(5 * HOUR_MS), None);
        assert_eq!(hours.closed_for(6 * HOUR_MS), Some(16 * HOUR_MS));
    }

    #[test]
    fn a_whole_day_is_always_open() {
        let hours = Hours { from: 0, to: 24 };
        for hour in 0..24 {
            assert_eq!(hours.closed_for(hour * HOUR_MS), None, "{hour}");
        }
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        assert_eq!(mistakes(8, 18), [""; 0]);
        assert_eq!(mistakes(24, 25), ["/from", "/to"]);
        assert_eq!(mistakes(8, 8), ["/to"]);
    }
}
