//! What is said when not everything could be seen.

use std::net::Ipv4Addr;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::kernel::makes_packets_over_64_kib;
use crate::support::{Client, Log, Program, Seen, Server, TO_CLIENT, TO_SERVER, seen_by, watch};

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("message {number}")).collect()
}

/// That nothing was shown that was not sent, in the order of sending, and that each byte is either seen or missed.
fn assert_account_is_exact(seen: &Seen, connection: u64, log: &Log) {
    let closed = seen.closed(connection);
    for (direction, sent, bytes) in
        [(TO_SERVER, &log.sent, log.bytes_sent), (TO_CLIENT, &log.received, log.bytes_received)]
    {
        let mut remaining = sent.iter();
        for shown in seen.texts(connection, direction) {
            assert!(
                remaining.any(|text| text == shown),
                "{shown} is not what was sent, or not in this order"
            );
        }
        let account = &closed["account"][direction];
        let count = |key: &str| account[key].as_u64().unwrap();
        assert_eq!(count("bytes_seen") + count("bytes_missing"), bytes, "{direction}: {closed}");
        let gaps: u64 = seen
            .of_kind("gap")
            .filter(|gap| gap["connection"] == connection && gap["direction"] == direction)
            .map(|gap| gap["length"].as_u64().unwrap())
            .sum();
        assert_eq!(gaps, count("bytes_missing"));
    }
}

#[test]
fn what_a_ring_that_is_too_small_loses_is_counted_and_every_byte_accounted_for() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--ring", "64KiB"]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("before the losses");
    // An observer that stands still takes nothing out of the ring.
    observer.signal(Signal::SIGSTOP);
    numbered(1_000).iter().for_each(|text| client.echo(text));
    observer.signal(Signal::SIGCONT);
    wait_until_the_ring_has_room(&mut client);
    for number in 0..20 {
        client.echo(&format!("after the losses {number}"));
    }
    let address = client.address;
    let log = client.leave();
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    assert_account_is_exact(&seen, connection, &log);

    let summary = seen.summary();
    assert!(summary["capture"]["losses"]["lost_ring_full"].as_u64().unwrap() > 1_000, "{summary}");
    assert!(summary["gaps"]["capture_loss"].as_u64().unwrap() >= 2, "{summary}");
    assert_eq!(seen.closed(connection)["complete"], false);
    assert!(seen.stderr.contains("lost by the capture: lost_ring_full"), "{}", seen.stderr);
    assert!(!seen.stderr.contains("nothing was missed"));
    for direction in [TO_SERVER, TO_CLIENT] {
        let texts = seen.texts(connection, direction);
        assert_eq!(texts[0], "before the losses");
        assert_eq!(texts.last(), Some(&"after the losses 19"), "the decoder found its place again");
    }
}

/// A stopped process runs on a while after it was told to.
fn wait_until_the_ring_has_room(client: &mut Client) {
    for number in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        client.echo(&format!("between {number}"));
    }
}

#[test]
fn a_burst_of_ten_thousand_messages_is_shown_or_accounted_for_exactly() {
    const MESSAGES: usize = 10_000;
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &[]);
    let mut client = Client::connect(server.address, "/echo");
    client.burst(numbered(MESSAGES));
    let address = client.address;
    let log = client.leave();
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    assert_account_is_exact(&seen, connection, &log);
    let shown = seen.of_kind("message").count();
    eprintln!("{shown} of {} messages shown; {}", 2 * MESSAGES, seen.summary()["capture"]);
    if seen.summary()["capture"]["losses"]["lost_ring_full"] == 0 {
        assert_eq!(shown, 2 * MESSAGES);
        seen.assert_equals(connection, &log);
        seen.assert_nothing_is_missing();
    } else {
        assert_eq!(seen.closed(connection)["complete"], false);
    }
}

