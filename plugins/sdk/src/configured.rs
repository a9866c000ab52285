//! Holds what a plugin makes of its configuration, from `configure` to the calls that follow.

use std::sync::OnceLock;

use serde::de::DeserializeOwned;

use crate::{ConfigError, Refusal, read_config};

/// A place for what `configure` made, which every hook can read. It lives as long as the instance; what must live longer
/// belongs into the gateway's `counters` and `cells`.
///
/// ```ignore
/// static HOURS: Configured<Hours> = Configured::of("office-hours");
///
/// impl Lifecycle for OfficeHours {
///     fn configure(json: String) -> Result<(), Vec<ConfigError>> { HOURS.read(&json, Config::check) }
/// }
/// impl Admission for OfficeHours {
///     fn check(_: &Call) -> Result<Verdict, Refusal> { HOURS.get()?.judge(clock::unix_ms()) }
///     …
/// }
/// ```
#[derive(Debug)]
pub struct Configured<T> {
    plugin: &'static str,
    made: OnceLock<T>,
}

impl<T> Configured<T> {
    /// An empty place, of the plugin with this name.
    #[must_use]
    pub const fn of(plugin: &'static str) -> Self {
        Self { plugin, made: OnceLock::new() }
    }

    /// Reads the JSON that `configure` was given, has it checked, and keeps what comes of it.
    ///
    /// # Errors
    /// What serde could not read, or every mistake that was found in it.
    pub fn read<C: DeserializeOwned>(
        &self,
        json: &str,
        check: impl FnOnce(C) -> Result<T, Vec<ConfigError>>,
    ) -> Result<(), Vec<ConfigError>> {
        let made = check(read_config(json)?)?;
        // The gateway configures an instance once; a second time must not change what calls are judged by.
        self.made.set(made).map_err(|_| vec![ConfigError::new("", "the plugin is configured already")])
    }

    /// The kept value.
    ///
    /// # Errors
    /// A refusal with the reason `not_configured`, so that a hook can only fail closed.
    pub fn get(&self) -> Result<&T, Refusal> {
        let refused =
            || Refusal::new("not_configured", format!("The plugin {} has not been configured.", self.plugin));
        self.made.get().ok_or_else(refused)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn positive(number: i32) -> Result<u32, Vec<ConfigError>> {
        u32::try_from(number).map_err(|_| vec![ConfigError::new("", "is negative")])
    }

    #[test]
    fn nothing_is_there_before_a_configuration_that_is_right() {
        let place = Configured::of("sample");
        let refusal = place.get().unwrap_err();
        assert_eq!(refusal.reason, "not_configured");
        assert!(refusal.message.contains("sample"));
        assert_eq!(place.read("-1", positive).unwrap_err()[0].message, "is negative");
        assert!(place.read("x", positive).is_err() && place.get().is_err());
        place.read("7", positive).unwrap();
        assert_eq!(place.get(), Ok(&7));
    }

    #[test]
    fn a_second_configuration_changes_nothing() {
        let place = Configured::of("sample");
        place.read("7", positive).unwrap();
        assert!(place.read("8", positive).is_err());
        assert_eq!(place.get(), Ok(&7));
    }
}
