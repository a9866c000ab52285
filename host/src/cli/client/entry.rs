//! The entry that makes a client use the gateway, in that client's own spelling.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::kinds::{Client, References};
use super::needs::Reach;

/// The entry for a client's file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) server: Value,
    /// The values that Visual Studio Code asks the person for, once.
    pub(super) inputs: Vec<Value>,
    /// Variables whose values a person has to write into the file by hand.
    pub(super) by_hand: Vec<String>,
    /// Variables that the client takes from its own environment.
    pub(super) from_environment: Vec<String>,
}

/// Looks up the values that are to stand in the file itself, instead of references to them.
pub(super) type Values<'a> = Option<&'a dyn Fn(&str) -> Option<String>>;

/// Writes one entry and notes what a person still has to do.
struct Writer<'a> {
    references: References,
    values: Values<'a>,
    inputs: Vec<Value>,
    by_hand: Vec<String>,
    from_environment: Vec<String>,
}

impl Writer<'_> {
    /// How this client writes "the value of this variable".
    fn value(&mut self, name: &str) -> String {
        if let Some(value) = self.values.and_then(|values| values(name)) {
            return value;
        }
        match self.references {
            References::Braces => self.refer(name, format!("${{{name}}}")),
            References::Env => self.refer(name, format!("${{env:{name}}}")),
            References::Inputs => {
                self.inputs.push(json!({
                    "type": "promptString", "id": name, "description": format!("The value of {name}"), "password": true,
                }));
                format!("${{input:{name}}}")
            }
            References::Names | References::None => {
                self.by_hand.push(name.to_owned());
                format!("<value of {name}>")
            }
        }
    }

    fn refer(&mut self, name: &str, spelling: String) -> String {
        self.from_environment.push(name.to_owned());
        spelling
    }

    fn command(&mut self, client: Client, binary: &Path, config: &Path, variables: &[String]) -> Value {
        let mut server = json!({ "command": binary, "args": ["--config", config] });
        if client == Client::Vscode {
            server["type"] = "stdio".into();
        }
        if client == Client::Codex && self.values.is_none() {
            self.from_environment.extend(variables.iter().cloned());
            if !variables.is_empty() {
                server["env_vars"] = json!(variables);
            }
            return server;
        }
        let env: Map<String, Value> =
            variables.iter().map(|name| (name.clone(), self.value(name).into())).collect();
        if !env.is_empty() {
            server["env"] = env.into();
        }
        server
    }

    fn url(&mut self, client: Client, url: &str, token: Option<&str>) -> Value {
        if client == Client::ClaudeDesktop {
            return self.bridge(url, token);
        }
        if client == Client::Codex {
            let mut server = json!({ "url": url });
            match token {
                Some(name) if self.values.is_some() => {
                    server["http_headers"] =
                        json!({ "Authorization": format!("Bearer {}", self.value(name)) });
                }
                Some(name) => {
                    self.from_environment.push(name.to_owned());
                    server["bearer_token_env_var"] = name.into();
                }
                None => {}
            }
            return server;
        }
        let mut server = match client {
            Client::ClaudeCode | Client::Vscode => json!({ "type": "http", "url": url }),
            Client::Cline => json!({ "type": "streamableHttp", "url": url }),
            Client::Windsurf => json!({ "serverUrl": url }),
            Client::Gemini => json!({ "httpUrl": url }),
            Client::Cursor | Client::Lmstudio | Client::Zed | Client::Codex | Client::ClaudeDesktop => {
                json!({ "url": url })
            }
        };
        if let Some(name) = token {
            server["headers"] = json!({ "Authorization": format!("Bearer {}", self.value(name)) });
        }
        server
    }

    /// The client's file takes programs only, so the entry starts `mcp-remote`, which speaks HTTP. That program has
    /// trouble with spaces in arguments, so the header comes in a variable.
    fn bridge(&mut self, url: &str, token: Option<&str>) -> Value {
        let mut args = vec!["-y".to_owned(), "mcp-remote".to_owned(), url.to_owned()];
        let here = ["http://127.", "http://localhost", "http://[::1]"];
        if url.starts_with("http://") && !here.iter().any(|here| url.starts_with(here)) {
            args.push("--allow-http".to_owned());
        }
        let Some(name) = token else { return json!({ "command": "npx", "args": args }) };
        args.extend(["--header".to_owned(), "Authorization:${AUTHORIZATION}".to_owned()]);
        json!({
            "command": "npx",
            "args": args,
            "env": { "AUTHORIZATION": format!("Bearer {}", self.value(name)) },
        })
    }
}

