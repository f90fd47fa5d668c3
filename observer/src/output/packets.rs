//! TCP segments as `tcpdump -n` prints them, and bytes as its `-X` and `-A` do.
//!
//! Owns that layout, and the numbers that sequence numbers are relative to. Must not know what a segment carries.
//! Bounded: remembers `CONVERSATIONS_MAX` pairs of addresses; of those forgotten the numbers are shown as they are on
//! the wire again.
//!
//! Whoever knows tcpdump reads these lines without learning anything, so they follow it to the letter (4.99), where it
//! prints what is there. Left out is what it guesses from a port's number behind the length (HTTP on 80, and so on);
//! options that no TCP sends today, MPTCP and MD5 are shown as bytes, and the user time-out as RFC 5482 counts it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use observer_core::record::PacketSeen;
use observer_core::tcp::segment::{Flags, Segment};

use super::append::format;

/// Pairs of addresses whose first sequence numbers are remembered.
const CONVERSATIONS_MAX: usize = 65_536;

const BYTES_PER_LINE: usize = 16;

/// What sequence numbers are relative to, for each pair of addresses.
#[derive(Debug, Default)]
pub struct Conversations {
    origins: HashMap<Key, Origin>,
    in_order: VecDeque<Key>,
}

/// The network namespace, where it is known, the end with the lower port, and the other.
type Key = (u64, SocketAddr, SocketAddr);

#[derive(Clone, Copy, Debug)]
struct Origin {
    /// Of the end with the lower port.
    low: u32,
    high: u32,
}

/// How a segment's numbers are to be shown.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    sequence: u32,
    acknowledgment: u32,
    /// What selective acknowledgments are relative to.
    other_origin: u32,
}

impl Conversations {
    /// Takes note of a packet that is not shown: the numbers of later ones may be relative to its.
    pub fn pass_over(&mut self, packet: &PacketSeen<'_>) {
        self.numbers(&packet.segment, packet.scope);
    }

    fn numbers(&mut self, segment: &Segment<'_>, scope: u64) -> Numbers {
        let (sequence, acknowledgment) = (segment.sequence.0, segment.acknowledgment.0);
        if !segment.flags.ack() {
            return Numbers { sequence, acknowledgment, other_origin: 0 };
        }
        let (source, destination) = (segment.source, segment.destination);
        let order = |end: SocketAddr| (end.port(), end.ip());
        let from_high = order(source) > order(destination);
        let key = if from_high { (scope, destination, source) } else { (scope, source, destination) };
        let known = self.origins.get(&key).copied().filter(|_| !segment.flags.syn());
        if let Some(Origin { low, high }) = known {
            let (own, other) = if from_high { (high, low) } else { (low, high) };
            return Numbers {
                sequence: sequence.wrapping_sub(own),
                acknowledgment: acknowledgment.wrapping_sub(other),
                other_origin: other,
            };
        }
        let other = acknowledgment.wrapping_sub(1);
        let (low, high) = if from_high { (other, sequence) } else { (sequence, other) };
        self.remember(key, Origin { low, high });
        Numbers { sequence, acknowledgment, other_origin: other }
    }

    fn remember(&mut self, key: Key, origin: Origin) {
        if self.origins.insert(key, origin).is_none() {
            self.in_order.push_back(key);
        }
        if self.in_order.len() > CONVERSATIONS_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.origins.remove(&oldest);
        }
    }
}

/// What is shown of a packet's bytes behind its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// In hexadecimal and ASCII.
    pub hex: bool,
    /// In ASCII.
    pub ascii: bool,
}

impl Layout {
    /// Whether bytes are asked for at all.
    pub const fn shows_bytes(self) -> bool {
        self.hex || self.ascii
    }

    /// Writes bytes as asked for, behind a line end.
    pub fn write(self, out: &mut Vec<u8>, bytes: &[u8]) {
        if self.hex {
            write_hex_and_ascii(out, bytes);
        }
        if self.ascii {
            write_ascii(out, bytes);
        }
    }
}

/// Writes a packet's line, from `IP` on, and its bytes as asked for, without a line end behind.
pub fn write_packet(
    out: &mut Vec<u8>,
    packet: &PacketSeen<'_>,
    layout: Layout,
    conversations: &mut Conversations,
) {
    write_segment(out, &packet.segment, packet.scope, conversations);
    layout.write(out, packet.data);
}

