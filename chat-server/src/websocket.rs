//! Owns one WebSocket's bytes: what was read and not yet decoded, what is encoded and not yet written.
//!
//! Must not know the chat. The protocol itself (RFC 6455: frames, fragments, masks, UTF-8, limits) is `sockudo-ws`'s
//! sans-IO codec; this file moves its bytes. Input is bounded by the longest message plus one read; output by what the
//! owner queues, who stops at [`Socket::is_congested`]. Where messages are compressed, one at a time is inflated, so that
//! what one read held is not a thousand times as much at once.

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use sockudo_ws::cork::CorkBuffer;
use sockudo_ws::error::CloseReason;
use sockudo_ws::frame::{encode_frame, encode_frame_header};
use sockudo_ws::protocol::{CompressedProtocol, Protocol};
use sockudo_ws::{Error, Message, OpCode, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::Upgraded;

/// Space for one read on a connection that is mostly quiet.
const SMALL_READ: usize = 4 * 1024;
/// Space for one read on a connection that filled the last one.
const LARGE_READ: usize = 64 * 1024;
/// Unwritten bytes at which no further output should be caused.
const CONGESTED: usize = 128 * 1024;
/// Buffers above this size are given back once they are empty.
const KEPT_CAPACITY: usize = 64 * 1024;
/// Payloads from this size on are written from where they lie.
const BY_REFERENCE: usize = 8 * 1024;

/// A close frame's status code and reason (RFC 6455 §7.4), the latter of at most 123 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

/// A connection after its upgrade.
pub(crate) struct Socket {
    stream: TcpStream,
    codec: Codec,
    max_message_bytes: usize,
    input: BytesMut,
    read_size: usize,
    output: CorkBuffer,
    decoded: Vec<Message>,
    /// A message could not be compressed: what the client would make of the next one is not known.
    is_broken: bool,
}

enum Codec {
    Plain(Protocol),
    Deflate(Box<CompressedProtocol>),
}

/// What one turn of input and output did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Read,
    Written,
    /// The peer ended its direction.
    End,
}

/// An unmasked text frame, as it goes over the wire to every recipient alike.
pub(crate) fn encode_text(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    encode_frame(&mut frame, OpCode::Text, payload, true, None);
    frame.freeze()
}

impl Socket {
    /// Takes over a connection.
    pub(crate) fn new(upgraded: Upgraded, max_message_bytes: usize) -> Self {
        let codec = match upgraded.deflate {
            None => Codec::Plain(Protocol::new(Role::Server, max_message_bytes, max_message_bytes)),
            Some(deflate) => Codec::Deflate(Box::new(CompressedProtocol::server(
                max_message_bytes,
                max_message_bytes,
                deflate,
            ))),
        };
        Self {
            stream: upgraded.stream,
            codec,
            max_message_bytes,
            input: BytesMut::from(&*upgraded.leftover),
            read_size: SMALL_READ,
            output: CorkBuffer::with_capacity(0),
            decoded: Vec::new(),
            is_broken: false,
        }
    }

    /// Decodes what was read into whole messages, in order, behind those already in `inbox`: all of it, or, where
    /// messages are compressed, the next one (see [`Socket::has_undecoded`]).
    ///
    /// Messages before a violation are delivered with it. After a violation the input is unusable.
    pub(crate) fn decode(&mut self, inbox: &mut std::collections::VecDeque<Message>) -> Result<(), Close> {
        let result = match &mut self.codec {
            Codec::Plain(codec) => codec.process_into(&mut self.input, &mut self.decoded),
            Codec::Deflate(codec) => loop {
                let length = next_frame(&self.input, self.max_message_bytes);
                let Some(length) = length else { break Ok(()) };
                let result = codec.process_into(&mut self.input.split_to(length), &mut self.decoded);
                if result.is_err() || !self.decoded.is_empty() {
                    break result;
                }
            },
        };
        inbox.extend(self.decoded.drain(..));
        if self.decoded.capacity() > 256 {
            self.decoded = Vec::new();
        }
        result.map_err(|error| violation(&error))
    }

    /// Whether more of what was read can be decoded.
    pub(crate) fn has_undecoded(&self) -> bool {
        matches!(self.codec, Codec::Deflate(_)) && next_frame(&self.input, self.max_message_bytes).is_some()
    }

