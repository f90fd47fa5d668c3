//! The frame header (RFC 6455 §5.2).
//!
//! Owns its layout. Must not know what a frame means in its conversation. Bounded: a header has 14 bytes at most,
//! and the length that it claims allocates nothing.

use std::fmt;

/// The longest header: two bytes, a 64-bit length and a masking key.
pub const MAXIMUM_HEADER_LENGTH: usize = 14;

/// The longest payload of a control frame (RFC 6455 §5.5).
pub const MAXIMUM_CONTROL_LENGTH: u64 = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// 0: goes on with the message that was begun.
    Continuation,
    /// 1.
    Text,
    /// 2.
    Binary,
    /// 8.
    Close,
    /// 9.
    Ping,
    /// 10.
    Pong,
    /// 3–7 and 11–15, without a meaning in RFC 6455.
    Reserved(u8),
}

impl Opcode {
    /// From the low four bits of a frame's first byte; higher bits are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => Self::Reserved(other),
        }
    }

    /// The number on the wire, 0 to 15.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::Reserved(bits) => bits & 0x0f,
        }
    }

    /// Whether it is a control frame's: 8 and above (RFC 6455 §5.5), reserved ones included.
    pub const fn is_control(self) -> bool {
        self.bits() >= 8
    }

    /// The name in JSON and in text; a reserved opcode is called `reserved`, its number left to the reader's taste.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Reserved(_) => "reserved",
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(bits) => write!(f, "reserved ({bits})"),
            other => f.write_str(other.name()),
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// First reserved bit: permessage-deflate's (RFC 7692 §6).
    pub rsv1: bool,
    /// Second reserved bit.
    pub rsv2: bool,
    /// Third reserved bit.
    pub rsv3: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The masking key, where it is masked.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload behind the header.
    pub payload_length: u64,
    /// Bytes of the header itself.
    pub header_length: u8,
}

impl FrameHeader {
    /// Whether the length could have been written in fewer bytes, which RFC 6455 §5.2 forbids.
    pub const fn is_length_minimal(&self) -> bool {
        let length_bytes = self.header_length.saturating_sub(if self.mask.is_some() { 6 } else { 2 });
        match length_bytes {
            0 => true,
            2 => self.payload_length > 125,
            _ => self.payload_length > 0xffff,
        }
    }

    /// Bytes of the whole frame, header included; saturates for a length that no frame can have.
    pub const fn wire_length(&self) -> u64 {
        self.payload_length.saturating_add(self.header_length as u64)
    }
}

/// What [`parse`] makes of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole header; the payload begins [`FrameHeader::header_length`] bytes in. A non-minimal length and one
    /// with its highest bit set are taken as they are written.
    Header(FrameHeader),
    /// More bytes are needed.
    Incomplete,
}

/// Reads a header from the beginning of `bytes` (RFC 6455 §5.2). Every sequence of bytes is a header or the
/// beginning of one: whether it makes sense is for the caller to judge.
pub fn parse(bytes: &[u8]) -> Parsed {
    parse_header(bytes).map_or(Parsed::Incomplete, Parsed::Header)
}

fn parse_header(bytes: &[u8]) -> Option<FrameHeader> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (payload_length, rest, length_bytes) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*length)), rest, 2)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*length), rest, 8)
        }
        length => (u64::from(length), rest, 0),
    };
    let mask = if second & 0x80 == 0 { None } else { Some(*rest.first_chunk::<4>()?) };
    Some(FrameHeader {
        fin: first & 0x80 != 0,
        rsv1: first & 0x40 != 0,
        rsv2: first & 0x20 != 0,
        rsv3: first & 0x10 != 0,
        opcode: Opcode::from_bits(first),
        mask,
        payload_length,
        header_length: 2 + length_bytes + if mask.is_some() { 4 } else { 0 },
    })
}

/// Writes frames, right and wrong ones, for tests and fuzzers.
#[cfg(any(test, feature = "test-support"))]
pub mod encode {
    use super::Opcode;