/// Writes a segment's line, from `IP` on, without a line end. Segments of different `scope` have nothing to do with each
/// other.
fn write_segment(out: &mut Vec<u8>, segment: &Segment<'_>, scope: u64, conversations: &mut Conversations) {
    let Segment { source, destination, flags, window, payload_length, .. } = *segment;
    let numbers = conversations.numbers(segment, scope);
    let version = if source.is_ipv4() { "IP" } else { "IP6" };
    let (source_port, destination_port) = (source.port(), destination.port());
    format(out, format_args!("{version} {}.{source_port} > ", source.ip()));
    format(out, format_args!("{}.{destination_port}: Flags [{}]", destination.ip(), flag_letters(flags)));
    if payload_length > 0 || flags.syn() || flags.fin() || flags.rst() {
        format(out, format_args!(", seq {}", numbers.sequence));
        if payload_length > 0 {
            format(out, format_args!(":{}", numbers.sequence.wrapping_add(payload_length)));
        }
    }
    if flags.ack() {
        format(out, format_args!(", ack {}", numbers.acknowledgment));
    }
    format(out, format_args!(", win {window}"));
    if flags.urg() {
        format(out, format_args!(", urg {}", segment.urgent_pointer));
    }
    if !segment.options.is_empty() {
        format(out, format_args!(", options ["));
        if write_options(out, segment.options, numbers.other_origin).is_none() {
            // Nothing behind them can be trusted.
            format(out, format_args!("[bad opt]"));
            return;
        }
        format(out, format_args!("]"));
    }
    format(out, format_args!(", length {payload_length}"));
}

/// Control bits as tcpdump's letters.
pub fn flag_letters(flags: Flags) -> String {
    const LETTERS: [(u8, char); 8] = [
        (Flags::FIN, 'F'),
        (Flags::SYN, 'S'),
        (Flags::RST, 'R'),
        (Flags::PSH, 'P'),
        (Flags::ACK, '.'),
        (Flags::URG, 'U'),
        (Flags::ECE, 'E'),
        (Flags::CWR, 'W'),
    ];
    if flags.0 == 0 {
        return "none".to_owned();
    }
    LETTERS.iter().filter(|(bit, _)| flags.0 & bit != 0).map(|(_, letter)| letter).collect()
}

/// Writes TCP's options (RFC 9293 §3.2), or `None` where one is not whole.
fn write_options(out: &mut Vec<u8>, mut options: &[u8], other_origin: u32) -> Option<()> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    let mut first = true;
    while let [kind, rest @ ..] = options {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match *kind {
            END => {
                format(out, format_args!("eol"));
                return Some(());
            }
            NO_OPERATION => {
                format(out, format_args!("nop"));
                options = rest;
            }
            kind => {
                let (&length, rest) = rest.split_first()?;
                let (data, rest) = rest.split_at_checked(usize::from(length).checked_sub(2)?)?;
                write_option(out, kind, length, data, other_origin);
                options = rest;
            }
        }
    }
    Some(())
}

