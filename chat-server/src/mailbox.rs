//! Owns the queue of frames that wait for one client, and decides when that client is too slow.
//!
//! Must not know who queued the frames. Bounded in messages and in bytes, and together with all others by the budget;
//! the frame that does not fit empties the queue for good, and the owner is told to end the connection. Putting a frame
//! in never waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::budget::Budget;

/// The queue; shared by the hub, which fills it, and the connection, which empties it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    max_messages: usize,
    max_bytes: usize,
    budget: Arc<Budget>,
    queue: Mutex<Queue>,
    filled: Notify,
    blocked: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Waiting>,
    /// What counts towards the bound.
    bytes: usize,
    overflowed: bool,
}

#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    /// How much of it counts towards the queue's bytes.
    counted_bytes: usize,
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
    pub(crate) fn new(max_messages: usize, max_bytes: usize, budget: Arc<Budget>) -> Self {
        Self {
            max_messages,
            max_bytes,
            budget,
            queue: Mutex::default(),
            filled: Notify::new(),
            blocked: AtomicBool::new(false),
        }
    }

    /// Queues an encoded frame. A queue in which nothing counts takes a frame of any size.
    pub(crate) fn put(&self, frame: Bytes) -> Delivery {
        // A socket that takes bytes will have them soon; dropping its queue would gain nothing.
        let is_shed = self.blocked.load(Ordering::Relaxed) && self.budget.is_exceeded();
        self.queue(Waiting { counted_bytes: frame.len(), frame }, is_shed)
    }

    /// Queues the answer to a login, which does not count towards the queue's bytes: its length is the others' doing,
    /// and it comes once.
    pub(crate) fn put_user_list(&self, frame: Bytes) -> Delivery {
        self.queue(Waiting { counted_bytes: 0, frame }, self.budget.is_exceeded())
    }

    fn queue(&self, waiting: Waiting, is_shed: bool) -> Delivery {
        let mut queue = self.lock();
        if queue.overflowed {
            return Delivery::TooSlow;
        }
        let bytes = queue.bytes + waiting.counted_bytes;
        let is_full = queue.frames.len() >= self.max_messages || (bytes > self.max_bytes && queue.bytes > 0);
        if is_full || is_shed {
            *queue = Queue { overflowed: true, ..Queue::default() };
            drop(queue);
            if !is_full {
                self.budget.queues_dropped.increment();
            }
            self.filled.notify_one();
            return Delivery::TooSlow;
        }
        queue.frames.push_back(waiting);
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
        let Some(Waiting { frame, counted_bytes }) = queue.frames.pop_front() else { return Mail::Empty };
        queue.bytes -= counted_bytes;
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

    fn mailbox(max_messages: usize, max_bytes: usize) -> Mailbox {
        Mailbox::new(max_messages, max_bytes, Arc::new(Budget::new(usize::MAX)))
    }

    #[test]
    fn frames_come_out_in_the_order_in_which_they_went_in() {
        let mailbox = mailbox(4, 100);
        assert_eq!(mailbox.take(), Mail::Empty);
        assert_eq!(mailbox.put(Bytes::from_static(b"a")), Delivery::Queued);
        assert_eq!(mailbox.put(Bytes::from_static(b"b")), Delivery::Crowded);
        assert_eq!(mailbox.take(), Mail::Frame(Bytes::from_static(b"a")));
        assert_eq!(mailbox.take(), Mail::Frame(Bytes::from_static(b"b")));
        assert_eq!(mailbox.take(), Mail::Empty);
    }

    #[test]
    fn the_frame_beyond_the_bound_empties_the_queue_for_good() {
        for mailbox in [mailbox(2, 1000), mailbox(1000, 7)] {
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
        let mailbox = mailbox(2, 4);
        assert_eq!(mailbox.put(Bytes::from_static(b"more than four")), Delivery::Crowded);
        assert_eq!(mailbox.put(Bytes::from_static(b"x")), Delivery::TooSlow);
    }

    #[test]
    fn a_user_list_leaves_the_rest_of_the_queue_its_bytes() {
        let mailbox = mailbox(6, 8);
        assert_eq!(mailbox.put(Bytes::from_static(b"ab")), Delivery::Queued);
        assert_eq!(mailbox.put_user_list(Bytes::from_static(b"more than eight")), Delivery::Queued);
        mailbox.set_blocked(true);
        assert_eq!(mailbox.put(Bytes::from_static(b"cdefgh")), Delivery::Queued);
        for expected in [&b"ab"[..], b"more than eight", b"cdefgh"] {
            assert_eq!(mailbox.take(), Mail::Frame(Bytes::from_static(expected)));
        }
        assert_eq!(mailbox.lock().bytes, 0);
    }

    #[test]
    fn over_the_budget_only_a_client_whose_socket_takes_bytes_gets_more_and_nobody_a_list() {
        let budget = Arc::new(Budget::new(100));
        let mailbox = || Mailbox::new(1000, 1000, Arc::clone(&budget));
        let (stuck, reading, newcomer) = (mailbox(), mailbox(), mailbox());
        stuck.set_blocked(true);
        assert_eq!(stuck.put(budget.frame(&[b'x'; 90])), Delivery::Queued);
        assert_eq!(reading.put(budget.frame(&[b'x'; 20])), Delivery::Queued);
        assert!(budget.is_exceeded());
        assert_eq!(reading.put(budget.frame(b"1")), Delivery::Queued);
        assert_eq!(newcomer.put_user_list(budget.frame(b"2")), Delivery::TooSlow);
        assert_eq!(stuck.put(budget.frame(b"3")), Delivery::TooSlow);
        assert!(!budget.is_exceeded());
        assert_eq!(budget.queues_dropped.get(), 2);
    }
}
