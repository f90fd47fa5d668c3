//! Rules of RFC 6455 that need both directions, and what pings tell, over packets made in memory.
//!
//! Owns the claims that need acknowledgments and every layer. Must not know any layer's inside. Bounded: small
//! conversations.

mod support;

use std::time::Duration;

use observer_core::engine::Config;
use observer_core::record::Kind;
use observer_core::websocket::frame::{Opcode, encode::FrameBuilder};
use observer_core::{Engine, Event, Limits, Record};
use support::{ACK, Conversation, FIN, MASK, Wire, answer, close, masked, messages, request, run, unmasked};

fn frames() -> Config {
    Config { frames: true, ..Config::default() }
}

/// Codes, each with the end that it blames.
fn blamed(packets: &[Wire]) -> Vec<(String, bool)> {
    let mut engine = Engine::new(Config::default());
    let mut found = Vec::new();
    let mut sink = |record: &Record<'_>| {
        if let Kind::Anomaly(anomaly) = &record.kind {
            let is_of_client = anomaly.direction.is_some_and(|it| it.name() == "client_to_server");
            found.push((anomaly.code.code().to_owned(), is_of_client));
        }
    };
    for packet in packets {
        engine.handle(Event::Packet(packet.packet()), &mut sink);
    }
    engine.finish(None, &mut sink);
    found
}

fn of_client(code: &str) -> (String, bool) {
    (code.to_owned(), true)
}

fn of_server(code: &str) -> (String, bool) {
    (code.to_owned(), false)
}

fn upgraded() -> Conversation {
    let mut it = Conversation::new(4_000);
    it.upgrade().client_sends(&masked("hello")).server_sends(&unmasked("hello, too"));
    it
}

fn lost(mut it: Conversation, payload: &[u8]) -> Vec<Wire> {
    let at = it.packets.iter().position(|wire| wire.data.ends_with(payload)).unwrap();
    it.packets.remove(at);
    for wire in it.packets.iter_mut().skip(at) {
        wire.losses = 1;
    }
    it.packets
}

// The client waits for the answer.

#[test]
fn a_client_that_does_not_wait_for_the_answer_is_told_once() {
    let mut it = Conversation::new(4_000);
    it.connect().client_sends(&[request(), masked("impatient")].concat());
    it.client_sends(&masked("very")).server_sends(&answer());
    assert_eq!(blamed(&it.packets), [of_client("handshake-not-awaited")]);
    assert_eq!(messages(&run(Config::default(), &it.packets)).len(), 2);
}

#[test]
fn a_client_that_goes_on_before_the_whole_answer_is_there_is_told() {
    let mut it = Conversation::new(4_000);
    let answer = answer();
    it.connect().client_sends(&request()).server_sends(&answer[..40]);
    it.client_sends(&masked("impatient")).server_sends(&answer[40..]);
    assert_eq!(blamed(&it.packets), [of_client("handshake-not-awaited")]);
}

