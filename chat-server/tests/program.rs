//! Owns the behaviour of the real binary: messages, signals, exit statuses.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::program::Program;

fn upgrade(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

#[test]
fn a_port_in_use_is_named_with_what_to_do_and_exit_status_3() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let mut program = Program::start(&["--listen", &address.to_string()]);
    let (status, stderr) = program.end();
    assert_eq!(status.code(), Some(3), "{stderr}");
    for part in [
        address.to_string(),
        "another process already listens there".to_owned(),
        format!("sport = :{}", address.port()),
        "--listen".to_owned(),
    ] {
        assert!(stderr.contains(&part), "{part:?} is missing in {stderr}");
    }
}

#[test]
fn the_web_page_is_named_and_can_be_had() {
    let mut program = Program::start(&["--listen", "127.0.0.1:0", "--web-listen", "127.0.0.1:0"]);
    let chat = program.address();
    let mut line = String::new();
    program.stderr.read_line(&mut line).unwrap();
    let page: SocketAddr = line.split_once("http://").unwrap().1.split('/').next().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(page).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!(r#"data-websocket-port="{}""#, chat.port())), "{answer}");
}

#[test]
fn a_taken_default_address_of_the_page_is_told_and_the_chat_starts_without_it() {
    // Whoever has the port already, it is taken now.
    let _holder = TcpListener::bind("127.0.0.1:55151");
    let mut program = Program::start(&["--listen", "127.0.0.1:0"]);
    let mut line = String::new();
    program.stderr.read_line(&mut line).unwrap();
    for part in ["without the web page", "127.0.0.1:55151", "sport = :55151", "--web-listen", "--no-web"] {
        assert!(line.contains(part), "{part:?} is missing in {line}");
    }
    drop(upgrade(program.address()));
}

#[test]
fn a_taken_address_of_the_page_that_was_asked_for_is_exit_status_3() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let (status, stderr) = Program::start(&["--listen", "127.0.0.1:0", "--web-listen", &address]).end();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("--web-listen"), "{stderr}");
}

#[test]
fn an_address_that_the_machine_does_not_have_is_named_too() {
    let (status, stderr) = Program::start(&["--listen", "192.0.2.1:7272"]).end();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("192.0.2.1:7272") && stderr.contains("no such address"), "{stderr}");
}

#[test]
fn wrong_usage_has_exit_status_2_and_says_what_is_right() {
    for (arguments, help) in [
        (["--listen", "7272"], "127.0.0.1:7272"),
        (["--ping-interval", "5"], "30s"),
        (["--ping-timeout", "0"], "ping interval of 0"),
        (["--max-connections", "0"], "at least one connection"),
        (["--allow-origin", "chat.example.org"], "https://chat.example.org"),
        (
            ["--fault", "dorp:every=7"],
            "there are drop, duplicate, reorder, delay, misdeliver, alter, skip-user-list, unsolicited, \
             silent-login, wrong-room",
        ),
        (["--fault", "drop:every=0"], "from 1 to"),
    ] {
        let (status, stderr) = Program::start(&arguments).end();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(help), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_chat_that_is_broken_on_purpose_says_so_first_and_even_when_quiet() {
    let faults = ["--fault", "drop:name=Bob", "--fault", "delay:ms=500,every=7"];
    let arguments = ["--listen", "127.0.0.1:0", "--no-web", "--quiet"];
    let mut program = Program::start(&[&arguments[..], &faults].concat());
    let mut line = String::new();
    program.stderr.read_line(&mut line).unwrap();
    let end = "warning: THIS CHAT IS BROKEN ON PURPOSE, for tests of observer: \
               --fault \"drop:every=1,name=Bob\" --fault \"delay:every=7,ms=500\"\n";
    assert!(line.ends_with(end), "{line}");
}

#[test]
fn only_the_long_help_has_the_faults_and_marks_them() {
    let help = |option: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_chat-server")).arg(option).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!help("-h").contains("--fault"));
    let long = help("--help");
    for part in [
        "--fault <SPEC>",
        "For tests of observer: breaks the chat on purpose",
        "  drop  ",
        "  duplicate  ",
        "  reorder  ",
        "  delay  ",
        "  misdeliver  ",
        "  alter  ",
        "  skip-user-list  ",
        "  unsolicited  ",
        "  silent-login  ",
        "  wrong-room  ",
    ] {
        assert!(long.contains(part), "{part:?} is missing in {long}");
    }
}

#[test]
fn sigterm_and_sigint_close_with_1001_and_exit_status_0() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut program = Program::start(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--no-web"]);
        let mut clients = [upgrade(program.address()), upgrade(program.address())];
        program.signal(signal);
        for client in &mut clients {
            let mut head = [0; 4];
            client.read_exact(&mut head).unwrap();
            assert_eq!((head[0], u16::from_be_bytes([head[2], head[3]])), (0x88, 1001));
            client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]).unwrap();
        }
        drop(clients);
        let (status, stderr) = program.end();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("stopped: 2 connections"), "{stderr}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::start(&["--listen", "127.0.0.1:0", "--close-timeout", "1m", "--no-web"]);
    let _mute = upgrade(program.address());
    program.signal(rustix::process::Signal::INT);
    let mut line = String::new();
    program.stderr.read_line(&mut line).unwrap();
    assert!(line.contains("stopping, 1 connections"), "{line}");
    program.signal(rustix::process::Signal::INT);
    assert_eq!(program.end().0.code(), Some(0));
}

#[test]
fn names_in_the_log_cannot_forge_lines() {
    let mut program = Program::start(&["--listen", "127.0.0.1:0", "--verbose", "--no-web"]);
    let mut client = upgrade(program.address());
    let json = br#"{"type":"login","name":"x\n2026-01-01 00:00:00 notice: forged\u001b[2J"}"#;
    let mut frame = vec![0x81, 0x80 | json.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(json);
    client.write_all(&frame).unwrap();
    client.read_exact(&mut [0; 20]).unwrap();
    program.signal(rustix::process::Signal::TERM);
    drop(client);
    let (_, stderr) = program.end();
    assert!(stderr.contains(r#"logs in as "x\n2026-01-01 00:00:00 notice: forged\u{1b}[2J""#), "{stderr}");
    assert!(
        !stderr.lines().any(|line| line.ends_with("forged\u{1b}[2J") || line.contains('\u{1b}')),
        "{stderr}"
    );
}

#[test]
fn a_closed_standard_error_does_not_end_the_server() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chat-server"))
        .args(["--listen", "127.0.0.1:0", "--verbose", "--no-web"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let address: SocketAddr = line.split_once("ws://").unwrap().1.split('/').next().unwrap().parse().unwrap();
    drop(stderr);
    let mut program = child;
    drop(upgrade(address));
    drop(upgrade(address));
    assert_eq!(program.try_wait().unwrap(), None);
    program.kill().unwrap();
    program.wait().unwrap();
}
