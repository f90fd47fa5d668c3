//! TLS, HTTP/2 and other protocols where a WebSocket could be, over packets made in memory.
//!
//! Owns the claims about how they are named. Must not know any layer's inside. Bounded: small conversations.

mod support;

use observer_core::engine::{Config, Report};
use observer_core::record::Kind;
use observer_core::{Engine, Event, Limits, Record};
use support::{Conversation, Wire, run};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn connected() -> Conversation {
    let mut it = Conversation::new(4_000);
    it.connect();
    it
}

/// Who shows which anomaly, and its detail.
fn anomalies(config: Config, packets: &[Wire]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut sink = |record: &Record<'_>| {
        if let Kind::Anomaly(it) = &record.kind {
            let who = it.direction.map_or("-", |direction| *direction.of(&["client", "server"]));
            lines.push(format!("{who} {}: {}", it.code, it.detail));
        }
    };
    let mut engine = Engine::new(config);
    for wire in packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    engine.finish(None, &mut sink);
    lines
}

fn of(it: &Conversation) -> Vec<String> {
    anomalies(Config::default(), &it.packets)
}

fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    [&content.len().to_be_bytes()[8 - length_bytes..], content].concat()
}

/// A first message for `name`, with a key share of the length of post-quantum ones, in records of `record` bytes.
fn client_hello(name: &[u8], record: usize) -> Vec<u8> {
    let name = vector(2, &vector(2, &[&[0][..], &vector(2, name)].concat()));
    let protocols = vector(2, &vector(2, &[vector(1, b"h2"), vector(1, b"http/1.1")].concat()));
    let extensions = [&[0, 51][..], &vector(2, &[7; 1_250]), &[0, 0], &name, &[0, 16], &protocols].concat();
    let body =
        [&[3; 34][..], &[0], &vector(2, &[0x13, 1]), &vector(1, &[0]), &vector(2, &extensions)].concat();
    let message = [&[1][..], &vector(3, &body)].concat();
    message.chunks(record).flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat()).collect()
}

const TOLD: &str =
    "client tls: server name chat.example.org, protocols h2, http/1.1: the connection is not decoded";

// TLS.

#[test]
fn tls_is_named_with_its_server_name_whatever_segments_and_records_it_comes_in() {
    for record in [64, 700, 16_000] {
        for segment in [1, 2, 500, 1_448, 9_000] {
            let hello = client_hello(b"chat.example.org", record);
            let mut it = connected();
            for piece in hello.chunks(segment) {
                it.client_sends(piece);
            }
            it.server_sends(&[22, 3, 3, 0, 1, 2]).client_sends(b"more").fin(true).fin(false);
            assert_eq!(of(&it), [TOLD], "records of {record}, segments of {segment}");
            let skipped = format!("skipped=[{}, 6]", hello.len() + 4);
            let lines = run(Config::default(), &it.packets);
            assert!(lines.iter().any(|line| line.ends_with(&skipped)), "{skipped} {lines:#?}");
        }
    }
}

#[test]
fn a_server_name_that_is_none_is_not_shown() {
    let mut it = connected();
    it.client_sends(&client_hello(b"\x1b]0;owned\x07", 16_000));
    let expected =
        "client tls: the server name is none, protocols h2, http/1.1: the connection is not decoded";
    assert_eq!(of(&it), [expected]);
}

#[test]
fn tls_whose_first_message_is_lost_cut_or_odd_is_named_once() {
    let hello = client_hello(b"chat.example.org", 16_000);
    let unread = "client tls: its first message was not read: the connection is not decoded";
    let mut lost = connected();
    lost.client_sends(&hello[..500]).client_sends(&hello[500..900]).client_sends(&hello[900..]);
    lost.packets.remove(5);
    let mut cut = connected();
    cut.client_sends(&hello[..500]).fin(true).fin(false);
    let mut open = connected();
    open.client_sends(&hello[..500]);
    let mut reset = connected();
    reset.client_sends(&hello[..2]).reset(true);
    let mut odd = connected();
    odd.client_sends(b"\x16\x03\x01\x00\x04\x0e\x00\x00\x00 and more").client_sends(b"and more");
    for it in [lost, cut, open, reset, odd] {
        assert_eq!(of(&it), [unread]);
    }
}

