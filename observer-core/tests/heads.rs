//! What HTTP can hold before, around and instead of a WebSocket, over packets made in memory.
//!
//! Owns the claims about heads and bodies that need the engine. Must not know any layer's inside. Bounded: small
//! conversations.

mod support;

use std::collections::BTreeSet;

use observer_core::engine::{Config, Report};
use observer_core::record::Kind;
use observer_core::websocket::frame::{Opcode, encode::FrameBuilder};
use observer_core::{Engine, Event, Limits, Record};
use proptest::prelude::*;
use support::{Conversation, MASK, Wire, answer, close, masked, messages, request, run, unmasked};

const PLAIN: &[u8] = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\nTrailer: x\r\n\r\n";

fn upgrades() -> Config {
    Config { report: Report::Upgrades, ..Config::default() }
}

fn limited(limits: Limits) -> Config {
    Config { limits, ..Config::default() }
}

/// An upgrade, messages both ways, and an end in order.
fn converse(it: &mut Conversation) {
    it.client_sends(&request()).server_sends(&answer());
    say(it, 20);
    it.client_sends(&close(1000, Some(MASK))).server_sends(&close(1000, None)).fin(false).fin(true);
}

fn say(it: &mut Conversation, times: usize) {
    for n in 0..times {
        it.client_sends(&masked(&format!("client {n}"))).server_sends(&unmasked(&format!("server {n}")));
    }
}

