//! Captures that somebody made to fill the observer's memory: each is read within a bound that the kernel enforces,
//! names the limits that it reached, and hides nothing of the conversation behind it.
//!
//! The bounds are those of `Limits::default()` that a capture reaches, and [`PROCESS_MIB`] for all else.

use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};

use flate2::{Compress, Compression, FlushCompress};

use crate::support::{ANSWER, Conversation, From, Pcap, REQUEST, Ran, json, payloads, ran};

/// Stacks of threads, buffers of the reader and of the output, the program itself unoptimised.
const PROCESS_MIB: usize = 32;
const MIB: usize = 1 << 20;
/// As much as fits into one packet, with a frame's header.
const SEGMENT: usize = 65_000;

/// Writes a capture packet by packet: it may be longer than memory is large.
struct Hostile<'a> {
    pcap: Pcap,
    output: BufWriter<&'a mut dyn Write>,
    /// Client and server ports of the next conversation.
    ports: (u16, u16),
}

impl Hostile<'_> {
    fn packets(&mut self, conversation: &mut Conversation) {
        for packet in conversation.packets.drain(..) {
            // The run may have ended by a failure, which it tells itself.
            let _ = self.output.write_all(&self.pcap.record(0, &packet));
        }
    }

    fn next_ports(&mut self) -> (u16, u16) {
        let (client, server) = &mut self.ports;
        if *client == 60_000 {
            (*client, *server) = (1_024, *server + 1);
        }
        *client += 1;
        self.ports
    }

    /// A new connection.
    fn open(&mut self) -> Conversation {
        let (client, server) = self.next_ports();
        Conversation::open_from(client, server)
    }

    /// A new WebSocket.
    fn upgraded(&mut self) -> Conversation {
        let (client, server) = self.next_ports();
        Conversation::upgraded_from(client, server)
    }

    /// Bytes of one end, a segment at a time, each acknowledged.
    fn send(&mut self, conversation: &mut Conversation, from: From, bytes: &[u8]) {
        for piece in bytes.chunks(SEGMENT) {
            conversation.send(from, piece);
            conversation.acknowledge(if from == From::Client { From::Server } else { From::Client });
            self.packets(conversation);
        }
    }
}

/// Reads a hostile capture, with an ordinary conversation behind it, within so many MiB.
fn read(mib: usize, write: impl FnOnce(&mut Hostile<'_>) + Send) -> Ran {
    let mut command = Command::new("sh");
    // RLIMIT_DATA counts all that a process can write to and shares with nobody (setrlimit(2)).
    let script = format!("ulimit -d {} && exec \"$0\" \"$@\"", (mib + PROCESS_MIB) * 1_024);
    command.args(["-c", &script, env!("CARGO_BIN_EXE_observer")]);
    command.args(["read", "-", "--json", "--grep", "still here"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let pcap = Pcap { link: 101, link_header: Vec::new(), ..Pcap::default() };
            let _ = input.write_all(&pcap.file(&[]));
            let output = BufWriter::with_capacity(MIB, &mut input as &mut dyn Write);
            let mut hostile = Hostile { pcap, output, ports: (1_024, 10_000) };
            write(&mut hostile);
            let mut ordinary = Conversation::upgraded(7_272);
            ordinary.text(From::Client, "still here");
            ordinary.close();
            hostile.packets(&mut ordinary);
        });
        ran(child.wait_with_output().unwrap())
    })
}

/// Everything was read, and just these limits were reached: as the summary has it, and as the account says it.
fn assert_reached(ran: &Ran, limits: &[&str]) {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let records = json(ran);
    assert_eq!(payloads(&records), ["still here"]);
    let summary = records.last().unwrap();
    assert_eq!(summary["kind"], "summary");
    let counters = summary["limits"].as_object().unwrap();
    let mut reached: Vec<&str> = counters.keys().map(String::as_str).collect();
    reached.retain(|name| counters[*name] != 0);
    let mut expected = limits.to_vec();
    reached.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reached, expected, "{}", ran.stderr);
    for name in limits {
        let said = format!("limit `{name}` of the observer reached ");
        assert!(ran.stderr.contains(&said), "{said:?} is not in {}", ran.stderr);
    }
}

/// The head of a frame whose length is written in 64 bits.
fn long_head(from: From, first: u8, length: u64) -> Vec<u8> {
    let mask = if from == From::Client { 0x80 } else { 0 };
    let key = if from == From::Client { &[0; 4][..] } else { &[] };
    [&[first, mask | 127][..], &length.to_be_bytes(), key].concat()
}

#[test]
fn half_open_connections_and_what_their_syns_carry_are_bounded() {
    // 131,072 connections of 1.8 KiB, and 4 MiB in SYNs.
    let ran = read(233 + 4, |hostile| {
        for number in 0..140_000 {
            let (client, server) = hostile.next_ports();
            let payload: &[u8] = if number % 40 == 0 { &[b'x'; 1_400] } else { b"" };
            let mut attempt = Conversation::attempt(client, server, payload);
            hostile.packets(&mut attempt);
        }
    });
    assert_reached(&ran, &["connections", "syn_data"]);
}

