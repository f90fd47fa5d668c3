//! A second opinion: what Wireshark's dissectors say of a capture, and what the observer shows of the same traffic.
//!
//! Owns how tshark is asked, and the list of what it gets wrong. Must not use any decoder of the product. tshark is held
//! to what is on the wire, frame by frame: not to what compressed messages say, since 4.0.17 inflates with the parameters
//! of the other direction, and not to whole fragmented messages, since it joins those of both directions on loopback.
//! Of the fragments themselves it knows everything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{Program, Seen, TO_CLIENT, TO_SERVER, observer};

/// Captures of which tshark cannot tell, and why.
const BEYOND_TSHARK: &[(&str, &str)] = &[(
    "frames-snaplen-200.pcap",
    "it gives a connection to its WebSocket dissector after a whole answer 101 only",
)];

/// Of a masked frame it unmasks so many bytes (epan/dissectors/packet-websocket.c, MAX_UNMASKED_LEN).
const UNMASKED_BYTES_MAX: usize = 256 << 10;

/// One direction of a connection: the client's address and port, and which one.
type Stream = (String, &'static str);

/// What was sent in one direction, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    heads: Vec<Head>,
    frames: Vec<Frame>,
    messages: Vec<Message>,
}

/// The first line of a request or of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Request { method: String, target: String },
    Answer { status: u64 },
}

/// A frame as it was on the wire.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    opcode: u64,
    fin: bool,
    rsv1: bool,
    masking_key: Option<String>,
    length: u64,
    /// Not inflated, in hexadecimal; of a masked frame at most [`UNMASKED_BYTES_MAX`].
    unmasked: String,
    close: Option<(u64, String)>,
}

/// A message of one frame or several.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    opcode: u64,
    /// In hexadecimal, at most [`UNMASKED_BYTES_MAX`] of it; none of a compressed one.
    content: Option<String>,
}

impl Message {
    fn new(opcode: u64, is_compressed: bool, mut content: String) -> Self {
        content.truncate(2 * UNMASKED_BYTES_MAX);
        Self { opcode, content: (!is_compressed).then_some(content) }
    }

    /// Those that the frames of one direction make.
    fn of_frames(frames: &[Frame]) -> Vec<Self> {
        let mut messages = Vec::new();
        let mut begun: Option<(u64, bool, String)> = None;
        for frame in frames.iter().filter(|frame| frame.opcode < 8) {
            let (opcode, is_compressed, mut content) =
                begun.take().unwrap_or((frame.opcode, frame.rsv1, String::new()));
            content.push_str(&frame.unmasked);
            if frame.fin {
                messages.push(Self::new(opcode, is_compressed, content));
            } else {
                begun = Some((opcode, is_compressed, content));
            }
        }
        messages
    }
}

/// That tshark says the same of a file as these records, which come of `--json --frames --wire`.
pub fn assert_agrees(file: &Path, ports: &[u16], records: &[Value]) {
    let theirs = Dissected::by_tshark(file, ports);
    let interfaces = shown(records);
    for ours in interfaces.values() {
        for (stream, theirs) in &theirs.streams {
            let ours = ours.get(stream).unwrap_or_else(|| panic!("only tshark knows {stream:?}: {theirs:?}"));
            assert_eq!(ours.heads, theirs.heads, "{stream:?}");
            for (number, (ours, theirs)) in ours.frames.iter().zip(&theirs.frames).enumerate() {
                assert_eq!(ours, theirs, "frame {number} of {stream:?}");
            }
            assert_eq!(ours.frames.len(), theirs.frames.len(), "{stream:?}");
            assert_eq!(ours.messages, Message::of_frames(&theirs.frames), "{stream:?}");
        }
        for (stream, ours) in ours {
            assert!(theirs.streams.contains_key(stream), "only the observer knows {stream:?}: {ours:?}");
        }
    }
    let summary = records.last().unwrap();
    let connections: u64 =
        ["connections", "connections_other"].map(|key| summary[key].as_u64().unwrap()).iter().sum();
    assert_eq!(connections, theirs.connections * interfaces.len().max(1) as u64, "{summary}");
}

/// What tshark makes of a file.
struct Dissected {
    streams: BTreeMap<Stream, Sent>,
    connections: u64,
}

