//! Every bound of the engine in one place.
//!
//! Owns the numbers and what is shed when each is reached. Must not know how a bound is enforced. Whatever a peer
//! can make grow has its entry here; [`Limit`] names each for the counters of the summary.
//!
//! Of four totals half is kept free: what waits behind holes, what is not acknowledged, heads, and unfinished messages.
//! Beyond it the connection that has been idle longest of those that hold something gives that up, and goes on: a hole
//! becomes a gap, a message lacks what came of it, and a head is too long. So nobody keeps anything from others by
//! being silent. The directions of those who are not are held to their shares.

use crate::holders::Pool;

/// The bounds of one [`Engine`](crate::Engine). Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections tracked at once. Shed: the one that was idle longest, reported as closed with `how: evicted`; of
    /// those that were open before the capture began, further ones.
    pub connections: usize,
    /// Handshakes under way between the same two addresses: one in each of some network namespaces, and repeated
    /// attempts with new sequence numbers. Shed: the oldest, of those that the server has not answered if there are
    /// any, else of those that the client has not confirmed.
    pub handshakes_per_address: usize,
    /// Payload bytes held for one direction of one connection while a hole before them may still fill.
    /// Shed: the hole is given up and becomes a gap.
    pub reassembly_bytes: usize,
    /// Separate runs of bytes held likewise. Shed: as above.
    pub reassembly_runs: usize,
    /// The same bytes for all connections together. No direction may hold more than a sixteenth of what is left of
    /// them ([`Limits::SHARES`]), so that many who hold much never leave nothing for the next one.
    /// Shed: as above, for the direction that asks for more than its share.
    pub reassembly_total_bytes: usize,
    /// Payload bytes of one direction that were handed out and are not acknowledged, kept to be compared with other
    /// copies of them. Shed: the oldest; that another copy of these differs is not told.
    pub unacknowledged_bytes: usize,
    /// The same bytes for all connections together, in shares as above. Shed: as above.
    pub unacknowledged_total_bytes: usize,
    /// What SYNs carry, for all connections together, until it is known whether the receiver takes it. Shed: what a
    /// further SYN carries becomes a gap, if it turns out to be taken.
    pub syn_data_total_bytes: usize,
    /// An HTTP request or response head. Shed: the direction is reported as `head-too-long`, and what follows is
    /// decoded by its looks, if it looks like anything. Also a header block or settings of HTTP/2. Shed: the direction
    /// is not watched for WebSocket any longer.
    pub head_bytes: usize,
    /// The first message of a client that speaks TLS. Shed: the name of the server that it asks for is not told.
    pub client_hello_bytes: usize,
    /// Addresses that one header claims to be the client's, at least two. Shed: those between the first one and the
    /// last ones.
    pub claimed_addresses: usize,
    /// What a client may send behind its upgrade request before the answer was seen, and what it takes to keep it.
    /// Shed: the answer is not waited for any longer, and what the client sends is decoded by its looks.
    pub early_bytes: usize,
    /// Requests of one connection that wait for their answers. Shed: nothing is known of what the answers to
    /// further ones answer.
    pub pending_requests: usize,
    /// Heads in pieces, first messages of TLS and header blocks of HTTP/2 likewise, requests that wait for their
    /// answers, and what clients send ahead of these, of all connections together. Shed: as above, each in its way.
    pub head_total_bytes: usize,
    /// Payload kept of one message. Shed: what lies beyond is not kept, and named in `missing`.
    pub message_bytes: usize,
    /// Payload kept of unfinished messages of all connections together. No message may hold more than a sixteenth of
    /// what is left of it ([`Limits::SHARES`]): a few small compressed ones could fill it. Shed: as above.
    pub message_total_bytes: usize,
    /// Bytes that come out of one compressed message, kept or not. Shed: it is inflated no further, what lies beyond
    /// is missing, and so is what later messages copy from it.
    pub inflated_bytes: u64,
    /// What inflating takes, for all connections together: up to 40 KiB for each direction that has sent a compressed
    /// message and takes its context over. Shed: a further message is not decoded, and what later ones of its
    /// direction copy from it is missing. The last sixteenth is for directions that hold something already.
    pub inflate_total_bytes: usize,
    /// Holes named in one message. Shed: from the last one on, all is called missing.
    pub message_holes: usize,
    /// Pings of one direction that wait for their pongs, while frames are reported. Shed: the oldest; of a pong that
    /// answers it no round-trip time is told.
    pub pings: usize,
    /// Anomalies reported of one connection. Shed: further ones are counted, not shown.
    pub connection_anomalies: usize,
    /// Network interfaces whose name is kept. Shed: further ones have no name.
    pub interfaces: usize,
    /// Closed connections remembered so that late packets of theirs are not taken for new ones. Shed: the oldest.
    pub closed_connections: usize,
}

