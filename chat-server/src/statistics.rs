//! Owns the counters of what the server did and what it shed.
//!
//! Must not know why something was counted. Fixed size; every counter wraps only after 2^64 events.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// Counters of a running server.
        #[derive(Debug, Default)]
        pub(crate) struct Statistics { $(pub(crate) $name: Counter,)* }

        /// What a server did from start to stop.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Summary { $($(#[$documentation])* pub $name: u64,)* }

        impl Statistics {
            pub(crate) fn summary(&self) -> Summary {
                Summary { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// TCP connections taken from the listeners.
    connections_accepted,
    /// Connections answered with 503, or dropped, because of `max_connections`.
    connections_refused,
    /// Times that a listener could not accept, for example for want of file descriptors.
    accept_failures,
    /// Requests answered with something else than an upgrade.
    requests_answered,
    /// Requests of pages that may not use this server, answered with 403.
    origins_refused,
    /// Connections that did not finish their HTTP request in time.
    handshakes_timed_out,
    /// Upgrades to the chat.
    chat_connections,
    /// Upgrades to `/echo`.
    echo_connections,
    /// Logins to the chat.
    logins,
    /// Text and binary messages received whole, on both paths.
    messages_received,
    /// Messages put into clients' queues; one broadcast counts once per recipient.
    messages_queued,
    /// `{"type":"error"}` answers.
    errors_sent,
    /// Clients closed because their queue, or all queues together, were full.
    slow_readers_dropped,
    /// Queues dropped because all queues together were full.
    queues_dropped_for_total,
    /// Clients closed because they did not answer the heartbeat.
    silent_clients_dropped,
    /// Connections closed because of a breach of RFC 6455 or of a size limit.
    violations,
    /// Connections that ended without a close handshake, or did not finish it in time.
    abrupt_ends,
    /// TCP connections taken from the page's listeners.
    page_connections_accepted,
    /// Those of them that were answered with 503, or dropped, because of `max_page_connections`.
    page_connections_refused,
    /// Requests to the page's port that were answered, with whatever status.
    page_requests_answered,
    /// Connections to the page's port whose request was not answered in time.
    page_requests_timed_out,
    /// Log lines that were not written because there were too many of them.
    log_lines_dropped,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }
}