impl Dissected {
    fn by_tshark(file: &Path, ports: &[u16]) -> Self {
        let mut command = Command::new("tshark");
        // -x adds the bytes of each field, which of a payload are those after unmasking.
        command.args(["-n", "-T", "json", "-x", "--no-duplicate-keys", "-J", "tcp ip ipv6 http websocket"]);
        for port in ports {
            command.args(["-d", &format!("tcp.port=={port},http")]);
        }
        let ended = Program::start(command.arg("-r").arg(file)).wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let packets: Vec<Value> = serde_json::from_str(&ended.stdout.join("\n")).unwrap();
        let mut dissected = Self { streams: BTreeMap::new(), connections: 0 };
        for packet in &packets {
            dissected.add(&packet["_source"]["layers"], ports);
        }
        dissected
    }

    fn add(&mut self, layers: &Value, ports: &[u16]) {
        let tcp = &layers["tcp"];
        self.connections = self.connections.max(1 + number(&tcp["tcp.stream"]));
        let is_from_server = ports.iter().any(|port| u64::from(*port) == number(&tcp["tcp.srcport"]));
        let (direction, end) = if is_from_server { (TO_CLIENT, "dst") } else { (TO_SERVER, "src") };
        let port = text(&tcp[&format!("tcp.{end}port")]);
        let client = match &layers["ip"] {
            Value::Null => format!("[{}]:{port}", text(&layers["ipv6"][&format!("ipv6.{end}")])),
            ip => format!("{}:{port}", text(&ip[&format!("ip.{end}")])),
        };
        let mut heads: Vec<_> = each(&layers["http"]).filter_map(head).collect();
        let mut frames: Vec<_> = each(&layers["websocket"]).map(frame).collect();
        if !heads.is_empty() || !frames.is_empty() {
            let sent = self.streams.entry((client, direction)).or_default();
            sent.heads.append(&mut heads);
            sent.frames.append(&mut frames);
        }
    }
}

