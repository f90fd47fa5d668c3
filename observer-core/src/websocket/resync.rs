//! Whether bytes look like frames, for a decoder that lost its place.
//!
//! Owns what is plausible and what proves it. Must not know what becomes of the answer. Bounded: one pass over the
//! bytes of one segment.
//!
//! A segment is *plausible* if, read as frames from its first byte (or from where the frame in progress ends) on,
//! every header that begins in it could have been sent in its direction: a defined opcode, no reserved bits but
//! those that an extension may use, the mask bit that the direction demands, a minimal length no longer than what
//! would be kept, control frames whole and short, fragments in order and not idle (neither empty nor without end),
//! close codes that may be sent, and text that is UTF-8. Random bytes pass for a header once in 57 times towards
//! either end, and for one that ends exactly with its segment about once in 10,000 times; what is taken for a frame
//! is shown only once the segment that completes it has passed as a whole.

use crate::record::Direction;
use crate::websocket::close;
use crate::websocket::frame::{
    self, FrameHeader, MAXIMUM_CONTROL_LENGTH, MAXIMUM_HEADER_LENGTH, Opcode, Parsed,
};
use crate::websocket::mask;

/// Known text that is long enough to tell it from chance.
pub(super) const SUPPORTING_TEXT_BYTES: usize = 8;

/// Whole frames in a row, with FIN set, that prove the place, together with [`PROVING_LANDINGS`].
const PROVING_FRAMES: u8 = 8;

/// Segments that ended exactly with a frame, likewise.
const PROVING_LANDINGS: u8 = 2;

/// How far the decoder's place is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// From the stream's first byte on, or by a long chain of frames.
    Proved,
    /// Found by looks.
    Unproved(Evidence),
}

/// What speaks for a place that was found by looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Whole frames since.
    frames: u8,
    /// Of these: with FIN. Structured binary data that is full of short lengths passes for fragments without.
    final_frames: u8,
    /// Segments, or gaps, that ended exactly with a frame.
    landings: u8,
}

impl Trust {
    /// Nothing is known yet.
    pub(super) fn none() -> Self {
        Self::Unproved(Evidence::default())
    }

    pub(super) const fn is_proved(self) -> bool {
        matches!(self, Self::Proved)
    }

    /// Whether any whole frame supports the place.
    pub(super) const fn has_frames(self) -> bool {
        match self {
            Self::Proved => true,
            Self::Unproved(evidence) => evidence.frames > 0,
        }
    }

    /// A whole frame came.
    pub(super) const fn handle_frame(&mut self, fin: bool) {
        if let Self::Unproved(evidence) = self {
            evidence.frames = evidence.frames.saturating_add(1);
            evidence.final_frames = evidence.final_frames.saturating_add(fin as u8);
        }
    }

    /// A segment or a gap was gone through, and ended exactly with a frame or not.
    pub(super) const fn handle_segment(&mut self, lands: bool) {
        if let Self::Unproved(evidence) = self {
            evidence.landings = evidence.landings.saturating_add(lands as u8);
            if evidence.final_frames >= PROVING_FRAMES && evidence.landings >= PROVING_LANDINGS {
                *self = Self::Proved;
            }
        }
    }
}

/// What a frame's header may look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation {
    pub direction: Direction,
    /// RSV1 may be set on the first frame of a message.
    pub compression: bool,
    /// Any reserved bit may be set.
    pub unknown_extension: bool,
    /// The longest payload that is believed.
    pub maximum_length: u64,
}

/// Where in the order of fragments (RFC 6455 §5.4) a frame comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nobody knows.
    Unknown,
    /// No message is unfinished.
    Between,
    /// A message is unfinished.
    Inside,
}

/// What a plausible segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Survey {
    /// Frames that lie whole in it.
    pub frames: u32,
    /// It ends exactly with a frame.
    pub lands: bool,
}

