//! Inputs to begin with.
//!
//! Owns what a target would take long to find by itself. Must not know what a target does with it beyond how its input
//! is laid out. Bounded: small inputs; those out of captures by [`FRAMES_MAX`].

use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::{Compress, Compression, FlushCompress};

use crate::capture_file::frames_of;
use crate::engine::TOKENS;

/// Frames that are taken out of one capture.
const FRAMES_MAX: usize = 12;

/// Text as people write it: it refers to itself.
const MESSAGES: [&str; 3] = [
    r#"{"type":"login","name":"mynick"}"#,
    r#"{"type":"say","to_uid":"all","content":"hi, all ! hi, all ! hi, all !"}"#,
    r#"{"type":"say","to_uid":"all","content":"what I said is {\"type\":\"say\",\"to_uid\":\"all\"}"}"#,
];

/// Every target's name, what it does with an input, and its seeds.
pub type Target = (&'static str, fn(&[u8]), Vec<Vec<u8>>);

/// Names the directory that a target's seeds are written to before it begins.
const DIRECTORY: &str = "OBSERVER_FUZZ_SEEDS";

/// Writes the seeds of one target, where the environment says to: whoever builds the target needs to build nothing else.
///
/// # Panics
/// If they cannot be written.
pub fn write(target: &str) {
    let Some(directory) = env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    fs::create_dir_all(&directory).expect("a directory for seeds");
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures");
    let all = targets(&captures);
    let (_, _, seeds) = all.iter().find(|(name, _, _)| *name == target).expect("a target");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("{number:03}")), seed).expect("a seed");
    }
}

/// Every target with its seeds. `captures`: a directory of capture files.
///
/// # Panics
/// If the captures cannot be read.
pub fn targets(captures: &Path) -> Vec<Target> {
    let mut files: Vec<_> =
        fs::read_dir(captures).expect("captures").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let files: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    vec![
        ("packet", crate::packet::run, packets(&files)),
        ("reassembly", crate::reassembly::run, reassembly()),
        ("handshake", crate::handshake::run, handshakes()),
        ("frame", crate::frame::run, frames()),
        ("deflate", crate::deflate::run, deflate()),
        (
            "capture_file",
            crate::capture_file::run,
            files.iter().map(|file| with_string(&[], &[], file)).collect(),
        ),
        ("engine", crate::engine::run, engine()),
    ]
}

/// `head`, a string with its length before it, `rest`.
fn with_string(head: &[u8], string: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(string.len()).expect("a short string");
    [head, &[length], string, rest].concat()
}

fn packets(files: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let frames = files.iter().flat_map(|file| frames_of(file).into_iter().take(FRAMES_MAX));
    frames.map(|(link, frame)| [&[link, 0, 0][..], &frame].concat()).collect()
}

fn reassembly() -> Vec<Vec<u8>> {
    let in_order = [9, 10, 9, 20, 9, 5];
    let holes = [0, 5, 0, 20, 0, 40, 0, 10, 0, 0, 0, 5, 11, 30, 0, 9, 30];
    let many = (0..40_u8).flat_map(|at| [0, at * 6, 0, 3]).collect::<Vec<u8>>();
    let cut = [0x20, 0, 0, 50, 20, 0xc0, 200, 0, 5, 0x20, 50, 0, 50, 10, 11, 206, 0];
    let syn = [14, 4, b'd', b'a', b't', b'a', 11, 5, 0, 9, 10];
    let mut seeds = Vec::new();
    for steps in [&in_order[..], &holes, &many, &cut, &syn] {
        for options in 0..16 {
            let initial = if options & 1 == 0 { [0, 0, 0, 0] } else { [0xf0, 0xff, 0xff, 0xff] };
            seeds.push([&initial[..], &[options], steps].concat());
        }
    }
    seeds
}

