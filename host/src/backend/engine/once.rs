//! One process for one call: it is started, gets its document, and is judged by what it writes and how it ends.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::super::process::{self, ChildSpec, Running};
use super::judge::{self, Judged};
use super::{Ask, EngineError};
use crate::config::rest::{Engine, EngineInput};

/// Asks a new process. Dropped, it kills the process and all that it started.
pub(super) async fn ask(
    settings: &Engine,
    spec: ChildSpec,
    args: &[String],
    ask: Ask<'_>,
    body: Option<&Bytes>,
) -> Result<Judged, EngineError> {
    let file = match settings.input {
        EngineInput::File => Some(file(body.cloned().unwrap_or_default()).await?),
        EngineInput::Json | EngineInput::None => None,
    };
    let input = file.as_ref().and_then(|file| file.path().to_str());
    let mut spec = spec;
    for template in args {
        spec.args.push(ask.argument(template, input).map_err(EngineError::Argument)?);
    }
    let document = match settings.input {
        EngineInput::Json => ask.document(None),
        EngineInput::File | EngineInput::None => String::new(),
    };
    let running = process::spawn(&spec).await.map_err(|error| EngineError::Start(error.to_string()))?;
    let Running { mut stdin, mut stdout, closing: _, handle } = running;
    let give = async {
        // An engine that does not read its input may still answer; how it ends says what that means.
        let _ = stdin.write_all(document.as_bytes()).await;
        let _ = stdin.shutdown().await;
        drop(stdin);
    };
    let (out, ()) = tokio::join!(read_all(&mut stdout, settings.max_output), give);
    let Some(out) = out else { return Ok(Judged::Garbage(flooded(settings.max_output))) };
    let exit = handle.watcher().exited().await;
    let judged =
        judge::of_exit(settings, exit.status.and_then(|status| status.code()), &exit.to_string(), out);
    Ok(match judged {
        Judged::Garbage(why) => match handle.watcher().last_words() {
            words if words.is_empty() => Judged::Garbage(why),
            words => Judged::Garbage(format!("{why}; it last said: {words}")),
        },
        judged => judged,
    })
}

pub(super) fn flooded(limit: usize) -> String {
    format!("it wrote more than {limit} bytes")
}

/// Everything up to the end, or nothing if that is more than the limit.
async fn read_all(source: &mut (impl AsyncRead + Unpin), limit: usize) -> Option<Bytes> {
    let mut all = BytesMut::new();
    loop {
        match source.read_buf(&mut all).await {
            Ok(0) | Err(_) => return Some(all.freeze()),
            Ok(_) if all.len() > limit => return None,
            Ok(_) => {}
        }
    }
}

/// A file with the body, which only this user can read and which ends with the call.
async fn file(body: Bytes) -> Result<tempfile::NamedTempFile, EngineError> {
    let written = tokio::task::spawn_blocking(move || {
        let mut file = tempfile::Builder::new().prefix("sentinel-input-").tempfile()?;
        file.write_all(&body)?;
        file.flush()?;
        std::io::Result::Ok(file)
    });
    let written = written.await.map_err(std::io::Error::other).and_then(|written| written);
    written.map_err(|error| EngineError::Start(format!("its input cannot be written: {error}")))
}
