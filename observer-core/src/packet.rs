//! One captured packet, as every kind of capture hands it over, and a connection of which none was captured yet.
//!
//! Owns the input types. Must not know how it was captured, nor what is inside. Bounded by the
//! capture: `data` is borrowed.

use std::net::SocketAddr;

use crate::record::Peer;
use crate::time::Time;

/// An IP packet, whole or cut, and what the capture knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it passed.
    pub time: Time,
    /// Its bytes from the IP header on, as far as captured.
    pub data: &'a [u8],
    /// Its length in bytes from the IP header on, as it was on the wire.
    pub length: u32,
    /// Whether the rest was lost by the capture, other than by a snap length.
    pub rest_lost: bool,
    /// The capture's number of the interface that it passed, for [`Event::Interface`](crate::Event::Interface).
    pub interface: Option<u32>,
    /// The socket that it belongs to, where the capture is attached to sockets.
    pub socket: Option<Socket>,
    /// Packets that the capture lost until now, a running total; 0 where it cannot tell.
    pub losses: u64,
}

/// The socket that a packet left or reached, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Unique among all sockets since boot. The packets of a handshake carry the listener's cookie.
    pub cookie: u64,
    /// Network namespace's cookie, where the kernel tells it.
    pub netns_cookie: Option<u64>,
    /// The socket's own address. A listener's may be unspecified.
    pub local: SocketAddr,
    /// The other end's address. A listener has none: unspecified, port 0.
    pub remote: SocketAddr,
    /// Which end of the connection this socket is.
    pub role: Peer,
    /// Whether the packet left the socket (`true`) or reached it.
    pub outgoing: bool,
}

/// A connection that was open before the capture began, as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExistingConnection {
    /// When it was known to be open. What was captured before is to be handed over before any packet or timeout of
    /// that time or later.
    pub time: Time,
    /// As in [`Socket::cookie`].
    pub cookie: u64,
    /// As in [`Socket::netns_cookie`].
    pub netns_cookie: Option<u64>,
    /// The socket's own address.
    pub local: SocketAddr,
    /// The other end's address.
    pub remote: SocketAddr,
    /// Which end of the connection this socket is.
    pub role: Peer,
    /// The end that has sent its FIN already, where one has: only the other one can still send.
    pub ended_by: Option<Peer>,
}
