//! The engine as a whole, over packets made in memory.
//!
//! Owns the claims that need every layer at once. Must not know any layer's inside. Bounded: small conversations.

mod support;

use observer_core::engine::{Config, Report};
use observer_core::websocket::frame::{Opcode, encode::FrameBuilder};
use observer_core::{Engine, Event, Limits, Record};
use proptest::prelude::*;
use support::{
    ACK, Conversation, FIN, MASK, PSH, RST, SYN, Wire, add_payload, answer, at_listener, close, closed,
    masked, messages, request, run, unmasked,
};

fn upgrades() -> Config {
    Config { report: Report::Upgrades, ..Config::default() }
}

fn chat_packets(live: bool) -> Vec<Wire> {
    let mut it = if live { Conversation::live(60_584, 99) } else { Conversation::new(60_584) };
    it.chat();
    it.packets
}

const CHAT: [&str; 12] = [
    "#1 opened 127.0.0.1:60584 127.0.0.1:7272 from_start=true",
    r#"#1 handshake client_to_server Some("GET") Some("/chat") None None"#,
    r#"#1 handshake server_to_client None Some("/chat") Some(101) Some(true)"#,
    r#"#1 message client_to_server Text {"type":"login","name":"mynick"} chat login"#,
    r#"#1 message server_to_client Text {"type":"user_list","user_list":[{"uid":7,"name":"mynick"}]} chat user_list"#,
    r#"#1 message server_to_client Text {"type":"login","uid":7,"name":"mynick","time":"2014-08-12 17:50:30"} chat login"#,
    r#"#1 message client_to_server Text {"type":"say","to_uid":"all","content":"hi, all !"} chat say"#,
    r#"#1 message server_to_client Text {"type":"say","from_uid":7,"to_uid":"all","content":"hi, all !","time":"2014-08-12 17:50:40"} chat say"#,
    "#1 frame client_to_server Close",
    "#1 frame server_to_client Close",
    r#"#1 closed Some("client") close_frame Some(1000) complete=true"#,
    "- summary connections=1 other=0 open=0 incomplete=0 handshakes=1",
];

fn assert_chat(mut lines: Vec<String>) {
    if let Some(summary) = lines.last_mut() {
        summary.truncate(CHAT[11].len());
    }
    assert_eq!(lines, CHAT);
}

fn with_frames(config: Config) -> Config {
    Config { frames: true, ..config }
}

/// `frames: true` shows data frames too: keep the close frames only.
fn chat_lines(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| !line.contains(" frame ") || line.ends_with("Close")).collect()
}

#[test]
fn the_chat_is_read_from_a_file_in_both_directions() {
    assert_chat(chat_lines(run(with_frames(upgrades()), &chat_packets(false))));
}

#[test]
fn the_chat_is_read_from_sockets_in_both_directions() {
    assert_chat(chat_lines(run(with_frames(Config::default()), &chat_packets(true))));
}

#[test]
fn every_message_survives_segments_of_one_byte() {
    let mut it = Conversation::new(4_000);
    it.connect();
    for byte in request() {
        it.client_sends(&[byte]);
    }
    for byte in answer() {
        it.server_sends(&[byte]);
    }
    for byte in masked("hello") {
        it.client_sends(&[byte]);
    }
    for byte in unmasked("you") {
        it.server_sends(&[byte]);
    }
    let lines = run(upgrades(), &it.packets);
    assert_eq!(
        messages(&lines),
        ["#1 message client_to_server Text hello", "#1 message server_to_client Text you"]
    );
}

#[test]
fn frames_in_the_segment_of_the_answer_are_read() {
    let mut it = Conversation::new(4_000);
    it.connect().client_sends(&request());
    let mut bytes = answer();
    bytes.extend(unmasked("welcome"));
    it.server_sends(&bytes);
    assert_eq!(messages(&run(upgrades(), &it.packets)), ["#1 message server_to_client Text welcome"]);
}

#[test]
fn frames_that_a_client_sends_ahead_of_the_answer_are_read() {
    let mut it = Conversation::new(4_000);
    it.connect();
    let mut bytes = request();
    bytes.extend(masked("impatient"));
    it.client_sends(&bytes).client_sends(&masked("very")).server_sends(&answer());
    assert_eq!(
        messages(&run(upgrades(), &it.packets)),
        ["#1 message client_to_server Text impatient", "#1 message client_to_server Text very"]
    );
}

#[test]
fn a_request_in_the_last_packet_of_the_handshake_which_belongs_to_the_listener_is_read() {
    let mut packets = chat_packets(true);
    let listener = packets[2].socket;
    packets.remove(2);
    packets[2].socket = listener;
    let lines = chat_lines(run(with_frames(Config::default()), &packets));
    assert_chat(lines);
}

#[test]
fn the_last_packet_of_the_handshake_seen_twice_changes_nothing() {
    let mut packets = chat_packets(true);
    packets.insert(2, packets[2].clone());
    assert_chat(chat_lines(run(with_frames(Config::default()), &packets)));
}

#[test]
fn equal_addresses_and_ports_in_two_network_namespaces_are_two_connections() {
    // With and without namespace cookies: not every kernel tells them.
    for cookies in [[None, None], [Some(5), Some(6)]] {
        let mut here = Conversation::live(60_584, 99);
        here.netns_cookie = cookies[0];
        let mut there = Conversation::live(60_584, 77);
        there.cookies = Some((2, 77));
        there.netns_cookie = cookies[1];
        there.client_next = 0x4000_0000;
        there.server_next = 0x9000_0000;
        here.upgrade().client_sends(&masked("here")).fin(true).fin(false);
        there.upgrade().client_sends(&masked("there")).fin(true).fin(false);
        let mixed = here.packets.iter().zip(&there.packets).flat_map(|(one, other)| [one, other]);
        let lines = run(Config::default(), mixed);
        assert_eq!(
            messages(&lines),
            ["#1 message client_to_server Text here", "#2 message client_to_server Text there"]
        );
        assert!(lines.last().unwrap().contains("connections=2 other=0 open=0 incomplete=0"), "{lines:#?}");
    }
}

