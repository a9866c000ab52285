//! The configuration file.

use std::path::Path;

/// Every text is a configuration or a list of problems, and each problem says something.
pub(crate) fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let env = |name: &str| (name == "JWT_SECRET_KEY").then(|| "0123456789abcdef0123456789abcdef".to_owned());
    if let Err(problems) = sentinel_gateway::config::parse(text, Path::new("/nowhere/fuzz.toml"), &env) {
        let told = problems.to_string();
        assert!(!told.trim().is_empty(), "refused without a word");
        assert!(!told.contains("0123456789abcdef"), "a secret stands in {told}");
    }
}