    /// Queues a text or binary message.
    pub(crate) fn send(&mut self, opcode: OpCode, payload: Bytes) {
        if let Codec::Deflate(codec) = &mut self.codec {
            let message =
                if opcode == OpCode::Text { Message::Text(payload) } else { Message::Binary(payload) };
            self.is_broken |= codec.encode_message(&message, self.output.buffer_mut()).is_err();
            return;
        }
        if payload.len() < BY_REFERENCE {
            encode_frame(self.output.buffer_mut(), opcode, &payload, true, None);
        } else {
            encode_frame_header(self.output.buffer_mut(), opcode, payload.len(), true, None);
            self.output.push_segment(payload);
        }
    }

    /// Queues a text frame that is already encoded, for this client compressed.
    pub(crate) fn send_encoded(&mut self, mut frame: Bytes) {
        if matches!(self.codec, Codec::Deflate(_)) {
            let payload = frame.split_off(header_length(&frame));
            self.send(OpCode::Text, payload);
            return;
        }
        self.output.write_bytes(frame);
    }

    /// Queues a pong with a ping's payload.
    pub(crate) fn send_pong(&mut self, payload: &[u8]) {
        match &mut self.codec {
            Codec::Plain(codec) => codec.encode_pong(payload, self.output.buffer_mut()),
            Codec::Deflate(codec) => codec.encode_pong(payload, self.output.buffer_mut()),
        }
    }

    /// Queues the close frame that answers the peer's.
    pub(crate) fn answer_close(&mut self) {
        match &mut self.codec {
            Codec::Plain(codec) => codec.encode_close_response(self.output.buffer_mut()),
            Codec::Deflate(codec) => codec.encode_close_response(self.output.buffer_mut()),
        }
    }

    /// Queues a close frame of the server's own.
    pub(crate) fn send_close(&mut self, close: Close) {
        let message = Message::Close(Some(CloseReason::new(close.code, close.reason)));
        // Encoding a close frame has no failure; the signature serves messages that are compressed.
        let _ = match &mut self.codec {
            Codec::Plain(codec) => codec.encode_message(&message, self.output.buffer_mut()),
            Codec::Deflate(codec) => codec.encode_message(&message, self.output.buffer_mut()),
        };
    }

    /// Whether bytes wait to be written.
    pub(crate) fn has_output(&self) -> bool {
        self.output.has_data()
    }

    /// Whether so many bytes wait that no more should be caused.
    pub(crate) fn is_congested(&self) -> bool {
        self.output.pending_bytes() >= CONGESTED
    }

    /// Reads, where `read` allows it, or writes what is queued, whichever can be done first. Waits for ever if there is
    /// neither. Safe to cancel: what was read or written is accounted for.
    pub(crate) async fn progress(&mut self, read: bool) -> io::Result<Progress> {
        if self.is_broken {
            return Err(io::Error::other("a message could not be compressed"));
        }
        if read && self.input.capacity() - self.input.len() < SMALL_READ {
            // A frame that is under way grows its buffer by what it has, not by what its header promises.
            self.input.reserve(self.read_size.max(self.input.len().min(1024 * 1024)));
        }
        let space = self.input.capacity() - self.input.len();
        let (mut reader, mut writer) = self.stream.split();
        let mut slices = [IoSlice::new(&[]); 16];
        let count = self.output.fill_write_slices(&mut slices);
        tokio::select! {
            read_bytes = reader.read_buf(&mut self.input), if read => {
                let read_bytes = read_bytes?;
                self.read_size = if read_bytes == space { LARGE_READ } else { SMALL_READ };
                Ok(if read_bytes == 0 { Progress::End } else { Progress::Read })
            }
            written_bytes = writer.write_vectored(&slices[..count]), if count > 0 => {
                let written_bytes = written_bytes?;
                self.output.consume(written_bytes);
                Ok(Progress::Written)
            }
            else => std::future::pending().await,
        }
    }

    /// Gives back what a burst made the buffers of a connection that is quiet now.
    pub(crate) fn release(&mut self) {
        if self.input.is_empty() && self.input.capacity() > KEPT_CAPACITY {
            self.input = BytesMut::new();
        }
        if !self.output.has_data() && self.output.buffer_mut().capacity() > KEPT_CAPACITY {
            *self.output.buffer_mut() = BytesMut::new();
        }
    }

