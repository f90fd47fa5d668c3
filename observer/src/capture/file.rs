//! Capture files: bytes of pcap or pcapng in, packets out.
//!
//! Owns the two formats' framing, times and interfaces. Must not know where bytes come from, nor what is in a packet
//! behind its link header. Bounded: holds one record at a time, of at most [`RECORD_BYTES_MAX`], and describes at most
//! [`INTERFACES_MAX`] interfaces a section, with names of at most [`INTERFACE_NAME_BYTES_MAX`].
//!
//! pcap-parser reads the records. Its own readers stop or spin on short reads, so bytes are pushed in here as they come
//! and a record is parsed once it is whole: a packet of a pipe is there as soon as its last byte is.

use std::fmt;

use observer_core::link::LinkType;
use pcap_parser::{Block, LegacyPcapBlock, OptionCode, PcapNGOption};

/// The longest record that is believed. Captures have up to 256 KiB, and 512 KiB with the largest of jumbo packets.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Interfaces of one section. Packets of further ones are counted as not understood.
pub const INTERFACES_MAX: usize = 65_536;

/// Bytes that are kept of an interface's name. Linux has names of 15, Windows of 50.
pub const INTERFACE_NAME_BYTES_MAX: usize = 256;

const PCAP_HEADER_BYTES: usize = 24;
const PCAP_RECORD_HEADER_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 12;
/// The same in both byte orders.
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Options of statistics: packets that the interface, and that the operating system, dropped since the capture began.
const DROPPED: [u16; 2] = [5, 7];

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A packet with its link header.
    Packet(FilePacket<'a>),
    /// A packet on an interface whose link type is not understood.
    UnknownLink {
        /// The number of the link type.
        number: u32,
    },
    /// A packet in a block of a kind that was given up before 2010, which is not understood.
    ObsoletePacket,
    /// Whoever captured says that packets were dropped before they could be captured.
    Dropped {
        /// How many, beside those that were told of before.
        packets: u64,
    },
}

/// A packet as a file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePacket<'a> {
    /// Nanoseconds since 1970.
    pub unix_nanoseconds: u64,
    /// How its bytes begin.
    pub link: LinkType,
    /// From the link header on, as far as captured.
    pub data: &'a [u8],
    /// Length of the whole, link header included.
    pub length: u32,
    /// Number of its interface within the file, all sections counted through.
    pub interface: u32,
    /// The interface's name, where the file has it.
    pub interface_name: Option<&'a str>,
}

/// Why a file cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// Not a capture. Nothing was read.
    NotACapture(&'static str),
    /// All its packets have a link type that is not understood. Nothing was read.
    UnknownLink(u32),
    /// A record makes no sense. All before it was read.
    Damaged(&'static str),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACapture(what) => f.write_str(what),
            Self::UnknownLink(number) => {
                write!(
                    f,
                    "its packets have the link type {}, which is not understood; understood are {}",
                    link_type_name(*number),
                    LinkType::UNDERSTOOD
                )
            }
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for FileError {}

/// A link type's number, with its name where users may meet it.
pub fn link_type_name(number: u32) -> String {
    let name = match number {
        6 => "token ring",
        9 => "PPP",
        10 => "FDDI",
        50 | 51 => "PPP over serial line or Ethernet",
        105 => "802.11 wireless",
        127 => "802.11 wireless with radiotap",
        147..=162 => "private use",
        187 | 201 => "Bluetooth",
        189 | 220 | 249 => "USB",
        195 | 230 => "802.15.4",
        227 => "CAN",
        239 => "netfilter log",
        252 => "Wireshark's exported PDUs",
        253 => "netlink",
        _ => return number.to_string(),
    };
    format!("{number} ({name})")
}

/// Takes a file's bytes in pieces of any size.
#[derive(Debug, Default)]
pub struct FileReader {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that were used.
    used: usize,
    format: Option<Format>,
    read_anything: bool,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

#[derive(Debug)]
struct Pcap {
    big_endian: bool,
    nanoseconds: bool,
    link: LinkType,
}

#[derive(Debug, Default)]
struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Interfaces of earlier sections.
    interfaces_before: u32,
}

#[derive(Debug)]
struct Interface {
    link: Result<LinkType, u32>,
    name: Option<Box<str>>,
    resolution: Resolution,
    offset_seconds: i64,
    snap_length: u32,
    dropped: u64,
}

/// What one tick of a pcapng time stamp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resolution {
    binary: bool,
    exponent: u8,
}

impl FileReader {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the file. Call [`Self::next_item`] until it has no more before pushing again.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing of the file; `None` where more bytes are needed for it.
    ///
    /// # Errors
    /// Where the file cannot be read on. The reader must not be used further.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, FileError> {
        let format = match self.format.take() {
            Some(format) => format,
            None => match Format::recognise(&self.buffer)? {
                Some((format, length)) => {
                    self.used += length;
                    format
                }
                None => return Ok(None),
            },
        };
        let next = match self.format.insert(format) {
            Format::Pcap(pcap) => pcap.next(&self.buffer, &mut self.used),
            Format::PcapNg(pcapng) => pcapng.next(&self.buffer, &mut self.used),
        };
        self.read_anything |= matches!(next, Ok(Some(ref item)) if !matches!(item, Item::Dropped { .. }));
        next
    }

    /// Whether a packet was read.
    pub const fn has_read_anything(&self) -> bool {
        self.read_anything
    }

    /// Judges the end of the file, once [`Self::next_item`] has no more: whether it ends where a record does.
    ///
    /// # Errors
    /// Where it does not.
    pub fn end(&self) -> Result<(), FileError> {
        match (&self.format, self.buffer.len() - self.used) {
            (None, 0) => Err(FileError::NotACapture("it is empty, without even the header of a capture")),
            (None, _) => Err(FileError::NotACapture("it ends within the header of a capture")),
            (Some(_), 0) => Ok(()),
            (Some(_), _) => Err(FileError::Damaged("it ends in the middle of a record")),
        }
    }
}