/// The entry for a client.
pub(super) fn of(client: Client, binary: &Path, config: &Path, reach: &Reach, values: Values<'_>) -> Entry {
    let mut writer = Writer {
        references: client.kind().references,
        values,
        inputs: Vec::new(),
        by_hand: Vec::new(),
        from_environment: Vec::new(),
    };
    let server = match reach {
        Reach::Command { variables, .. } => writer.command(client, binary, config, variables),
        Reach::Url { url, token, .. } => writer.url(client, url, token.as_deref()),
    };
    let Writer { inputs, by_hand, from_environment, .. } = writer;
    Entry { server, inputs, by_hand, from_environment }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn of(client: Client, reach: &Reach) -> Entry {
        super::of(client, Path::new("/opt/sg"), Path::new("/etc/s.toml"), reach, None)
    }

    #[test]
    fn every_client_gets_the_command_the_file_and_the_variables() {
        let reach = Reach::Command { variables: vec!["SENTINEL_TOKEN".to_owned()], withheld: Vec::new() };
        for client in Client::value_variants() {
            let text = of(*client, &reach).server.to_string();
            for part in ["/opt/sg", "/etc/s.toml", "--config", "SENTINEL_TOKEN"] {
                assert!(text.contains(part), "{client:?}: {part} is missing in {text}");
            }
        }
    }

    #[test]
    fn every_client_gets_the_url_and_a_header_from_a_variable() {
        let reach = Reach::Url {
            url: "http://127.0.0.1:9200/mcp".to_owned(),
            token: Some("SENTINEL_TOKEN".to_owned()),
            sign_in: false,
        };
        let entry = |client| of(client, &reach).server;
        assert_eq!(
            entry(Client::ClaudeCode),
            json!({"type": "http", "url": "http://127.0.0.1:9200/mcp", "headers": {"Authorization": "Bearer ${SENTINEL_TOKEN}"}})
        );
        assert_eq!(entry(Client::Cursor)["headers"]["Authorization"], "Bearer ${env:SENTINEL_TOKEN}");
        assert_eq!(entry(Client::Windsurf)["serverUrl"], "http://127.0.0.1:9200/mcp");
        assert_eq!(entry(Client::Gemini)["httpUrl"], "http://127.0.0.1:9200/mcp");
        assert_eq!(entry(Client::Codex)["bearer_token_env_var"], "SENTINEL_TOKEN");
        assert_eq!(entry(Client::Cline)["type"], "streamableHttp");
        assert_eq!(entry(Client::ClaudeDesktop)["args"][1], "mcp-remote");
        let vscode = of(Client::Vscode, &reach);
        assert_eq!(vscode.server["headers"]["Authorization"], "Bearer ${input:SENTINEL_TOKEN}");
        assert_eq!(
            (&vscode.inputs[0]["id"], &vscode.inputs[0]["password"]),
            (&json!("SENTINEL_TOKEN"), &json!(true))
        );
        for client in Client::value_variants() {
            let text = entry(*client).to_string();
            assert!(text.contains("http://127.0.0.1:9200/mcp") && text.contains("SENTINEL_TOKEN"), "{text}");
            assert!(!text.contains("/opt/sg"), "{client:?} starts nothing: {text}");
        }
        let open = Reach::Url { url: "http://127.0.0.1:9200/mcp".to_owned(), token: None, sign_in: false };
        for client in Client::value_variants() {
            assert!(!of(*client, &open).server.to_string().contains("uthorization"), "{client:?}");
        }
    }

    #[test]
    fn values_stand_in_the_file_only_if_somebody_wants_it() {
        let reach = Reach::Command { variables: vec!["A".to_owned(), "B".to_owned()], withheld: Vec::new() };
        let values = |name: &str| (name == "A").then(|| "secret".to_owned());
        for client in [Client::Zed, Client::Codex, Client::ClaudeCode] {
            let entry = super::of(client, Path::new("/b"), Path::new("/c"), &reach, Some(&values));
            assert_eq!(entry.server["env"]["A"], "secret", "{client:?}");
            assert_ne!(entry.server["env"]["B"], "secret", "{client:?}");
        }
        assert_eq!(of(Client::Zed, &reach).by_hand, ["A", "B"]);
        assert_eq!(of(Client::Codex, &reach).from_environment, ["A", "B"]);
    }
}