fn write_option(out: &mut Vec<u8>, kind: u8, length: u8, data: &[u8], other_origin: u32) {
    let name = match kind {
        2 => "mss",
        3 => "wscale",
        4 => "sackOK",
        5 => "sack",
        6 => "echo",
        7 => "echoreply",
        8 => "TS",
        11 => "cc",
        12 => "ccnew",
        19 => "md5",
        28 => "uto",
        29 => "tcp-ao",
        30 => "mptcp",
        34 => "tfo ",
        254 => "exp",
        _ => return format(out, format_args!("unknown-{kind}{}", Hexadecimal(" 0x", data))),
    };
    format(out, format_args!("{name}"));
    match (kind, data) {
        (2, &[high, low]) => format(out, format_args!(" {}", u16::from_be_bytes([high, low]))),
        (3, &[shift]) => format(out, format_args!(" {shift}")),
        (4, []) => {}
        (5, blocks) if blocks.len().is_multiple_of(8) => {
            format(out, format_args!(" {} ", blocks.len() / 8));
            for block in blocks.chunks_exact(8) {
                let edge = |at: usize| four(&block[at..]).wrapping_sub(other_origin);
                format(out, format_args!("{{{}:{}}}", edge(0), edge(4)));
            }
        }
        (5, _) => format(out, format_args!(" invalid sack")),
        (6 | 7 | 11 | 12, value) if value.len() == 4 => format(out, format_args!(" {}", four(value))),
        (8, stamps) if stamps.len() == 8 => {
            format(out, format_args!(" val {} ecr {}", four(stamps), four(&stamps[4..])));
        }
        (28, &[high, low]) => {
            let value = u16::from_be_bytes([high, low]);
            let seconds = u32::from(value & 0x7fff) * if value & 0x8000 == 0 { 1 } else { 60 };
            format(out, format_args!(" 0x{value:x} {seconds}"));
        }
        (29, [key, next_key, mac @ ..]) => {
            format(out, format_args!(" keyid {key} rnextkeyid {next_key}{}", Hexadecimal(" mac 0x", mac)));
        }
        (34, []) => format(out, format_args!(" cookiereq")),
        (34, cookie) => format(out, format_args!("{}", Hexadecimal(" cookie ", cookie))),
        (254, [0xf9, 0x89]) => format(out, format_args!("-tfo cookiereq")),
        (254, [0xf9, 0x89, cookie @ ..]) => {
            format(out, format_args!("-tfo{}", Hexadecimal(" cookie ", cookie)));
        }
        (19 | 30 | 254, data) => format(out, format_args!("{}", Hexadecimal(" 0x", data))),
        // Of a length that the option cannot have.
        (_, data) => format(out, format_args!("{}[len {length}]", Hexadecimal(" 0x", data))),
    }
}

fn four(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Digits behind a word; nothing where there are no bytes.
struct Hexadecimal<'a>(&'a str, &'a [u8]);

impl std::fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.1.is_empty() {
            f.write_str(self.0)?;
        }
        self.1.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes bytes as `tcpdump -X` does: lines of an offset, hexadecimal in pairs and what of it is ASCII, each behind a
/// line end.
fn write_hex_and_ascii(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEXADECIMAL_WIDTH: usize = BYTES_PER_LINE / 2 * 5;
    for (line, chunk) in bytes.chunks(BYTES_PER_LINE).enumerate() {
        format(out, format_args!("\n\t0x{:04x}: ", line * BYTES_PER_LINE));
        let begin = out.len();
        for pair in chunk.chunks(2) {
            out.push(b' ');
            format(out, format_args!("{}", Hexadecimal("", pair)));
        }
        out.resize(begin + HEXADECIMAL_WIDTH, b' ');
        out.extend(b"  ");
        out.extend(chunk.iter().map(|byte| if byte.is_ascii_graphic() { *byte } else { b'.' }));
    }
}

/// Writes bytes as `tcpdump -A` does, behind a line end: what is ASCII, tabs and line ends included, and dots.
fn write_ascii(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'\n');
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            // tcpdump prints no dot for one before a line end, nor for one of the last two bytes.
            b'\r' if bytes.len() - index <= 2 || bytes.get(index + 1) == Some(&b'\n') => {}
            b'\t' | b'\n' | b' '..=b'~' => out.push(byte),
            _ => out.push(b'.'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriage_returns_are_dots_only_where_tcpdump_makes_them_dots() {
        for (bytes, shown) in
            [("A\r", "A"), ("A\rB", "AB"), ("A\rBC", "A.BC"), ("A\r\r", "A"), ("A\r\nB", "A\nB")]
        {
            let mut out = Vec::new();
            write_ascii(&mut out, bytes.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), format!("\n{shown}"), "{bytes:?}");
        }
    }

    #[test]
    fn only_so_many_conversations_are_remembered() {
        let mut conversations = Conversations::default();
        for scope in 0..CONVERSATIONS_MAX as u64 + 10 {
            let origin = Origin { low: 0, high: 0 };
            let end = SocketAddr::from(([127, 0, 0, 1], 1));
            conversations.remember((scope, end, end), origin);
        }
        assert_eq!(conversations.origins.len(), CONVERSATIONS_MAX);
        assert_eq!(conversations.in_order.len(), CONVERSATIONS_MAX);
    }
}
