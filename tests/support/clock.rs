//! Waiting with a deadline: a pause here is between two looks at a state, never a guess at how long something takes.

use std::time::{Duration, Instant};

/// The longest that anything here may take; a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer, and fails by name when the patience is over.
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, ask).unwrap_or_else(|| panic!("{what}: not within {} s", PATIENCE.as_secs()))
}

/// Asks until there is an answer, and gives up when the time is over: for a clean-up, which must not fail.
pub(crate) fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The same among tasks: asks until there is an answer, and fails with what is still missing when the time is over.
pub(crate) async fn reached<T>(time: Duration, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + time;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(missing) => assert!(Instant::now() < deadline, "{missing}, not within {} s", time.as_secs()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
