//! Owns one WebSocket's bytes: what was read and not yet decoded, what is encoded and not yet written.
//!
//! Must not know the chat. The protocol itself (RFC 6455: frames, fragments, masks, UTF-8, limits) is `sockudo-ws`'s
//! sans-IO codec; this file moves its bytes. Input is bounded by the longest message plus one read; output by what the
//! owner queues, who stops at [`Socket::is_congested`].

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use sockudo_ws::cork::CorkBuffer;
use sockudo_ws::error::CloseReason;
use sockudo_ws::frame::{encode_frame, encode_frame_header};
use sockudo_ws::protocol::Protocol;
use sockudo_ws::{Error, Message, OpCode, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    codec: Protocol,
    input: BytesMut,
    read_size: usize,
    output: CorkBuffer,
    decoded: Vec<Message>,
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
    /// Takes over a connection; `leftover` is what followed the HTTP request.
    pub(crate) fn new(stream: TcpStream, leftover: &[u8], max_message_bytes: usize) -> Self {
        Self {
            stream,
            codec: Protocol::new(Role::Server, max_message_bytes, max_message_bytes),
            input: BytesMut::from(leftover),
            read_size: SMALL_READ,
            output: CorkBuffer::with_capacity(0),
            decoded: Vec::new(),
        }
    }

    /// Decodes what was read into whole messages, in order, behind those already in `inbox`.
    ///
    /// Messages before a violation are delivered with it. After a violation the input is unusable.
    pub(crate) fn decode(&mut self, inbox: &mut std::collections::VecDeque<Message>) -> Result<(), Close> {
        let result = self.codec.process_into(&mut self.input, &mut self.decoded);
        inbox.extend(self.decoded.drain(..));
        if self.decoded.capacity() > 256 {
            self.decoded = Vec::new();
        }
        result.map_err(|error| violation(&error))
    }

    /// Queues a text or binary message.
    pub(crate) fn send(&mut self, opcode: OpCode, payload: Bytes) {
        if payload.len() < BY_REFERENCE {
            encode_frame(self.output.buffer_mut(), opcode, &payload, true, None);
        } else {
            encode_frame_header(self.output.buffer_mut(), opcode, payload.len(), true, None);
            self.output.push_segment(payload);
        }
    }

    /// Queues a frame that is already encoded.
    pub(crate) fn send_encoded(&mut self, frame: Bytes) {
        self.output.write_bytes(frame);
    }

    /// Queues a pong with a ping's payload.
    pub(crate) fn send_pong(&mut self, payload: &[u8]) {
        self.codec.encode_pong(payload, self.output.buffer_mut());
    }

    /// Queues the close frame that answers the peer's.
    pub(crate) fn answer_close(&mut self) {
        self.codec.encode_close_response(self.output.buffer_mut());
    }

    /// Queues a close frame of the server's own.
    pub(crate) fn send_close(&mut self, close: Close) {
        let reason = CloseReason::new(close.code, close.reason);
        // Encoding a close frame has no failure; the signature serves the compressing codec.
        let _ = self.codec.encode_message(&Message::Close(Some(reason)), self.output.buffer_mut());
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

fn violation(error: &Error) -> Close {
    match error {
        Error::InvalidUtf8 => Close { code: CloseReason::INVALID_PAYLOAD, reason: "text that is not UTF-8" },
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
