//! The event: a header, then bytes of one packet from its L3 header on.
//!
//! Owns: the header's layout and how its addresses are read. Must not know: how events travel.
//! Bounded by: [`crate::PIECE_BYTES_MAX`] bytes of data in one event.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The packet was on its way to the socket.
pub const DIRECTION_INGRESS: u8 = 0;
/// The packet was sent by the socket.
pub const DIRECTION_EGRESS: u8 = 1;

/// Size of [`EventHeader`], where the packet's bytes begin.
pub const HEADER_BYTES: usize = size_of::<EventHeader>();

/// What the kernel knew about a packet. In the ring, `captured_length` bytes of the packet follow it.
///
/// A packet that is longer than one event's piece comes as several events with the same `packet_id`,
/// `socket_cookie` and `direction`, and rising `offset`. An event with `offset > 0` and no bytes says that
/// the rest of the packet, from `offset` on, was lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader {
    /// [`crate::ABI_VERSION`].
    pub abi_version: u16,
    /// [`DIRECTION_INGRESS`] or [`DIRECTION_EGRESS`], as the observed socket sees it.
    pub direction: u8,
    /// IP version of the packet: 4 or 6. A packet of an IPv4 client to a dual-stack socket has 4.
    pub family: u8,
    /// Index of the interface that the packet came in or goes out on, in the socket's network namespace.
    pub interface_index: u32,
    /// Unique together with `socket_cookie` and `direction`; the CPU is in the upper 16 bits.
    pub packet_id: u64,
    /// `CLOCK_BOOTTIME`. May step back between CPUs: the order in the ring is the order of events.
    pub boot_time_ns: u64,
    /// The socket. Packets of a TCP handshake may carry the cookie of the listening socket.
    pub socket_cookie: u64,
    /// The socket's network namespace; 0 where the kernel does not tell cgroup programs.
    pub netns_cookie: u64,
    /// Id of the cgroup v2 that the socket was created in.
    pub cgroup_id: u64,
    /// Packets lost wholly or in part on all CPUs, from attach until this event.
    pub losses: u64,
    /// Length of the whole packet from its L3 header on.
    pub packet_length: u32,
    /// Where in the packet this event's bytes begin.
    pub offset: u32,
    /// How many bytes of the packet this event carries.
    pub captured_length: u32,
    /// The socket's own port, which NAT may have hidden from the packet.
    pub local_port: u16,
    /// The port the socket is connected to; 0 for a listening socket.
    pub remote_port: u16,
    /// The socket's own address; IPv4 in the first four bytes. May be unspecified for a listening socket.
    pub local_address: [u8; 16],
    /// The address the socket is connected to; unspecified for a listening socket.
    pub remote_address: [u8; 16],
}

/// An event as it lies in the ring, in one of the size classes.
#[repr(C)]
pub struct Record<const CAPACITY_BYTES: usize> {
    /// What is known about the packet.
    pub header: EventHeader,
    /// The packet's bytes; only the first `captured_length` mean anything.
    pub data: [u8; CAPACITY_BYTES],
}

impl EventHeader {
    /// The observed socket's own address and port.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.ip_address(self.local_address), self.local_port)
    }

    /// Address and port of the observed socket's peer; unspecified for a listening socket.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.ip_address(self.remote_address), self.remote_port)
    }

    /// The CPU that saw the packet.
    #[must_use]
    pub const fn cpu(&self) -> u16 {
        (self.packet_id >> 48) as u16
    }

    fn ip_address(&self, bytes: [u8; 16]) -> IpAddr {
        if self.family == 4 {
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
    }
}