#[test]
fn the_answer_s_headers_may_show_another_port_than_the_socket_s() {
    // A redirect from 80 to 7272: what leaves shows 80.
    let mut it = Conversation::live(60_584, 99);
    it.upgrade().client_sends(&masked("hi")).server_sends(&unmasked("you")).fin(true).fin(false);
    let mut packets = it.packets;
    for wire in packets.iter_mut().filter(|wire| !wire.from_client) {
        wire.data[20..22].copy_from_slice(&80_u16.to_be_bytes());
    }
    let lines = run(Config::default(), &packets);
    assert_eq!(messages(&lines).len(), 2, "{lines:#?}");
    assert!(lines[0].contains("127.0.0.1:60584 127.0.0.1:7272"), "{lines:#?}");
    assert!(lines.last().unwrap().contains("connections=1 other=0 open=0 incomplete=0"), "{lines:#?}");
}

#[test]
fn a_server_that_closes_first_leaves_a_complete_connection_although_the_kernel_hides_the_end() {
    let mut it = Conversation::live(60_584, 99);
    it.upgrade().server_sends(&close(1001, None)).client_sends(&close(1001, Some(MASK))).fin(false);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(lines[lines.len() - 2], r#"#1 closed Some("server") close_frame Some(1001) complete=true"#);
}

#[test]
fn a_server_that_goes_without_a_close_frame_is_told_of_after_a_while() {
    let mut it = Conversation::live(60_584, 99);
    it.upgrade().fin(false);
    let mut engine = Engine::new(Config::default());
    let mut closed = false;
    let mut sink = |record: &Record<'_>| {
        closed |= matches!(record.kind, observer_core::record::Kind::ConnectionClosed(_));
    };
    for wire in &it.packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    let at = engine.next_timeout().expect("a timer runs");
    let mut now = it.packets.last().unwrap().packet().time;
    now.monotonic.0 = at.0 - 1;
    engine.handle_timeout(now, &mut sink);
    now.monotonic = at;
    engine.handle_timeout(now, &mut sink);
    assert!(closed);
    assert_eq!(engine.next_timeout(), None);
}

#[test]
fn a_reset_ends_a_connection() {
    let mut it = Conversation::new(4_000);
    it.upgrade().reset(true);
    let lines = run(upgrades(), &it.packets);
    assert_eq!(lines[lines.len() - 2], r#"#1 closed Some("client") rst None complete=true"#);
}

#[test]
fn a_forged_reset_outside_the_window_ends_nothing() {
    let mut it = Conversation::new(4_000);
    it.upgrade();
    let honest = it.client_next;
    it.client_next = honest.wrapping_sub(5_000);
    it.reset(true);
    it.client_next = honest;
    it.client_sends(&masked("still here"));
    assert_eq!(messages(&run(upgrades(), &it.packets)), ["#1 message client_to_server Text still here"]);
}

#[test]
fn a_lost_message_is_a_gap_and_the_next_one_is_found_again() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().client_sends(&masked("one"));
    it.client_sends(&masked("two"));
    // The kernel lost the data packet and says so with the next one.
    let lost = it.packets.len() - 2;
    it.packets.remove(lost);
    it.packets[lost].losses = 1;
    it.losses = 1;
    for n in 0..20 {
        it.client_sends(&masked(&format!("and {n}")));
    }
    let lines = run(Config::default(), &it.packets);
    assert!(
        lines.iter().any(|line| line.contains("gap client_to_server") && line.ends_with("9 capture_loss"))
    );
    let messages = messages(&lines);
    assert_eq!(messages.len(), 21, "{lines:#?}");
    assert!(messages[1].starts_with("#1 message client_to_server Text and 0 resynchronised"), "{lines:#?}");
    assert!(!messages[20].contains("resynchronised"), "{lines:#?}");
}

#[test]
fn a_hole_inside_a_message_is_named_and_what_follows_is_read() {
    let text: String = ('a'..='z').collect();
    let frame = masked(&text);
    let mut it = Conversation::live(4_000, 9);
    it.upgrade()
        .send(true, &frame[..12])
        .send(true, &frame[12..20])
        .send(true, &frame[20..])
        .acknowledge(false);
    it.client_sends(&masked("next"));
    let lost = it.packets.iter().position(|wire| wire.data.ends_with(&frame[12..20])).unwrap();
    it.packets.remove(lost);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(
        messages(&lines),
        [
            "#1 message client_to_server Text abcdefopqrstuvwxyz missing [Missing { offset: 6, length: Some(8) }]",
            "#1 message client_to_server Text next"
        ]
    );
}

#[test]
fn the_snap_length_truncates_messages_and_loses_none() {
    let mut it = Conversation::new(4_000);
    it.upgrade();
    for n in 0..3 {
        it.client_sends(&masked(&format!("{n}{}", "x".repeat(300))));
    }
    for wire in it.packets.iter_mut().skip(7) {
        wire.data.truncate(96);
    }
    let lines = run(upgrades(), &it.packets);
    let messages = messages(&lines);
    assert_eq!(messages.len(), 3, "{lines:#?}");
    for (n, message) in messages.iter().enumerate() {
        assert!(message.starts_with(&format!("#1 message client_to_server Text {n}xxx")), "{message}");
        assert!(message.ends_with("missing [Missing { offset: 48, length: Some(253) }]"), "{message}");
    }
}

#[test]
fn a_lost_answer_does_not_hide_the_conversation() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade();
    let lost = it.packets.iter().position(|wire| wire.data.ends_with(&answer())).unwrap();
    it.packets.remove(lost);
    it.client_sends(&masked("hello")).server_sends(&unmasked("you")).client_sends(&masked("there"));
    let lines = run(Config::default(), &it.packets);
    assert!(lines.iter().any(|line| line.contains("gap server_to_client 0")), "{lines:#?}");
    assert!(messages(&lines).iter().any(|line| line.contains("hello resynchronised")), "{lines:#?}");
    assert!(messages(&lines).iter().any(|line| line.contains("you resynchronised")), "{lines:#?}");
}

#[test]
fn a_connection_that_was_open_before_is_read_from_its_next_message_on() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().packets.clear();
    it.client_sends(&masked("hello")).server_sends(&unmasked("you")).client_sends(&masked("there"));
    let lines = run(Config::default(), &it.packets);
    assert!(lines[0].ends_with("from_start=false"), "{lines:#?}");
    assert_eq!(messages(&lines).len(), 3, "{lines:#?}");
    assert!(messages(&lines).iter().all(|line| line.contains("resynchronised")), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("closed None still_open None complete=false")),
        "{lines:#?}"
    );
}

