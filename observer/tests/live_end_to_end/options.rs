//! What the command line asks for, on live traffic.
//!
//! What each option shows of recorded traffic is tested in `shell`; here, that it holds for what the kernel gives.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{
    Client, Ended, PATIENCE, Program, Seen, Server, TO_CLIENT, TO_SERVER, in_new_network_namespace, observer,
    observer_binary, seen_by, watch,
};

/// Watches with these options, not in JSON.
fn watch_text(port: u16, arguments: &[&str]) -> Program {
    let port = port.to_string();
    let mut program = Program::start(&mut observer(&[&["--port", &port][..], arguments].concat()));
    program.wait_for("watching");
    program
}

fn succeeded(observer: Program) -> Ended {
    let ended = observer.interrupt();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended
}

fn has_line(ended: &Ended, words: &str) -> bool {
    ended.stdout.iter().any(|line| line.contains(words))
}

#[test]
fn every_port_that_is_named_is_watched_and_no_other() {
    let [one, two, other] = [(); 3].map(|()| Server::on(Ipv4Addr::LOCALHOST));
    let observer = watch(one.port(), &["--port", &two.port().to_string()]);
    for server in [&one, &two, &other] {
        let mut client = Client::connect(server.address, "/echo");
        client.echo(&server.port().to_string());
        client.leave();
    }
    let seen = seen_by(observer);
    seen.assert_nothing_is_missing();
    let shown: Vec<_> = seen.of_kind("message").map(|it| it["payload"].as_str().unwrap()).collect();
    let [one, two] = [one.port(), two.port()].map(|port| port.to_string());
    assert_eq!(shown, [&one, &one, &two, &two]);
}

#[test]
fn pure_acknowledgments_stay_in_the_kernel_on_request_and_nothing_is_missing_for_it() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--no-acks", "--packets"]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("without acknowledgments");
    client.echo(&"long ".repeat(10_000));
    let address = client.address;
    let log = client.leave();
    let seen = seen_by(observer);
    seen.assert_equals(seen.connection_of(address), &log);
    seen.assert_nothing_is_missing();
    assert!(seen.summary()["capture"]["filtered"].as_u64().unwrap() > 0, "{}", seen.summary());
    // The last one of a handshake is what tells that the handshake is over.
    let pure = seen
        .of_kind("packet")
        .filter(|packet| packet["length"] == 0 && packet["flags"] == ".")
        .collect::<Vec<_>>();
    assert!(pure.len() <= 2, "{pure:#?}");
}

#[test]
fn headers_and_accounts_are_shown_on_request() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch_text(server.port(), &["-v"]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("hello");
    client.leave();
    let ended = succeeded(observer);
    for line in ["    Sec-WebSocket-Version: 13", "    Upgrade: websocket", "    complete"] {
        assert!(has_line(&ended, line), "{line}: {:#?}", ended.stdout);
    }
}

#[test]
fn a_frame_s_bytes_as_they_were_on_the_wire_are_those_of_its_payload_masked() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--wire"]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("masked");
    client.leave();
    let seen = seen_by(observer);
    let wire = |direction: &str| {
        let frame = seen.of_kind("frame").find(|frame| frame["direction"] == direction).unwrap();
        STANDARD.decode(frame["wire_base64"].as_str().unwrap()).unwrap()
    };
    assert_eq!(wire(TO_CLIENT), b"\x81\x06masked");
    let sent = wire(TO_SERVER);
    assert_eq!(sent[..2], [0x81, 0x86]);
    let clear: Vec<u8> =
        sent[6..].iter().zip(sent[2..6].iter().cycle()).map(|(one, key)| one ^ key).collect();
    assert_eq!(clear, b"masked");
}

#[test]
fn the_transcript_is_told_in_chinese_on_request() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch_text(server.port(), &["--format", "explain", "--lang", "zh"]);
    let mut client = Client::connect(server.address, "/");
    client.send(r#"{"type":"login","name":"猪猪"}"#);
    client.receive();
    client.receive();
    client.leave();
    let ended = succeeded(observer);
    for step in ["# TCP 三次握手 1/3", "# 猪猪"] {
        assert!(has_line(&ended, step), "{step}: {:#?}", ended.stdout);
    }
}