#[test]
fn a_client_whose_refused_upgrade_is_followed_at_once_by_another_did_not_wait_either() {
    let mut it = Conversation::new(4_000);
    it.connect().client_sends(&[request(), request()].concat());
    it.server_sends(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").server_sends(&answer());
    assert_eq!(blamed(&it.packets), [of_client("handshake-not-awaited")]);
}

#[test]
fn a_client_that_acknowledged_an_answer_which_passed_unseen_waited() {
    // The first copy of the answer was not captured; it comes again behind what the client said to it.
    let mut it = Conversation::new(4_000);
    it.connect().client_sends(&request()).server_sends(&answer());
    it.client_sends(&masked("patient"));
    let at = it.packets.iter().position(|wire| wire.data.ends_with(&answer())).unwrap();
    let again = it.packets.remove(at);
    it.packets.push(again);
    assert_eq!(blamed(&it.packets), []);
    assert_eq!(messages(&run(Config::default(), &it.packets)), ["#1 message client_to_server Text patient"]);
}

#[test]
fn an_older_segment_that_comes_late_takes_no_acknowledgment_back() {
    let mut it = Conversation::new(4_000);
    let request = request();
    it.connect().client_sends(&request[..50]).send(true, &request[50..]).send(false, &answer());
    it.send(true, &masked("patient"));
    it.packets.remove(it.packets.len() - 2);
    // What the client said to the answer overtakes the rest of its request.
    let last = it.packets.len() - 1;
    it.packets.swap(last - 1, last);
    assert_eq!(blamed(&it.packets), []);
}

#[test]
fn a_client_whose_answer_was_lost_by_the_capture_is_not_blamed() {
    let mut it = Conversation::new(4_000);
    it.upgrade().client_sends(&masked("patient"));
    assert_eq!(blamed(&lost(it, &answer())), []);
}

#[test]
fn a_connection_that_was_open_before_has_no_answer_to_wait_for() {
    let mut it = upgraded();
    it.client_sends(&masked("more"));
    assert_eq!(blamed(&it.packets[6..]), []);
}

#[test]
fn a_request_that_is_known_by_its_looks_alone_blames_nobody() {
    let mut it = Conversation::new(4_000);
    it.connect().client_sends(&[request(), masked("impatient")].concat()).server_sends(&answer());
    assert_eq!(blamed(&it.packets[3..]), []);
}

// Close frames are answered.

fn client_close() -> Vec<u8> {
    close(1000, Some(MASK))
}

#[test]
fn a_server_that_ends_without_an_answer_to_the_close_frame_is_told() {
    let mut it = upgraded();
    it.client_sends(&client_close()).fin(false).fin(true);
    assert_eq!(blamed(&it.packets), [of_server("close-not-answered")]);
}

#[test]
fn a_client_that_ends_without_an_answer_to_the_close_frame_is_told() {
    let mut it = upgraded();
    it.server_sends(&close(1001, None)).fin(true).fin(false);
    assert_eq!(blamed(&it.packets), [of_client("close-not-answered")]);
}

#[test]
fn an_answer_with_whatever_code_is_one() {
    for answered in [FrameBuilder::new(Opcode::Close, "").build(), close(4_000, None)] {
        let mut it = upgraded();
        it.client_sends(&client_close()).server_sends(&answered).fin(false).fin(true);
        assert_eq!(blamed(&it.packets), []);
    }
}

#[test]
fn an_answer_behind_the_rest_of_a_message_is_one() {
    let mut it = upgraded();
    let first = FrameBuilder::new(Opcode::Text, "begun").fragment().build();
    let last = FrameBuilder::new(Opcode::Continuation, "ended").build();
    it.server_sends(&first).client_sends(&client_close());
    it.server_sends(&last).server_sends(&close(1000, None)).fin(false).fin(true);
    assert_eq!(blamed(&it.packets), []);
}

#[test]
fn who_ends_before_it_has_the_close_frame_owes_no_answer() {
    let mut it = upgraded();
    // They cross: the server's FIN acknowledges nothing of the close frame.
    let before = it.client_next;
    it.send(true, &client_close());
    let behind = std::mem::replace(&mut it.client_next, before);
    it.send_with(false, FIN | ACK);
    it.client_next = behind;
    it.acknowledge(false);
    // The same FIN comes again, and acknowledges it.
    it.server_next = it.server_next.wrapping_sub(1);
    it.send_with(false, FIN | ACK);
    it.acknowledge(true).fin(true);
    assert_eq!(blamed(&it.packets), []);
}

#[test]
fn who_breaks_off_with_a_reset_is_not_blamed() {
    let mut it = upgraded();
    it.client_sends(&client_close()).reset(false);
    assert_eq!(blamed(&it.packets), []);
}

#[test]
fn an_answer_that_the_capture_lost_is_not_missed() {
    let mut it = upgraded();
    let answered = close(1000, None);
    it.client_sends(&client_close()).server_sends(&answered).fin(false).fin(true);
    let packets = lost(it, &answered);
    assert_eq!(blamed(&packets), []);
}

#[test]
fn an_answer_that_the_capture_lost_is_not_missed_where_frames_follow_that_are_found_again() {
    let mut it = upgraded();
    let answered = close(1000, None);
    it.client_sends(&client_close()).server_sends(&answered);
    for n in 0..12 {
        it.server_sends(&ping(&format!("still here {n}")));
    }
    it.fin(false).fin(true);
    assert_eq!(blamed(&lost(it, &answered)), []);
}

#[test]
fn an_answer_from_before_the_capture_is_not_missed() {
    let mut it = Conversation::new(4_000);
    it.upgrade();
    for n in 0..12 {
        it.client_sends(&masked(&format!("text {n}"))).server_sends(&unmasked(&format!("text {n}")));
    }
    it.client_sends(&client_close()).fin(false).fin(true);
    assert_eq!(blamed(&it.packets[5..]), []);
}

#[test]
fn who_fails_a_connection_on_which_the_other_broke_the_rules_owes_no_answer() {
    let mut it = upgraded();
    it.client_sends(&unmasked("unmasked")).client_sends(&client_close()).fin(false).fin(true);
    assert_eq!(blamed(&it.packets), [of_client("unmasked-client-frame")]);
}

#[test]
fn who_closes_and_leaves_at_once_waits_for_no_answer() {
    let mut it = upgraded();
    it.client_sends(&client_close()).fin(true).fin(false);
    assert_eq!(blamed(&it.packets), []);
}

#[test]
fn a_conversation_in_order_is_without_anomalies() {
    for mut it in [Conversation::new(4_000), Conversation::live(4_000, 99)] {
        it.chat();
        assert_eq!(blamed(&it.packets), []);
    }
}

// Pings and pongs.

fn ping(payload: &str) -> Vec<u8> {
    FrameBuilder::new(Opcode::Ping, payload).build()
}

fn pong(payload: &str) -> Vec<u8> {
    FrameBuilder::new(Opcode::Pong, payload).masked(MASK).build()
}

/// What each pong tells, in microseconds, which is what a packet takes here.
fn round_trips(config: Config, packets: &[Wire]) -> Vec<Option<u64>> {
    let mut engine = Engine::new(config);
    let mut found = Vec::new();
    let mut sink = |record: &Record<'_>| {
        if let Kind::Frame(frame) = &record.kind {
            let microseconds = |it: Duration| u64::try_from(it.as_micros()).unwrap();
            match frame.header.opcode {
                Opcode::Pong => found.push(frame.round_trip.map(microseconds)),
                _ => assert_eq!(frame.round_trip, None),
            }
        }
    };
    for packet in packets {
        engine.handle(Event::Packet(packet.packet()), &mut sink);
    }
    engine.finish(None, &mut sink);
    found
}

