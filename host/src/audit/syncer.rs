//! The thread that makes records durable in strict mode: one `fdatasync` for everything written since the last one.

use std::sync::Arc;

use super::AuditError;
use super::journal::Journal;

/// Starts the thread; it ends when the journal stops or fails.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start(journal: Arc<Journal>) -> Result<(), AuditError> {
    let thread = std::thread::Builder::new().name("audit-sync".to_owned());
    thread.spawn(move || run(&journal)).map_err(AuditError::Thread)?;
    Ok(())
}

fn run(journal: &Journal) {
    while let Some((files, folder_changed, last)) = journal.unsynced() {
        let synced = files.iter().try_for_each(|file| Ok(rustix::fs::fdatasync(&**file)?));
        let synced = if folder_changed { synced.and_then(|()| journal.sync_folder()) } else { synced };
        if let Err(error) = synced {
            // After a failed sync the kernel may have dropped the pages: trying again would report a success
            // that is none. Nothing more may be promised.
            tracing::error!(%error, "the audit journal cannot be synced; no further call is admitted");
            journal.poison(format!("the journal cannot be synced: {error}"));
            return;
        }
        journal.synced.send_modify(|state| state.upto = last);
    }
}
