//! `/health` and `/health/shallow` of the HTTP API, where no route of the file is there.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// Whether the programs of all engines are there, and all executors. Each program is looked for as it is when it is started;
/// an executor is there if it answered of late.
pub(super) fn health(programs: &[(String, String)], executors: &[(String, bool)], dev: bool) -> Response {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(_, command)| find(command).is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let path = programs.first().map(|(_, command)| match find(command) {
        // Where a program lies on the disk is nobody's business outside.
        Some(found) if dev => found.display().to_string(),
        _ => command.rsplit('/').next().unwrap_or(command).to_owned(),
    });
    let well = missing.is_empty() && executors.iter().all(|(_, up)| *up);
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({
        "status": if well { "ok" } else { "degraded" },
        "version": env!("CARGO_PKG_VERSION"),
        "binary_found": missing.is_empty(),
        "binary_path": path,
        "dev_mode": dev,
    });
    if !missing.is_empty() {
        body["missing"] = missing.into();
    }
    if !executors.is_empty() {
        let executor =
            |(name, up): &(String, bool)| json!({ "name": name, "status": if *up { "ok" } else { "away" } });
        body["executors"] = executors.iter().map(executor).collect();
    }
    page(status, &body)
}

/// Whether the gateway itself answers.
pub(super) fn shallow() -> Response {
    page(StatusCode::OK, &json!({ "status": "ok" }))
}

fn page(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, Body::from(body.to_string())).into_response()
}

/// The file of a program, as a shell would find it.
fn find(command: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(|path| runs(path));
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(command)).find(|path| runs(path))
}