#[test]
fn a_snap_length_leaves_truncated_messages_that_say_what_is_missing() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["-s", "300"]);
    let mut client = Client::connect(server.address, "/echo");
    let long = "x".repeat(1_000);
    client.echo("short");
    client.echo(&long);
    client.echo("short again");
    let address = client.address;
    let log = client.leave();
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    assert_account_is_exact(&seen, connection, &log);
    for direction in [TO_SERVER, TO_CLIENT] {
        let messages = seen.messages(connection, direction);
        let truncated: Vec<_> = messages.iter().map(|message| message["truncated"] == true).collect();
        assert_eq!(truncated, [false, true, false]);
        let message = messages[1];
        let kept = message["payload"].as_str().unwrap().len();
        assert!((100..300).contains(&kept), "{message}");
        assert_eq!(message["missing"], serde_json::json!([[kept, long.len() - kept]]));
        assert_eq!(message["length"], long.len());
    }
    assert!(seen.summary()["capture"]["truncated"].as_u64().unwrap() >= 2);
}

#[test]
fn an_observer_that_comes_late_finds_its_place_and_says_so() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("nobody saw this");
    let observer = watch(server.port(), &[]);
    for number in 0..5 {
        client.echo(&format!("late {number}"));
    }
    let address = client.address;
    client.leave();
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    let opened = seen.of_kind("connection_opened").next().unwrap();
    assert_eq!(opened["from_start"], false);
    for direction in [TO_SERVER, TO_CLIENT] {
        assert_eq!(seen.texts(connection, direction), ["late 0", "late 1", "late 2", "late 3", "late 4"]);
        assert_eq!(seen.messages(connection, direction)[0]["resynchronised"], true);
    }
    assert_eq!(seen.closed(connection)["complete"], false);
    assert!(seen.stderr.contains("1 connection open before, whose beginning alone"), "{}", seen.stderr);
}

#[test]
fn an_observer_whose_output_is_stuck_neither_stops_the_chat_nor_hides_its_losses() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--ring", "64KiB"]);
    let mut client = Client::connect(server.address, "/echo");
    let kept = observer.hold_output();
    let long = "x".repeat(8 << 10);
    for _ in 0..400 {
        client.echo(&long);
    }
    drop(kept);
    for number in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        client.echo(&format!("after {number}"));
    }
    let address = client.address;
    let log = client.leave();
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    assert_account_is_exact(&seen, connection, &log);
    let lost = seen.summary()["capture"]["losses"].as_object().unwrap();
    assert!(lost.values().filter_map(Value::as_u64).sum::<u64>() > 0, "{lost:?}");
    assert_eq!(seen.texts(connection, TO_CLIENT).last(), Some(&"after 19"));
}

#[test]
fn two_observers_of_one_port_see_the_same() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observers = [watch(server.port(), &[]), watch(server.port(), &[])];
    let mut client = Client::connect(server.address, "/echo");
    numbered(50).iter().for_each(|text| client.echo(text));
    let address = client.address;
    let log = client.leave();
    for seen in observers.map(|observer: Program| seen_by(observer)) {
        seen.assert_equals(seen.connection_of(address), &log);
        seen.assert_nothing_is_missing();
    }
}

#[test]
fn what_the_ring_loses_of_a_long_packet_is_called_a_loss_of_the_capture() {
    // The sender's side sees packets over 64 KiB, which need several places in the ring; that the last one is taken
    // between them is a matter of luck.
    for _ in 0..20 {
        let server = Server::on(std::net::Ipv6Addr::LOCALHOST);
        let observer = watch(server.port(), &["--side", "client", "--ring", "256KiB"]);
        let mut client = Client::connect(server.address, "/echo");
        for _ in 0..4 {
            client.echo(&"x".repeat(4 << 20));
        }
        wait_until_the_ring_has_room(&mut client);
        client.leave();
        let seen = seen_by(observer);
        assert_eq!(seen.summary()["gaps"]["snap_length"], 0, "{}", seen.summary());
        if seen.summary()["capture"]["captured_partly"].as_u64().unwrap() > 0 {
            assert!(seen.summary()["gaps"]["capture_loss"].as_u64().unwrap() > 0);
            return;
        }
    }
    assert!(!makes_packets_over_64_kib(), "no packet was captured in part");
}