#[test]
fn a_first_message_beyond_the_bounds_is_named_and_counted() {
    let hello = client_hello(b"chat.example.org", 16_000);
    for limits in [
        Limits { client_hello_bytes: 1_000, ..Limits::default() },
        Limits { head_total_bytes: 1_000, ..Limits::default() },
    ] {
        let mut it = connected();
        for piece in hello.chunks(600) {
            it.client_sends(piece);
        }
        let config = Config { limits, ..Config::default() };
        let lines = run(config.clone(), &it.packets);
        assert!(lines.last().unwrap().ends_with("limits=1"), "{lines:#?}");
        let told = anomalies(config, &it.packets);
        assert_eq!(told, ["client tls: its first message was not read: the connection is not decoded"]);
    }
}

#[test]
fn what_first_messages_hold_is_given_back() {
    let hello = client_hello(b"chat.example.org", 16_000);
    let limits = Limits { head_total_bytes: 3_000, ..Limits::default() };
    let mut packets = Vec::new();
    for port in 1..=20 {
        let mut it = Conversation::new(port);
        it.connect().client_sends(&hello[..1_200]);
        it = if port % 2 == 0 {
            it.fin(true).fin(false).clone()
        } else {
            it.client_sends(&hello[1_200..]).clone()
        };
        packets.extend(it.packets);
    }
    let lines = run(Config { limits, ..Config::default() }, &packets);
    assert!(lines.last().unwrap().ends_with("limits=0"), "{lines:#?}");
}

#[test]
fn a_server_that_speaks_tls_first_is_named_too() {
    let mut it = connected();
    it.server_sends(b"\x15\x03\x03").server_sends(b"\x16\x03\x03");
    let mut tls = connected();
    tls.server_sends(b"\x16\x03\x03\x00\x02").client_sends(&client_hello(b"chat.example.org", 100));
    assert_eq!(of(&it), ["server not-http: the connection is not decoded"]);
    assert_eq!(of(&tls), ["server tls: the connection is not decoded"]);
}