/// Evaluated on both sides, kernel included: a layout with implicit padding, or with a field moved, does
/// not compile.
const _: () = {
    assert!(size_of::<EventHeader>() == 104);
    assert!(align_of::<EventHeader>() == 8);
    assert!(core::mem::offset_of!(EventHeader, abi_version) == 0);
    assert!(core::mem::offset_of!(EventHeader, direction) == 2);
    assert!(core::mem::offset_of!(EventHeader, family) == 3);
    assert!(core::mem::offset_of!(EventHeader, interface_index) == 4);
    assert!(core::mem::offset_of!(EventHeader, packet_id) == 8);
    assert!(core::mem::offset_of!(EventHeader, boot_time_ns) == 16);
    assert!(core::mem::offset_of!(EventHeader, socket_cookie) == 24);
    assert!(core::mem::offset_of!(EventHeader, netns_cookie) == 32);
    assert!(core::mem::offset_of!(EventHeader, cgroup_id) == 40);
    assert!(core::mem::offset_of!(EventHeader, losses) == 48);
    assert!(core::mem::offset_of!(EventHeader, packet_length) == 56);
    assert!(core::mem::offset_of!(EventHeader, offset) == 60);
    assert!(core::mem::offset_of!(EventHeader, captured_length) == 64);
    assert!(core::mem::offset_of!(EventHeader, local_port) == 68);
    assert!(core::mem::offset_of!(EventHeader, remote_port) == 70);
    assert!(core::mem::offset_of!(EventHeader, local_address) == 72);
    assert!(core::mem::offset_of!(EventHeader, remote_address) == 88);
    assert!(core::mem::offset_of!(Record<208>, data) == 104);
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn header() -> EventHeader {
        EventHeader {
            abi_version: 0x0102,
            direction: 3,
            family: 4,
            interface_index: 0x0506_0708,
            packet_id: (7 << 48) | 0x1122,
            boot_time_ns: 2,
            socket_cookie: 3,
            netns_cookie: 4,
            cgroup_id: 5,
            losses: 6,
            packet_length: 7,
            offset: 8,
            captured_length: 9,
            local_port: 7272,
            remote_port: 40000,
            local_address: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            remote_address: [10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    #[test]
    fn the_header_is_104_bytes_with_every_field_where_the_kernel_writes_it() {
        let header = header();
        // SAFETY: EventHeader is repr(C) without padding (asserted above), so all its bytes are initialised.
        let bytes = unsafe {
            core::slice::from_raw_parts((&raw const header).cast::<u8>(), size_of::<EventHeader>())
        };
        assert_eq!(bytes.len(), 104);
        assert_eq!(bytes[0..2], 0x0102_u16.to_ne_bytes());
        assert_eq!(bytes[2], 3);
        assert_eq!(bytes[3], 4);
        assert_eq!(bytes[4..8], 0x0506_0708_u32.to_ne_bytes());
        assert_eq!(bytes[16..24], 2_u64.to_ne_bytes());
        assert_eq!(bytes[24..32], 3_u64.to_ne_bytes());
        assert_eq!(bytes[32..40], 4_u64.to_ne_bytes());
        assert_eq!(bytes[40..48], 5_u64.to_ne_bytes());
        assert_eq!(bytes[48..56], 6_u64.to_ne_bytes());
        assert_eq!(bytes[56..60], 7_u32.to_ne_bytes());
        assert_eq!(bytes[60..64], 8_u32.to_ne_bytes());
        assert_eq!(bytes[64..68], 9_u32.to_ne_bytes());
        assert_eq!(bytes[68..70], 7272_u16.to_ne_bytes());
        assert_eq!(bytes[70..72], 40000_u16.to_ne_bytes());
        assert_eq!(bytes[72..76], [127, 0, 0, 1]);
        assert_eq!(bytes[88..92], [10, 0, 0, 2]);
    }

    #[test]
    fn addresses_are_read_by_family() {
        use std::string::ToString as _;
        let mut header = header();
        assert_eq!(header.local().to_string(), "127.0.0.1:7272");
        assert_eq!(header.remote().to_string(), "10.0.0.2:40000");
        assert_eq!(header.cpu(), 7);
        header.family = 6;
        header.local_address = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(header.local().to_string(), "[::1]:7272");
    }
}
