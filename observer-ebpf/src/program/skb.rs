//! Reads what the kernel knows about a packet and its socket.
//!
//! Owns: access to the context. Must not know: what is done with the answers. Bounded by: single fields,
//! each read with its declared width, because the verifier refuses merged or shifted reads of a context.

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{
        bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_sk_fullsock,
        bpf_skb_cgroup_id,
    },
    programs::SkBuffContext,
};

const ETH_P_IP: u16 = 0x0800;
const IPPROTO_TCP: u8 = 6;
const IPV6_HEADER_BYTES: u32 = 40;
const TCP_FLAG_FIN: u8 = 0x01;
const TCP_FLAG_SYN: u8 = 0x02;
const TCP_FLAG_RST: u8 = 0x04;
const TCP_FLAG_URG: u8 = 0x20;

pub(super) struct Skb<'a> {
    context: &'a SkBuffContext,
    skb: *mut __sk_buff,
}

macro_rules! field {
    ($self:ident, $($field:tt)+) => {
        // SAFETY: the kernel passes a valid context, and the field is read as declared.
        unsafe { (&raw const (*$self.skb).$($field)+).read_volatile() }
    };
}

impl<'a> Skb<'a> {
    #[inline(always)]
    pub(super) fn new(context: &'a SkBuffContext) -> Self {
        Self { context, skb: context.as_ptr().cast() }
    }

    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *mut __sk_buff {
        self.skb
    }

    /// From the L3 header on; right also where the IP header says 0 (BIG TCP).
    #[inline(always)]
    pub(super) fn length(&self) -> u32 {
        field!(self, len)
    }

    #[inline(always)]
    pub(super) fn interface_index(&self) -> u32 {
        field!(self, ifindex)
    }

    #[inline(always)]
    pub(super) fn local_port(&self) -> u16 {
        field!(self, local_port) as u16
    }

    #[inline(always)]
    pub(super) fn remote_port(&self) -> u16 {
        u32::from_be(field!(self, remote_port)) as u16
    }

    /// IP version of the packet: the socket's family would say 6 for an IPv4 peer of a dual-stack socket.
    #[inline(always)]
    pub(super) fn family(&self) -> u8 {
        if field!(self, protocol) as u16 == ETH_P_IP.to_be() { 4 } else { 6 }
    }

    #[inline(always)]
    pub(super) fn local_address(&self, family: u8) -> [u8; 16] {
        let words = if family == 4 {
            [field!(self, local_ip4), 0, 0, 0]
        } else {
            [
                field!(self, local_ip6[0]),
                field!(self, local_ip6[1]),
                field!(self, local_ip6[2]),
                field!(self, local_ip6[3]),
            ]
        };
        address_bytes(words)
    }

    #[inline(always)]
    pub(super) fn remote_address(&self, family: u8) -> [u8; 16] {
        let words = if family == 4 {
            [field!(self, remote_ip4), 0, 0, 0]
        } else {
            [
                field!(self, remote_ip6[0]),
                field!(self, remote_ip6[1]),
                field!(self, remote_ip6[2]),
                field!(self, remote_ip6[3]),
            ]
        };
        address_bytes(words)
    }

    /// Listening and request sockets answer too: the hook passes the listener for both.
    #[inline(always)]
    pub(super) fn socket_protocol(&self) -> Option<u32> {
        let socket = field!(self, __bindgen_anon_2.sk);
        if socket.is_null() {
            return None;
        }
        // SAFETY: `socket` is the context's socket and not null.
        let socket = unsafe { bpf_sk_fullsock(socket) };
        if socket.is_null() {
            return None;
        }
        // SAFETY: the helper returned a socket.
        let protocol = unsafe { &raw const (*socket).protocol };
        // SAFETY: it is a field of that socket, read as declared.
        Some(unsafe { protocol.read_volatile() })
    }

    #[inline(always)]
    pub(super) fn socket_cookie(&self) -> u64 {
        // SAFETY: the helper takes this program's context.
        unsafe { bpf_get_socket_cookie(self.skb.cast()) }
    }

    #[inline(always)]
    pub(super) fn netns_cookie(&self) -> u64 {
        // SAFETY: the helper takes this program's context; the loader allows it only where it exists.
        unsafe { bpf_get_netns_cookie(self.skb.cast()) }
    }

    #[inline(always)]
    pub(super) fn cgroup_id(&self) -> u64 {
        // SAFETY: the helper takes this program's context.
        unsafe { bpf_skb_cgroup_id(self.skb) }
    }

    /// Source port of a RST of a connected socket, else 0. A socket that breaks its connection off gives its port back
    /// before it sends the RST, so that only the header tells it.
    #[inline(always)]
    pub(super) fn port_of_reset(&self) -> u16 {
        if self.remote_port() == 0 {
            // One that the kernel answers with for sockets that are gone.
            return 0;
        }
        let Some(tcp) = self.tcp_offset() else {
            return 0;
        };
        match (self.context.load::<[u8; 2]>(tcp), self.context.load::<u8>(tcp + 13)) {
            (Ok(port), Ok(flags)) if flags & TCP_FLAG_RST != 0 => u16::from_be_bytes(port),
            _ => 0,
        }
    }

    /// Where the TCP header begins, if it stands right behind the IP header.
    #[inline(always)]
    fn tcp_offset(&self) -> Option<usize> {
        let version_and_length = self.context.load::<u8>(0).ok()?;
        let (header_bytes, protocol) = match version_and_length >> 4 {
            4 => (u32::from(version_and_length & 0xf) * 4, self.context.load::<u8>(9)),
            6 => (IPV6_HEADER_BYTES, self.context.load::<u8>(6)),
            _ => return None,
        };
        (protocol == Ok(IPPROTO_TCP)).then_some(header_bytes as usize)
    }

    /// No payload, and no flag that means more than "I have read so far". What cannot be parsed is not one.
    #[inline(always)]
    pub(super) fn is_pure_acknowledgement(&self, packet_length: u32) -> bool {
        let Some(tcp) = self.tcp_offset() else {
            return false;
        };
        let Ok(data_offset) = self.context.load::<u8>(tcp + 12) else {
            return false;
        };
        let Ok(flags) = self.context.load::<u8>(tcp + 13) else {
            return false;
        };
        let tcp_bytes = u32::from(data_offset >> 4) * 4;
        packet_length == tcp as u32 + tcp_bytes
            && flags & (TCP_FLAG_SYN | TCP_FLAG_FIN | TCP_FLAG_RST | TCP_FLAG_URG) == 0
    }
}

#[inline(always)]
pub(super) fn boot_time_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

#[inline(always)]
fn address_bytes(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: both are 16 plain bytes; the words are in network order in memory already.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}
