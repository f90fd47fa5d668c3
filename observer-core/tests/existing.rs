//! Connections that were open before the capture began: how they are told of, decoded, and how they end.

mod support;

use std::net::SocketAddr;

use observer_core::engine::{Config, Engine, Event, Report};
use observer_core::packet::{ExistingConnection, Socket};
use observer_core::record::{Kind, Peer, Record};
use observer_core::time::Time;
use observer_core::{Limits, Sink};
use support::{
    ACK, Conversation, MASK, PSH, RST, Wire, close, closed, masked, messages, packet_bytes, unmasked,
};

const COOKIE: u64 = 7;
const SECOND: u64 = 1_000_000_000;
/// When the list is complete: behind the first packets of a conversation.
const LISTED_AT: u64 = 1_700_000_000_000_000_000 + SECOND;

fn listed(conversation: &Conversation) -> ExistingConnection {
    ExistingConnection {
        time: Time::from_file(LISTED_AT),
        cookie: COOKIE,
        netns_cookie: conversation.netns_cookie,
        local: conversation.server,
        remote: conversation.client,
        role: Peer::Server,
        ended_by: None,
    }
}

/// A conversation whose packets come after the list.
fn later(client_port: u16) -> Conversation {
    let mut conversation = Conversation::live(client_port, COOKIE);
    conversation.clock = LISTED_AT;
    conversation
}

/// An engine that is told of connections first, as the shell does, and what it said.
struct Run {
    engine: Engine,
    lines: Vec<String>,
}

impl Run {
    fn new(config: Config, existing: &[ExistingConnection]) -> Self {
        let mut run = Self { engine: Engine::new(config), lines: Vec::new() };
        for existing in existing {
            run.engine.handle(Event::ExistingConnection(*existing), &mut lines_of(&mut run.lines));
        }
        run
    }

    fn packets(mut self, packets: &[Wire]) -> Self {
        for wire in packets {
            self.engine.handle(Event::Packet(wire.packet()), &mut lines_of(&mut self.lines));
        }
        self
    }

    fn time(mut self, nanoseconds: u64) -> Self {
        self.engine.handle_timeout(Time::from_file(nanoseconds), &mut lines_of(&mut self.lines));
        self
    }

    fn finish(mut self) -> Vec<String> {
        self.engine.finish(None, &mut lines_of(&mut self.lines));
        self.lines
    }
}

fn lines_of(lines: &mut Vec<String>) -> impl Sink {
    |record: &Record<'_>| lines.push(support::line(record))
}

fn opened(lines: &[String]) -> Vec<&str> {
    lines.iter().filter(|line| line.contains(" opened ")).map(String::as_str).collect()
}

#[test]
fn a_listed_connection_is_told_of_without_a_packet_and_is_still_open_at_the_end() {
    let lines = Run::new(Config::default(), &[listed(&Conversation::new(40_000))]).time(LISTED_AT).finish();
    assert_eq!(
        lines[..2],
        [
            "#1 opened 127.0.0.1:40000 127.0.0.1:7272 from_start=false listed",
            "#1 closed None still_open None complete=false"
        ]
    );
    assert!(lines[2].contains("connections=1 other=0 open=1 incomplete=1"), "{lines:?}");
}

#[test]
fn a_listed_connection_is_not_told_of_before_its_time() {
    let existing = [listed(&Conversation::new(40_000))];
    let run = Run::new(Config::default(), &existing).time(LISTED_AT - 1);
    assert_eq!(run.lines, Vec::<String>::new());
    assert_eq!(run.engine.next_timeout(), Some(existing[0].time.monotonic));
    let run = run.time(LISTED_AT);
    assert_eq!(opened(&run.lines).len(), 1);
    assert_eq!(run.engine.next_timeout(), None);
}

