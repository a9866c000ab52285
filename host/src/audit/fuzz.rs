//! The journal that a death left behind, for `tests/fuzz`: whatever stands in it is read up to the last whole record.

use std::path::Path;

use super::reader::Reader;

/// Reads a journal whose first segment is these bytes.
///
/// # Panics
/// A record was read that is not sealed, or the reader did not come to an end.
pub fn recovery(folder: &Path, data: &[u8]) {
    if std::fs::write(super::journal::segment_path(folder, 1), data).is_err() {
        return;
    }
    let mut reader = Reader::new(folder, 1);
    let mut read = 0;
    // Every batch but the last has a record, and every record a line.
    for _ in 0..=data.len() {
        match reader.batch(16, None) {
            Ok(batch) if batch.records.is_empty() => break,
            Ok(batch) => {
                read += batch.bytes;
                assert!(batch.last == reader.position(), "the position is behind the records");
            }
            Err(_) => return,
        }
    }
    assert!(read <= data.len() as u64, "more was read than there is");
    if let Ok(rest) = reader.rest() {
        assert_eq!(rest.bytes + read, data.len() as u64, "bytes were lost count of");
    }
}