/// Nothing is missing, marked, or out of order.
fn assert_whole(it: &Conversation) {
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    for unwanted in ["anomaly", "resynchronised", "gap ", "skipped"] {
        assert!(!lines.iter().any(|line| line.contains(unwanted)), "{unwanted}: {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.ends_with("close_frame Some(1000) complete=true")), "{lines:#?}");
}

fn after(exchanges: &[(&[u8], &[u8])]) -> Conversation {
    let mut it = Conversation::new(4_000);
    it.connect();
    for (asked, answered) in exchanges {
        it.client_sends(asked).server_sends(answered);
    }
    converse(&mut it);
    it
}

fn anomalies(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.split_once(" anomaly ").map(|(_, code)| code)).collect()
}

fn closed(lines: &[String]) -> &str {
    lines.iter().find(|line| line.contains(" closed ")).unwrap()
}

/// Loses the packet that carries `payload`, as a capture that counts its losses does.
fn lose(it: &mut Conversation, payload: &[u8]) {
    let lost = it.packets.iter().position(|wire| wire.data.ends_with(payload)).unwrap();
    it.packets.remove(lost);
    for wire in it.packets.iter_mut().skip(lost) {
        wire.losses = 1;
    }
}

fn connected() -> Conversation {
    let mut it = Conversation::new(4_000);
    it.connect();
    it
}

// Bodies.

#[test]
fn a_chunked_answer_hides_no_websocket_behind_it() {
    assert_whole(&after(&[(PLAIN, CHUNKED)]));
}

#[test]
fn a_chunked_answer_in_segments_of_one_byte_hides_no_websocket_behind_it() {
    let mut it = connected();
    it.client_sends(PLAIN);
    for byte in CHUNKED {
        it.server_sends(&[*byte]);
    }
    converse(&mut it);
    assert_whole(&it);
}

#[test]
fn a_chunked_request_hides_no_websocket_behind_it() {
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_whole(&after(&[(post, b"HTTP/1.1 204 No Content\r\n\r\n")]));
}

#[test]
fn an_answer_to_head_has_no_body_whatever_length_it_tells() {
    let head = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_whole(&after(&[(head, b"HTTP/1.1 200 OK\r\nContent-Length: 1234567\r\n\r\n"), (PLAIN, CHUNKED)]));
}

#[test]
fn requests_sent_before_their_answers_are_told_apart() {
    let mut it = connected();
    it.client_sends(PLAIN).client_sends(b"HEAD /size HTTP/1.1\r\nHost: x\r\n\r\n").client_sends(PLAIN);
    it.server_sends(CHUNKED)
        .server_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        .server_sends(CHUNKED);
    converse(&mut it);
    assert_whole(&it);
    let lines = run(Config::default(), &it.packets);
    let answered: Vec<_> = lines.iter().filter(|line| line.contains("Some(200)")).collect();
    for (line, path) in answered.iter().zip(["/page", "/size", "/page"]) {
        assert!(line.contains(path), "{lines:#?}");
    }
}

#[test]
fn an_upgrade_that_was_refused_in_chunks_may_be_asked_for_again() {
    let refusal = b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n";
    assert_whole(&after(&[(&request(), refusal)]));
}

#[test]
fn a_websocket_through_a_tunnel_is_read() {
    let connect = b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n";
    assert_whole(&after(&[(connect, b"HTTP/1.1 200 OK\r\n\r\n")]));
}

#[test]
fn an_answer_whose_body_lasts_until_the_end_is_in_order() {
    for asked in [PLAIN.to_vec(), request()] {
        let mut it = connected();
        it.client_sends(&asked)
            .server_sends(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nNo entry")
            .server_sends(b"\x81\x05still no frames")
            .fin(false)
            .fin(true);
        let lines = run(Config::default(), &it.packets);
        assert_eq!(anomalies(&lines), [""; 0], "{lines:#?}");
        assert!(closed(&lines).ends_with("complete=true"), "{lines:#?}");
    }
}

#[test]
fn a_body_that_seems_to_last_until_the_end_hides_no_later_answer() {
    assert_whole(&after(&[(PLAIN, b"HTTP/1.1 200 OK\r\n\r\nno length")]));
}

#[test]
fn a_body_that_seems_to_last_until_the_end_hides_no_websocket_whose_answer_was_lost() {
    let mut it = after(&[(PLAIN, b"HTTP/1.1 200 OK\r\n\r\nno length")]);
    lose(&mut it, &answer());
    assert_eq!(messages(&run(Config::default(), &it.packets)).len(), 40);
}

#[test]
fn a_body_whose_end_cannot_be_told_is_told_and_hides_nothing() {
    for answered in [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot chunks"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nwhat",
    ] {
        let lines = run(Config::default(), &after(&[(PLAIN, answered)]).packets);
        assert_eq!(anomalies(&lines), ["body-malformed"], "{lines:#?}");
        assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
        assert!(closed(&lines).contains("complete=false skipped=[0, "), "{lines:#?}");
    }
}

#[test]
fn an_upgrade_request_with_a_body_hides_nothing() {
    let asked = String::from_utf8(request()).unwrap().replacen("\r\n", "\r\nContent-Length: 4\r\n", 1);
    for body in [&b""[..], b"body"] {
        let mut it = connected();
        it.client_sends(asked.as_bytes());
        if !body.is_empty() {
            it.client_sends(body);
        }
        it.server_sends(&answer());
        say(&mut it, 20);
        let lines = run(Config::default(), &it.packets);
        assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
        assert_eq!(anomalies(&lines), [""; 0], "{lines:#?}");
    }
}

#[test]
fn another_protocol_behind_101_is_named_and_counted_as_skipped() {
    let asked = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n";
    let mut it = connected();
    it.client_sends(asked)
        .server_sends(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
        .client_sends(b"what is this")
        .server_sends(b"it is other")
        .fin(false)
        .fin(true);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(anomalies(&lines), ["switched-to-another-protocol"], "{lines:#?}");
    assert!(closed(&lines).ends_with("complete=false skipped=[12, 11]"), "{lines:#?}");
}

#[test]
fn refusals_of_every_kind_are_shown_with_their_status_and_the_upgrade_may_be_asked_for_again() {
    for refusal in [
        "301 Moved Permanently\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
        "302 Found\r\nLocation: http://x/other\r\nContent-Length: 5\r\n\r\nmoved",
        "307 Temporary Redirect\r\nLocation: /\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 Bad Request\r\nContent-Length: 3\r\n\r\nbad",
        "403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n",
        "404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n",
        "503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        "304 Not Modified\r\n\r\n",
    ] {
        let answered = format!("HTTP/1.1 {refusal}");
        let it = after(&[(&request(), answered.as_bytes())]);
        assert_whole(&it);
        let lines = run(Config::default(), &it.packets);
        let status = format!("None Some(\"/chat\") Some({}) Some(false)", &refusal[..3]);
        assert!(lines.iter().any(|line| line.ends_with(&status)), "{status}: {lines:#?}");
    }
}

#[test]
fn a_wrong_accept_is_told_and_the_messages_are_shown() {
    let wrong = String::from_utf8(answer()).unwrap().replace("s3pP", "AAAA");
    let mut it = connected();
    it.client_sends(&request()).server_sends(wrong.as_bytes());
    say(&mut it, 20);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(anomalies(&lines), ["handshake-wrong-accept"], "{lines:#?}");
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("Some(101) Some(false)")), "{lines:#?}");
}

#[test]
fn a_request_of_64_kib_is_read_and_one_byte_more_is_told() {
    let plain = String::from_utf8(request()).unwrap();
    for (length, expected) in [(64 << 10, &[][..]), ((64 << 10) + 1, &["head-too-long"])] {
        // As browsers send many cookies: in fields of 4 KiB.
        let mut fields = String::new();
        while plain.len() + fields.len() < length {
            let left = (length - plain.len() - fields.len()).min(4_096);
            let left = if left < 4_096 { left } else { left - 20 };
            fields += &format!("Cookie: {}\r\n", "x".repeat(left.saturating_sub(10)));
        }
        let long = plain.replacen("\r\n", &format!("\r\n{fields}"), 1);
        assert_eq!(long.len(), length);
        let mut it = connected();
        for piece in long.as_bytes().chunks(1_448) {
            it.client_sends(piece);
        }
        it.server_sends(&answer());
        say(&mut it, 20);
        let lines = run(Config::default(), &it.packets);
        assert_eq!(anomalies(&lines), expected, "{length}");
        assert_eq!(messages(&lines).len(), 40);
    }
}

// Losses.

#[test]
fn a_lost_plain_answer_hides_no_websocket_behind_it() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let mut it = after(&[(PLAIN, page)]);
    lose(&mut it, page);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("resynchronised")), "{lines:#?}");
    assert!(lines.last().unwrap().contains("handshakes=1"), "{lines:#?}");
}

