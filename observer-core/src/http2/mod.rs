//! HTTP/2, as far as it tells whether a connection carries WebSocket (RFC 8441).
//!
//! Owns the stepping from frame to frame of one direction, up to the first sign. Must not know HTTP/1, nor records; it
//! decodes no request, and no WebSocket. Bounded by the caller, who says how much of a header block or of settings may
//! be kept.

mod hpack;

use crate::limits::Limit;
use crate::record::Direction;

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_LENGTH: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
/// Flags of a HEADERS frame (RFC 9113 §6.2).
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 8441 §3), and a value of 1.
const ENABLES_CONNECT_PROTOCOL: &[u8] = &[0, 8, 0, 0, 0, 1];

/// How far a [`Watcher`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was found so far.
    Nothing,
    /// The server lets clients ask for WebSockets.
    Allowed,
    /// The client asks for a WebSocket on this stream.
    Asked(u32),
    /// It is no HTTP/2.
    Lost,
    /// A bound was reached.
    Limit(Limit),
}

/// Whether the first bytes of a server look like its first frame, settings (RFC 9113 §3.4); `None` where more of them
/// are needed. There are few settings: a length of one byte will do.
pub fn looks_like_settings(bytes: &[u8]) -> Option<bool> {
    let expected = [Some(0), Some(0), None, Some(SETTINGS), Some(0), Some(0), Some(0), Some(0), Some(0)];
    let fits = bytes.iter().zip(expected).all(|(byte, expected)| match expected {
        Some(expected) => *byte == expected,
        None => byte % 6 == 0,
    });
    if fits && bytes.len() < FRAME_HEADER_LENGTH { None } else { Some(fits) }
}