#[test]
fn a_pong_tells_how_long_before_it_its_ping_passed() {
    let mut it = upgraded();
    it.server_sends(&ping("a"));
    it.clock += 5_000_000;
    it.client_sends(&pong("a"));
    assert_eq!(round_trips(frames(), &it.packets), [Some(5_002)]);
}

#[test]
fn both_ends_pings_are_told_apart() {
    let mut it = upgraded();
    it.server_sends(&ping("a")).client_sends(&FrameBuilder::new(Opcode::Ping, "a").masked(MASK).build());
    it.client_sends(&pong("a")).server_sends(&FrameBuilder::new(Opcode::Pong, "a").build());
    assert_eq!(round_trips(frames(), &it.packets), [Some(4), Some(4)]);
}

#[test]
fn a_pong_that_nobody_asked_for_is_in_order_and_tells_nothing() {
    let mut it = upgraded();
    it.server_sends(&ping("a")).client_sends(&pong("heartbeat")).client_sends(&pong("a"));
    it.client_sends(&pong("a"));
    assert_eq!(round_trips(frames(), &it.packets), [None, Some(4), None]);
    assert_eq!(blamed(&it.packets), []);
}

#[test]
fn a_pong_may_answer_the_latest_of_several_pings() {
    let mut it = upgraded();
    it.server_sends(&ping("a")).server_sends(&ping("b")).client_sends(&pong("b"));
    assert_eq!(round_trips(frames(), &it.packets), [Some(2)]);
    assert_eq!(blamed(&it.packets), []);
}

#[test]
fn a_pong_that_left_before_a_ping_arrived_does_not_answer_it() {
    let mut it = upgraded();
    it.server_sends(&ping(""));
    // The second ping and the first pong cross.
    let before = it.server_next;
    it.send(false, &ping(""));
    let behind = std::mem::replace(&mut it.server_next, before);
    it.send(true, &pong(""));
    it.server_next = behind;
    it.acknowledge(true).client_sends(&pong(""));
    assert_eq!(round_trips(frames(), &it.packets), [Some(3), Some(3)]);
}

#[test]
fn behind_a_ping_that_was_not_seen_no_time_is_told() {
    let mut it = upgraded();
    it.server_sends(&ping("")).client_sends(&pong("x")).server_sends(&unmasked("the next is lost"));
    it.server_sends(&ping("")).client_sends(&pong(""));
    let second = it.packets.len() - 4;
    it.packets.remove(second);
    assert_eq!(round_trips(frames(), &it.packets), [None, None]);
}

#[test]
fn behind_a_gap_no_time_is_told() {
    let mut it = upgraded();
    it.server_sends(&ping("")).client_sends(&masked("lost"));
    for n in 0..12 {
        it.client_sends(&masked(&format!("text {n}")));
    }
    it.client_sends(&pong(""));
    assert_eq!(round_trips(frames(), &lost(it, &masked("lost"))), [None]);
}

#[test]
fn no_more_pings_wait_than_the_bound_and_those_forgotten_are_counted() {
    let mut it = upgraded();
    for payload in ["a", "b", "c"] {
        it.server_sends(&ping(payload));
    }
    for payload in ["a", "b", "c"] {
        it.client_sends(&pong(payload));
    }
    let config = Config { limits: Limits { pings: 2, ..Limits::default() }, ..frames() };
    assert_eq!(round_trips(config.clone(), &it.packets), [None, Some(6), Some(6)]);
    assert!(run(config, &it.packets).last().unwrap().ends_with("limits=1"));
}