#[test]
fn a_port_that_is_used_again_is_a_new_connection() {
    let mut it = Conversation::new(4_000);
    it.upgrade().client_sends(&masked("first"));
    it.client_next = 0x7000_0000;
    it.server_next = 0x1000_0000;
    it.upgrade().client_sends(&masked("second"));
    let lines = run(upgrades(), &it.packets);
    assert_eq!(
        messages(&lines),
        ["#1 message client_to_server Text first", "#2 message client_to_server Text second"]
    );
    assert!(lines.iter().any(|line| line.starts_with("#1 closed None unseen")), "{lines:#?}");
}

#[test]
fn a_port_that_is_used_again_is_a_new_connection_even_if_its_syn_was_not_captured() {
    let mut it = Conversation::new(4_000);
    it.upgrade().client_sends(&masked("first"));
    let begun = it.packets.len();
    it.client_next = it.client_next.wrapping_add(0x1000_0000);
    it.server_next = it.server_next.wrapping_add(0x1000_0000);
    it.upgrade().client_sends(&masked("second"));
    it.packets.remove(begun);
    assert_eq!(
        messages(&run(upgrades(), &it.packets)),
        ["#1 message client_to_server Text first", "#2 message client_to_server Text second"]
    );
}

#[test]
fn late_packets_of_a_closed_connection_open_none() {
    let mut packets = chat_packets(false);
    let late: Vec<Wire> = packets.iter().filter(|wire| wire.flags & ACK != 0).cloned().collect();
    packets.extend(late.into_iter().filter(|wire| wire.flags & (FIN | RST | SYN) == 0));
    let lines = run(Config { ports: Some([7272].into()), ..Config::default() }, &packets);
    assert!(lines.last().unwrap().contains("connections=1 other=0"), "{lines:#?}");
}

#[test]
fn ports_narrow_what_a_file_shows() {
    let narrowed = Config { ports: Some([80].into()), ..upgrades() };
    let lines = run(narrowed, &chat_packets(false));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("connections=0 other=0"), "{lines:#?}");
}

#[test]
fn what_is_no_websocket_is_silent_where_upgrades_are_asked_for() {
    let mut it = Conversation::new(4_000);
    it.connect()
        .client_sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .server_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        .fin(true)
        .fin(false);
    let lines = run(upgrades(), &it.packets);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("connections=0 other=1"), "{lines:#?}");
}

#[test]
fn requests_before_the_upgrade_on_the_same_connection_are_stepped_over() {
    let mut it = Conversation::new(4_000);
    it.connect()
        .client_sends(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .server_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        .client_sends(&request())
        .server_sends(&answer())
        .client_sends(&masked("hi"));
    assert_eq!(messages(&run(upgrades(), &it.packets)), ["#1 message client_to_server Text hi"]);
}

#[test]
fn a_refused_upgrade_is_shown_with_its_status() {
    let mut it = Conversation::new(4_000);
    it.connect()
        .client_sends(&request())
        .server_sends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        .fin(false)
        .fin(true);
    let lines = run(upgrades(), &it.packets);
    assert_eq!(lines[2], r#"#1 handshake server_to_client None Some("/chat") Some(403) Some(false)"#);
}

#[test]
fn tls_is_named_as_such() {
    let mut it = Conversation::new(4_000);
    it.connect().client_sends(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]);
    let lines = run(Config::default(), &it.packets);
    assert!(lines.iter().any(|line| line == "#1 anomaly tls"), "{lines:#?}");
}

#[test]
fn more_connections_than_the_bound_push_out_the_one_that_was_idle_longest() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let mut conversations: Vec<Conversation> =
        (0..3).map(|n| Conversation::live(4_000 + n, 9 + u64::from(n))).collect();
    let mut packets = Vec::new();
    for it in &mut conversations {
        it.upgrade().client_sends(&masked("hi"));
        packets.append(&mut it.packets);
    }
    let lines = run(Config { limits, ..Config::default() }, &packets);
    assert_eq!(messages(&lines).len(), 3);
    assert!(lines.iter().any(|line| line.starts_with("#1 closed None evicted")), "{lines:#?}");
    assert!(lines.last().unwrap().ends_with("limits=1"), "{lines:#?}");
}

#[test]
fn a_flood_of_handshakes_pushes_no_conversation_out() {
    let limits = Limits { connections: 100, ..Limits::default() };
    let mut it = Conversation::live(3_999, 9);
    it.upgrade().client_sends(&masked("before"));
    let mut packets = std::mem::take(&mut it.packets);
    for port in 4_000..5_000 {
        let mut flood = Conversation::live(port, 0);
        flood.connect();
        packets.extend(flood.packets.into_iter().take(2));
    }
    it.client_sends(&masked("after"));
    packets.append(&mut it.packets);
    let lines = run(Config { limits, ..Config::default() }, &packets);
    assert_eq!(
        messages(&lines),
        ["#1 message client_to_server Text before", "#1 message client_to_server Text after"]
    );
}

#[test]
fn a_message_over_several_segments_and_64_kib_is_one() {
    let text = "0123456789abcdef".repeat(65_536);
    let frame = masked(&text);
    let mut it = Conversation::new(4_000);
    it.upgrade();
    for piece in frame.chunks(100_000) {
        it.client_sends(piece);
    }
    let lines = run(upgrades(), &it.packets);
    assert_eq!(messages(&lines), [format!("#1 message client_to_server Text {text}")]);
}

/// The messages of a conversation on an accepted socket, which goes on after `forge` was at work.
fn after_forgery(forge: impl FnOnce(&mut Conversation)) -> Vec<String> {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().client_sends(&masked("one"));
    forge(&mut it);
    it.client_sends(&masked("two")).server_sends(&unmasked("three")).fin(true).fin(false);
    run(Config::default(), &it.packets)
}

