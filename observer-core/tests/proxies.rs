//! What proxies say of whom a connection is for, over packets made in memory.
//!
//! Owns the claims about PROXY headers and forwarding header fields that need the engine. Must not know any layer's
//! inside. Bounded: small conversations.

mod support;

use observer_core::engine::{Config, Report};
use observer_core::record::Kind;
use observer_core::{Engine, Event, Limits, Record};
use proptest::prelude::*;
use support::{Conversation, Wire, answer, masked, messages, request, run, unmasked};

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 41234 443\r\n";

fn v2(version_and_command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
    let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[version_and_command, family], &length, behind].concat()
}

/// From 203.0.113.7:41234 to 198.51.100.1:443, with further fields behind.
fn v2_tcp4(further: usize) -> Vec<u8> {
    v2(0x21, 0x11, &[&[203, 0, 113, 7, 198, 51, 100, 1, 0xa1, 0x12, 1, 0xbb][..], &vec![4; further]].concat())
}

/// The upgrade request, with further fields.
fn request_with(fields: &str) -> Vec<u8> {
    String::from_utf8(request()).unwrap().replacen("\r\n", &format!("\r\n{fields}\r\n"), 1).into_bytes()
}

fn plain_with(fields: &str) -> Vec<u8> {
    format!("GET /page HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n").into_bytes()
}

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn connected() -> Conversation {
    let mut it = Conversation::new(4_000);
    it.connect();
    it
}

fn converse(it: &mut Conversation) {
    it.client_sends(&masked("from the client"))
        .server_sends(&unmasked("from the server"))
        .fin(true)
        .fin(false);
}

/// Each record of a connection: its kind, and whom the connection claims to be for.
fn claims(config: Config, packets: &[Wire]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut sink = |record: &Record<'_>| {
        let Some(connection) = record.connection else { return };
        let kind = match &record.kind {
            Kind::ConnectionOpened(_) => "opened".to_owned(),
            Kind::ProxyHeader(_) => "proxy".to_owned(),
            Kind::Handshake(it) => {
                it.status.map_or_else(|| "request".to_owned(), |status| status.to_string())
            }
            Kind::Message(_) => "message".to_owned(),
            Kind::Anomaly(it) => format!("{}: {}", it.code, it.detail),
            Kind::ConnectionClosed(_) => "closed".to_owned(),
            other => format!("{other:?}"),
        };
        let claim = connection.client_claim.as_ref().map_or_else(
            || "nobody".to_owned(),
            |claim| {
                let also: String = claim.also.iter().map(|address| format!(" +{address}")).collect();
                format!("{} by {}{also}", claim.address, claim.by.name())
            },
        );
        lines.push(format!("{kind}: {claim}"));
    };
    let mut engine = Engine::new(config);
    for wire in packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    engine.finish(None, &mut sink);
    lines
}

fn upgrades() -> Config {
    Config { report: Report::Upgrades, ..Config::default() }
}

// The PROXY header.

#[test]
fn a_proxy_header_of_either_version_is_told_and_claims_the_client_of_all_that_follows() {
    for header in [V1.to_vec(), v2_tcp4(0), v2_tcp4(3_000)] {
        let mut it = connected();
        it.client_sends(&[&header[..], &request()].concat()).server_sends(&answer());
        converse(&mut it);
        for config in [Config::default(), upgrades()] {
            let expected = ["proxy", "request", "101", "message", "message", "closed"]
                .map(|kind| format!("{kind}: 203.0.113.7:41234 by proxy_protocol"));
            let lines = claims(config, &it.packets);
            assert_eq!(lines[0], "opened: nobody");
            assert_eq!(lines[1..], expected);
        }
        let lines = run(Config::default(), &it.packets);
        let version = if header == V1 { 1 } else { 2 };
        let told = format!("#1 proxy v{version} Some(203.0.113.7:41234) Some(198.51.100.1:443)");
        assert_eq!(lines[1], told);
        assert!(lines.iter().any(|line| line.ends_with("fin None complete=true")), "{lines:#?}");
    }
}