fn handshakes() -> Vec<Vec<u8>> {
    let further: [&[u8]; 4] = [
        b"\r\nGET http://a/ HTTP/1.0\nHost: a\n folded\nContent-Length: 3, 3\n\nabc",
        b"HTTP/1.1 101\r\nUpgrade: a, websocket\r\nSec-WebSocket-Protocol: v1\r\n\
          Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=\"9\", x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let tokens = TOKENS.iter().chain(&further).copied();
    let mut seeds = Vec::new();
    for token in tokens {
        for kind in [0, 1] {
            seeds.push(with_string(&[kind], &[0, 0, 5, 30], token));
        }
    }
    seeds
}

fn frames() -> Vec<Vec<u8>> {
    // What says how, a frame's first byte, its payload.
    let step = |how: u8, first: u8, payload: &[u8]| with_string(&[how, first], payload, &[]);
    let text = MESSAGES[0].as_bytes();
    let talk = [
        step(4, 0x81, text),
        step(4, 0x89, b"ping"),
        step(4, 0x82, &[0, 1, 2]),
        step(4, 0x88, b"\x03\xe8bye"),
    ];
    let fragments = [step(4, 0x01, b"hel"), step(4, 0x89, b""), step(4, 0x00, b"lo "), step(4, 0x80, b"you")];
    let compressed: Vec<Vec<u8>> = compress(&MESSAGES).iter().map(|payload| step(4, 0xc1, payload)).collect();
    let wrong =
        [step(0x24, 0x81, text), step(0x44, 0x81, text), step(0x84, 0x82, b"abc"), step(4, 0xb3, b"x")];
    let holes =
        [step(4, 0x81, text), vec![1, 5], step(4, 0x81, text), vec![2, 1, 0, 0, 0], step(4, 0x82, text)];
    let mut seeds = Vec::new();
    for options in 0..64 {
        for steps in [&talk[..], &fragments, &compressed, &wrong, &holes] {
            seeds.push(with_string(&[options, options], &[0, 3, 8, 30], &steps.concat()));
        }
    }
    seeds
}

fn deflate() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..900_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect();
    let mut seeds = Vec::new();
    for takes_over in [0, 1] {
        for level in [0, 1, 6, 9] {
            let mut payloads = compress_at(level, &MESSAGES.map(str::as_bytes), FlushCompress::Sync);
            payloads.push(b"\xca\x48\xcd\xc9\xc9\x07\x00".to_vec());
            seeds.push(messages(takes_over, &payloads));
            seeds.push(messages(
                takes_over,
                &compress_at(level, &[&noise, &[b'a'; 40_000]], FlushCompress::Sync),
            ));
            seeds.push(messages(
                takes_over,
                &compress_at(level, &[MESSAGES[1].as_bytes()], FlushCompress::Finish),
            ));
        }
    }
    seeds
}

fn messages(takes_over: u8, payloads: &[Vec<u8>]) -> Vec<u8> {
    let lengths = |payload: &Vec<u8>| u16::try_from(payload.len()).unwrap().to_le_bytes();
    let rest: Vec<u8> =
        payloads.iter().flat_map(|payload| [&lengths(payload)[..], payload].concat()).collect();
    with_string(&[takes_over], &[0, 4, 60], &rest)
}

fn engine() -> Vec<Vec<u8>> {
    // What and with whom; how; a frame's first byte; its payload.
    let frame = |what: u8, first: u8, payload: &[u8]| with_string(&[what, 4, first], payload, &[]);
    let upgrade = vec![7, 4, 0, 0x44, 1];
    let upgrade_compressed = vec![7, 4, 2, 0x44, 3, 0x44, 9];
    let text = MESSAGES[0].as_bytes();
    let talk = [frame(0, 0x81, text), frame(0x40, 0x81, b"you"), frame(1, 0x01, b"a"), frame(0, 0x80, b"b")]
        .concat();
    let compressed: Vec<u8> =
        compress(&MESSAGES).iter().flat_map(|payload| frame(0x40, 0xc1, payload)).collect();
    let bye = [frame(0, 0x88, b"\x03\xe8"), frame(0x40, 0x88, b"\x03\xe8"), vec![0x46, 17, 6, 17, 0x46, 16]]
        .concat();
    let lossy = [talk.clone(), vec![0x88], talk.clone(), vec![9, 3, 10, 2, 11, 45, 0], talk.clone()].concat();
    let bodies = vec![7, 4, 5, 0x44, 6, 0x44, 7, 4, 0, 0x44, 4, 4, 0, 0x44, 1];
    let other = vec![0x17, 0x14, 0, 0x54, 1, 0x27, 0x24, 8, 0x37, 0x35, 3, b'x', b'y', b'z'];
    let mut seeds = Vec::new();
    for options in 0..64_u16 {
        let options = (options << 1 | options >> 5 & 1).to_le_bytes();
        for steps in [
            [upgrade.clone(), talk.clone(), bye.clone()].concat(),
            [upgrade.clone(), lossy.clone(), bye.clone()].concat(),
            [upgrade_compressed.clone(), compressed.clone(), lossy.clone(), compressed.clone(), bye.clone()]
                .concat(),
            [bodies.clone(), talk.clone(), other.clone(), bye.clone()].concat(),
            [talk.clone(), lossy.clone()].concat(),
        ] {
            seeds.push([&options[..], &steps].concat());
        }
    }
    seeds
}

fn compress(messages: &[&str]) -> Vec<Vec<u8>> {
    compress_at(
        6,
        &messages.iter().map(|message| message.as_bytes()).collect::<Vec<_>>(),
        FlushCompress::Sync,
    )
}

/// Payloads of messages that refer to one another, without their tail if they have one.
fn compress_at(level: u32, messages: &[&[u8]], flush: FlushCompress) -> Vec<Vec<u8>> {
    let mut stream = Compress::new(Compression::new(level), false);
    let mut payloads = Vec::new();
    for message in messages {
        let mut payload = Vec::with_capacity(message.len() * 2 + 100);
        stream.compress_vec(message, &mut payload, flush).unwrap();
        if flush == FlushCompress::Sync {
            payload.truncate(payload.len() - 4);
        }
        payloads.push(payload);
    }
    payloads
}