fn assert_untouched(lines: &[String], anomalies: &[&str]) {
    assert_eq!(
        messages(lines),
        [
            "#1 message client_to_server Text one",
            "#1 message client_to_server Text two",
            "#1 message server_to_client Text three"
        ],
        "{lines:#?}"
    );
    assert_eq!(closed(lines), r#"#1 closed Some("client") fin None complete=true"#, "{lines:#?}");
    let told: Vec<&String> = lines.iter().filter(|line| line.contains(" anomaly ")).collect();
    let expected: Vec<String> = anomalies.iter().map(|code| format!("#1 anomaly {code}")).collect();
    assert_eq!(told, expected.iter().collect::<Vec<_>>());
}

#[test]
fn a_forged_syn_that_reaches_an_accepted_socket_ends_nothing() {
    let lines = after_forgery(|it| {
        it.forge(true, 0x5000_0000, SYN, b"");
    });
    assert_untouched(&lines, &["syn-on-open-connection"]);
}

#[test]
fn a_client_socket_that_connects_again_has_a_new_connection() {
    let mut it = Conversation::live(4_000, 9);
    it.connect();
    it.client_next = 0x7000_0000;
    it.upgrade().client_sends(&masked("second"));
    for wire in &mut it.packets {
        let socket = wire.socket.as_mut().unwrap();
        (socket.local, socket.remote) = (it.client, it.server);
        (socket.cookie, socket.role) = (9, observer_core::record::Peer::Client);
        socket.outgoing = !socket.outgoing;
    }
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines), ["#2 message client_to_server Text second"], "{lines:#?}");
}

#[test]
fn a_forged_reset_within_the_window_ends_nothing() {
    let lines = after_forgery(|it| {
        it.forge(true, 0x3000_0000, RST, b"").forge(true, 5, RST | ACK, b"");
    });
    assert_untouched(&lines, &["reset-out-of-sequence", "reset-out-of-sequence"]);
}

#[test]
fn a_reset_behind_bytes_that_the_observed_socket_has_received_out_of_order_ends_a_connection() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade();
    let missing = u32::try_from(masked("lost on the way").len()).unwrap();
    let acknowledgment = it.client_next;
    it.client_next += missing;
    let from = it.client_next;
    it.send(true, &masked("late"));
    let to = it.client_next;
    it.client_next = acknowledgment;
    it.acknowledge(false);
    let sack = it.packets.last_mut().unwrap();
    add_payload(sack, &[&[1, 1, 5, 10][..], &from.to_be_bytes(), &to.to_be_bytes()].concat());
    sack.data[32] = 0x80;
    it.client_next = to;
    it.reset(true);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(closed(&lines), r#"#1 closed Some("client") rst None complete=false"#, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(" anomaly ")), "{lines:#?}");
}

#[test]
fn a_window_that_closes_and_opens_again_is_told_with_what_was_received() {
    for mut it in [Conversation::new(4_000), Conversation::live(4_000, 9)] {
        it.upgrade().server_sends(&unmasked("hi"));
        let mut acknowledge = |window: u16| {
            it.acknowledge(true);
            let packet = it.packets.last_mut().unwrap();
            packet.data[34..36].copy_from_slice(&window.to_be_bytes());
        };
        // The checks of a closed window are answered with the same.
        [0, 0, 9].into_iter().for_each(&mut acknowledge);
        it.reset(true);
        let lines = run(Config { receipts: true, ..Config::default() }, &it.packets);
        let told: Vec<_> = lines.iter().filter(|line| line.contains("received server_to_client")).collect();
        let [.., full, open] = &told[..] else { panic!("{lines:#?}") };
        assert_eq!(full.strip_suffix(" full"), Some(&***open), "{told:#?}");
        assert_eq!(told.iter().filter(|line| line.ends_with(" full")).count(), 1, "{told:#?}");
    }
}

#[test]
fn a_reset_behind_lost_packets_ends_a_connection() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade();
    it.losses = 1;
    it.client_next += 9;
    it.reset(true);
    let lines = run(Config::default(), &it.packets);
    assert!(lines.iter().any(|line| line.ends_with(" 9 capture_loss")), "{lines:#?}");
    assert_eq!(closed(&lines), r#"#1 closed Some("client") rst None complete=false"#);
}

#[test]
fn a_reset_that_leaves_the_observed_socket_ends_a_connection_wherever_it_is() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().forge(false, 5, RST, b"");
    let lines = run(Config::default(), &it.packets);
    assert_eq!(closed(&lines), r#"#1 closed Some("server") rst None complete=false"#, "{lines:#?}");
}