/// Reads `partial` (the beginning of a header) and `data` behind it as frames. `None` where they cannot be.
pub(super) fn survey(
    expectation: &Expectation,
    mut order: Order,
    partial: &[u8],
    data: &[u8],
    scratch: &mut Vec<u8>,
) -> Option<Survey> {
    let mut frames = 0u32;
    let mut rest = data;
    let mut partial = partial;
    loop {
        if rest.is_empty() && partial.is_empty() {
            return Some(Survey { frames, lands: true });
        }
        let (header, behind) = match read_header(partial, rest) {
            Ok(found) => found,
            Err(start) => {
                let lands = false;
                return is_start_plausible(expectation, order, start).then_some(Survey { frames, lands });
            }
        };
        partial = &[];
        if !is_header_plausible(expectation, order, &header) {
            return None;
        }
        order = match (header.opcode, header.fin) {
            (Opcode::Continuation | Opcode::Text | Opcode::Binary, true) => Order::Between,
            (Opcode::Continuation | Opcode::Text | Opcode::Binary, false) => Order::Inside,
            _ => order,
        };
        let length = usize::try_from(header.payload_length).unwrap_or(usize::MAX);
        let (payload, behind, whole) = match behind.split_at_checked(length) {
            Some((payload, behind)) => (payload, behind, true),
            None => (behind, Default::default(), false),
        };
        if !is_payload_plausible(&header, payload, whole, scratch) {
            return None;
        }
        if !whole {
            return Some(Survey { frames, lands: false });
        }
        frames = frames.saturating_add(1);
        rest = behind;
    }
}

/// The first two bytes of a header, as far as they are there.
type HeaderStart = (Option<u8>, Option<u8>);

/// A header and what is behind it, or the two bytes at most that are there of one.
fn read_header<'a>(partial: &[u8], data: &'a [u8]) -> Result<(FrameHeader, &'a [u8]), HeaderStart> {
    let mut joined = [0; MAXIMUM_HEADER_LENGTH];
    let mut length = 0;
    for (to, from) in joined.iter_mut().zip(partial.iter().chain(data)) {
        *to = *from;
        length += 1;
    }
    let bytes = joined.get(..length).unwrap_or_default();
    match frame::parse(bytes) {
        Parsed::Header(header) => {
            let from_data = usize::from(header.header_length).saturating_sub(partial.len());
            Ok((header, data.get(from_data..).unwrap_or_default()))
        }
        Parsed::Incomplete => Err((bytes.first().copied(), bytes.get(1).copied())),
    }
}

fn is_start_plausible(expectation: &Expectation, order: Order, (first, second): HeaderStart) -> bool {
    let Some(first) = first else { return true };
    let length = u64::from(second.unwrap_or(1) & 0x7f);
    let masked =
        second.map_or(expectation.direction == Direction::ClientToServer, |second| second & 0x80 != 0);
    is_header_plausible(
        expectation,
        order,
        &FrameHeader {
            fin: first & 0x80 != 0,
            rsv1: first & 0x40 != 0,
            rsv2: first & 0x20 != 0,
            rsv3: first & 0x10 != 0,
            opcode: Opcode::from_bits(first),
            mask: masked.then_some([0; 4]),
            payload_length: length,
            header_length: 0,
        },
    )
}

fn is_header_plausible(expectation: &Expectation, order: Order, header: &FrameHeader) -> bool {
    let starts = matches!(header.opcode, Opcode::Text | Opcode::Binary);
    if expectation.unknown_extension {
        // Any bit may be right.
    } else if header.rsv2 || header.rsv3 || (header.rsv1 && !(expectation.compression && starts)) {
        return false;
    }
    if header.mask.is_some() != (expectation.direction == Direction::ClientToServer) {
        return false;
    }
    if header.payload_length > expectation.maximum_length || !header.is_length_minimal() {
        return false;
    }
    match header.opcode {
        Opcode::Reserved(_) => false,
        Opcode::Close | Opcode::Ping | Opcode::Pong => {
            header.fin && header.payload_length <= MAXIMUM_CONTROL_LENGTH
        }
        Opcode::Continuation if order == Order::Between => false,
        Opcode::Text | Opcode::Binary if order == Order::Inside => false,
        // A run of zero bytes would otherwise pass for empty fragments.
        _ => header.fin || header.payload_length > 0,
    }
}

fn is_payload_plausible(header: &FrameHeader, payload: &[u8], whole: bool, scratch: &mut Vec<u8>) -> bool {
    let text = header.opcode == Opcode::Text && !header.rsv1 && !header.rsv2 && !header.rsv3;
    if !text && header.opcode != Opcode::Close {
        return true;
    }
    let payload = match header.mask {
        None => payload,
        Some(key) => {
            scratch.clear();
            mask::append_unmasked(key, 0, payload, scratch);
            scratch.as_slice()
        }
    };
    if text {
        return match str::from_utf8(payload) {
            Ok(_) => true,
            Err(error) => error.error_len().is_none() && !(whole && header.fin),
        };
    }
    close::parse(payload, whole).1 == [None, None]
}
