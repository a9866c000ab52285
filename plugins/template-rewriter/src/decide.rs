//! The rules, apart from the gateway, so that they can be tested natively and at once.

use sentinel_plugin_sdk::ConfigError;
use serde::Deserialize;

/// The value of `config` in the plugin's `[[plugins]]` entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The argument that is capped: `limit`.
    argument: String,
    /// The most that may be asked for.
    most: u64,
    /// JSON pointers into a tool's result: `/structuredContent/internal`. What stands there is taken out.
    #[serde(default)]
    hide: Vec<String>,
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Rules {
    argument: String,
    most: u64,
    hide: Vec<String>,
}

impl Config {
    /// Finds every mistake, not only the first: the operator wants to put all of them right at once.
    ///
    /// # Errors
    /// All mistakes, each with the key it stands at.
    pub fn check(self) -> Result<Rules, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if self.argument.is_empty() || self.argument.contains(['/', '~']) {
            errors.push(ConfigError::new("/argument", "is no name of an argument").hint("such as \"limit\""));
        }
        for (index, pointer) in self.hide.iter().enumerate() {
            if !pointer.starts_with('/') {
                let hint = format!("\"/{pointer}\"");
                errors.push(
                    ConfigError::new(format!("/hide/{index}"), "is no JSON pointer (RFC 6901)").hint(hint),
                );
            }
        }
        let argument = format!("/arguments/{}", self.argument);
        if errors.is_empty() { Ok(Rules { argument, most: self.most, hide: self.hide }) } else { Err(errors) }
    }
}

impl Rules {
    /// Where the argument stands in the params of a call.
    #[must_use]
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// What is sent instead of this JSON value; none if it may stay.
    #[must_use]
    pub fn capped(&self, asked: &str) -> Option<String> {
        let asked: f64 = asked.parse().ok()?;
        (asked > self.most as f64).then(|| self.most.to_string())
    }

    /// What is taken out of results.
    #[must_use]
    pub fn hidden(&self) -> &[String] {
        &self.hide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(argument: &str, hide: &[&str]) -> Vec<String> {
        let hide = hide.iter().map(|pointer| (*pointer).to_owned()).collect();
        match (Config { argument: argument.to_owned(), most: 10, hide }).check() {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.path).collect(),
        }
    }

    #[test]
    fn only_what_is_over_the_cap_is_changed() {
        let rules = Rules { argument: "/arguments/limit".to_owned(), most: 10, hide: Vec::new() };
        assert_eq!(rules.capped("11").as_deref(), Some("10"));
        assert_eq!(rules.capped("1e9").as_deref(), Some("10"));
        for kept in ["10", "3", "\"all\"", "null", "[1000]"] {
            assert_eq!(rules.capped(kept), None, "{kept}");
        }
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        assert_eq!(mistakes("limit", &["/a"]), [""; 0]);
        assert_eq!(mistakes("", &["a", "/b", "c"]), ["/argument", "/hide/0", "/hide/2"]);
    }
}
