//! The engine of `config/profit-sentinel.toml`, by itself: its own tests are in Python, as it is.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn the_engine_passes_its_own_tests() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "tests/fixtures/engine"].iter().collect();
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "-s"])
        .arg(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // As many as there are: an empty discovery succeeds, too.
    assert!(said.contains("Ran 10 tests"), "{said}");
}
