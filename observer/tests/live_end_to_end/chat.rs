//! The chat of the manual: who logs in, says something and leaves, and what is seen of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Client, Program, Seen, Server, TO_CLIENT, TO_SERVER, observer, seen_by, watch};

fn receive(client: &mut Client, kind: &str) -> Value {
    let message: Value = serde_json::from_str(&client.receive()).unwrap();
    assert_eq!(message["type"], kind, "{message}");
    message
}

pub fn the_manuals_chat(server: &Server) -> [Client; 2] {
    let mut present = Client::connect(server.address, "/");
    present.send(r#"{"type":"login","name":"猪猪"}"#);
    receive(&mut present, "user_list");
    receive(&mut present, "login");
    let mut mynick = Client::connect(server.address, "/");
    mynick.send(r#"{"type":"login","name":"mynick"}"#);
    receive(&mut mynick, "user_list");
    receive(&mut mynick, "login");
    receive(&mut present, "login");
    mynick.send(r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#);
    receive(&mut mynick, "say");
    receive(&mut present, "say");
    [present, mynick]
}

fn a_chat_is_shown_as_its_clients_know_it(loopback: IpAddr) {
    let server = Server::on(loopback);
    let observer = watch(server.port(), &[]);
    let clients = the_manuals_chat(&server);
    let addresses = clients.each_ref().map(|client| client.address);
    let [mut present, mynick] = clients;
    let mynick = mynick.leave();
    receive(&mut present, "logout");
    let logs = [present.leave(), mynick];
    let seen = seen_by(observer);
    for (address, log) in addresses.iter().zip(&logs) {
        let connection = seen.connection_of(*address);
        seen.assert_equals(connection, log);
        let closed = seen.closed(connection);
        assert_eq!((&closed["closed_by"], &closed["how"]), (&"client".into(), &"close_frame".into()));
        for record in seen.records.iter().filter(|record| record["connection"] == connection) {
            assert_eq!(record["server"], server.address.to_string());
        }
    }
    assert_eq!(seen.summary()["connections"], 2);
    assert_eq!(seen.summary()["handshakes"], 2);
    seen.assert_nothing_is_missing();
    let opened = seen.of_kind("connection_opened").next().unwrap();
    assert_eq!((&opened["interface"], &opened["from_start"]), (&"lo".into(), &true.into()));
}

#[test]
fn a_chat_over_ipv4_is_shown_as_its_clients_know_it() {
    a_chat_is_shown_as_its_clients_know_it(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn a_chat_over_ipv6_is_shown_as_its_clients_know_it() {
    a_chat_is_shown_as_its_clients_know_it(Ipv6Addr::LOCALHOST.into());
}

#[test]
fn the_chats_messages_say_what_they_mean() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &[]);
    let clients = the_manuals_chat(&server);
    let mynick = clients[1].address;
    clients.into_iter().for_each(|client| drop(client.leave()));
    let seen = seen_by(observer);
    let connection = seen.connection_of(mynick);
    let sent: Vec<_> = seen.messages(connection, TO_SERVER).iter().map(|it| it["chat"].clone()).collect();
    assert_eq!(
        sent,
        [
            serde_json::json!({"type": "login", "user": {"name": "mynick"}}),
            serde_json::json!({"type": "say", "to": "all", "content": "hi, all !"}),
        ]
    );
    let received: Vec<_> =
        seen.messages(connection, TO_CLIENT).iter().map(|it| it["chat"]["type"].clone()).collect();
    assert_eq!(received[..3], ["user_list", "login", "say"]);
}

#[test]
fn text_shows_every_message_on_a_line_with_what_clients_masked_in_clear() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut observer = Program::start(&mut observer(&["watch", "--port", &port, "--time", "utc", "--each"]));
    observer.wait_for("watching");
    let clients = the_manuals_chat(&server);
    let [_, mynick] = clients.each_ref().map(|client| client.address);
    clients.into_iter().for_each(|client| drop(client.leave()));
    let ended = observer.interrupt();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for said in [
        r#"text 32 {"type":"login","name":"mynick"}"#,
        r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#,
    ] {
        let arrow = format!("{mynick} → {} ", server.address);
        let shown = ended.stdout.iter().filter(|line| line.contains(&arrow) && line.ends_with(said));
        assert_eq!(shown.count(), 1, "{said} in {:#?}", ended.stdout);
    }
    let broadcasts = ended.stdout.iter().filter(|line| line.contains(" ← ") && line.contains("hi, all !"));
    assert_eq!(broadcasts.count(), 2);
}

#[test]
fn a_server_that_closes_first_ends_a_complete_connection() {
    let mut server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &[]);
    let clients = the_manuals_chat(&server);
    let addresses = clients.each_ref().map(|client| client.address);
    let waiting = clients.map(|client| thread::spawn(move || client.finish()));
    server.stop();
    let logs = waiting.map(|thread| thread.join().unwrap());
    let seen = seen_by(observer);
    for (address, log) in addresses.iter().zip(&logs) {
        let connection = seen.connection_of(*address);
        seen.assert_equals(connection, log);
        let closed = seen.closed(connection);
        assert_eq!((&closed["closed_by"], &closed["close_code"]), (&"server".into(), &1001.into()));
    }
    seen.assert_nothing_is_missing();
}

#[test]
fn a_closed_connection_is_told_of_while_the_observer_goes_on() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["-c", "4"]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("one");
    let first = client.address;
    client.leave();
    // Longer than the kernel's silence about sockets in TIME_WAIT is believed.
    thread::sleep(Duration::from_secs(7));
    let mut client = Client::connect(server.address, "/echo");
    client.echo("two");
    let seen = Seen::new(observer.wait());
    let closed = seen.records.iter().position(|record| record["kind"] == "connection_closed").unwrap();
    let second = seen.connection_of(client.address);
    let opened = seen.records.iter().position(|record| record["connection"] == second).unwrap();
    assert!(closed < opened, "{closed} is after {opened}");
    assert_eq!(seen.records[closed]["connection"], seen.connection_of(first));
}

#[test]
fn the_transcript_explains_each_step_of_the_chat_with_the_masked_frames_in_clear() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut observer = Program::start(&mut observer(&["--port", &port, "--format", "explain"]));
    observer.wait_for("watching");
    let clients = the_manuals_chat(&server);
    clients.into_iter().for_each(|client| drop(client.leave()));
    let ended = observer.interrupt();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut lines = ended.stdout.iter();
    for step in [
        "# TCP handshake 1/3",
        "# TCP handshake 2/3",
        "# TCP handshake 3/3",
        "# WebSocket upgrade request",
        "# WebSocket upgrade answer",
        "# 猪猪 logs in",
        "# TCP handshake 1/3",
        "# mynick logs in",
        r#"text 32 {"type":"login","name":"mynick"}"#,
        "# the server returns the user list to mynick: 猪猪, mynick",
        "# mynick says to all: “hi, all !”",
        r#"text 51 {"type":"say","to_uid":"all","content":"hi, all !"}"#,
        // The last acknowledgment may travel with something else.
        "# delivered to 2 of 2 browsers: “hi, all !”",
        "Flags: S = SYN",
        "2 connections",
    ] {
        assert!(
            lines.any(|line| line.contains(step)),
            "{step} is not there, or not in order: {:#?}",
            ended.stdout
        );
    }
}