#[test]
fn the_other_side_makes_the_local_end_the_client() {
    let conversation = Conversation::new(40_000);
    let client = ExistingConnection {
        local: conversation.client,
        remote: conversation.server,
        role: Peer::Client,
        ..listed(&conversation)
    };
    let lines = Run::new(Config::default(), &[client]).finish();
    assert_eq!(opened(&lines), ["#1 opened 127.0.0.1:40000 127.0.0.1:7272 from_start=false listed"]);
}

#[test]
fn a_mapped_ipv4_address_is_shown_as_the_ipv4_address_that_it_is() {
    let mapped = ExistingConnection {
        local: "[::ffff:127.0.0.1]:7272".parse().unwrap(),
        remote: "[::ffff:127.0.0.1]:40000".parse().unwrap(),
        ..listed(&Conversation::new(40_000))
    };
    let lines = Run::new(Config::default(), &[mapped]).finish();
    assert_eq!(opened(&lines), ["#1 opened 127.0.0.1:40000 127.0.0.1:7272 from_start=false listed"]);
}

#[test]
fn the_packets_of_a_listed_connection_are_decoded_from_the_next_frame_on_and_marked() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation
        .client_sends(&masked("first whole")[5..])
        .client_sends(&masked("second whole"))
        .server_sends(&unmasked("an answer"))
        .client_sends(&close(1000, Some(MASK)))
        .server_sends(&close(1000, None))
        .fin(false)
        .fin(true);
    let lines = Run::new(Config::default(), &[existing]).packets(&conversation.packets).finish();
    assert_eq!(
        opened(&lines),
        ["#1 opened 127.0.0.1:40000 127.0.0.1:7272 from_start=false listed"],
        "one and the same"
    );
    assert_eq!(
        messages(&lines),
        [
            "#1 message client_to_server Text second whole resynchronised",
            "#1 message server_to_client Text an answer resynchronised"
        ]
    );
    assert!(closed(&lines).starts_with("#1 closed Some(\"client\") close_frame Some(1000) complete=false"));
}

#[test]
fn a_handshake_that_was_captured_before_the_list_was_complete_is_the_connections_beginning() {
    let mut conversation = Conversation::live(40_000, COOKIE);
    conversation.chat();
    for told_at in [3, 4, conversation.packets.len()] {
        // The list is complete behind so many packets: before, with and behind the accepted socket's first one.
        let existing = ExistingConnection {
            time: Time::from_file(conversation.packets[told_at - 1].nanoseconds + 1),
            ..listed(&conversation)
        };
        let lines = Run::new(Config::default(), &[existing]).packets(&conversation.packets).finish();
        let alone = support::run(Config::default(), &conversation.packets);
        assert_eq!(lines, alone, "told at {told_at}");
    }
}

#[test]
fn the_syn_of_a_listed_client_is_the_connections_beginning() {
    let mut conversation = Conversation::live(40_000, COOKIE);
    conversation.chat();
    let (client, server) = (conversation.client, conversation.server);
    for wire in &mut conversation.packets {
        wire.socket = Some(Socket {
            cookie: COOKIE,
            netns_cookie: None,
            local: client,
            remote: server,
            role: Peer::Client,
            outgoing: wire.from_client,
        });
    }
    let existing =
        ExistingConnection { local: client, remote: server, role: Peer::Client, ..listed(&conversation) };
    let lines = Run::new(Config::default(), &[existing]).packets(&conversation.packets).finish();
    assert_eq!(lines, support::run(Config::default(), &conversation.packets));
}

#[test]
fn a_handshake_in_another_network_namespace_is_not_the_listed_connections() {
    let mut conversation = Conversation::live(40_000, 8);
    conversation.netns_cookie = Some(1);
    conversation.connect();
    let existing = ExistingConnection { netns_cookie: Some(2), ..listed(&conversation) };
    let lines =
        Run::new(Config::default(), &[existing]).packets(&conversation.packets).time(LISTED_AT).finish();
    let beginnings: Vec<_> = opened(&lines).iter().map(|line| line.rsplit_once(':').unwrap().1).collect();
    assert_eq!(beginnings, ["7272 from_start=true", "7272 from_start=false listed"]);
}

