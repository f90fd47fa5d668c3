//! Compressed messages, held against zlib.
//!
//! Owns the oracle: zlib-rs through flate2, a message at a time, with the window that the messages before left. Must not know our
//! inflater: it is reached as everything reaches it, through frames. Bounded: [`OUTPUT_MAX`] bytes out of one message.

use flate2::{Decompress, FlushDecompress, Status};
use observer_core::Limits;
use observer_core::record::Direction;
use observer_core::time::Time;
use observer_core::websocket::frame::Opcode;
use observer_core::websocket::frame::encode::FrameBuilder;
use observer_core::websocket::{Compression, Decoder, DeflateParameters, Extensions, Item, Shared};

use crate::cursor::Cursor;

const WINDOW: usize = 32 << 10;
/// Bytes that may come out of one message.
const OUTPUT_MAX: usize = 1 << 18;

/// What a message came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Known(Vec<u8>),
    Invalid,
    TooLong,
}

/// Options, the sizes of pieces as a string, and messages: each a length of two bytes and DEFLATE data.
pub fn run(input: &[u8]) {
    let mut choices = Cursor::new(input);
    let takes_over = choices.byte() & 1 == 0;
    let sizes = choices.string();
    let parameters =
        DeflateParameters { server_no_context_takeover: !takes_over, ..DeflateParameters::default() };
    let extensions = Extensions { compression: Compression::Deflate(parameters), unknown: false };
    let limits = Limits { inflated_bytes: OUTPUT_MAX as u64, ..Limits::default() };
    let mut shared = Shared::new(&limits, false);
    let mut decoder = Decoder::new(Direction::ServerToClient, extensions);
    let mut window = Vec::new();
    while !choices.is_over() {
        let length = usize::from(choices.short());
        let payload = choices.bytes(length);
        let frame = FrameBuilder::new(Opcode::Binary, payload).reserved_bits(4).build();
        let mut found = Vec::new();
        let mut is_blamed = false;
        for piece in Cursor::new(sizes).cut(&frame) {
            decoder.handle_data(Time::default(), piece, &mut shared, &mut |_, item| match item {
                Item::Message(message) => {
                    assert!(message.compressed);
                    found.push(if message.payload.undecoded.is_some() {
                        Outcome::Invalid
                    } else if message.length.is_none() {
                        assert!(message.payload.known.len() > OUTPUT_MAX - 258);
                        Outcome::TooLong
                    } else {
                        assert!(message.payload.missing.is_empty());
                        Outcome::Known(message.payload.known.to_vec())
                    });
                }
                Item::Anomaly { .. } => is_blamed = true,
                Item::Frame(_) | Item::Limit(_) => {}
            });
        }
        assert!(shared.inflating_bytes() <= limits.inflate_total_bytes);
        let expected = inflate(payload, &window);
        let found = match found.as_slice() {
            [found] => found,
            other => panic!("one message was sent, {} came out", other.len()),
        };
        assert!(found == &expected, "ours: {}\nzlib's: {}", brief(found), brief(&expected));
        let Outcome::Known(bytes) = expected else {
            // What later messages refer to is lost: that is for the tests of the crate.
            assert!(is_blamed);
            return;
        };
        assert!(!is_blamed);
        if takes_over {
            window.extend(bytes);
            window.drain(..window.len().saturating_sub(WINDOW));
        }
    }
}

fn brief(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Known(bytes) => format!("{} bytes: {:?}", bytes.len(), &bytes[..bytes.len().min(64)]),
        other => format!("{other:?}"),
    }
}

/// What zlib makes of a message (RFC 7692 §7.2.2): its payload, and behind it the tail that senders leave out, where the
/// payload does not end between two blocks already.
fn inflate(payload: &[u8], window: &[u8]) -> Outcome {
    const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
    let without = Oracle::new(window).inflate(payload);
    match without {
        Outcome::Invalid => Oracle::new(window).inflate(&[payload, &TAIL].concat()),
        Outcome::Known(_) | Outcome::TooLong => without,
    }
}

/// One stream, and others behind it: behind a block with BFINAL another one begins at the next byte, with the same window
/// (RFC 7692 §7.2.3.4).
struct Oracle {
    stream: Decompress,
    /// The window, and what came out behind it.
    all: Vec<u8>,
    window: usize,
}

impl Oracle {
    fn new(window: &[u8]) -> Self {
        let mut it = Self { stream: Decompress::new(false), all: window.to_vec(), window: window.len() };
        it.begin_stream();
        it
    }

    fn begin_stream(&mut self) {
        self.stream = Decompress::new(false);
        let last = &self.all[self.all.len().saturating_sub(WINDOW)..];
        if !last.is_empty() {
            self.stream.set_dictionary(last).expect("any dictionary will do");
        }
    }

    /// Takes a message, which must end between two blocks.
    fn inflate(mut self, input: &[u8]) -> Outcome {
        // An empty last block tells where a stream stands: between two blocks nothing but it is read.
        const PROBE: [u8; 2] = [0x03, 0x00];
        if let Err(outcome) = self.feed(input) {
            return outcome;
        }
        let produced = self.all.len();
        let is_between = matches!(self.feed(&PROBE), Ok(true));
        if is_between && self.all.len() == produced {
            Outcome::Known(self.all.split_off(self.window))
        } else {
            Outcome::Invalid
        }
    }

    /// Whether the last stream ended with the last byte.
    fn feed(&mut self, mut rest: &[u8]) -> Result<bool, Outcome> {
        let mut has_ended = false;
        loop {
            let mut output = vec![0; 64 << 10];
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(rest, &mut output, FlushDecompress::Sync);
            let (read, written) = (self.stream.total_in() - read, self.stream.total_out() - written);
            rest = &rest[usize::try_from(read).unwrap()..];
            self.all.extend_from_slice(&output[..usize::try_from(written).unwrap()]);
            if self.all.len() - self.window > OUTPUT_MAX {
                return Err(Outcome::TooLong);
            }
            match status {
                Ok(Status::StreamEnd) => {
                    self.begin_stream();
                    has_ended = true;
                    if rest.is_empty() {
                        return Ok(true);
                    }
                }
                Ok(_) if read > 0 || written > 0 => has_ended = false,
                Ok(_) => return Ok(has_ended && rest.is_empty()),
                Err(_) => return Err(Outcome::Invalid),
            }
        }
    }
}