#[test]
fn filters_show_what_they_are_asked_for_and_count_everything() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--user", "mynick", "--type", "say", "--grep", "^.*hi"]);
    let mut users = ["猪猪", "mynick"].map(|name| {
        let mut user = Client::connect(server.address, "/");
        user.send(&format!(r#"{{"type":"login","name":"{name}"}}"#));
        user.receive();
        user.receive();
        user
    });
    // The other user's login is told to the first one.
    users[0].receive();
    for content in ["hi", "ho"] {
        users[1].send(&format!(r#"{{"type":"say","to_uid":"all","content":"{content}"}}"#));
        users.iter_mut().for_each(|user| drop(user.receive()));
    }
    let mynick = users[1].address.to_string();
    users.into_iter().for_each(|user| drop(user.leave()));
    let seen = seen_by(observer);
    let shown: Vec<_> = seen
        .of_kind("message")
        .map(|it| (it["client"] == *mynick, it["direction"].as_str().unwrap(), &it["chat"]["content"]))
        .collect();
    let hi = Value::from("hi");
    assert_eq!(shown, [(true, TO_SERVER, &hi), (true, TO_CLIENT, &hi)]);
    assert_eq!(seen.of_kind("connection_opened").count(), 0);
    assert_eq!(seen.summary()["connections"], 2);
    assert_eq!(seen.summary()["account"][TO_SERVER]["messages"], 4);
}

#[test]
fn what_a_peer_sends_cannot_move_the_cursor_of_a_terminal() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(None, None).unwrap();
    let port = server.port().to_string();
    let mut command = observer(&["--port", &port, "--frames", "-v", "-c", "2"]);
    let mut child = command.stdout(Stdio::from(slave)).spawn().unwrap();
    drop(command);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("watching") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{8}\u{9b}31m\u{202e}\u{2028}\n";
    let mut client = Client::connect(server.address, "/echo");
    client.echo(hostile);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut shown = Vec::new();
    // Once the other end is closed, reading fails.
    let _ = std::fs::File::from(master).read_to_end(&mut shown);
    let shown = String::from_utf8(shown).unwrap();
    // Colours are the observer's own.
    let colours = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert!(colours.is_match(&shown), "{shown}");
    let rest = colours.replace_all(&shown, "").replace("\r\n", "");
    assert!(rest.contains(r"\x1b[2J\x1b]0;owned\x07\r\x08"), "{rest}");
    let controls: Vec<char> =
        rest.chars().filter(|it| it.is_control() || matches!(it, '\u{202e}' | '\u{2028}')).collect();
    assert!(controls.is_empty(), "{controls:?} in {rest}");
}

#[test]
fn packets_of_a_tcpdump_in_a_pipe_are_shown_as_they_arrive() {
    in_new_network_namespace(|| {
        let server = Server::on(Ipv4Addr::LOCALHOST);
        let mut tcpdump = Command::new("tcpdump")
            // As root: a kernel's guest has no other user.
            .args(["-i", "any", "-s", "0", "-U", "-Z", "root", "-w", "-"])
            .arg(format!("tcp port {}", server.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended");
        }
        let mut reading = Command::new(observer_binary())
            .args(["read", "--json", "-"])
            .stdin(tcpdump.stdout.take().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut client = Client::connect(server.address, "/echo");
        client.echo("through a pipe");
        // Neither of the two has ended, and no more packets come.
        let mut lines = BufReader::new(reading.stdout.take().unwrap()).lines();
        let (sender, shown) = std::sync::mpsc::channel();
        let following = thread::spawn(move || lines.try_for_each(|line| sender.send(line.unwrap())));
        let mut messages = 0;
        while messages < 2 {
            let line = shown.recv_timeout(PATIENCE).expect("each message in time");
            let record: Value = serde_json::from_str(&line).unwrap();
            if record["kind"] == "message" {
                assert_eq!(record["payload"], "through a pipe");
                messages += 1;
            }
        }
        client.leave();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(tcpdump.id().try_into().unwrap()),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        tcpdump.wait().unwrap();
        assert_eq!(reading.wait().unwrap().code(), Some(0));
        drop(following.join().unwrap());
    })
    .join()
    .unwrap();
}

#[test]
fn a_connection_that_ends_without_a_close_frame_says_how() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &[]);
    let mut ends = Client::connect(server.address, "/echo");
    ends.echo("ends");
    let ending = ends.address;
    drop(ends);
    let mut resets = Client::connect(server.address, "/echo");
    resets.send("nobody reads the answer");
    let resetting = resets.address;
    // Whoever closes with something unread resets the connection.
    thread::sleep(std::time::Duration::from_millis(200));
    drop(resets);
    thread::sleep(std::time::Duration::from_millis(200));
    let seen: Seen = seen_by(observer);
    for (address, how) in [(ending, "fin"), (resetting, "rst")] {
        let closed = seen.closed(seen.connection_of(address));
        assert_eq!((&closed["how"], &closed["closed_by"]), (&how.into(), &"client".into()), "{closed}");
    }
}