#[test]
fn what_is_known_or_was_closed_is_not_listed_again() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation.client_sends(&masked("known"));
    let mut run = Run::new(Config::default(), &[existing, existing]).packets(&conversation.packets);
    run.engine.handle(Event::ExistingConnection(existing), &mut lines_of(&mut run.lines));
    conversation.fin(true).fin(false);
    let mut run = run.packets(&conversation.packets[2..]);
    run.engine.handle(Event::ExistingConnection(existing), &mut lines_of(&mut run.lines));
    assert_eq!(opened(&run.finish()).len(), 1);
}

#[test]
fn at_the_bound_of_connections_listed_ones_give_way_and_are_counted() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let many: Vec<_> = (1..=5)
        .map(|cookie| ExistingConnection { cookie, ..listed(&Conversation::new(40_000 + cookie as u16)) })
        .collect();
    let lines = Run::new(Config { limits, ..Config::default() }, &many).finish();
    assert_eq!(opened(&lines).len(), 2);
    assert!(lines.last().unwrap().contains("limits=3"), "{lines:?}");
}

#[test]
fn a_listed_connection_without_an_upgrade_is_not_told_of_where_only_upgrades_are() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation.client_sends(&masked("no upgrade"));
    let config = Config { report: Report::Upgrades, ..Config::default() };
    let lines = Run::new(config, &[existing]).packets(&conversation.packets).finish();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("connections=0 other=1"));
}

#[test]
fn a_connection_that_ended_before_it_was_told_of_is_told_of_and_closed() {
    // All of it was captured before the list was complete.
    let mut conversation = Conversation::live(40_000, COOKIE);
    let existing = listed(&conversation);
    conversation.fin(true).fin(false);
    let lines =
        Run::new(Config::default(), &[existing]).packets(&conversation.packets).time(LISTED_AT).finish();
    assert_eq!(opened(&lines).len(), 1);
    assert!(closed(&lines).starts_with("#1 closed Some(\"client\") fin"), "{lines:?}");
    assert!(lines.last().unwrap().contains("open=0"));
}

#[test]
fn a_server_that_ends_first_leaves_no_ghost_though_the_kernel_hides_what_follows() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation.fin(false);
    let run = Run::new(Config::default(), &[existing]).packets(&conversation.packets);
    let lines = run.time(conversation.clock + 5 * SECOND).finish();
    assert!(closed(&lines).starts_with("#1 closed Some(\"server\") fin"), "{lines:?}");
}

#[test]
fn a_reset_that_nothing_answers_ends_a_connection_of_which_nothing_else_was_seen() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation.reset(true);
    let reset_at = conversation.clock;
    let run = || Run::new(Config::default(), &[existing]).packets(&conversation.packets);
    assert_eq!(closed(&run().time(reset_at + 4 * SECOND).lines), "", "it may be forged");
    let lines = run().time(reset_at + 5 * SECOND).finish();
    assert!(closed(&lines).starts_with("#1 closed Some(\"client\") rst"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("anomaly")));
}

#[test]
fn a_reset_that_the_socket_answers_was_forged() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation.forge(true, 500, RST, b"").acknowledge(false);
    let run = Run::new(Config::default(), &[existing]).packets(&conversation.packets);
    let lines = run.time(conversation.clock + 60 * SECOND).finish();
    assert!(lines.iter().any(|line| line.ends_with("anomaly reset-out-of-sequence")), "{lines:?}");
    assert!(closed(&lines).starts_with("#1 closed None still_open"), "{lines:?}");
}

#[test]
fn what_a_forged_reset_was_taken_for_does_not_hide_what_comes_later() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation.reset(true);
    let run = Run::new(Config::default(), &[existing]).packets(&conversation.packets);
    let run = run.time(conversation.clock + 5 * SECOND);
    conversation.packets.clear();
    conversation.clock += 6 * SECOND;
    conversation.server_sends(&unmasked("alive"));
    let lines = run.packets(&conversation.packets).finish();
    assert_eq!(messages(&lines), ["#2 message server_to_client Text alive resynchronised"]);
}