#[test]
fn in_a_file_a_reset_ahead_of_its_stream_is_none_once_the_stream_passes_it() {
    let mut it = Conversation::new(4_000);
    it.upgrade().forge(true, 5, RST | ACK, b"").client_sends(&masked("two")).fin(true).fin(false);
    let lines = run(upgrades(), &it.packets);
    assert_eq!(messages(&lines), ["#1 message client_to_server Text two"]);
    assert!(lines.iter().any(|line| line == "#1 anomaly reset-out-of-sequence"), "{lines:#?}");
    assert_eq!(closed(&lines), r#"#1 closed Some("client") fin None complete=true"#);
}

#[test]
fn in_a_file_a_reset_captured_before_the_bytes_it_follows_ends_the_connection_behind_them() {
    let mut it = Conversation::new(4_000);
    it.upgrade().send(true, &masked("two")).reset(true);
    let end = it.packets.len();
    it.packets.swap(end - 2, end - 1);
    let lines = run(upgrades(), &it.packets);
    assert_eq!(messages(&lines), ["#1 message client_to_server Text two"]);
    assert_eq!(closed(&lines), r#"#1 closed Some("client") rst None complete=true"#, "{lines:#?}");
}

#[test]
fn in_a_file_a_reset_that_nothing_contradicts_is_believed_at_the_end_with_what_it_says_is_missing() {
    for (ahead, expected) in [
        (500, r#"#1 closed Some("client") rst None complete=false"#),
        (0x3000_0000, "#1 closed None still_open None complete=false"),
    ] {
        let mut it = Conversation::new(4_000);
        it.upgrade().forge(true, ahead, RST | ACK, b"");
        let lines = run(upgrades(), &it.packets);
        assert_eq!(closed(&lines), expected, "{lines:#?}");
        assert_eq!(lines.iter().any(|line| line.contains(" gap ")), ahead == 500, "{lines:#?}");
    }
}

#[test]
fn a_reset_does_not_claim_that_the_other_direction_s_end_was_seen_behind_losses() {
    for (losses, expected) in [(0, "complete=true"), (1, "complete=false")] {
        let mut it = Conversation::live(4_000, 9);
        it.upgrade().server_sends(&unmasked("one")).client_sends(&masked("two"));
        it.losses = losses;
        it.reset(true);
        let lines = run(Config::default(), &it.packets);
        assert!(closed(&lines).ends_with(expected), "{lines:#?}");
    }
}

#[test]
fn a_forged_fin_ahead_of_its_stream_silences_nothing() {
    let lines = after_forgery(|it| {
        it.forge(true, 1, FIN | ACK, b"");
    });
    assert_untouched(&lines, &["data-after-fin"]);
}

#[test]
fn an_acknowledgment_of_what_was_never_sent_hides_nothing() {
    for losses in [0, 1] {
        let lines = after_forgery(|it| {
            it.losses = losses;
            it.forge_acknowledgment(true, 0x3000_0000);
        });
        assert_untouched(&lines, &[]);
    }
}

#[test]
fn in_a_file_an_acknowledgment_of_what_was_never_sent_hides_nothing() {
    let mut it = Conversation::new(4_000);
    it.upgrade().forge_acknowledgment(true, 0x3000_0000);
    it.send(false, &unmasked("two")).send(false, &unmasked("three"));
    let end = it.packets.len();
    it.packets.swap(end - 2, end - 1);
    let lines = run(upgrades(), &it.packets);
    assert_eq!(
        messages(&lines),
        ["#1 message server_to_client Text two", "#1 message server_to_client Text three"]
    );
    assert!(!lines.iter().any(|line| line.contains(" gap ")), "{lines:#?}");
}

#[test]
fn data_that_reaches_a_listener_without_a_handshake_is_no_conversation() {
    let mut it = Conversation::live(4_000, 9);
    it.send(true, &request()).send(true, &masked("forged"));
    it.packets = it.packets.into_iter().map(at_listener).collect();
    let lines = run(Config::default(), &it.packets);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("connections=0 other=0"), "{lines:#?}");
}

#[test]
fn data_that_does_not_acknowledge_the_server_s_syn_is_not_the_handshake_s() {
    let mut it = Conversation::live(4_000, 9);
    it.connect().packets.truncate(2);
    let server_next = it.server_next;
    it.server_next = server_next.wrapping_add(1);
    let mut forged = it.clone();
    forged.packets.clear();
    forged.send(true, b"GET /forged HTTP/1.1\r\nHost: a\r\n\r\n");
    it.packets.extend(forged.packets.into_iter().map(at_listener));
    it.server_next = server_next;
    let begun = it.packets.len();
    it.acknowledge(true);
    let last = at_listener(it.packets.remove(begun));
    it.packets.push(last);
    it.client_sends(&request()).server_sends(&answer()).client_sends(&masked("hi"));
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines), ["#1 message client_to_server Text hi"], "{lines:#?}");
    assert!(lines.last().unwrap().contains("connections=1 other=0"), "{lines:#?}");
}

#[test]
fn a_listener_s_copy_of_a_packet_that_the_accepted_socket_has_begins_nothing() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().client_sends(&masked("hi"));
    it.packets.insert(4, at_listener(it.packets[3].clone()));
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines), ["#1 message client_to_server Text hi"]);
    assert!(lines.last().unwrap().contains("connections=1 other=0"), "{lines:#?}");
}

#[test]
fn a_syn_is_not_told_of_before_it_is_answered_and_confirmed() {
    let mut it = Conversation::live(4_000, 9);
    it.connect();
    add_payload(&mut it.packets[0], &request());
    for count in [1, 2] {
        let lines = run(Config::default(), &it.packets[..count]);
        assert_eq!(lines.len(), 1, "{lines:#?}");
    }
}

#[test]
fn a_decoy_in_the_syn_hides_no_request() {
    let mut decoy = b"GET /decoy HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    decoy.resize(request().len() - 4, b'a');
    decoy.extend(b"\r\n\r\n");
    let mut packets = chat_packets(true);
    add_payload(&mut packets[0], &decoy);
    assert_chat(chat_lines(run(with_frames(Config::default()), &packets)));
}

#[test]
fn a_request_in_the_syn_is_read_once_the_server_has_taken_it() {
    let mut it = Conversation::live(4_000, 9);
    it.connect();
    add_payload(&mut it.packets[0], &request());
    it.client_next += u32::try_from(request().len()).unwrap();
    let acknowledgment = it.client_next.to_be_bytes();
    it.packets[1].data[28..32].copy_from_slice(&acknowledgment);
    it.packets[2].data[24..28].copy_from_slice(&acknowledgment);
    it.server_sends(&answer()).client_sends(&masked("hi")).server_sends(&unmasked("you"));
    it.fin(true).fin(false);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(
        messages(&lines),
        ["#1 message client_to_server Text hi", "#1 message server_to_client Text you"],
        "{lines:#?}"
    );
    assert!(closed(&lines).ends_with("complete=true"), "{lines:#?}");
}

#[test]
fn a_stray_segment_between_the_handshake_and_the_request_does_not_take_the_connection_over() {
    let mut it = Conversation::live(4_000, 9);
    it.connect().forge(true, 0x5000_0000, PSH | ACK, b"junk");
    it.client_sends(&request()).server_sends(&answer()).client_sends(&masked("hi")).fin(true).fin(false);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines), ["#1 message client_to_server Text hi"], "{lines:#?}");
    assert!(closed(&lines).ends_with("complete=true"), "{lines:#?}");
}

#[test]
fn a_conversation_goes_on_behind_more_lost_bytes_than_a_window() {
    for lost in [0x6000_0000_u32, 0xe000_0000] {
        let mut it = Conversation::live(4_000, 9);
        it.upgrade().client_sends(&masked("one"));
        it.client_next = it.client_next.wrapping_add(lost);
        it.losses = 1_000_000;
        for n in 0..10 {
            it.client_sends(&masked(&format!("after {n}")));
        }
        it.fin(true).fin(false);
        let lines = run(Config::default(), &it.packets);
        assert_eq!(messages(&lines).len(), 11, "{lines:#?}");
        let gap = format!("{lost} capture_loss");
        assert!(lines.iter().any(|line| line.ends_with(&gap)), "{lines:#?}");
        assert!(closed(&lines).ends_with("complete=false"));
    }
}