#[test]
fn a_proxy_header_and_the_request_behind_it_are_told_with_their_own_times() {
    let mut it = connected();
    it.client_sends(V1);
    let sent = it.packets[3].nanoseconds;
    it.client_sends(&request());
    let mut times = Vec::new();
    let mut engine = Engine::new(upgrades());
    let mut sink = |record: &Record<'_>| match record.kind {
        Kind::ProxyHeader(_) => times.push(record.time.wall.0),
        Kind::Handshake(ref handshake) => times.push(handshake.time_first.wall.0),
        _ => {}
    };
    for wire in &it.packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    assert_eq!(times, [sent, it.packets[5].nanoseconds]);
}

#[test]
fn a_header_that_claims_nobody_is_told_and_claims_nobody() {
    for (header, told) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "proxy v1 None None"),
        (v2(0x20, 0, b""), "proxy v2 None None local"),
        (v2(0x20, 0x11, &[1; 12]), "proxy v2 None None local"),
        (v2(0x21, 0x31, &[b'/'; 216]), "proxy v2 None None"),
    ] {
        let mut it = connected();
        it.client_sends(&header).client_sends(&request()).server_sends(&answer());
        converse(&mut it);
        let lines = run(Config::default(), &it.packets);
        assert_eq!(lines[1], format!("#1 {told}"));
        assert_eq!(messages(&lines).len(), 2);
        assert!(claims(Config::default(), &it.packets).iter().all(|line| line.ends_with(": nobody")));
    }
}

#[test]
fn a_malformed_proxy_header_is_told_and_hides_nothing() {
    for header in [
        &b"PROXY TCP4 203.0.113.7 198.51.100.1 41234\r\n"[..],
        &v2(0x21, 0x11, b"short"),
        &v2(0x21, 0xf1, &[0; 500]),
        &v2(0x31, 0x11, &[0; 12]),
        &[b"PROXY TCP4 ", &b"1".repeat(200)[..], b"\r\n"].concat(),
    ] {
        let mut it = connected();
        it.client_sends(header).client_sends(&request()).server_sends(&answer());
        converse(&mut it);
        let lines = run(Config::default(), &it.packets);
        let anomalies: Vec<_> = lines.iter().filter(|line| line.contains("anomaly")).collect();
        assert_eq!(anomalies, ["#1 anomaly proxy-header-malformed"], "{lines:#?}");
        assert_eq!(messages(&lines).len(), 2, "{lines:#?}");
        let skip = format!("skipped=[{}, 0]", header.len());
        assert!(lines.iter().any(|line| line.ends_with(&skip)), "{lines:#?}");
    }
}

#[test]
fn a_stream_that_ends_inside_a_proxy_header_is_told_and_counted_as_skipped() {
    for (start, code) in [(&V1[..20], "proxy-header-malformed"), (&V1[..3], "stream-ends-inside-a-head")] {
        let mut it = connected();
        it.client_sends(start).fin(true).fin(false);
        let lines = run(Config::default(), &it.packets);
        assert!(lines.iter().any(|line| line.ends_with(code)), "{lines:#?}");
        let skip = format!("skipped=[{}, 0]", start.len());
        assert!(lines.iter().any(|line| line.ends_with(&skip)), "{lines:#?}");
    }
}

#[test]
fn a_lost_part_of_a_proxy_header_hides_no_websocket() {
    let mut it = connected();
    it.client_sends(&V1[..20]).client_sends(&V1[20..]).client_sends(&request()).server_sends(&answer());
    converse(&mut it);
    it.packets.remove(5);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines).len(), 2, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("anomaly")), "{lines:#?}");
}

