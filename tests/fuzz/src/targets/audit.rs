//! A journal as a death may leave it.

use std::sync::OnceLock;

/// Recovery reads up to the last whole record, and loses count of no byte.
pub(crate) fn recovery(data: &[u8]) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
    sentinel_gateway::audit::fuzz::recovery(folder.path(), data);
}