#[test]
fn a_loss_that_can_hide_4_gib_within_a_frame_joins_nothing() {
    let frame = masked("AAAAAAAAAABBBBBBBBBB");
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().client_sends(&frame[..16]);
    it.losses = 1_000_000;
    it.client_sends(&masked("CCCC")).client_sends(&masked("DDDD"));
    let lines = run(Config::default(), &it.packets);
    assert!(messages(&lines)[0].contains("Text AAAAAAAAAA missing"), "{lines:#?}");
    assert!(messages(&lines)[1..].iter().all(|line| line.ends_with("resynchronised")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with(" 0 capture_loss")), "{lines:#?}");
}

#[test]
fn losses_elsewhere_between_two_frames_change_nothing() {
    let lines = after_forgery(|it| it.losses = 1_000_000);
    assert_untouched(&lines, &[]);
}

#[test]
fn a_stray_first_segment_of_an_open_connection_does_not_hide_it() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().packets.clear();
    it.forge(true, 0x5000_0000, PSH | ACK, b"junk");
    for n in 0..10 {
        it.client_sends(&masked(&format!("message {n}")));
    }
    let lines = run(Config::default(), &it.packets);
    assert!(messages(&lines).len() >= 9, "{lines:#?}");
}

#[test]
fn what_the_ring_lost_of_a_packet_is_a_capture_loss() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().client_sends(&masked(&"x".repeat(3_000))).client_sends(&masked("next"));
    it.packets[7].data.truncate(1_000);
    it.packets[7].rest_lost = true;
    let lines = run(Config::default(), &it.packets);
    assert!(lines.iter().any(|line| line.ends_with("2048 capture_loss")), "{lines:#?}");
    assert_eq!(messages(&lines)[1], "#1 message client_to_server Text next");
}

#[test]
fn a_client_that_goes_on_after_the_server_half_closed_is_still_read() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().server_sends(&close(1000, None)).fin(false);
    it.clock += 6_000_000_000;
    it.client_sends(&masked("late but real"));
    let lines = run(Config::default(), &it.packets);
    assert_eq!(messages(&lines), ["#2 message client_to_server Text late but real resynchronised"]);
}

#[test]
fn in_a_file_bytes_captured_after_they_were_given_up_are_told() {
    let frame = masked("hello");
    let mut it = Conversation::new(4_000);
    it.upgrade().send(true, &frame[..4]).send(true, &frame[4..8]).send(true, &frame[8..]).acknowledge(false);
    let late = it.packets.remove(it.packets.len() - 3);
    it.packets.push(late);
    it.client_sends(&masked("next"));
    let lines = run(upgrades(), &it.packets);
    assert!(lines.iter().any(|line| line == "#1 anomaly late-data-after-gap"), "{lines:#?}");
}

#[test]
fn one_who_hoards_bytes_out_of_order_takes_nothing_from_others() {
    let limits = Limits { reassembly_total_bytes: 10_000, ..Limits::default() };
    let mut hoarder = Conversation::live(5_000, 8);
    hoarder.upgrade().forge(true, 100_000, PSH | ACK, &[0x81; 9_850]);
    let mut it = Conversation::live(4_000, 9);
    it.upgrade();
    let begun = it.packets.len();
    it.send(true, &masked("one"))
        .send(true, &masked("two"))
        .acknowledge(false)
        .client_sends(&masked("three"));
    it.packets.swap(begun, begun + 1);
    let mut packets = hoarder.packets;
    packets.extend(it.packets);
    let lines = run(Config { limits, ..Config::default() }, &packets);
    let others: Vec<&str> = messages(&lines).into_iter().filter(|line| line.starts_with("#2")).collect();
    assert_eq!(
        others,
        [
            "#2 message client_to_server Text one",
            "#2 message client_to_server Text two",
            "#2 message client_to_server Text three"
        ]
    );
}

/// Packets of so many connections in turn, and what each is.
fn many(count: u16, act: impl Fn(&mut Conversation)) -> Vec<Conversation> {
    (0..count)
        .map(|port| {
            let mut it = Conversation::live(5_000 + port, 100 + u64::from(port));
            it.upgrade();
            act(&mut it);
            it
        })
        .collect()
}

fn packets_of(conversations: &[Conversation]) -> Vec<Wire> {
    conversations.iter().flat_map(|it| it.packets.clone()).collect()
}

#[test]
fn whoever_is_silent_behind_a_hole_gives_way_with_a_gap_and_goes_on() {
    let limits = Limits { reassembly_total_bytes: 1 << 20, ..Limits::default() };
    let long = masked(&"x".repeat(9_000));
    let hoarders = many(200, |it| {
        // A message of which the beginning never came.
        it.forge(true, 50, PSH | ACK, &long[50..]);
    });
    let mut silent = Conversation::live(4_000, 9);
    silent.upgrade().client_sends(&masked("before"));
    let mut packets = silent.packets.clone();
    packets.extend(packets_of(&hoarders));
    let mut it = Conversation::live(4_001, 10);
    it.upgrade();
    let begun = it.packets.len();
    // More than a share of what would be left.
    for _ in 0..5 {
        it.send(true, &masked(&"y".repeat(6_000)));
    }
    it.packets[begun..].reverse();
    it.acknowledge(false);
    packets.extend(it.packets);
    let mut first = hoarders[0].clone();
    first.packets.clear();
    first.client_next = first.client_next.wrapping_add(u32::try_from(long.len()).unwrap());
    packets.extend(first.client_sends(&masked("again")).packets.clone());
    silent.packets.clear();
    packets.extend(silent.client_sends(&masked("after")).packets.clone());
    let lines = run(Config { limits, ..Config::default() }, &packets);
    let of = |connection: &str| -> Vec<String> {
        messages(&lines).into_iter().filter_map(|it| it.strip_prefix(connection)).map(str::to_owned).collect()
    };
    assert_eq!(of("#1 message client_to_server Text "), ["before", "after"]);
    assert!(of("#202 message client_to_server Text ").iter().all(|text| text.len() == 6_000));
    assert_eq!(of("#202 message client_to_server Text ").len(), 5);
    assert!(
        lines.iter().any(|line| line.starts_with("#2 gap client_to_server") && line.ends_with(" 50 limit"))
    );
    assert_eq!(
        of("#2 message client_to_server Text ").last().map(String::as_str),
        Some("again resynchronised")
    );
    // The last ones were not asked to.
    assert!(!lines.iter().any(|line| line.starts_with("#201 gap") && line.ends_with("limit")));
}

