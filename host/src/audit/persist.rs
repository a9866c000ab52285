//! Work that has to be done in the end: tried again until it succeeds, and away from the threads that serve calls.

use std::time::Duration;

use parking_lot::Mutex;

use super::AuditError;
use crate::text;

/// The pause after a failure; it doubles up to the longest.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tries until it succeeds, with pauses; meanwhile `slot` holds the reason of the failure.
pub(super) async fn persist<T, F>(slot: &Mutex<Option<String>>, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, AuditError>>,
{
    let mut pause = SHORTEST_PAUSE;
    loop {
        match attempt().await {
            Ok(value) => {
                if slot.lock().take().is_some() {
                    tracing::info!("the audit database is reachable");
                }
                return value;
            }
            Err(error) => complain(slot, &error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Remembers the reason of a failure, and logs it if it is a new one.
pub(super) fn complain(slot: &Mutex<Option<String>>, error: &AuditError) {
    let reason = text::with_causes(error);
    let mut slot = slot.lock();
    if slot.as_ref() != Some(&reason) {
        tracing::warn!(reason, "the audit database is behind; trying again");
        *slot = Some(reason);
    }
}

/// Runs file work away from the threads that serve calls.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
) -> Result<T, AuditError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(AuditError::Read(error.into())),
    }
}