#[test]
fn a_proxy_header_before_tls_and_before_http_2_is_told() {
    for (behind, code) in
        [(&b"\x16\x03\x01\x00\x05"[..], "tls"), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2")]
    {
        let mut it = connected();
        it.client_sends(&[&v2_tcp4(10), behind].concat()).fin(true).fin(false);
        let lines = claims(Config::default(), &it.packets);
        assert_eq!(lines[1], "proxy: 203.0.113.7:41234 by proxy_protocol");
        assert!(lines[2].starts_with(&format!("{code}: ")), "{lines:#?}");
        assert!(lines[2].ends_with(": 203.0.113.7:41234 by proxy_protocol"), "{lines:#?}");
    }
}

#[test]
fn a_request_that_begins_like_a_proxy_header_is_read_whole() {
    for start in ["PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut it = connected();
        for byte in start.as_bytes() {
            it.client_sends(&[*byte]);
        }
        it.server_sends(PAGE).client_sends(&request()).server_sends(&answer());
        converse(&mut it);
        let lines = run(Config::default(), &it.packets);
        assert!(lines[1].contains("handshake client_to_server") && !lines[1].contains("None None None"));
        assert_eq!(messages(&lines).len(), 2, "{lines:#?}");
        assert!(lines.iter().any(|line| line.ends_with("complete=true")), "{lines:#?}");
    }
}

// Header fields.

#[test]
fn the_upgrade_requests_claim_is_that_of_all_that_follows() {
    let mut it = connected();
    it.client_sends(&request_with("X-Forwarded-For: 203.0.113.7, 10.0.0.9\r\nX-Real-IP: 10.0.0.9"));
    it.server_sends(&answer());
    converse(&mut it);
    let expected = ["request", "101", "message", "message", "closed"]
        .map(|kind| format!("{kind}: 203.0.113.7 by x_forwarded_for +10.0.0.9"));
    assert_eq!(claims(upgrades(), &it.packets)[1..], expected);
}

#[test]
fn on_a_connection_of_many_clients_each_request_and_its_answer_have_their_own_claim() {
    let mut it = connected();
    it.client_sends(&plain_with("Forwarded: for=192.0.2.1"))
        .client_sends(&plain_with("A: b"))
        .client_sends(&request_with("X-Real-IP: 192.0.2.3"))
        .server_sends(PAGE)
        .server_sends(PAGE)
        .server_sends(&answer());
    converse(&mut it);
    let lines = claims(Config::default(), &it.packets);
    assert_eq!(
        lines[1..],
        [
            "request: 192.0.2.1 by forwarded",
            "request: nobody",
            "request: 192.0.2.3 by x_real_ip",
            "200: 192.0.2.1 by forwarded",
            "200: nobody",
            "101: 192.0.2.3 by x_real_ip",
            "message: 192.0.2.3 by x_real_ip",
            "message: 192.0.2.3 by x_real_ip",
            "closed: 192.0.2.3 by x_real_ip",
        ]
    );
}

#[test]
fn an_answer_whose_request_was_not_seen_claims_nobody() {
    let mut it = connected();
    it.client_sends(&plain_with("X-Real-IP: 192.0.2.1")).server_sends(PAGE);
    let lost = it.packets.len();
    it.client_sends(&request_with("X-Real-IP: 192.0.2.2")).server_sends(&answer());
    converse(&mut it);
    it.packets.remove(lost);
    let lines = claims(Config::default(), &it.packets);
    assert!(lines.contains(&"101: nobody".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"message: nobody".to_owned()), "{lines:#?}");
}

#[test]
fn addresses_beyond_the_bound_are_left_out_and_counted() {
    let many: Vec<_> = (0..100).map(|n| format!("192.0.2.{n}")).collect();
    let mut it = connected();
    it.client_sends(&request_with(&format!("X-Forwarded-For: {}", many.join(", "))));
    let limits = Limits { claimed_addresses: 3, ..Limits::default() };
    let config = || Config { limits, ..Config::default() };
    assert_eq!(
        claims(config(), &it.packets)[1],
        "request: 192.0.2.0 by x_forwarded_for +192.0.2.98 +192.0.2.99"
    );
    assert!(run(config(), &it.packets).last().unwrap().ends_with("limits=1"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_a_proxy_header_and_what_follows_gives_the_same_records(
        sizes in prop::collection::vec(1_usize..60, 1..20), binary: bool, together: bool,
    ) {
        let header = if binary { v2_tcp4(300) } else { V1.to_vec() };
        let steps = if together {
            vec![[&header[..], &request()].concat()]
        } else {
            vec![header, request()]
        };
        let mut whole = connected();
        let mut cut = connected();
        let mut sizes = sizes.iter().cycle();
        for bytes in steps {
            whole.client_sends(&bytes);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                cut.client_sends(now);
                rest = later;
            }
        }
        for it in [&mut whole, &mut cut] {
            it.server_sends(&answer());
            converse(it);
        }
        let whole = claims(Config::default(), &whole.packets);
        prop_assert_eq!(whole.len(), 7);
        prop_assert_eq!(whole, claims(Config::default(), &cut.packets));
    }
}