// HTTP/2.

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&vector(3, payload)[..3], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn settings(id: u16, value: u32) -> Vec<u8> {
    frame(4, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn extended_connect(stream: u32) -> Vec<u8> {
    let block = [&[0x42, 7][..], b"CONNECT", &[0x40, 9], b":protocol", &[9], b"websocket"].concat();
    frame(1, 4, stream, &block)
}

const HTTP2: &str = "client http2: the connection is not decoded";
const ALLOWED: &str =
    "server websocket-over-http2: the server lets clients ask for it (SETTINGS_ENABLE_CONNECT_PROTOCOL)";
const ASKED: &str = "client websocket-over-http2: stream 1 asks for it (extended CONNECT): it is not decoded";

fn http2() -> Conversation {
    let mut it = connected();
    it.client_sends(&[PREFACE, &settings(3, 100)].concat())
        .server_sends(&settings(8, 1))
        .client_sends(&extended_connect(1))
        .server_sends(&frame(1, 4, 1, &[0x88]))
        .client_sends(&frame(0, 0, 1, b"\x81\x80\0\0\0\0"))
        .client_sends(&extended_connect(3))
        .fin(true)
        .fin(false);
    it
}

#[test]
fn websocket_over_http_2_is_named_where_it_is_allowed_and_where_it_is_asked_for() {
    assert_eq!(of(&http2()), [HTTP2, ALLOWED, ASKED]);
    let lines = run(Config::default(), &http2().packets);
    let client = PREFACE.len()
        + 2 * extended_connect(1).len()
        + settings(3, 100).len()
        + frame(0, 0, 1, &[0; 6]).len();
    let server = settings(8, 1).len() + frame(1, 4, 1, &[0x88]).len();
    let skipped = format!("complete=false skipped=[{client}, {server}]");
    assert!(lines.iter().any(|line| line.ends_with(&skipped)), "{skipped}: {lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains(" frame ") || line.contains(" message ")).count(), 0);
}

#[test]
fn a_connection_that_asks_for_websocket_over_http_2_is_one_to_report() {
    let upgrades = || Config { report: Report::Upgrades, ..Config::default() };
    assert_eq!(anomalies(upgrades(), &http2().packets), [ASKED]);
    let lines = run(upgrades(), &http2().packets);
    assert!(lines.last().unwrap().contains("connections=1 other=0"), "{lines:#?}");
    let mut plain = connected();
    plain.client_sends(&[PREFACE, &settings(8, 1)].concat()).server_sends(&settings(3, 1));
    assert!(run(upgrades(), &plain.packets).last().unwrap().contains("connections=0 other=1"));
}

#[test]
fn http_2_in_segments_of_one_byte_is_named_alike() {
    let mut it = connected();
    for byte in [PREFACE, &settings(3, 100), &extended_connect(1)].concat() {
        it.client_sends(&[byte]);
    }
    assert_eq!(of(&it), [HTTP2, ASKED]);
}

#[test]
fn a_server_whose_settings_come_first_is_named() {
    let mut it = connected();
    it.server_sends(&settings(8, 1)).client_sends(&[PREFACE, &extended_connect(1)].concat());
    let expected = ["server http2: the connection is not decoded", ALLOWED, ASKED];
    assert_eq!(of(&it), expected);
}

#[test]
fn http_2_of_which_something_is_lost_is_named_and_nothing_is_guessed() {
    let mut it = connected();
    it.client_sends(PREFACE).client_sends(&settings(3, 100)).client_sends(&extended_connect(1));
    it.packets.remove(5);
    assert_eq!(of(&it), [HTTP2]);
}

#[test]
fn an_endless_header_block_is_bounded_and_given_back() {
    let limits = Limits { head_bytes: 1_000, head_total_bytes: 2_000, ..Limits::default() };
    let mut packets = Vec::new();
    for port in 1..=10 {
        let mut it = Conversation::new(port);
        it.connect().client_sends(PREFACE).client_sends(&frame(1, 0, 1, &[0; 800]));
        for _ in 0..port % 2 * 20 {
            it.client_sends(&frame(9, 0, 1, &[0; 300]));
        }
        packets.extend(it.fin(true).fin(false).packets.clone());
    }
    let lines = run(Config { limits, ..Config::default() }, &packets);
    assert!(lines.last().unwrap().ends_with("limits=5"), "{lines:#?}");
}

#[test]
fn what_all_connections_hold_of_tls_and_http_2_together_is_bounded() {
    let hello = &client_hello(b"chat.example.org", 16_000)[..1_000];
    let headers = [PREFACE, &frame(1, 0, 1, &[0; 1_000])].concat();
    let limits = Limits { head_total_bytes: 3_500, ..Limits::default() };
    for start in [hello, &headers] {
        let mut packets = Vec::new();
        for port in 1..=10 {
            packets.extend(Conversation::new(port).connect().client_sends(start).packets.clone());
        }
        // Half of the bound is one of them.
        let lines = run(Config { limits, ..Config::default() }, &packets);
        assert!(lines.last().unwrap().ends_with("limits=9"), "{lines:#?}");
    }
}

#[test]
fn an_upgrade_to_h2c_is_named_and_watched() {
    let mut it = connected();
    it.client_sends(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
    )
    .server_sends(
        &[
            &b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"[..],
            &settings(8, 1),
        ]
        .concat(),
    )
    .client_sends(&[PREFACE, &settings(3, 100), &extended_connect(3)].concat())
    .fin(true)
    .fin(false);
    let expected = [
        "server http2: the server switched to h2c: the connection is not decoded",
        ALLOWED,
        "client websocket-over-http2: stream 3 asks for it (extended CONNECT): it is not decoded",
    ];
    assert_eq!(of(&it), expected);
}

#[test]
fn http_2_that_a_client_sends_ahead_of_the_switch_is_watched_too() {
    let asked = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n";
    let mut it = connected();
    it.client_sends(asked.as_bytes())
        .client_sends(&[PREFACE, &settings(3, 100)].concat())
        .client_sends(&extended_connect(1))
        .server_sends(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    let told = of(&it);
    assert!(told.contains(&ASKED.to_owned()), "{told:#?}");
}

#[test]
fn another_protocol_that_a_server_switches_to_is_named() {
    for (upgrade, named) in [("Upgrade: foo/1\r\n", "foo/1"), ("", "it names none")] {
        let mut it = connected();
        it.client_sends(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo/1\r\n\r\n")
            .server_sends(
                format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{upgrade}\r\n")
                    .as_bytes(),
            );
        let expected =
            format!("server switched-to-another-protocol: {named}: what follows is decoded by its looks");
        assert_eq!(of(&it), [expected]);
    }
}