impl Limits {
    /// Into how many shares what is left of [`Limits::reassembly_total_bytes`], of
    /// [`Limits::unacknowledged_total_bytes`] and of [`Limits::message_total_bytes`] is cut: each direction may hold one. Of [`Limits::inflate_total_bytes`], one is for those that are there.
    pub const SHARES: usize = 16;

    /// What all connections may hold together.
    pub(crate) const fn total_bytes(&self, pool: Pool) -> usize {
        match pool {
            Pool::Reassembly => self.reassembly_total_bytes,
            Pool::Unacknowledged => self.unacknowledged_total_bytes,
            Pool::Heads => self.head_total_bytes,
            Pool::Messages => self.message_total_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 131_072,
            handshakes_per_address: 16,
            reassembly_bytes: 4 << 20,
            reassembly_runs: 1_024,
            reassembly_total_bytes: 256 << 20,
            unacknowledged_bytes: 4 << 20,
            unacknowledged_total_bytes: 64 << 20,
            syn_data_total_bytes: 4 << 20,
            head_bytes: 64 << 10,
            client_hello_bytes: 16 << 10,
            claimed_addresses: 8,
            early_bytes: 64 << 10,
            pending_requests: 32,
            head_total_bytes: 64 << 20,
            message_bytes: 16 << 20,
            message_total_bytes: 256 << 20,
            inflated_bytes: 64 << 20,
            inflate_total_bytes: 256 << 20,
            message_holes: 64,
            pings: 8,
            connection_anomalies: 256,
            interfaces: 1_024,
            closed_connections: 4_096,
        }
    }
}

/// The name of a bound that was reached, as the summary counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// [`Limits::connections`].
    Connections,
    /// [`Limits::handshakes_per_address`].
    Handshakes,
    /// [`Limits::reassembly_bytes`] or [`Limits::reassembly_runs`].
    Reassembly,
    /// [`Limits::reassembly_total_bytes`].
    ReassemblyTotal,
    /// [`Limits::unacknowledged_bytes`] or [`Limits::unacknowledged_total_bytes`].
    Unacknowledged,
    /// [`Limits::syn_data_total_bytes`].
    SynData,
    /// [`Limits::head_bytes`].
    Head,
    /// [`Limits::client_hello_bytes`].
    ClientHello,
    /// [`Limits::claimed_addresses`].
    ClaimedAddresses,
    /// [`Limits::early_bytes`].
    Early,
    /// [`Limits::pending_requests`].
    PendingRequests,
    /// [`Limits::head_total_bytes`].
    HeadTotal,
    /// [`Limits::message_bytes`].
    Message,
    /// [`Limits::message_total_bytes`].
    MessageTotal,
    /// [`Limits::inflated_bytes`].
    Inflated,
    /// [`Limits::inflate_total_bytes`].
    InflateTotal,
    /// [`Limits::message_holes`].
    MessageHoles,
    /// [`Limits::pings`].
    Pings,
    /// [`Limits::connection_anomalies`].
    ConnectionAnomalies,
    /// [`Limits::interfaces`].
    Interfaces,
}

impl Limit {
    /// Every limit, in the order of the summary.
    pub const ALL: [Self; 20] = [
        Self::Connections,
        Self::Handshakes,
        Self::Reassembly,
        Self::ReassemblyTotal,
        Self::Unacknowledged,
        Self::SynData,
        Self::Head,
        Self::ClientHello,
        Self::ClaimedAddresses,
        Self::Early,
        Self::PendingRequests,
        Self::HeadTotal,
        Self::Message,
        Self::MessageTotal,
        Self::Inflated,
        Self::InflateTotal,
        Self::MessageHoles,
        Self::Pings,
        Self::ConnectionAnomalies,
        Self::Interfaces,
    ];

    /// The name in the summary and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshakes => "handshakes_per_address",
            Self::Reassembly => "reassembly",
            Self::ReassemblyTotal => "reassembly_total",
            Self::Unacknowledged => "unacknowledged",
            Self::SynData => "syn_data",
            Self::Head => "head",
            Self::ClientHello => "client_hello",
            Self::ClaimedAddresses => "claimed_addresses",
            Self::Early => "early",
            Self::PendingRequests => "pending_requests",
            Self::HeadTotal => "head_total",
            Self::Message => "message",
            Self::MessageTotal => "message_total",
            Self::Inflated => "inflated",
            Self::InflateTotal => "inflate_total",
            Self::MessageHoles => "message_holes",
            Self::Pings => "pings",
            Self::ConnectionAnomalies => "connection_anomalies",
            Self::Interfaces => "interfaces",
        }
    }
}
