//! The file that an import makes.

use std::fmt::Write;

use sentinel_gateway::text::line;

use super::entry::Backend;

/// How callers are known, in a file that is made anew.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// One line on where the file comes from.
    pub(crate) about: &'a str,
    /// Mode "local", or "jwt" with a key in this file.
    pub(crate) key_file: Option<&'a str>,
    /// Whether it serves over HTTP.
    pub(crate) http: bool,
    /// The role, which may do everything unless the lists say otherwise.
    pub(crate) role: &'a str,
}

/// Rules that keep what the clients kept.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) denied: Vec<String>,
    pub(super) allowed: Option<Vec<String>>,
}

/// The part of the file above the backends.
pub(super) fn head(head: &Head<'_>, rules: &Rules) -> String {
    let mut text = format!(
        "# {}\n\
         # Every key there is: config/sentinel.toml of the gateway. Check a change before it is used: sentinel-gateway check\n\n",
        line(head.about)
    );
    text.push_str("[gateway]\n");
    if head.http {
        text.push_str("listen = \"127.0.0.1:9200\"\nhealth_listen = \"127.0.0.1:9201\"    # /health, /ready and /metrics\n\n[http]\n");
        if head.key_file.is_none() {
            text.push_str("allow_local = true    # every request from this machine is the local user's\n");
        }
    } else {
        text.push_str("health_listen = \"off\"    # every client starts a gateway of its own; they cannot share a port\n");
    }
    text.push_str("\n[auth]\n");
    match head.key_file {
        Some(file) => {
            let _ = writeln!(
                text,
                "mode = \"jwt\"    # a caller needs a token: sentinel-gateway token mint --sub NAME --role {}\njwt_secret_file = {}",
                head.role,
                quoted(file)
            );
        }
        None => {
            let _ = writeln!(
                text,
                "mode = \"local\"    # for one person on one machine: everybody who can start the gateway may use it\nrole = {}",
                quoted(head.role)
            );
        }
    }
    let _ = writeln!(text, "\n[rbac.roles.{}]\npermissions = [\"*\"]", quoted_key(head.role));
    text.push_str(&lists(rules));
    text
}

fn lists(rules: &Rules) -> String {
    let mut text = String::new();
    if rules.denied.is_empty() {
        text.push_str(
            "# denied_tools = [\"write_*\", \"files/delete_file\"]    # what it may not do nevertheless\n",
        );
    } else {
        let _ = writeln!(text, "denied_tools = {}", list(&rules.denied));
    }
    if let Some(allowed) = &rules.allowed {
        let _ = writeln!(text, "allowed_tools = {}", list(allowed));
    }
    text
}

/// One backend; commented out if it is switched off.
pub(super) fn backend(backend: &Backend, from: &str) -> String {
    let mut text = String::new();
    let about = if backend.original == backend.name {
        String::new()
    } else {
        format!("{:?} in {from}", backend.original)
    };
    let off = if backend.disabled { format!("switched off in {from}") } else { String::new() };
    let words: Vec<String> =
        [about, off].into_iter().filter(|words| !words.is_empty()).chain(backend.notes.clone()).collect();
    for words in words {
        let _ = writeln!(text, "# {}", line(&words));
    }
    let sign = if backend.disabled { "# " } else { "" };
    let _ = writeln!(text, "{sign}[[backends]]\n{sign}name = {}", quoted(&backend.name));
    for (key, value) in &backend.keys {
        let _ = writeln!(text, "{sign}{key} = {value}");
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn quoted_key(text: &str) -> String {
    let bare = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare && !text.is_empty() { text.to_owned() } else { quoted(text) }
}

fn list(texts: &[String]) -> String {
    toml::Value::from(texts.to_vec()).to_string()
}
