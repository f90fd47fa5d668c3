//! Owns how many bytes the frames that wait for all clients may take together, and how many they take now.
//!
//! Must not know who waits or what is done about it. A frame counts once, in however many queues it waits, until the
//! last of them has let it go. It is the queues that stop taking frames once this is used up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::statistics::Counter;
use crate::websocket::encode_text;

/// What all queues of one server share.
#[derive(Debug)]
pub(crate) struct Budget {
    max_bytes: usize,
    used_bytes: AtomicUsize,
    /// Queues that were dropped because this was used up.
    pub(crate) queues_dropped: Counter,
}

impl Budget {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, used_bytes: AtomicUsize::new(0), queues_dropped: Counter::default() }
    }

    /// A text frame that is counted for as long as anybody holds it.
    pub(crate) fn frame(self: &Arc<Self>, payload: &[u8]) -> Bytes {
        let frame = encode_text(payload);
        self.used_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        Bytes::from_owner(Counted { frame, budget: Arc::clone(self) })
    }

    /// Whether more waits than may.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used_bytes.load(Ordering::Relaxed) > self.max_bytes
    }
}

struct Counted {
    frame: Bytes,
    budget: Arc<Budget>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.frame.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_once_and_until_its_last_holder_is_gone() {
        let budget = Arc::new(Budget::new(10));
        let frame = budget.frame(b"12345678");
        let other = frame.clone();
        assert_eq!(budget.used_bytes.load(Ordering::Relaxed), 10);
        assert!(!budget.is_exceeded());
        let second = budget.frame(b"");
        assert!(budget.is_exceeded());
        drop(frame);
        assert!(budget.is_exceeded());
        drop(other);
        assert!(!budget.is_exceeded());
        drop(second);
        assert_eq!(budget.used_bytes.load(Ordering::Relaxed), 0);
    }
}