#[test]
fn with_both_answers_lost_each_message_is_shown_when_it_comes() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let mut it = connected();
    it.client_sends(PLAIN).server_sends(page).client_sends(&request()).server_sends(&answer());
    say(&mut it, 100);
    lose(&mut it, page);
    lose(&mut it, &answer());
    let lines = run(Config::default(), &it.packets);
    let messages = messages(&lines);
    assert_eq!(messages.len(), 200, "{lines:#?}");
    for (n, pair) in messages.chunks(2).enumerate() {
        assert!(pair[0].contains(&format!("client {n}")) && pair[1].contains(&format!("server {n}")));
    }
}

#[test]
fn what_an_answer_answers_is_not_guessed_where_heads_were_lost() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let other = b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut it = connected();
    it.client_sends(other).client_sends(PLAIN).server_sends(page).server_sends(CHUNKED);
    lose(&mut it, other);
    let lines = run(Config::default(), &it.packets);
    let paths: Vec<_> = lines.iter().filter(|line| line.contains("Some(200)")).collect();
    assert!(paths.len() == 2 && paths.iter().all(|line| line.contains("None None Some(200)")), "{lines:#?}");
}

#[test]
fn a_connection_whose_request_was_not_seen_is_known_by_its_answer() {
    let mut it = connected();
    converse(&mut it);
    lose(&mut it, &request());
    let lines = run(upgrades(), &it.packets);
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("handshake server_to_client None None Some(101)")));
    assert!(lines.last().unwrap().contains("connections=1 other=0"), "{lines:#?}");
}

#[test]
fn a_capture_that_begins_with_the_answer_is_read() {
    let mut it = connected();
    it.client_sends(&request());
    let begun = it.packets.len();
    it.server_sends(&answer());
    say(&mut it, 20);
    let lines = run(upgrades(), &it.packets[begun..]);
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("resynchronised")), "{lines:#?}");
}