#[test]
fn a_half_closed_connection_ends_with_its_other_half() {
    for (ended_by, other_is_client) in [(Peer::Server, true), (Peer::Client, false)] {
        let mut conversation = later(40_000);
        let existing = ExistingConnection { ended_by: Some(ended_by), ..listed(&conversation) };
        let text = if other_is_client { masked("the rest") } else { unmasked("the rest") };
        let close = close(1000, other_is_client.then_some(MASK));
        conversation.send(other_is_client, &text).acknowledge(!other_is_client);
        conversation.send(other_is_client, &close).fin(other_is_client);
        let run = Run::new(Config::default(), &[existing]).packets(&conversation.packets);
        assert_eq!(closed(&run.lines), "");
        let run = run.time(conversation.clock + 5 * SECOND);
        // Who began to end it, and how, passed before.
        assert_eq!(closed(&run.lines), "#1 closed None unseen None complete=false");
        assert_eq!(messages(&run.lines).len(), 1, "{:?}", run.lines);
    }
}

#[test]
fn an_idle_listed_connection_does_not_end_by_time() {
    let existing = [listed(&Conversation::new(40_000))];
    let run = Run::new(Config::default(), &existing).time(LISTED_AT).time(LISTED_AT + 3_600 * SECOND);
    assert_eq!(closed(&run.lines), "");
}

#[test]
fn a_keep_alive_probe_of_an_idle_listed_connection_is_no_payload() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    // One byte before what comes next, without payload, and its answer.
    conversation.client_next -= 1;
    conversation.acknowledge(true);
    conversation.client_next += 1;
    conversation.acknowledge(false).client_sends(&masked("awake"));
    let lines = Run::new(Config::default(), &[existing]).packets(&conversation.packets).finish();
    assert_eq!(messages(&lines), ["#1 message client_to_server Text awake resynchronised"]);
    assert!(closed(&lines).ends_with("complete=false"), "{lines:?}");
}

#[test]
fn a_listed_connection_opens_when_it_was_listed_or_with_its_first_packet_if_that_is_older() {
    let mut times = Vec::new();
    for clock in [LISTED_AT - SECOND, LISTED_AT + SECOND] {
        let mut conversation = later(40_000);
        let existing = listed(&conversation);
        conversation.clock = clock;
        conversation.server_sends(&unmasked("any"));
        let mut engine = Engine::new(Config::default());
        let mut sink = |record: &Record<'_>| {
            if matches!(record.kind, Kind::ConnectionOpened(_)) {
                times.push(record.time.wall.0);
            }
        };
        engine.handle(Event::ExistingConnection(existing), &mut sink);
        for wire in &conversation.packets {
            engine.handle(Event::Packet(wire.packet()), &mut sink);
        }
    }
    assert_eq!(times, [LISTED_AT - SECOND + 1_000, LISTED_AT]);
}

#[test]
fn a_packet_is_its_listed_connections_by_the_cookie_though_nat_shows_other_ports() {
    let mut conversation = later(40_000);
    let existing = listed(&conversation);
    conversation.server_sends(&unmasked("redirected"));
    let wire = &mut conversation.packets[0];
    let shown = SocketAddr::from(([127, 0, 0, 1], 80));
    wire.data = packet_bytes(
        shown,
        conversation.client,
        conversation.server_next,
        conversation.client_next,
        PSH | ACK,
        &unmasked("redirected"),
    );
    let lines = Run::new(Config::default(), &[existing]).packets(&conversation.packets[..1]).finish();
    assert_eq!(opened(&lines), ["#1 opened 127.0.0.1:40000 127.0.0.1:7272 from_start=false listed"]);
    assert_eq!(messages(&lines).len(), 1);
}