    /// Ends the server's direction (sends the FIN).
    pub(crate) async fn shut_down(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Drops what was read and not decoded.
    pub(crate) fn discard_input(&mut self) {
        self.input.clear();
    }
}

/// The length of a frame's header (RFC 6455 §5.2), as far as its first two bytes tell it.
fn header_length(frame: &[u8]) -> usize {
    let Some([_, second, ..]) = frame.first_chunk::<2>() else { return frame.len() };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    mask + match second & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// The length of the frame that input begins with, once it is whole; of all input, if the frame is too long to wait for.
fn next_frame(input: &[u8], max_payload_bytes: usize) -> Option<usize> {
    let header = header_length(input);
    let payload = match (input.get(1)? & 0x7f, input.get(2..)?) {
        (126, rest) => u64::from(u16::from_be_bytes(*rest.first_chunk()?)),
        (127, rest) => u64::from_be_bytes(*rest.first_chunk()?),
        (short, _) => short.into(),
    };
    match usize::try_from(payload).ok().filter(|payload| *payload <= max_payload_bytes) {
        Some(payload) => Some(header + payload).filter(|length| *length <= input.len()),
        None => Some(input.len()),
    }
}

fn violation(error: &Error) -> Close {
    match error {
        Error::InvalidUtf8 => Close { code: CloseReason::INVALID_PAYLOAD, reason: "text that is not UTF-8" },
        Error::Compression(_) => {
            Close { code: CloseReason::INVALID_PAYLOAD, reason: "compressed data that are not valid" }
        }
        Error::MessageTooLarge | Error::FrameTooLarge | Error::Capacity(_) => {
            Close { code: CloseReason::TOO_BIG, reason: "message too long" }
        }
        Error::InvalidCloseCode(_) => {
            Close { code: CloseReason::PROTOCOL_ERROR, reason: "invalid close code" }
        }
        Error::Protocol(reason) | Error::InvalidFrame(reason) => {
            Close { code: CloseReason::PROTOCOL_ERROR, reason }
        }
        _ => Close { code: CloseReason::PROTOCOL_ERROR, reason: "protocol error" },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use sockudo_ws::deflate::DeflateConfig;
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::Endpoint;

    #[test]
    fn a_frame_is_next_once_it_is_whole_or_too_long_to_wait_for() {
        let masked = |second: u8, more: &[u8]| [&[0xc1, 0x80 | second], more].concat();
        assert_eq!(next_frame(&[], 10), None);
        assert_eq!(next_frame(&[0xc1], 10), None);
        assert_eq!(next_frame(&masked(2, &[0; 5]), 10), None);
        assert_eq!(next_frame(&masked(2, &[0; 6]), 10), Some(8));
        assert_eq!(next_frame(&masked(2, &[0; 60]), 10), Some(8));
        assert_eq!(next_frame(&masked(126, &[0]), 1_000), None);
        assert_eq!(next_frame(&masked(126, &[[1, 0].as_slice(), &[0; 259]].concat()), 1_000), None);
        assert_eq!(next_frame(&masked(126, &[[1, 0].as_slice(), &[0; 270]].concat()), 1_000), Some(264));
        assert_eq!(next_frame(&masked(126, &[1, 0]), 255), Some(4));
        assert_eq!(next_frame(&masked(127, &[0xff; 8]), 1_000), Some(10));
        assert_eq!(next_frame(&masked(127, &[0; 7]), 1_000), None);
    }

    #[tokio::test]
    async fn of_many_compressed_messages_one_at_a_time_is_inflated() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // "Hello", from RFC 7692 §7.2.3.1, under a mask of zeros.
        let frame = [0xc1, 0x87, 0, 0, 0, 0, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let leftover = Bytes::from(frame.repeat(3));
        let deflate = Some(DeflateConfig::default());
        let upgraded = Upgraded { endpoint: Endpoint::Echo, stream, leftover, deflate };
        let mut socket = Socket::new(upgraded, 1_000);
        let mut inbox = VecDeque::new();
        for count in 1..=3 {
            assert!(socket.has_undecoded());
            socket.decode(&mut inbox).unwrap();
            assert_eq!(inbox.len(), count);
        }
        assert!(!socket.has_undecoded());
        assert!(inbox.iter().all(|message| message.as_text() == Some("Hello")));
    }
}
