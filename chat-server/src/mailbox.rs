//! Owns the queue of frames that wait for one client, and decides when that client is too slow.
//!
//! Must not know what the frames say or who queued them. Bounded in messages and in bytes; the frame that does not fit
//! empties the queue for good, and the owner is told to end the connection. Putting a frame in never waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// The queue; shared by the hub, which fills it, and the connection, which empties it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    max_messages: usize,
    max_bytes: usize,
    queue: Mutex<Queue>,
    filled: Notify,
    blocked: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    overflowed: bool,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It waits.
    Queued,
    /// It waits, behind half a queue, though the client's socket takes bytes: its task wants to run first.
    Crowded,
    /// The client is, or now has become, too slow; nothing more is queued for it.
    TooSlow,
}

/// What a connection finds in its queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    Frame(Bytes),
    Empty,
    /// Frames were lost; the connection has to end.
    Overflowed,
}

impl Mailbox {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            max_messages,
            max_bytes,
            queue: Mutex::default(),
            filled: Notify::new(),
            blocked: AtomicBool::new(false),
        }
    }

    /// Queues an encoded frame. An empty queue takes a frame of any size.
    pub(crate) fn put(&self, frame: Bytes) -> Delivery {
        let mut queue = self.lock();
        if queue.overflowed {
            return Delivery::TooSlow;
        }
        let bytes = queue.bytes + frame.len();
        let full =
            queue.frames.len() >= self.max_messages || (bytes > self.max_bytes && !queue.frames.is_empty());
        if full {
            *queue = Queue { overflowed: true, ..Queue::default() };
            drop(queue);
            self.filled.notify_one();
            return Delivery::TooSlow;
        }
        queue.frames.push_back(frame);
        queue.bytes = bytes;
        let crowded = self.is_half_full(&queue) && !self.blocked.load(Ordering::Relaxed);
        drop(queue);
        self.filled.notify_one();
        if crowded { Delivery::Crowded } else { Delivery::Queued }
    }

    /// Takes the oldest frame.
    pub(crate) fn take(&self) -> Mail {
        let mut queue = self.lock();
        if queue.overflowed {
            return Mail::Overflowed;
        }
        let Some(frame) = queue.frames.pop_front() else { return Mail::Empty };
        queue.bytes -= frame.len();
        if queue.frames.is_empty() && queue.frames.capacity() > 64 {
            // Thousands of quiet connections should not keep what one burst made of them.
            queue.frames = VecDeque::new();
        }
        Mail::Frame(frame)
    }

    /// Whether half of either bound is used, so that its owner should send before it causes more.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_half_full(&self.lock())
    }

    /// Whether the queue ran over.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.lock().overflowed
    }

    /// Says whether the socket behind the queue refuses bytes at the moment.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Returns after a frame was put in, or at once if that happened since the last call.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn is_half_full(&self, queue: &Queue) -> bool {
        queue.frames.len() >= self.max_messages / 2 || queue.bytes >= self.max_bytes / 2
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_in_the_order_in_which_they_went_in() {
        let mailbox = Mailbox::new(4, 100);
        assert_eq!(mailbox.take(), Mail::Empty);
        assert_eq!(mailbox.put(Bytes::from_static(b"a")), Delivery::Queued);
        assert_eq!(mailbox.put(Bytes::from_static(b"b")), Delivery::Crowded);
        assert_eq!(mailbox.take(), Mail::Frame(Bytes::from_static(b"a")));
        assert_eq!(mailbox.take(), Mail::Frame(Bytes::from_static(b"b")));
        assert_eq!(mailbox.take(), Mail::Empty);
    }

    #[test]
    fn the_frame_beyond_the_bound_empties_the_queue_for_good() {
        for mailbox in [Mailbox::new(2, 1000), Mailbox::new(1000, 7)] {
            mailbox.set_blocked(true);
            assert_eq!(mailbox.put(Bytes::from_static(b"abc")), Delivery::Queued);
            assert_eq!(mailbox.put(Bytes::from_static(b"def")), Delivery::Queued);
            assert_eq!(mailbox.put(Bytes::from_static(b"ghi")), Delivery::TooSlow);
            assert_eq!(mailbox.take(), Mail::Overflowed);
            assert_eq!(mailbox.put(Bytes::from_static(b"x")), Delivery::TooSlow);
            assert_eq!(mailbox.lock().bytes, 0);
        }
    }

    #[test]
    fn an_empty_queue_takes_a_frame_of_any_size() {
        let mailbox = Mailbox::new(2, 4);
        assert_eq!(mailbox.put(Bytes::from_static(b"more than four")), Delivery::Crowded);
        assert_eq!(mailbox.put(Bytes::from_static(b"x")), Delivery::TooSlow);
    }
}