#[test]
fn whoever_is_silent_within_a_message_gives_way_with_what_came_of_it_and_goes_on() {
    let limits = Limits { message_total_bytes: 1 << 20, ..Limits::default() };
    let long = masked(&"x".repeat(9_000));
    let mut hoarders = many(200, |it| _ = it.client_sends(&long[..8_008]));
    let mut packets = packets_of(&hoarders);
    let mut it = Conversation::live(4_001, 10);
    it.upgrade();
    let whole = masked(&"y".repeat(20_000));
    for piece in whole.chunks(1_000) {
        it.client_sends(piece);
    }
    packets.extend(it.packets);
    for hoarder in &mut hoarders {
        hoarder.packets.clear();
        packets.extend(hoarder.client_sends(&long[8_008..]).client_sends(&masked("again")).packets.clone());
    }
    let lines = run(Config { limits, ..Config::default() }, &packets);
    assert!(
        messages(&lines).contains(&&*format!("#201 message client_to_server Text {}", "y".repeat(20_000)))
    );
    let end = "x".repeat(1_000);
    let expected = format!(
        "#1 message client_to_server Text {end} missing [Missing {{ offset: 0, length: Some(8000) }}]"
    );
    let first: Vec<_> = messages(&lines).into_iter().filter(|line| line.starts_with("#1 ")).collect();
    assert_eq!(first, [&expected, "#1 message client_to_server Text again"]);
    let last: Vec<_> = messages(&lines).into_iter().filter(|line| line.starts_with("#200 ")).collect();
    assert_eq!(last[0], format!("#200 message client_to_server Text {}", "x".repeat(9_000)));
}

#[test]
fn a_flood_of_syns_with_the_addresses_of_a_handshake_does_not_push_it_out() {
    let mut it = Conversation::live(4_000, 9);
    it.connect();
    for last in [2, 3] {
        let mut packets = it.packets[..last].to_vec();
        for n in 0..40_u32 {
            let mut flood = Conversation::live(4_000, 0);
            flood.client_next = 0x1234_0000_u32.wrapping_add(n * 7_777_777);
            flood.connect();
            packets.push(flood.packets[0].clone());
        }
        let mut rest = it.clone();
        rest.packets.drain(..last);
        rest.client_sends(&request())
            .server_sends(&answer())
            .client_sends(&masked("hi"))
            .fin(true)
            .fin(false);
        packets.extend(rest.packets);
        let lines = run(Config::default(), &packets);
        assert_eq!(messages(&lines), ["#1 message client_to_server Text hi"], "{lines:#?}");
        assert!(closed(&lines).ends_with("complete=true"), "{lines:#?}");
        assert!(lines.last().unwrap().ends_with("limits=25"), "{lines:#?}");
    }
}

#[test]
fn near_initial_sequence_numbers_in_two_network_namespaces_are_told_apart() {
    for cookies in [[None, None], [Some(5), Some(6)]] {
        for near in [1, 1_500, 15_625] {
            let mut here = Conversation::live(60_584, 99);
            let mut there = Conversation::live(60_584, 77);
            there.cookies = Some((2, 77));
            [here.netns_cookie, there.netns_cookie] = cookies;
            there.client_next = here.client_next + near;
            there.server_next = here.server_next.wrapping_add(near);
            here.upgrade().client_sends(&masked("here")).fin(true).fin(false);
            there.upgrade().client_sends(&masked("there")).fin(true).fin(false);
            let interleaved: Vec<&Wire> =
                here.packets.iter().zip(&there.packets).flat_map(|(one, other)| [one, other]).collect();
            let enclosed: Vec<&Wire> =
                here.packets[..3].iter().chain(&there.packets).chain(&here.packets[3..]).collect();
            for mixed in [interleaved, enclosed] {
                let lines = run(Config::default(), mixed);
                let mut messages = messages(&lines);
                messages.sort_unstable();
                assert_eq!(
                    messages,
                    ["#1 message client_to_server Text here", "#2 message client_to_server Text there"]
                );
                assert!(
                    lines.last().unwrap().contains("connections=2 other=0 open=0 incomplete=0"),
                    "{lines:#?}"
                );
            }
        }
    }
}