/// tshark has a list where something is there more than once.
fn each(value: &Value) -> impl Iterator<Item = &Value> {
    let list = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    list.iter().filter(|value| !value.is_null())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn number(value: &Value) -> u64 {
    let text = text(value);
    text.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The bytes of a field, in hexadecimal.
fn raw(layer: &Value, field: &str) -> String {
    match &layer[&format!("{field}_raw")] {
        Value::Null => String::new(),
        // Bytes, position, length, bit mask, type.
        raw => text(&raw[0]).to_owned(),
    }
}

/// The first line is a key, below which its parts are.
fn head(http: &Value) -> Option<Head> {
    let lines = http.as_object()?.values();
    lines.into_iter().find_map(|line| {
        if line["http.request.method"].is_string() {
            let [method, target] =
                ["http.request.method", "http.request.uri"].map(|field| text(&line[field]).to_owned());
            return Some(Head::Request { method, target });
        }
        line["http.response.code"]
            .is_string()
            .then(|| Head::Answer { status: number(&line["http.response.code"]) })
    })
}

fn frame(layer: &Value) -> Frame {
    let is_set = |field: &str| layer[field] == "1";
    let lengths =
        ["websocket.payload_length_ext_64", "websocket.payload_length_ext_16", "websocket.payload_length"];
    let length = lengths.iter().map(|field| &layer[*field]).find(|length| length.is_string());
    let opcode = number(&layer["websocket.opcode"]);
    let close = &layer["websocket.payload"]["websocket.payload.close"];
    Frame {
        opcode,
        fin: is_set("websocket.fin"),
        rsv1: layer["websocket.rsv"] == "0x04" || is_set("websocket.pmc"),
        masking_key: is_set("websocket.mask").then(|| raw(layer, "websocket.masking_key")),
        length: number(length.unwrap()),
        unmasked: raw(layer, "websocket.payload"),
        close: close.is_object().then(|| {
            let reason = &close["websocket.payload.close.reason"];
            let code = number(&close["websocket.payload.close.status_code"]);
            (code, reason.as_str().unwrap_or_default().to_owned())
        }),
    }
}

/// The same, of what the observer showed, for each interface: to tshark the second copy of a packet is sent again.
fn shown(records: &[Value]) -> BTreeMap<String, BTreeMap<Stream, Sent>> {
    let of_kind = |kind: &'static str| records.iter().filter(move |record| record["kind"] == kind);
    let interfaces: BTreeMap<_, _> = of_kind("connection_opened")
        .map(|opened| (opened["connection"].as_u64(), opened["interface"].to_string()))
        .collect();
    let mut streams: BTreeMap<String, BTreeMap<Stream, Sent>> = BTreeMap::new();
    let mut sent = |record: &Value, add: &dyn Fn(&mut Sent)| {
        let direction = if record["direction"] == TO_SERVER { TO_SERVER } else { TO_CLIENT };
        let interface = interfaces[&record["connection"].as_u64()].clone();
        let client = text(&record["client"]).to_owned();
        add(streams.entry(interface).or_default().entry((client, direction)).or_default());
    };
    for record in of_kind("handshake") {
        sent(record, &|sent| sent.heads.push(shown_head(record)));
    }
    for record in of_kind("frame") {
        sent(record, &|sent| sent.frames.push(shown_frame(record)));
    }
    for record in of_kind("message") {
        sent(record, &|sent| sent.messages.push(shown_message(record)));
    }
    streams
}

fn shown_head(record: &Value) -> Head {
    match record["status"].as_u64() {
        Some(status) => Head::Answer { status },
        None => {
            let [method, target] = ["method", "path"].map(|key| text(&record[key]).to_owned());
            Head::Request { method, target }
        }
    }
}

fn shown_frame(record: &Value) -> Frame {
    let is_set = |key: &str| record[key].as_bool().unwrap();
    let wire = STANDARD.decode(text(&record["wire_base64"])).unwrap();
    assert_eq!(record["wire_length"], wire.len(), "{record}");
    let opcode = record["opcode_number"].as_u64().unwrap();
    let length = record["length"].as_u64().unwrap();
    let masking_key = is_set("masked").then(|| text(&record["mask"]).to_owned());
    let unmasked = if opcode < 8 {
        let mut payload = wire[wire.len() - usize::try_from(length).unwrap()..].to_vec();
        if let Some(key) = &masking_key {
            let key = u32::from_str_radix(key, 16).unwrap().to_be_bytes();
            payload.truncate(UNMASKED_BYTES_MAX);
            payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        hexadecimal(&payload)
    } else {
        hexadecimal(&shown_payload(record))
    };
    Frame {
        opcode,
        fin: is_set("fin"),
        rsv1: is_set("rsv1"),
        masking_key,
        length,
        unmasked,
        close: record["close_code"].as_u64().map(|code| (code, text(&record["close_reason"]).to_owned())),
    }
}

fn shown_message(record: &Value) -> Message {
    let opcode = if record["opcode"] == "text" { 1 } else { 2 };
    Message::new(opcode, record["compressed"] == true, hexadecimal(&shown_payload(record)))
}

/// What the observer itself made of a payload.
fn shown_payload(record: &Value) -> Vec<u8> {
    match record["payload"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(text(&record["payload_base64"])).unwrap(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(file: &Path, ports: &[u16]) -> Seen {
    let mut command = observer(&["read", "--json", "--frames", "--wire"]);
    for port in ports {
        command.args(["--port", &port.to_string()]);
    }
    Seen::new(Program::start(command.arg(file)).wait())
}

fn captures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures");
    let mut captures: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    captures.sort();
    captures
}

/// Those at which servers listen in the recordings.
const PORTS: [u16; 2] = [7272, 7273];

#[test]
fn every_recorded_capture_is_read_as_tshark_reads_it() {
    let mut exceptions: Vec<_> = BEYOND_TSHARK.iter().map(|(name, _)| *name).collect();
    for capture in captures() {
        let name = capture.file_name().unwrap().to_str().unwrap();
        eprintln!("{name}");
        if let Some(place) = exceptions.iter().position(|exception| *exception == name) {
            exceptions.remove(place);
            let theirs = Dissected::by_tshark(&capture, &PORTS);
            assert!(theirs.streams.values().all(|sent| sent.frames.is_empty()), "tshark has learned it");
            continue;
        }
        assert_agrees(&capture, &PORTS, &read(&capture, &PORTS).records);
    }
    assert!(exceptions.is_empty(), "{exceptions:?} are not there");
}