impl Format {
    /// The format by the file's first bytes, and how many of them are its header.
    fn recognise(bytes: &[u8]) -> Result<Option<(Self, usize)>, FileError> {
        let Some(magic) = bytes.first_chunk::<4>() else { return Ok(None) };
        let (big_endian, nanoseconds) = match u32::from_le_bytes(*magic) {
            0xa1b2_c3d4 => (false, false),
            0xa1b2_3c4d => (false, true),
            0xd4c3_b2a1 => (true, false),
            0x4d3c_b2a1 => (true, true),
            _ if *magic == SECTION_HEADER => return Ok(Some((Self::PcapNg(PcapNg::default()), 0))),
            _ => return Err(FileError::NotACapture(what_else(magic))),
        };
        if bytes.len() < PCAP_HEADER_BYTES {
            return Ok(None);
        }
        let (_, header) = pcap_parser::parse_pcap_header(bytes)
            .map_err(|_| FileError::NotACapture("its header is damaged"))?;
        if header.version_major != 2 {
            return Err(FileError::NotACapture("it is a pcap file of a version other than 2"));
        }
        // The upper bits tell of frame check sequences.
        let number = header.network.0.cast_unsigned() & 0xffff;
        let link = LinkType::from_number(number).ok_or(FileError::UnknownLink(number))?;
        Ok(Some((Self::Pcap(Pcap { big_endian, nanoseconds, link }), PCAP_HEADER_BYTES)))
    }
}

/// What a file that is no capture is instead.
const fn what_else(magic: &[u8; 4]) -> &'static str {
    match magic {
        [0x1f, 0x8b, ..] => "it is compressed twice with gzip: unpack it first",
        [0x28, 0xb5, 0x2f, 0xfd] => "it is compressed with zstd: `zstd -dc FILE | observer read -`",
        [0xfd, b'7', b'z', b'X'] => "it is compressed with xz: `xz -dc FILE | observer read -`",
        [b'B', b'Z', b'h', _] => "it is compressed with bzip2: `bzip2 -dc FILE | observer read -`",
        [0x34, 0xcd, 0xb2, 0xa1] | [0xa1, 0xb2, 0xcd, 0x34] => {
            "it is a pcap file of Kuznetzov's patched libpcap: convert it with `editcap -F pcap`"
        }
        _ => "it is neither pcap nor pcapng, nor one of them compressed with gzip",
    }
}

