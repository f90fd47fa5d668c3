//! What observer saw, as far as the suite can tell the same.
//!
//! Owns how observer's JSON lines (docs/json.md) become connections. Must not know what should have been seen. Bounded
//! by what the suite sends: of a message its length and digest are kept.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use super::suite::{Control, Frame, Message};

/// Everything that observer said in a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// By the path that they asked for.
    by_path: BTreeMap<String, Vec<Connection>>,
    /// What the kernel programs lost; none without a summary.
    lost_packets: Option<u64>,
}

/// Of a connection, who opened it or who accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Who opened it.
    Client,
    /// Who accepted it.
    Server,
}

impl End {
    /// As observer calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// What it asked for.
    pub path: String,
    /// Whether the upgrade was accepted.
    pub is_accepted: bool,
    /// What the client sent.
    pub client: Side,
    /// What the server sent.
    pub server: Side,
    /// Anomalies that are no direction's.
    pub other_anomalies: Vec<String>,
    /// How it ended.
    pub closed: Option<Closed>,
}

/// What one end sent, in order.
#[derive(Debug, Default)]
pub struct Side {
    /// Every frame.
    pub frames: Vec<Frame>,
    /// Every message.
    pub messages: Vec<Message>,
    /// Frames that belong to no message, but for close frames.
    pub controls: Vec<Control>,
    /// Code and reason of each close frame.
    pub closes: Vec<(Option<u16>, String)>,
    /// Codes.
    pub anomalies: Vec<String>,
}

/// A connection's end.
#[derive(Debug, Deserialize)]
pub struct Closed {
    /// `client` or `server`.
    pub closed_by: Option<String>,
    /// Whether every byte was seen.
    pub complete: bool,
}

/// A line, as far as it is of use here.
#[derive(Deserialize)]
struct Record {
    kind: String,
    connection: Option<u64>,
    direction: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    accepted: Option<bool>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    opcode: String,
    #[serde(default)]
    opcode_number: u8,
    #[serde(default)]
    fin: bool,
    #[serde(default)]
    rsv1: bool,
    #[serde(default)]
    rsv2: bool,
    #[serde(default)]
    rsv3: bool,
    #[serde(default)]
    mask: Option<String>,
    #[serde(default)]
    length: Option<u64>,
    #[serde(default)]
    close_code: Option<u16>,
    #[serde(default)]
    close_reason: String,
    #[serde(default)]
    payload: Option<String>,
    #[serde(default)]
    payload_base64: Option<String>,
    #[serde(default)]
    undecoded: Option<String>,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    closed_by: Option<String>,
    #[serde(default)]
    complete: bool,
    #[serde(default)]
    capture: Option<Value>,
}

impl Record {
    fn payload(&mut self) -> Result<Vec<u8>> {
        match (self.payload.take(), self.payload_base64.take()) {
            (Some(text), _) => Ok(text.into_bytes()),
            (None, Some(encoded)) => Ok(BASE64_STANDARD.decode(encoded)?),
            (None, None) => Ok(Vec::new()),
        }
    }
}

impl Seen {
    /// Reads JSON lines up to their end, and counts in `closed` the connections that are.
    ///
    /// # Errors
    /// If a line is not what docs/json.md says.
    pub fn read(lines: impl BufRead, closed: &AtomicUsize) -> Result<Self> {
        let mut seen = Self::default();
        let mut open: BTreeMap<u64, Connection> = BTreeMap::new();
        for line in lines.lines() {
            let line = line.context("observer's output cannot be read")?;
            let record: Record =
                serde_json::from_str(&line).with_context(|| format!("not a record: {line}"))?;
            if record.kind == "connection_closed" {
                closed.fetch_add(1, Ordering::Relaxed);
            }
            match record.connection {
                Some(number) => open
                    .entry(number)
                    .or_default()
                    .handle_record(record)
                    .with_context(|| format!("not a record: {line}"))?,
                None if record.kind == "summary" => {
                    seen.lost_packets = record.capture.as_ref().and_then(lost_packets);
                }
                None => {}
            }
        }
        for connection in open.into_values() {
            seen.by_path.entry(connection.path.clone()).or_default().push(connection);
        }
        Ok(seen)
    }

    /// The connections that asked for this path.
    pub fn of_path(&self, path: Option<&str>) -> &[Connection] {
        path.and_then(|path| self.by_path.get(path)).map_or(&[], Vec::as_slice)
    }

    /// The paths that were asked for.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.by_path.keys().map(String::as_str)
    }

    /// What the kernel programs lost; none without a summary.
    pub const fn lost_packets(&self) -> Option<u64> {
        self.lost_packets
    }
}

impl Connection {
    /// What this end sent.
    pub const fn side(&self, end: End) -> &Side {
        match end {
            End::Client => &self.client,
            End::Server => &self.server,
        }
    }

