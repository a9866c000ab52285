//! Bytes beside the params of a call, or beside the head of an answer.

use std::fmt;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;

/// Bytes that come piece by piece.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A body that is not JSON params: of another type, or too long to be held.
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// It is still coming; who takes it reads it.
    Streamed(Mutex<Option<Chunks>>),
}

impl Body {
    /// One that is still coming.
    #[must_use]
    pub fn streamed(chunks: Chunks) -> Self {
        Self::Streamed(Mutex::new(Some(chunks)))
    }

    /// The pieces; none if they were taken before. A whole body is one piece, as often as it is asked for.
    #[must_use]
    pub fn take(&self) -> Option<Chunks> {
        match self {
            Self::Whole(bytes) => {
                let bytes = bytes.clone();
                Some(Box::pin(futures_util::stream::once(async move { Ok(bytes) })))
            }
            Self::Streamed(chunks) => chunks.lock().take(),
        }
    }
}

// What callers send is not for logs.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Self::Streamed(_) => f.write_str("Body(stream)"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_is_read_once_and_whole_bytes_as_often_as_they_are_sent() {
        let pieces = ["a", "b"].map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let body = Body::streamed(Box::pin(futures_util::stream::iter(pieces)));
        let read: Vec<Bytes> = body.take().unwrap().map(Result::unwrap).collect().await;
        assert_eq!(read, ["a", "b"]);
        assert!(body.take().is_none());
        let whole = Body::Whole(Bytes::from_static(b"ab"));
        for _ in 0..2 {
            let read: Vec<Bytes> = whole.take().unwrap().map(Result::unwrap).collect().await;
            assert_eq!(read, ["ab"]);
        }
    }
}