    /// Which form a length is written in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LengthForm {
        /// As RFC 6455 §5.2 demands.
        Shortest,
        /// 16 bits, however small; larger lengths are cut.
        Sixteen,
        /// 64 bits, however small.
        SixtyFour,
    }

    /// A frame to be written; its fields are public so that each can be made wrong.
    #[derive(Clone, Debug)]
    pub struct FrameBuilder {
        /// The last frame of its message.
        pub fin: bool,
        /// The reserved bits, in the low three bits: 4, 2 and 1 for RSV1, RSV2 and RSV3.
        pub rsv: u8,
        /// What it is.
        pub opcode: Opcode,
        /// The masking key, where it is to be masked.
        pub mask: Option<[u8; 4]>,
        /// Application bytes.
        pub payload: Vec<u8>,
        /// The length to claim; `None` for that of the payload.
        pub claimed_length: Option<u64>,
        /// How to write the length.
        pub length_form: LengthForm,
    }

    impl FrameBuilder {
        /// A whole, unmasked frame without reserved bits.
        pub fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
            Self {
                fin: true,
                rsv: 0,
                opcode,
                mask: None,
                payload: payload.into(),
                claimed_length: None,
                length_form: LengthForm::Shortest,
            }
        }

        /// The same without FIN.
        #[must_use]
        pub fn fragment(mut self) -> Self {
            self.fin = false;
            self
        }

        /// The same with a mask.
        #[must_use]
        pub fn masked(mut self, key: [u8; 4]) -> Self {
            self.mask = Some(key);
            self
        }

        /// The same with reserved bits: 4, 2 and 1 for RSV1, RSV2 and RSV3.
        #[must_use]
        pub fn reserved_bits(mut self, rsv: u8) -> Self {
            self.rsv = rsv;
            self
        }

        /// The same with another claimed length.
        #[must_use]
        pub fn claiming(mut self, length: u64) -> Self {
            self.claimed_length = Some(length);
            self
        }

        /// The same with its length written in a given form.
        #[must_use]
        pub fn length_form(mut self, form: LengthForm) -> Self {
            self.length_form = form;
            self
        }

        /// The bytes on the wire.
        pub fn build(&self) -> Vec<u8> {
            let length = self.claimed_length.unwrap_or(self.payload.len() as u64);
            let mut bytes = vec![u8::from(self.fin) << 7 | (self.rsv & 7) << 4 | self.opcode.bits()];
            let mask_bit = u8::from(self.mask.is_some()) << 7;
            match self.length_form {
                LengthForm::Shortest if length <= 125 => bytes.push(mask_bit | length as u8),
                LengthForm::Sixteen | LengthForm::Shortest
                    if length <= 0xffff || self.length_form == LengthForm::Sixteen =>
                {
                    bytes.push(mask_bit | 126);
                    bytes.extend_from_slice(&(length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(mask_bit | 127);
                    bytes.extend_from_slice(&length.to_be_bytes());
                }
            }
            match self.mask {
                None => bytes.extend_from_slice(&self.payload),
                Some(key) => {
                    bytes.extend_from_slice(&key);
                    bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
                }
            }
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::encode::{FrameBuilder, LengthForm};
    use super::*;
    use proptest::prelude::*;

    fn header_of(bytes: &[u8]) -> FrameHeader {
        match parse(bytes) {
            Parsed::Header(header) => header,
            Parsed::Incomplete => panic!("incomplete: {bytes:02x?}"),
        }
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7_are_read() {
        let unmasked = header_of(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert!(unmasked.fin && unmasked.opcode == Opcode::Text && unmasked.mask.is_none());
        assert_eq!((unmasked.payload_length, unmasked.header_length), (5, 2));

        let masked = header_of(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(masked.mask, Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!((masked.payload_length, masked.header_length), (5, 6));

        let fragment = header_of(&[0x01, 0x03, 0x48, 0x65, 0x6c]);
        assert!(!fragment.fin);

        let sixteen = header_of(&[0x82, 0x7e, 0x01, 0x00]);
        assert_eq!((sixteen.payload_length, sixteen.header_length), (256, 4));

        let sixty_four = header_of(&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!((sixty_four.payload_length, sixty_four.header_length), (65_536, 10));
    }

    #[test]
    fn every_opcode_keeps_its_number_and_only_8_to_15_are_control() {
        for bits in 0..16 {
            assert_eq!(Opcode::from_bits(bits).bits(), bits);
            assert_eq!(Opcode::from_bits(bits).is_control(), bits >= 8);
        }
    }

    #[test]
    fn a_length_in_more_bytes_than_needed_is_not_minimal() {
        for (length, form, minimal) in [
            (125, LengthForm::Shortest, true),
            (125, LengthForm::Sixteen, false),
            (126, LengthForm::Sixteen, true),
            (65_535, LengthForm::SixtyFour, false),
            (65_536, LengthForm::SixtyFour, true),
        ] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut frame = FrameBuilder::new(Opcode::Binary, "").claiming(length).length_form(form);
                frame.mask = mask;
                assert_eq!(header_of(&frame.build()).is_length_minimal(), minimal, "{length} {form:?}");
            }
        }
    }

    #[test]
    fn a_length_of_all_ones_is_read_and_saturates() {
        let header = header_of(&FrameBuilder::new(Opcode::Binary, "").claiming(u64::MAX).build());
        assert_eq!(header.payload_length, u64::MAX);
        assert_eq!(header.wire_length(), u64::MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            fin: bool, rsv in 0u8..8, opcode in 0u8..16, mask: Option<[u8; 4]>,
            length in prop_oneof![0u64..300, 65_000u64..66_000, any::<u64>()],
        ) {
            let mut frame = FrameBuilder::new(Opcode::from_bits(opcode), "").reserved_bits(rsv).claiming(length);
            frame.fin = fin;
            frame.mask = mask;
            let bytes = frame.build();
            let header = header_of(&bytes);
            prop_assert_eq!(usize::from(header.header_length), bytes.len());
            prop_assert_eq!(header, FrameHeader {
                fin,
                rsv1: rsv & 4 != 0,
                rsv2: rsv & 2 != 0,
                rsv3: rsv & 1 != 0,
                opcode: Opcode::from_bits(opcode),
                mask,
                payload_length: length,
                header_length: bytes.len() as u8,
            });
            prop_assert!(header.is_length_minimal());
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Parsed::Incomplete);
            }
        }
    }
}