#[test]
fn what_only_looks_like_a_head_hides_nothing() {
    let mut it = connected();
    let begun = it.packets.len();
    it.server_sends(b"HTTP/1.1 200 OK\r\n\r\n").client_sends(b"GET / HTTP/1.1\r\n\r\n");
    say(&mut it, 20);
    let config = Config { ports: Some([7272].into()), ..Config::default() };
    let lines = run(config, &it.packets[begun..]);
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert_eq!(anomalies(&lines), [""; 0], "{lines:#?}");
}

// What is not decoded.

#[test]
fn frames_that_cannot_be_found_on_an_open_connection_are_counted_as_skipped() {
    let mut it = Conversation::new(4_000);
    it.upgrade();
    let begun = it.packets.len();
    for _ in 0..20 {
        it.client_sends(&unmasked("hello"));
    }
    it.fin(true).fin(false);
    let config = Config { ports: Some([7272].into()), ..Config::default() };
    let lines = run(config, &it.packets[begun..]);
    assert!(closed(&lines).ends_with("complete=false skipped=[140, 0]"), "{lines:#?}");
}

#[test]
fn another_protocol_is_told_once_and_counted_as_skipped() {
    let mut it = connected();
    it.client_sends(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3])
        .server_sends(&[0x16, 3, 3, 0, 1])
        .client_sends(b"more");
    it.fin(true).fin(false);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(anomalies(&lines), ["tls"], "{lines:#?}");
    assert!(closed(&lines).ends_with("complete=false skipped=[14, 5]"), "{lines:#?}");
}

#[test]
fn a_stream_that_ends_inside_a_head_is_told_and_counted_as_skipped() {
    let mut it = connected();
    it.client_sends(&request()[..40]).fin(true).fin(false);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(anomalies(&lines), ["stream-ends-inside-a-head"], "{lines:#?}");
    assert!(closed(&lines).ends_with("complete=false skipped=[40, 0]"), "{lines:#?}");
}

#[test]
fn nobody_is_blamed_for_a_head_that_a_reset_cut() {
    let mut it = connected();
    it.client_sends(&request()[..40]).reset(false);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(anomalies(&lines), [""; 0], "{lines:#?}");
    assert!(closed(&lines).ends_with("complete=false skipped=[40, 0]"), "{lines:#?}");
}

#[test]
fn a_malformed_head_says_what_becomes_of_the_connection() {
    let mut details = Vec::new();
    let mut it = connected();
    it.client_sends(b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n").client_sends(b"more");
    let mut engine = Engine::new(Config::default());
    let mut sink = |record: &Record<'_>| {
        if let Kind::Anomaly(anomaly) = &record.kind {
            details.push(format!("{} {}", anomaly.code, anomaly.detail));
        }
    };
    for wire in &it.packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    assert_eq!(details, ["head-malformed invalid request line: the connection is not decoded"]);
}

// Ahead of the answer.

#[test]
fn a_message_sent_ahead_of_the_answer_has_its_own_time() {
    let mut it = connected();
    it.client_sends(&request());
    let sent = it.clock + 1_000;
    it.client_sends(&masked("early"));
    it.clock += 10_000_000_000;
    it.server_sends(&answer()).client_sends(&masked("later"));
    let mut times = Vec::new();
    let mut engine = Engine::new(Config::default());
    let mut sink = |record: &Record<'_>| {
        if let Kind::Message(message) = &record.kind {
            times.push([record.time.wall.0, message.time_first.wall.0]);
        }
    };
    for wire in &it.packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    assert_eq!(times[0], [sent; 2]);
    assert!(times[1][0] > sent + 10_000_000_000);
}