impl Pcap {
    fn next<'a>(&self, buffer: &'a [u8], used: &mut usize) -> Result<Option<Item<'a>>, FileError> {
        let bytes = &buffer[*used..];
        let Some(header) = bytes.first_chunk::<PCAP_RECORD_HEADER_BYTES>() else { return Ok(None) };
        let length = PCAP_RECORD_HEADER_BYTES + checked_length(read_u32(self.big_endian, header, 8))?;
        if bytes.len() < length {
            return Ok(None);
        }
        let parse =
            if self.big_endian { pcap_parser::parse_pcap_frame_be } else { pcap_parser::parse_pcap_frame };
        let Ok((_, LegacyPcapBlock { ts_sec, ts_usec, origlen, data, .. })) = parse(&bytes[..length]) else {
            return Err(FileError::Damaged("a record in it is damaged"));
        };
        *used += length;
        let fraction = u64::from(ts_usec) * if self.nanoseconds { 1 } else { 1_000 };
        Ok(Some(Item::Packet(FilePacket {
            unix_nanoseconds: u64::from(ts_sec) * 1_000_000_000 + fraction,
            link: self.link,
            data,
            length: origlen,
            interface: 0,
            interface_name: None,
        })))
    }
}

impl PcapNg {
    fn next<'a>(&'a mut self, buffer: &'a [u8], used: &mut usize) -> Result<Option<Item<'a>>, FileError> {
        // First what changes the interfaces, so that a packet can borrow from them.
        let block = loop {
            let bytes = &buffer[*used..];
            let Some(header) = bytes.first_chunk::<BLOCK_HEADER_BYTES>() else { return Ok(None) };
            if header.starts_with(&SECTION_HEADER) {
                self.begin_section(header)?;
            }
            let length = checked_length(read_u32(self.big_endian, header, 4))?;
            if length < BLOCK_HEADER_BYTES || !length.is_multiple_of(4) {
                return Err(FileError::Damaged("a block in it has an impossible length"));
            }
            let Some(whole) = bytes.get(..length) else { return Ok(None) };
            match read_u32(self.big_endian, header, 0) {
                INTERFACE_DESCRIPTION | SIMPLE_PACKET | ENHANCED_PACKET => {}
                OBSOLETE_PACKET => {
                    *used += length;
                    return Ok(Some(Item::ObsoletePacket));
                }
                INTERFACE_STATISTICS => {
                    *used += length;
                    match self.newly_dropped(whole) {
                        Some(packets) if packets > 0 => return Ok(Some(Item::Dropped { packets })),
                        _ => continue,
                    }
                }
                // Sections, which have begun; names, secrets, comments, and what was invented since. They
                // change no packet, so that no damage in them can hide one.
                _ => {
                    *used += length;
                    continue;
                }
            }
            let parse =
                if self.big_endian { pcap_parser::parse_block_be } else { pcap_parser::parse_block_le };
            let Ok((_, block)) = parse(whole) else {
                return Err(FileError::Damaged("a block in it is damaged"));
            };
            *used += length;
            match block {
                Block::InterfaceDescription(description) => self.describe_interface(
                    u32::from(u16::try_from(description.linktype.0).unwrap_or(u16::MAX)),
                    description.snaplen,
                    &description.options,
                )?,
                _ => break block,
            }
        };
        let (index, ticks, captured, length, data) = match block {
            Block::EnhancedPacket(packet) => {
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                (packet.if_id, Some(ticks), packet.caplen, packet.origlen, packet.data)
            }
            Block::SimplePacket(packet) => (0, None, packet.origlen, packet.origlen, packet.data),
            _ => return Ok(None),
        };
        let Some(interface) = usize::try_from(index).ok().and_then(|index| self.interfaces.get(index)) else {
            return Err(FileError::Damaged("a packet in it is of an interface that is not described"));
        };
        let link = match interface.link {
            Ok(link) => link,
            Err(number) => return Ok(Some(Item::UnknownLink { number })),
        };
        let mut captured = usize::try_from(captured).unwrap_or(usize::MAX);
        if ticks.is_none() && interface.snap_length != 0 {
            captured = captured.min(usize::try_from(interface.snap_length).unwrap_or(usize::MAX));
        }
        Ok(Some(Item::Packet(FilePacket {
            // A simple packet has no time.
            unix_nanoseconds: ticks.map_or(0, |ticks| interface.nanoseconds(ticks)),
            link,
            // What is behind the captured bytes is padding.
            data: data.get(..captured).unwrap_or(data),
            length,
            interface: self.interfaces_before.saturating_add(index),
            interface_name: interface.name.as_deref(),
        })))
    }