#[test]
fn frames_of_impossible_lengths_and_fragments_without_end_are_bounded() {
    // Two messages that are kept.
    let ran = read(2 * 16, |hostile| {
        let mut long = hostile.upgraded();
        hostile.send(&mut long, From::Server, &long_head(From::Server, 0x82, i64::MAX as u64));
        let mut longest = hostile.upgraded();
        hostile.send(&mut longest, From::Server, &long_head(From::Server, 0x82, u64::MAX));
        let zeros = vec![0; SEGMENT];
        for _ in 0..20 * MIB / SEGMENT {
            hostile.send(&mut long, From::Server, &zeros);
        }
        let mut fragments = hostile.upgraded();
        fragments.fragment(From::Server, 2, &zeros[10..]);
        for _ in 0..20 * MIB / SEGMENT {
            fragments.fragment(From::Server, 0, &zeros[10..]);
            hostile.packets(&mut fragments);
        }
        for _ in 0..20_000 {
            fragments.fragment(From::Server, 0, b"");
            hostile.packets(&mut fragments);
        }
        // Every second segment of this one is lost, and acknowledged.
        let mut holes = hostile.upgraded();
        hostile.send(&mut holes, From::Server, &long_head(From::Server, 0x82, MIB as u64));
        for _ in 0..200 {
            holes.send(From::Server, b"seen");
            holes.send(From::Server, b"lost");
            holes.packets.pop();
            holes.acknowledge(From::Client);
        }
        hostile.packets(&mut holes);
        let mut anomalies = hostile.upgraded();
        for _ in 0..300 {
            anomalies.send(From::Client, &[0x89, 0]);
        }
        hostile.packets(&mut anomalies);
    });
    let limits = ["connection_anomalies", "message", "message_holes", "message_total"];
    assert_reached(&ran, &limits);
}

#[test]
fn a_deflate_bomb_is_bounded_and_the_rest_of_its_connection_is_read() {
    let mut stream = Compress::new(Compression::best(), false);
    let mut mebibyte = || {
        let mut bytes = Vec::with_capacity(MIB);
        stream.compress_vec(&vec![b'x'; MIB], &mut bytes, FlushCompress::Sync).unwrap();
        bytes
    };
    // From the second one on, each refers to what was there before.
    let (first, further) = (mebibyte(), mebibyte());
    let bomb = [first, further.repeat(1_023)].concat();
    // One message that is kept.
    let ran = read(16, |hostile| {
        let mut conversation = hostile.open();
        let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        for (from, head) in [(From::Client, REQUEST), (From::Server, ANSWER)] {
            let head = format!("{}{extension}", head.strip_suffix("\r\n").unwrap());
            hostile.send(&mut conversation, from, head.as_bytes());
        }
        for _ in 0..2 {
            let head = long_head(From::Server, 0xc2, bomb.len() as u64);
            hostile.send(&mut conversation, From::Server, &head);
            hostile.send(&mut conversation, From::Server, &bomb);
        }
        conversation.text(From::Server, "and so is this: still her");
        conversation.close();
        hostile.packets(&mut conversation);
    });
    let summary = json(&ran).pop().unwrap();
    assert_eq!(summary["account"]["server_to_client"]["messages"], 3);
    assert_reached(&ran, &["inflated", "message"]);
}

#[test]
fn endless_heads_and_requests_that_nobody_answers_are_bounded() {
    let ran = read(64, |hostile| {
        let field = format!("X: {}\r\n", "x".repeat(1_000));
        let endless = [b"GET / HTTP/1.1\r\n", field.repeat(100).as_bytes()].concat();
        let mut one = hostile.open();
        hostile.send(&mut one, From::Client, &endless);
        let mut pipelined = hostile.open();
        for _ in 0..100 {
            hostile.send(&mut pipelined, From::Client, b"GET / HTTP/1.1\r\n\r\n");
        }
        let mut early = hostile.open();
        hostile.send(&mut early, From::Client, REQUEST.as_bytes());
        hostile.send(&mut early, From::Client, &vec![0; 100_000]);
        for _ in 0..1_200 {
            let mut unfinished = hostile.open();
            hostile.send(&mut unfinished, From::Client, &endless[..60_000]);
        }
    });
    assert_reached(&ran, &["early", "head", "head_total", "pending_requests"]);
}

#[test]
fn bytes_that_wait_for_holes_to_fill_are_bounded() {
    let ran = read(256, |hostile| {
        let mut tiny = hostile.upgraded();
        for _ in 0..3_000 {
            tiny.send(From::Server, b"lost");
            tiny.packets.pop();
            tiny.send(From::Server, b"kept");
            hostile.packets(&mut tiny);
        }
        for _ in 0..80 {
            let mut hoarder = hostile.upgraded();
            hoarder.send(From::Server, b"lost");
            hoarder.packets.pop();
            for _ in 0..4 * MIB / SEGMENT {
                hoarder.send(From::Server, &[0; SEGMENT]);
            }
            hostile.packets(&mut hoarder);
        }
    });
    assert_reached(&ran, &["reassembly", "reassembly_total"]);
}

#[test]
fn a_run_that_needs_more_memory_than_its_bound_fails_these_tests() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -d 1024 && exec \"$0\" read -", env!("CARGO_BIN_EXE_observer")]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
}
