//! The backends that are no MCP servers, for as long as the gateway lives. Generations come and go, and a backend whose
//! settings stay the same lives on.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Backend;

/// Backends by their name and the digest of their settings.
#[derive(Debug, Default)]
pub(crate) struct Fleet(Mutex<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    name: Arc<str>,
    digest: [u8; 32],
    backend: Backend,
}

impl Fleet {
    /// The backend of this name with these settings: the one that runs, or a new one.
    pub(crate) fn adopt(&self, name: &str, digest: [u8; 32], make: impl FnOnce() -> Backend) -> Backend {
        let mut kept = self.0.lock();
        let same = kept.iter().find(|kept| *kept.name == *name && kept.digest == digest);
        if let Some(same) = same {
            return same.backend.clone();
        }
        let backend = make();
        kept.push(Kept { name: name.into(), digest, backend: backend.clone() });
        backend
    }

    /// Stops those that no generation holds any more, and waits for them. Says which they were.
    pub(crate) async fn retire(&self) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        // A handle that is held only here cannot come to be held elsewhere but through `adopt`, which waits for the lock.
        self.0.lock().retain_mut(|kept| {
            let needed = kept.backend.holders() > 1;
            if !needed {
                gone.push((kept.name.clone(), kept.backend.clone()));
            }
            needed
        });
        self.end(gone).await
    }

    /// Stops all of them and waits for them.
    pub(crate) async fn stop(&self) {
        let all: Vec<_> = self.0.lock().drain(..).map(|kept| (kept.name, kept.backend)).collect();
        self.end(all).await;
    }

    async fn end(&self, gone: Vec<(Arc<str>, Backend)>) -> Vec<Arc<str>> {
        futures_util::future::join_all(gone.iter().map(|(_, backend)| backend.stop())).await;
        gone.into_iter().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::mcp::scripted;
    use super::*;

    #[tokio::test]
    async fn a_backend_lives_as_long_as_a_generation_with_its_settings() {
        let fleet = Fleet::default();
        let make = || Backend::Mcp(scripted::backend("exec cat", scripted::LONG));
        let first = fleet.adopt("a", [1; 32], make);
        assert!(first.is(&fleet.adopt("a", [1; 32], make)), "the same settings: the same backend");
        let other = fleet.adopt("a", [2; 32], make);
        assert!(!first.is(&other));
        drop(first);
        assert_eq!(fleet.retire().await, ["a".into()]);
        assert!(fleet.retire().await.is_empty(), "the other one is held");
        assert!(other.is(&fleet.adopt("a", [2; 32], make)));
        drop(other);
        assert_eq!(fleet.retire().await.len(), 1);
    }
}