    fn begin_section(&mut self, header: &[u8; BLOCK_HEADER_BYTES]) -> Result<(), FileError> {
        self.big_endian = match read_u32(false, header, 8) {
            0x1a2b_3c4d => false,
            0x4d3c_2b1a => true,
            _ => return Err(FileError::Damaged("a section in it has an unknown byte order")),
        };
        let interfaces = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.interfaces_before = self.interfaces_before.saturating_add(interfaces);
        self.interfaces.clear();
        Ok(())
    }

    /// What statistics tell of packets that were dropped, beside what earlier ones told. Statistics that make no sense tell
    /// nothing.
    fn newly_dropped(&mut self, block: &[u8]) -> Option<u64> {
        let big_endian = self.big_endian;
        let u16 = |bytes: &[u8]| {
            let bytes = *bytes.first_chunk::<2>()?;
            Some(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
        };
        let number = read_u32(big_endian, block.get(8..)?.first_chunk::<4>()?, 0);
        let interface = self.interfaces.get_mut(usize::try_from(number).ok()?)?;
        // Behind the number and a time, and before the length once more.
        let mut options = block.get(20..block.len() - 4)?;
        let mut dropped = 0_u64;
        while let Some(code) = u16(options).filter(|code| *code != 0) {
            let length = usize::from(u16(options.get(2..)?)?);
            let value = options.get(4..4 + length)?;
            if let (true, Ok(value)) = (DROPPED.contains(&code), <[u8; 8]>::try_from(value)) {
                let value = if big_endian { u64::from_be_bytes(value) } else { u64::from_le_bytes(value) };
                dropped = dropped.saturating_add(value);
            }
            options = options.get(4 + length.next_multiple_of(4)..)?;
        }
        let before = interface.dropped;
        interface.dropped = before.max(dropped);
        Some(dropped.saturating_sub(before))
    }

    fn describe_interface(
        &mut self,
        number: u32,
        snap_length: u32,
        options: &[PcapNGOption<'_>],
    ) -> Result<(), FileError> {
        if self.interfaces.len() >= INTERFACES_MAX {
            return Err(FileError::Damaged("a section in it has more interfaces than any machine"));
        }
        let mut interface = Interface {
            link: LinkType::from_number(number).ok_or(number),
            name: None,
            resolution: Resolution::MICROSECONDS,
            offset_seconds: 0,
            snap_length,
            dropped: 0,
        };
        for option in options.iter().take_while(|option| option.code != OptionCode::EndOfOpt) {
            let value = option.as_bytes().map_err(|_| FileError::Damaged("an option in it is damaged"))?;
            match (option.code, value) {
                (OptionCode::IfName, name) => {
                    let kept = name.get(..INTERFACE_NAME_BYTES_MAX).unwrap_or(name);
                    interface.name = Some(String::from_utf8_lossy(kept).into());
                }
                (OptionCode::IfTsresol, &[resolution]) => {
                    interface.resolution = Resolution::from_option(resolution);
                }
                // pcap-parser reads this one as little-endian in every file.
                (OptionCode::IfTsoffset, offset) => {
                    if let Ok(bytes) = <[u8; 8]>::try_from(offset) {
                        interface.offset_seconds = if self.big_endian {
                            i64::from_be_bytes(bytes)
                        } else {
                            i64::from_le_bytes(bytes)
                        };
                    }
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }
}

impl Interface {
    fn nanoseconds(&self, ticks: u64) -> u64 {
        let nanoseconds = i128::from(self.resolution.nanoseconds(ticks))
            .saturating_add(i128::from(self.offset_seconds).saturating_mul(1_000_000_000));
        u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX)
    }
}

impl Resolution {
    const MICROSECONDS: Self = Self { binary: false, exponent: 6 };

    const fn from_option(value: u8) -> Self {
        Self { binary: value & 0x80 != 0, exponent: value & 0x7f }
    }

    fn nanoseconds(self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let nanoseconds = if self.binary {
            (ticks * 1_000_000_000).checked_shr(self.exponent.into()).unwrap_or(0)
        } else {
            match 10_u128.checked_pow(self.exponent.into()) {
                Some(per_second) => ticks * 1_000_000_000 / per_second,
                None => 0,
            }
        };
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}

fn checked_length(length: u32) -> Result<usize, FileError> {
    match usize::try_from(length) {
        Ok(length) if length <= RECORD_BYTES_MAX => Ok(length),
        _ => Err(FileError::Damaged("a record in it claims to be longer than any packet")),
    }
}

/// Four bytes at a place that is inside the array.
fn read_u32<const N: usize>(big_endian: bool, bytes: &[u8; N], at: usize) -> u32 {
    let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}
