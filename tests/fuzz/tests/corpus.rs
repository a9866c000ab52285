//! Every target on its corpus and, for ten seconds, on mutants of it. An input that fails is put into the corpus by hand,
//! with the change that mends it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use sentinel_fuzz::{TARGETS, mutants};

/// For each target; `SENTINEL_FUZZ_SECONDS` makes it longer.
const SECONDS: u64 = 10;

#[test]
fn every_target_holds_on_its_corpus_and_on_mutants_of_it() {
    let asked = std::env::var("SENTINEL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let lasts = Duration::from_secs(asked.unwrap_or(SECONDS));
    // Another seed each day finds more than one seed for ever; a failure prints its input.
    let day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    // Two at a time, as many as the machine of the tests has cores.
    std::thread::scope(|scope| {
        for lane in 0..2 {
            let folder = &folder;
            scope.spawn(move || {
                for (name, target) in TARGETS.iter().skip(lane).step_by(2) {
                    let corpus = mutants::corpus(&folder.join(name));
                    let tried = mutants::campaign(*target, &corpus, day, lasts);
                    eprintln!("{name}: {tried} inputs");
                    assert!(tried > corpus.len() as u64, "{name}: only the corpus was tried");
                }
            });
        }
    });
}