#[test]
fn more_than_the_bound_ahead_of_the_answer_is_decoded_by_its_looks() {
    for (limits, limit) in [
        (Limits { early_bytes: 1_000, ..Limits::default() }, "early"),
        (Limits { head_total_bytes: 1_000, ..Limits::default() }, "head_total"),
    ] {
        let mut it = connected();
        it.client_sends(&request());
        for n in 0..100 {
            it.client_sends(&masked(&format!("early {n}")));
        }
        let lines = run(limited(limits), &it.packets);
        let messages = messages(&lines);
        assert_eq!(messages.len(), 100, "{limit}: {lines:#?}");
        assert!(messages.iter().enumerate().all(|(n, line)| line.contains(&format!("early {n}"))));
        assert!(lines.last().unwrap().ends_with("limits=1"), "{limit}: {lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("gap ") || line.contains("skipped")), "{lines:#?}");
    }
}

// Bounds.

#[test]
fn a_head_beyond_the_bound_is_told_and_what_follows_is_found_again() {
    let long = String::from_utf8(request()).unwrap().replacen(
        "\r\n",
        &format!("\r\nA: {}\r\n", "x".repeat(2_000)),
        1,
    );
    let mut it = connected();
    for piece in long.as_bytes().chunks(700) {
        it.client_sends(piece);
    }
    it.server_sends(&answer());
    say(&mut it, 20);
    let lines = run(limited(Limits { head_bytes: 1_000, ..Limits::default() }), &it.packets);
    assert_eq!(anomalies(&lines), ["head-too-long"], "{lines:#?}");
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert!(lines.last().unwrap().ends_with("limits=1"), "{lines:#?}");
    assert!(closed(&lines).contains("complete=false skipped=["), "{lines:#?}");
}

/// A request in two segments, so that the first has to be kept.
fn split_upgrade(it: &mut Conversation) {
    let request = request();
    it.client_sends(&request[..100]).client_sends(&request[100..]).server_sends(&answer());
}

#[test]
fn heads_of_all_connections_together_are_bounded_and_whoever_is_silent_gives_way() {
    let limits = Limits { head_total_bytes: 1_000, ..Limits::default() };
    let mut packets: Vec<Wire> = Vec::new();
    for port in 1..=100 {
        let mut it = Conversation::new(port);
        it.connect().client_sends(&request()[..100]);
        packets.extend(it.packets);
    }
    let mut it = connected();
    split_upgrade(&mut it);
    say(&mut it, 20);
    packets.extend(it.packets);
    let lines = run(limited(limits), &packets);
    // Half of the bound is a few of them; the one that goes on is not touched.
    let given_up = anomalies(&lines);
    assert!(given_up.iter().all(|code| *code == "head-too-long"), "{lines:#?}");
    assert!((91..100).contains(&given_up.len()), "{lines:#?}");
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert!(lines.last().unwrap().contains(&format!("limits={}", given_up.len())), "{lines:#?}");
    assert!(
        lines.contains(&"#101 handshake client_to_server Some(\"GET\") Some(\"/chat\") None None".into())
    );
}

#[test]
fn what_a_connection_holds_is_given_back_however_it_ends() {
    let begun: [fn(&mut Conversation); 5] = [
        |it| _ = it.client_sends(&request()[..100]),
        |it| _ = it.client_sends(&request()).client_sends(&masked("early")),
        |it| _ = it.client_sends(PLAIN).client_sends(PLAIN).server_sends(b"HTTP/1.1 200"),
        |it| _ = it.client_sends(&request()).client_sends(&masked("early")).server_sends(b"no head"),
        |it| _ = it.client_sends(&request()[..100]).client_sends(&[b'x'; 500]),
    ];
    let ended: [fn(&mut Conversation); 5] = [
        |it| _ = it.fin(true).fin(false),
        |it| _ = it.fin(false).fin(true),
        |it| _ = it.reset(true),
        |it| {
            it.client_next = 0x7000_0000;
            it.server_next = 0x1000_0000;
            it.connect().reset(true);
        },
        // Pushed out by the connections that follow.
        |_| {},
    ];
    let limits = Limits {
        head_total_bytes: 600,
        head_bytes: 500,
        connections: 1,
        closed_connections: 0,
        ..Limits::default()
    };
    for begin in begun {
        for end in ended {
            let mut packets = Vec::new();
            for port in 1..=20 {
                let mut it = Conversation::new(port);
                begin(it.connect());
                end(&mut it);
                packets.extend(it.packets);
            }
            let mut it = connected();
            split_upgrade(&mut it);
            it.client_sends(&masked("there is room"));
            packets.extend(it.packets);
            let lines = run(limited(limits), &packets);
            let last = messages(&lines).last().copied().unwrap_or_default();
            assert!(last.ends_with("there is room"), "{lines:#?}");
        }
    }
}

#[test]
fn a_connection_in_frames_holds_nothing_of_its_heads() {
    let limits = Limits { head_total_bytes: 600, ..Limits::default() };
    let mut packets = Vec::new();
    for port in 1..=50 {
        let mut it = Conversation::new(port);
        it.connect();
        split_upgrade(&mut it);
        it.client_sends(&masked("hi"));
        packets.extend(it.packets);
    }
    let lines = run(limited(limits), &packets);
    assert_eq!(messages(&lines).len(), 50);
    assert!(!lines.iter().any(|line| line.contains("resynchronised")), "{lines:#?}");
    assert!(lines.last().unwrap().ends_with("limits=0"), "{lines:#?}");
}

#[test]
fn more_waiting_requests_than_the_bound_hide_nothing() {
    let mut it = connected();
    for _ in 0..100 {
        it.client_sends(PLAIN);
    }
    for _ in 0..100 {
        it.server_sends(CHUNKED);
    }
    it.client_sends(&request()).server_sends(&answer());
    say(&mut it, 20);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines).len(), 40, "{lines:#?}");
    assert_eq!(anomalies(&lines), [""; 0], "{lines:#?}");
    assert!(lines.last().unwrap().ends_with("limits=1"), "{lines:#?}");
}

