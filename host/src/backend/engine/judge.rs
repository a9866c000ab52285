//! What the end of an engine's process means: a status, and a word that callers can rely on.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use crate::call::Outcome;
use crate::config::rest::Engine;

/// An answer of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It did what it was asked.
    Done(Bytes),
    /// It said what is wrong, or ended with a code that the file has a status for.
    Failed { status: StatusCode, reason: String, message: String },
    /// It broke the protocol.
    Garbage(String),
}

impl Judged {
    /// What guards hear. An engine that says what is wrong with a request is well.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Done(_) => Outcome::Success,
            Self::Failed { status, .. } if status.is_server_error() => Outcome::ServerError,
            Self::Failed { status, .. } if status.as_u16() == 429 => Outcome::Throttled,
            Self::Failed { .. } => Outcome::InvalidRequest,
            Self::Garbage(_) => Outcome::ProtocolError,
        }
    }
}

/// What an engine says of a call that went wrong.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    code: String,
    #[serde(default)]
    message: String,
}

/// Judges a process that answered one call.
pub(super) fn of_exit(settings: &Engine, code: Option<i32>, end: &str, stdout: Bytes) -> Judged {
    #[derive(Deserialize)]
    struct Answer {
        error: Said,
    }
    match code {
        Some(0) => match document(&stdout) {
            Ok(()) => Judged::Done(trimmed(stdout)),
            Err(why) => Judged::Garbage(format!("what it wrote is not one JSON document: {why}")),
        },
        Some(code) => {
            let said = serde_json::from_slice::<Answer>(&stdout).ok().map(|answer| answer.error);
            let of_exit = || {
                let code = u8::try_from(code).ok()?;
                settings.exits.iter().find(|(known, _)| *known == code).map(|(_, status)| *status)
            };
            match said {
                Some(said) => failed(settings, said, of_exit()),
                None => match of_exit() {
                    Some(status) => {
                        let message = format!("it {end}");
                        Judged::Failed { status: of(status), reason: format!("engine_exit_{code}"), message }
                    }
                    None => Judged::Garbage(format!("it {end} and did not say why")),
                },
            }
        }
        None => Judged::Garbage(format!("it {end}")),
    }
}

/// What a warm process said of a call that went wrong.
pub(super) fn failed(settings: &Engine, said: Said, of_exit: Option<u16>) -> Judged {
    let known = settings.errors.iter().find(|(code, _)| *code == said.code).map(|(_, status)| *status);
    let reason = match known {
        // Only words that the file knows become words that callers rely on.
        Some(_) => word(&said.code),
        None => "engine_failed".to_owned(),
    };
    let status = of(known.or(of_exit).unwrap_or(502));
    Judged::Failed { status, reason, message: format!("{}: {}", said.code, said.message) }
}

fn of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
}

/// `NO_DATA` as `no_data`.
fn word(code: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    code.chars().take(64).map(letter).collect()
}

/// One JSON document and nothing else.
pub(super) fn document(bytes: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<&serde_json::value::RawValue>(bytes).map(|_| ())
}

fn trimmed(bytes: Bytes) -> Bytes {
    let text = bytes.trim_ascii();
    bytes.slice_ref(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rest::{EngineInput, EngineMode};

    fn settings() -> Engine {
        Engine {
            name: "e".to_owned(),
            command: "e".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            sandbox: None,
            mode: EngineMode::Call,
            input: EngineInput::Json,
            timeout: std::time::Duration::from_secs(1),
            max_in_flight: 1,
            pool_size: 1,
            max_uses: 1,
            max_output: 1,
            exits: vec![(3, 404), (9, 503)],
            errors: vec![("NO_DATA".to_owned(), 404), ("PIPELINE_ERROR".to_owned(), 502)],
        }
    }

    #[test]
    fn exits_and_error_codes_have_their_statuses() {
        let judge = |code: Option<i32>, out: &'static str| {
            of_exit(&settings(), code, "exited", Bytes::from_static(out.as_bytes()))
        };
        let status = |judged: Judged| match judged {
            Judged::Failed { status, reason, .. } => format!("{} {reason}", status.as_u16()),
            other => format!("{other:?}"),
        };
        assert_eq!(judge(Some(0), " {\"a\":1}\n"), Judged::Done(Bytes::from_static(b"{\"a\":1}")));
        assert_eq!(status(judge(Some(1), r#"{"error":{"code":"NO_DATA","message":"m"}}"#)), "404 no_data");
        assert_eq!(status(judge(Some(3), r#"{"error":{"code":"NEW"}}"#)), "404 engine_failed");
        assert_eq!(status(judge(Some(1), r#"{"error":{"code":"NEW"}}"#)), "502 engine_failed");
        assert_eq!(status(judge(Some(9), "not json")), "503 engine_exit_9");
        for (code, out) in
            [(Some(0), ""), (Some(0), "{\"a\":"), (Some(0), "{} {}"), (Some(1), ""), (None, "{}")]
        {
            assert_eq!(judge(code, out).outcome(), Outcome::ProtocolError, "{code:?} {out}");
        }
    }
}