/// Watches one direction for the first sign of WebSocket.
#[derive(Debug)]
pub struct Watcher {
    direction: Direction,
    /// What is still to come of the client's preface.
    preface: &'static [u8],
    header: Vec<u8>,
    payload_left: usize,
    /// The current frame, where it is looked into.
    frame: Option<Frame>,
    /// The header block or the settings, as far as they came.
    kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Watcher {
    /// A watcher at a direction's first byte, or behind so many bytes of the client's preface.
    pub fn new(direction: Direction, preface_taken: usize) -> Self {
        let preface = match direction {
            Direction::ClientToServer => PREFACE.get(preface_taken..).unwrap_or_default(),
            Direction::ServerToClient => &[],
        };
        Self { direction, preface, header: Vec::new(), payload_left: 0, frame: None, kept: Vec::new() }
    }

    /// Bytes allocated for what is kept.
    pub const fn held_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Takes the next bytes. `limit` is the longest header block that is looked into in bytes, `room` what may be
    /// allocated. After anything but `Nothing` there is nothing more to watch.
    pub fn handle_data(&mut self, data: &[u8], limit: usize, room: usize) -> Progress {
        let length = self.preface.len().min(data.len());
        let (preface, mut data) = data.split_at_checked(length).unwrap_or_default();
        let Some(preface_left) = self.preface.strip_prefix(preface) else { return Progress::Lost };
        self.preface = preface_left;
        loop {
            if self.header.len() < FRAME_HEADER_LENGTH {
                let Some((&byte, rest)) = data.split_first() else { return Progress::Nothing };
                data = rest;
                self.header.push(byte);
                if self.header.len() == FRAME_HEADER_LENGTH && !self.begin_frame() {
                    return Progress::Lost;
                }
                continue;
            }
            let (payload, rest) = data.split_at_checked(self.payload_left).unwrap_or((data, &[]));
            self.payload_left = self.payload_left.saturating_sub(payload.len());
            data = rest;
            if self.frame.is_some()
                && let Err(limit) = self.keep(payload, limit, room)
            {
                return Progress::Limit(limit);
            }
            if self.payload_left > 0 {
                return Progress::Nothing;
            }
            self.header.clear();
            match self.frame.map(|frame| self.end_frame(frame)) {
                None | Some(Progress::Nothing) => {}
                Some(found) => return found,
            }
        }
    }

    /// Reads a frame's header (RFC 9113 §4.1); returns whether the frame may come here.
    fn begin_frame(&mut self) -> bool {
        let &[high, middle, low, kind, flags, a, b, c, d] = &*self.header else { return false };
        self.payload_left = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
        let frame = Frame { kind, flags, stream: u32::from_be_bytes([a & 0x7f, b, c, d]) };
        // Nothing comes between the parts of a header block.
        if let Some(open) = self.frame {
            if kind != CONTINUATION || frame.stream != open.stream {
                return false;
            }
            self.frame = Some(frame);
            return true;
        }
        let wanted = match self.direction {
            Direction::ClientToServer => kind == HEADERS,
            // Settings, and no acknowledgment of the client's.
            Direction::ServerToClient => kind == SETTINGS && flags & 1 == 0,
        };
        self.frame = wanted.then_some(frame);
        true
    }

    fn keep(&mut self, payload: &[u8], limit: usize, room: usize) -> Result<(), Limit> {
        let needed = self.kept.len().saturating_add(payload.len());
        if needed > limit {
            return Err(Limit::Head);
        }
        if needed > self.kept.capacity() {
            if needed > room {
                return Err(Limit::HeadTotal);
            }
            let comfortable = needed.max(self.kept.capacity().saturating_mul(2).min(limit).min(room));
            self.kept.reserve_exact(comfortable.saturating_sub(self.kept.len()));
        }
        self.kept.extend_from_slice(payload);
        Ok(())
    }

    /// Looks into a frame that is whole.
    fn end_frame(&mut self, frame: Frame) -> Progress {
        if frame.kind == SETTINGS {
            let allows = self.kept.chunks(6).any(|setting| setting == ENABLES_CONNECT_PROTOCOL);
            self.end_block();
            return if allows { Progress::Allowed } else { Progress::Nothing };
        }
        if frame.kind == HEADERS && !self.strip_headers(frame.flags) {
            return Progress::Lost;
        }
        if frame.flags & END_HEADERS == 0 {
            return Progress::Nothing;
        }
        let asks = hpack::asks_for_websocket(&self.kept);
        self.end_block();
        if asks { Progress::Asked(frame.stream) } else { Progress::Nothing }
    }

    fn end_block(&mut self) {
        self.frame = None;
        self.kept = Vec::new();
    }

    /// Leaves the header block alone of a HEADERS frame's payload (RFC 9113 §6.2).
    fn strip_headers(&mut self, flags: u8) -> bool {
        let padding = match self.kept.first() {
            Some(&length) if flags & PADDED != 0 => usize::from(length),
            None if flags & PADDED != 0 => return false,
            _ => 0,
        };
        let start =
            usize::from(flags & PADDED != 0).saturating_add(if flags & PRIORITY != 0 { 5 } else { 0 });
        let Some(end) = self.kept.len().checked_sub(padding).filter(|end| start <= *end) else {
            return false;
        };
        self.kept.truncate(end);
        self.kept.drain(..start);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 64 << 10;
    const CLIENT: Direction = Direction::ClientToServer;
    const SERVER: Direction = Direction::ServerToClient;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frame(SETTINGS, 0, 0, &payload)
    }

    /// As hpack's encoder writes it: `:method CONNECT`, `:protocol websocket`, `:path /chat`.
    fn block() -> Vec<u8> {
        let protocol = [&[0x40, 9][..], b":protocol", &[9], b"websocket"].concat();
        [&[0x42, 7][..], b"CONNECT", &protocol, &[0x44, 5], b"/chat"].concat()
    }

    fn client(frames: &[Vec<u8>]) -> Progress {
        watch(CLIENT, &[&[PREFACE.to_vec()][..], frames].concat().concat())
    }

    fn watch(direction: Direction, stream: &[u8]) -> Progress {
        let mut whole = Watcher::new(direction, 0);
        let progress = whole.handle_data(stream, LIMIT, LIMIT);
        let mut cut = Watcher::new(direction, 0);
        let in_bytes = stream.iter().map(|byte| cut.handle_data(&[*byte], LIMIT, LIMIT));
        let in_bytes = in_bytes.into_iter().find(|progress| *progress != Progress::Nothing);
        assert_eq!(in_bytes.unwrap_or(Progress::Nothing), progress, "in segments of one byte");
        progress
    }

    #[test]
    fn an_extended_connect_is_found_behind_other_requests_and_frames() {
        let get = frame(HEADERS, END_HEADERS | 1, 1, &[0x82, 0x84, 0x86]);
        let data = frame(0, 0, 1, &vec![HEADERS; 100_000]);
        let connect = frame(HEADERS, END_HEADERS, 3, &block());
        assert_eq!(client(&[settings(&[(3, 100)]), get.clone(), data, connect]), Progress::Asked(3));
        assert_eq!(client(&[settings(&[(8, 1)]), get]), Progress::Nothing);
    }

    #[test]
    fn a_header_block_is_read_from_padding_priority_and_continuations() {
        let block = block();
        let (first, last) = block.split_at(12);
        let padded = [&[4][..], &[0, 0, 0, 0, 16], first, &[0; 4]].concat();
        let headers = frame(HEADERS, PADDED | PRIORITY, 5, &padded);
        let rest = [frame(CONTINUATION, 0, 5, b""), frame(CONTINUATION, END_HEADERS, 5, last)];
        assert_eq!(client(&[&[headers.clone()][..], &rest].concat()), Progress::Asked(5));
        assert_eq!(client(&[headers.clone(), frame(0, 0, 5, b"")]), Progress::Lost);
        assert_eq!(client(&[headers, frame(CONTINUATION, END_HEADERS, 7, last)]), Progress::Lost);
        assert_eq!(client(&[frame(HEADERS, PADDED, 1, &[4, 0])]), Progress::Lost);
        assert_eq!(client(&[frame(HEADERS, PADDED, 1, b"")]), Progress::Lost);
    }

    #[test]
    fn a_server_that_allows_websockets_is_known_by_its_settings() {
        let wanted = [(3, 100), (8, 1)];
        assert_eq!(watch(SERVER, &settings(&wanted)), Progress::Allowed);
        let later =
            [settings(&[]), frame(SETTINGS, 1, 0, b""), frame(0, 0, 1, b"x"), settings(&wanted)].concat();
        assert_eq!(watch(SERVER, &later), Progress::Allowed);
        assert_eq!(watch(SERVER, &settings(&[(8, 0), (1, 8), (0x0800, 1)])), Progress::Nothing);
    }

    #[test]
    fn a_servers_first_bytes_tell_settings_from_other_protocols() {
        let settings = settings(&[(3, 100), (8, 1)]);
        for length in 0..FRAME_HEADER_LENGTH {
            assert_eq!(looks_like_settings(&settings[..length]), None);
        }
        assert_eq!(looks_like_settings(&settings), Some(true));
        for other in [
            &b"HTTP/1.1"[..],
            b"SSH-2.0",
            b"\x81\x05Hello",
            b"\0\0\x05\x04",
            b"\0\x06\0\x04",
            b"\0\0\x06\x07",
        ] {
            assert_eq!(looks_like_settings(other), Some(false), "{other:?}");
        }
    }

    #[test]
    fn a_preface_that_is_none_is_lost() {
        assert_eq!(watch(CLIENT, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), Progress::Lost);
    }

    #[test]
    fn what_is_kept_of_a_header_block_is_bounded() {
        let endless =
            [PREFACE.to_vec(), frame(HEADERS, 0, 1, &[0; 900]), frame(CONTINUATION, 0, 1, &[0; 900])];
        let mut watcher = Watcher::new(CLIENT, 0);
        assert_eq!(watcher.handle_data(&endless.concat(), 1_000, LIMIT), Progress::Limit(Limit::Head));
        assert!(watcher.held_bytes() <= 1_000);
        let mut watcher = Watcher::new(CLIENT, 0);
        assert_eq!(watcher.handle_data(&endless.concat(), LIMIT, 500), Progress::Limit(Limit::HeadTotal));
        assert!(watcher.held_bytes() <= 500);
    }

    proptest! {
        #[test]
        fn random_frames_never_panic(
            frames in prop::collection::vec(
                (prop::sample::select(vec![0, HEADERS, SETTINGS, CONTINUATION]), any::<u8>(), 0_u32..3,
                 prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            size in 1_usize..30,
        ) {
            let frames: Vec<_> = frames.iter().map(|(kind, flags, stream, it)| frame(*kind, *flags, *stream, it)).collect();
            for (direction, start) in [(CLIENT, PREFACE), (SERVER, &[][..])] {
                let mut watcher = Watcher::new(direction, 0);
                for piece in [start, &frames.concat()].concat().chunks(size) {
                    if watcher.handle_data(piece, 100, 80) != Progress::Nothing {
                        break;
                    }
                    prop_assert!(watcher.held_bytes() <= 80);
                }
            }
        }
    }
}