#[test]
fn of_a_close_reason_no_more_is_kept_than_a_right_one_may_have() {
    let reason = "猪".repeat(50);
    let frame = FrameBuilder::new(Opcode::Close, [&[3, 0xe8][..], reason.as_bytes()].concat()).masked(MASK);
    let mut it = Conversation::new(4_000);
    it.upgrade().client_sends(&frame.build()).fin(true).fin(false);
    let mut reasons = Vec::new();
    let mut engine = Engine::new(Config { frames: true, ..Config::default() });
    let mut sink = |record: &Record<'_>| match &record.kind {
        Kind::Frame(frame) => reasons.extend(frame.close.map(|close| close.reason.to_owned())),
        Kind::ConnectionClosed(closed) => reasons.push(closed.reason.to_owned()),
        _ => {}
    };
    for wire in &it.packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    engine.finish(None, &mut sink);
    assert_eq!(reasons, [reason, "猪".repeat(41)]);
}

/// Requests and answers of every kind, then a conversation, each step as its direction and its bytes.
fn steps() -> Vec<(bool, Vec<u8>)> {
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nnope";
    let mut steps = vec![
        (true, PLAIN.to_vec()),
        (false, CHUNKED.to_vec()),
        (true, post.to_vec()),
        (false, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        (true, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (false, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_vec()),
        (true, request()),
        (false, refusal.to_vec()),
        (true, [request(), masked("ahead")].concat()),
        (false, [answer(), unmasked("welcome")].concat()),
    ];
    for n in 0..12 {
        steps.push((true, masked(&format!("client {n}"))));
        steps.push((false, unmasked(&format!("server {n}"))));
    }
    steps
}

/// The steps, a packet each and one that acknowledges it.
fn of_steps() -> Conversation {
    let mut it = connected();
    for (from_client, bytes) in steps() {
        it.send(from_client, &bytes).acknowledge(!from_client);
    }
    it.fin(true).fin(false);
    it
}

/// The packets that are left where those of these numbers are lost, and whether payload was.
fn without(it: &Conversation, lost: &BTreeSet<usize>) -> (Vec<Wire>, bool) {
    let mut losses = 0;
    let mut payload_lost = false;
    let mut left = Vec::new();
    for (at, wire) in it.packets.iter().enumerate() {
        if lost.contains(&at) {
            losses += 1;
            payload_lost |= wire.length > 40;
        } else {
            left.push(Wire { losses, ..wire.clone() });
        }
    }
    (left, payload_lost)
}

#[test]
fn nobody_is_blamed_for_what_follows_an_answer_whose_request_was_lost_before_that_is_known() {
    // The HEAD request, and the acknowledgments that would tell that it is missing.
    let (left, _) = without(&of_steps(), &BTreeSet::from([11, 15, 19]));
    let lines = run(Config::default(), &left);
    assert_eq!(anomalies(&lines), [""; 0], "{lines:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_heads_bodies_and_frames_gives_the_same_records(
        sizes in prop::collection::vec(1_usize..90, 1..30),
    ) {
        let mut whole = connected();
        let mut cut = connected();
        let mut sizes = sizes.iter().cycle();
        for (from_client, bytes) in steps() {
            whole.send(from_client, &bytes).acknowledge(!from_client);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                cut.send(from_client, now).acknowledge(!from_client);
                rest = later;
            }
        }
        let whole = run(Config::default(), &whole.packets);
        prop_assert_eq!(messages(&whole).len(), 26);
        prop_assert_eq!(whole, run(Config::default(), &cut.packets));
    }

    #[test]
    fn with_packets_lost_among_heads_nothing_is_invented_and_the_loss_is_told(
        lost in prop::collection::btree_set(3_usize..70, 1..8),
    ) {
        let it = of_steps();
        let sent = run(Config::default(), &it.packets);
        let (left, payload_lost) = without(&it, &lost);
        let lines = run(Config::default(), &left);
        for message in messages(&lines) {
            let untouched = message.trim_end_matches(" resynchronised");
            prop_assert!(sent.iter().any(|line| line == untouched), "{message}");
        }
        let right = anomalies(&sent);
        prop_assert!(anomalies(&lines).iter().all(|code| right.contains(code)), "{lines:#?}");
        if payload_lost {
            prop_assert!(closed(&lines).contains("complete=false"), "{lines:#?}");
        }
    }

    #[test]
    fn any_mixture_of_heads_bodies_and_frames_never_panics_and_gives_back_what_it_held(
        pieces in prop::collection::vec((any::<bool>(), 0_usize..22, 1_usize..300, prop::bool::weighted(0.1)), 0..60),
        ended in 0_u8..3,
    ) {
        let tokens: Vec<Vec<u8>> = vec![
            request(),
            answer(),
            PLAIN.to_vec(),
            CHUNKED.to_vec(),
            masked("client"),
            unmasked("server"),
            b"HEAD / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec(),
            b"HTTP/1.1 101 x\r\nUpgrade: other\r\n\r\n".to_vec(),
            b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
            b"CONNECT x HTTP/1.1\r\nA: b\r\n c\r\n\r\n".to_vec(),
            b"0\r\n\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            close(1000, Some(MASK)),
            close(1000, None),
            b"PROXY TCP4 203.0.113.7 198.51.100.1 41234 443\r\n".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            b"\0\0\xff\x01\0\0\0\0\x01".to_vec(),
            b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n".to_vec(),
            [&b"\x16\x03\x01\x01\x00\x01\0\x02\0"[..], &[3; 200]].concat(),
        ];
        let limits = Limits {
            head_bytes: 500, early_bytes: 400, pending_requests: 3, head_total_bytes: 600, ..Limits::default()
        };
        let mut it = connected();
        for (from_client, token, length, lost) in pieces {
            let token = &tokens[token];
            it.send(from_client, &token[..length.min(token.len())]).acknowledge(!from_client);
            if lost {
                it.losses += 1;
                let at = it.packets.len() - 2;
                it.packets.remove(at);
            }
        }
        match ended {
            0 => _ = it.fin(true).fin(false),
            1 => _ = it.reset(false),
            _ => {}
        }
        let mut packets = it.packets;
        let mut it = Conversation::new(if ended == 2 { 4_000 } else { 4_001 });
        it.client_next = 0x7000_0000;
        it.server_next = 0x1000_0000;
        it.connect();
        split_upgrade(&mut it);
        it.client_sends(&masked("there is room"));
        packets.extend(it.packets);
        let lines = run(limited(limits), &packets);
        let last = messages(&lines).last().copied().unwrap_or_default();
        prop_assert!(last.ends_with("Text there is room"), "{lines:#?}");
    }
}