#[test]
fn a_fin_before_the_first_close_frame_of_the_other_end_is_how_a_connection_ends() {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade().fin(true).server_sends(&close(1000, None)).fin(false);
    let lines = run(Config::default(), &it.packets);
    assert_eq!(closed(&lines), r#"#1 closed Some("client") fin None complete=true"#);
}

#[test]
fn a_close_frame_wins_over_the_fin_behind_it_even_if_that_is_captured_first() {
    let mut together = Conversation::new(4_000);
    together.upgrade().send(true, &close(1000, Some(MASK)));
    let last = together.packets.len() - 1;
    together.packets[last].data[33] |= FIN;
    together.client_next += 1;
    together.acknowledge(false).fin(false);
    let mut swapped = Conversation::new(4_000);
    swapped.upgrade().send(true, &close(1000, Some(MASK))).fin(true).fin(false);
    swapped.packets.swap(last, last + 1);
    for it in [together, swapped] {
        let lines = run(upgrades(), &it.packets);
        assert_eq!(closed(&lines), r#"#1 closed Some("client") close_frame Some(1000) complete=true"#);
    }
}

#[test]
fn idle_is_the_time_from_the_last_byte_to_the_first_sign_of_the_end() {
    let idle = |it: &Conversation| {
        let mut engine = Engine::new(upgrades());
        let mut idle = None;
        let mut sink = |record: &Record<'_>| {
            if let observer_core::record::Kind::ConnectionClosed(closed) = &record.kind {
                idle = Some(closed.idle.as_nanos());
            }
        };
        for wire in &it.packets {
            engine.handle(Event::Packet(wire.packet()), &mut sink);
        }
        engine.finish(None, &mut sink);
        idle
    };
    // The other end goes on after the first sign.
    let mut half_closed = Conversation::new(4_000);
    half_closed.upgrade();
    half_closed.clock += 2_000_000;
    half_closed.fin(true).server_sends(&unmasked("more")).fin(false);
    assert_eq!(idle(&half_closed), Some(2_002_000));
    // A FIN of the other end is no byte.
    let mut closing = Conversation::new(4_000);
    closing.upgrade().client_sends(&masked("last"));
    closing.clock += 1_000_000;
    closing.fin(false);
    closing.clock += 1_000_000;
    closing.client_sends(&close(1000, Some(MASK))).fin(true);
    assert_eq!(idle(&closing), Some(1_002_000));
}

fn long_conversation() -> Conversation {
    let mut it = Conversation::live(4_000, 9);
    it.upgrade();
    for n in 0..12 {
        it.client_sends(&masked(&format!("client says {n}")));
        it.server_sends(&unmasked(&format!("server says {n} {}", "y".repeat(n * 40))));
        it.send(true, &FrameBuilder::new(Opcode::Binary, vec![n as u8; n]).masked(MASK).build());
    }
    it.fin(true).fin(false);
    it
}

/// What is left of a conversation on the live kernel if those packets are lost.
fn without(packets: &[Wire], lost: &[usize]) -> Vec<Wire> {
    let mut losses = 0;
    let mut left = Vec::new();
    for (at, wire) in packets.iter().enumerate() {
        if lost.contains(&at) {
            losses += 1;
        } else {
            left.push(Wire { losses, ..wire.clone() });
        }
    }
    left
}

#[test]
fn with_packets_lost_on_both_sides_of_one_frame_no_message_is_shown_that_was_not_sent() {
    let it = long_conversation();
    let whole = run(Config::default(), &it.packets);
    let sent: Vec<&str> = messages(&whole);
    let lines = run(Config::default(), &without(&it.packets, &[64, 69]));
    for message in messages(&lines) {
        let untouched = message.trim_end_matches(" resynchronised");
        assert!(sent.contains(&untouched) || message.contains(" missing "), "{message}");
    }
    assert!(closed(&lines).ends_with("complete=false"), "{lines:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_repetition_of_segments_gives_the_same_messages(
        from_client: bool,
        pieces in prop::collection::vec(1_usize..60, 1..40),
        order in Just((0_usize..200).collect::<Vec<_>>()).prop_shuffle(),
        repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let text = |n: usize| format!("message {n} {}", "z".repeat(n * 3));
        let stream: Vec<u8> = (0..12)
            .flat_map(|n| if from_client { masked(&text(n)) } else { unmasked(&text(n)) })
            .collect();
        let mut it = Conversation::new(4_000);
        it.upgrade();
        let begun = it.packets.len();
        let mut rest = &stream[..];
        for piece in pieces.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(piece.min(rest.len()));
            it.send(from_client, now);
            rest = later;
        }
        let segments = it.packets.split_off(begun);
        let mut mixed: Vec<Wire> = segments.clone();
        mixed.extend(repeats.iter().map(|index| index.get(&segments).clone()));
        let rank = |at: usize| (order[at % order.len()], at);
        let mut ranked: Vec<(usize, Wire)> = mixed.into_iter().enumerate().collect();
        ranked.sort_by_key(|(at, _)| rank(*at));
        it.packets.extend(ranked.into_iter().map(|(_, wire)| wire));

        let lines = run(upgrades(), &it.packets);
        let name = if from_client { "client_to_server" } else { "server_to_client" };
        let expected: Vec<String> = (0..12).map(|n| format!("#1 message {name} Text {}", text(n))).collect();
        prop_assert_eq!(messages(&lines), expected);
        prop_assert!(!lines.iter().any(|line| line.contains(" gap ") || line.contains(" anomaly ")));
    }

    #[test]
    fn with_packets_lost_no_message_is_shown_that_was_not_sent_and_each_loss_is_told(
        lost in prop::collection::btree_set(7_usize..75, 1..10),
    ) {
        let it = long_conversation();
        let whole = run(Config::default(), &it.packets);
        let sent: Vec<&str> = messages(&whole);
        let lost: Vec<usize> = lost.into_iter().collect();
        let payload_lost = lost.iter().any(|at| it.packets.get(*at).is_some_and(|wire| wire.length > 40));
        let lines = run(Config::default(), &without(&it.packets, &lost));
        for message in messages(&lines) {
            let untouched = message.trim_end_matches(" resynchronised");
            prop_assert!(sent.contains(&untouched) || message.contains(" missing "), "{message}");
        }
        if payload_lost {
            prop_assert!(lines.iter().any(|line| line.contains(" gap ")), "{lines:#?}");
            prop_assert!(lines.iter().any(|line| line.ends_with("complete=false")), "{lines:#?}");
        } else if !lost.iter().any(|at| it.packets.get(*at).is_some_and(|wire| wire.flags & FIN != 0)) {
            prop_assert_eq!(messages(&lines), sent);
        }
    }

    #[test]
    fn forged_control_packets_that_reach_a_socket_change_no_message_and_no_end(
        forged in prop::collection::vec(
            (
                7_usize..70,
                prop::sample::select(vec![SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, ACK]),
                1_000_u32..u32::MAX - 1_000,
                1_000_u32..u32::MAX - 1_000,
            ),
            1..20,
        ),
    ) {
        let it = long_conversation();
        let honest = run(Config::default(), &it.packets);
        let mut packets = it.packets.clone();
        for (at, flags, ahead, acknowledged_ahead) in forged {
            let mut forger = it.clone();
            forger.packets.clear();
            forger.clock = packets[at].nanoseconds;
            forger.server_next = forger.server_next.wrapping_add(acknowledged_ahead);
            forger.forge(true, ahead, flags, b"");
            packets.insert(at, forger.packets.remove(0));
        }
        let lines = run(Config::default(), &packets);
        prop_assert_eq!(messages(&lines), messages(&honest));
        prop_assert_eq!(closed(&lines), closed(&honest));
    }

    #[test]
    fn random_packets_never_panic(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), any::<u32>(), any::<bool>()), 0..50),
    ) {
        let base = long_conversation().packets;
        let random = packets.into_iter().map(|(mut data, length, shaped)| {
            if shaped && data.len() >= 40 {
                data[..40].copy_from_slice(&base[7].data[..40]);
            }
            Wire { data, length, ..base[7].clone() }
        });
        let all: Vec<Wire> = base.iter().cloned().chain(random).collect();
        run(Config::default(), &all);
    }
}