    fn handle_record(&mut self, mut record: Record) -> Result<()> {
        let side = match record.direction.as_deref() {
            Some("client_to_server") => Some(&mut self.client),
            Some("server_to_client") => Some(&mut self.server),
            _ => None,
        };
        match (record.kind.as_str(), side) {
            ("handshake", _) => {
                self.path = record.path.unwrap_or_default();
                self.is_accepted |= record.accepted == Some(true);
            }
            ("anomaly", side) => {
                let anomalies = side.map_or(&mut self.other_anomalies, |side| &mut side.anomalies);
                anomalies.push(record.code.unwrap_or_default());
            }
            ("frame", Some(side)) => side.handle_frame(record)?,
            ("message", Some(side)) => {
                let payload = record.payload()?;
                side.messages.push(Message {
                    length: payload.len() as u64,
                    digest: Sha1::digest(&payload).iter().map(|byte| format!("{byte:02x}")).collect(),
                    whole: !record.truncated && record.undecoded.is_none(),
                    opcode: record.opcode,
                });
            }
            ("connection_closed", _) => {
                self.closed = Some(Closed { closed_by: record.closed_by, complete: record.complete });
            }
            _ => {}
        }
        Ok(())
    }
}

impl Side {
    fn handle_frame(&mut self, mut record: Record) -> Result<()> {
        match record.opcode_number {
            0..=2 => {}
            8 => self.closes.push((record.close_code, std::mem::take(&mut record.close_reason))),
            other => {
                let payload = BASE64_STANDARD.encode(record.payload()?);
                self.controls.push((other, payload));
            }
        }
        self.frames.push(Frame {
            opcode: record.opcode_number,
            fin: record.fin,
            rsv: u8::from(record.rsv1) << 2 | u8::from(record.rsv2) << 1 | u8::from(record.rsv3),
            length: record.length.context("a frame without a length")?,
            mask: record.mask,
        });
        Ok(())
    }
}

/// From the summary's `capture`: what was lost, wholly or in part.
fn lost_packets(capture: &Value) -> Option<u64> {
    let losses = capture.get("losses")?.as_object()?;
    let partly = capture.get("captured_partly")?.as_u64()?;
    losses.values().map(Value::as_u64).try_fold(partly, |sum, loss| Some(sum + loss?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        r#"{"kind":"connection_opened","connection":1}"#,
        "\n",
        r#"{"kind":"handshake","connection":1,"direction":"client_to_server","path":"/echo?case=1.1"}"#,
        "\n",
        r#"{"kind":"handshake","connection":1,"direction":"server_to_client","path":"/echo?case=1.1","accepted":true}"#,
        "\n",
        r#"{"kind":"frame","connection":1,"direction":"client_to_server","opcode":"ping","opcode_number":9,"fin":true,"rsv1":true,"rsv2":false,"rsv3":true,"masked":true,"mask":"00000000","length":3,"payload_base64":"YWJj"}"#,
        "\n",
        r#"{"kind":"message","connection":1,"direction":"server_to_client","opcode":"text","length":3,"payload":"abc","truncated":false}"#,
        "\n",
        r#"{"kind":"anomaly","connection":1,"direction":"client_to_server","code":"reserved-bit-set"}"#,
        "\n",
        r#"{"kind":"connection_closed","connection":1,"closed_by":"client","complete":true}"#,
        "\n",
        r#"{"kind":"summary","capture":{"captured_partly":1,"losses":{"lost_ring_full":2,"lost_no_socket":3}}}"#,
        "\n",
    );

    fn read(lines: &str) -> Seen {
        Seen::read(lines.as_bytes(), &AtomicUsize::new(0)).unwrap()
    }

    #[test]
    fn a_connection_is_found_by_its_path_with_all_that_was_seen_of_it() {
        let seen = read(LINES);
        assert_eq!(seen.paths().collect::<Vec<_>>(), ["/echo?case=1.1"]);
        let [connection] = seen.of_path(Some("/echo?case=1.1")) else { panic!("not found") };
        assert!(connection.is_accepted);
        let frame = Frame { opcode: 9, fin: true, rsv: 5, length: 3, mask: Some("00000000".to_owned()) };
        assert_eq!(connection.client.frames, [frame]);
        assert_eq!(connection.client.controls, [(9, "YWJj".to_owned())]);
        assert_eq!(connection.client.anomalies, ["reserved-bit-set"]);
        // From FIPS 180-4's examples.
        let digest = "a9993e364706816aba3e25717850c26c9cd0d89d".to_owned();
        let message = Message { opcode: "text".to_owned(), length: 3, digest, whole: true };
        assert_eq!(connection.server.messages, [message]);
        assert!(connection.closed.as_ref().is_some_and(|closed| closed.complete));
    }

    #[test]
    fn losses_of_every_reason_count_and_without_a_summary_none_is_known() {
        assert_eq!(read(LINES).lost_packets(), Some(6));
        assert_eq!(read("").lost_packets(), None);
    }

    #[test]
    fn a_connection_of_an_unknown_path_is_not_found() {
        let seen = read(LINES);
        assert!(seen.of_path(Some("/echo?case=1.2")).is_empty());
        assert!(seen.of_path(None).is_empty());
    }
}
