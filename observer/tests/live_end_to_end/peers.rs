//! Servers and clients that are not ours, at both ends: what is seen of them live is what a recording of them shows.
//!
//! Most scripts are those that recorded testdata/captures, so the golden files say what must be seen; of the others the
//! peers' own logs do. Runs where `cargo xtask test` has npm's `ws` and Python's `websockets`.

mod logged;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Ended, Program, Seen, TO_CLIENT, TO_SERVER, seen_by, watch};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set; run these tests by `cargo xtask test`"))
        .into()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What is the same in each run of a script, in the order of each connection.
fn essence(records: &[Value], keys: &[&str]) -> Vec<Value> {
    let mut messages: Vec<&Value> = records.iter().filter(|record| record["kind"] == "message").collect();
    messages.sort_by_key(|message| (message["connection"].as_u64(), message["direction"].to_string()));
    let essence = |message: &Value| {
        let mut message = message.as_object().unwrap().clone();
        message.retain(|key, _| keys.is_empty() || keys.contains(&key.as_str()));
        for key in ["time", "time_first", "client", "server"] {
            message.remove(key);
        }
        Value::Object(message)
    };
    messages.into_iter().map(essence).collect()
}

fn golden(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(testdata().join("golden").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Watches a script that plays both ends.
fn watch_script(command: &mut Command) -> Seen {
    let port = free_port();
    let observer = watch(port, &[]);
    let ended = Program::start(command.arg("127.0.0.1").arg(port.to_string())).wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let seen = seen_by(observer);
    seen.assert_nothing_is_missing();
    seen
}

fn websockets(options: &[&str]) -> Seen {
    let mut command = Command::new(variable("PYTHON_WEBSOCKETS"));
    command.arg(testdata().join("record/chat.py")).args(options);
    watch_script(&mut command)
}

#[test]
fn a_chat_of_pythons_websockets_is_shown_as_its_recording_is() {
    let seen = websockets(&[]);
    assert_eq!(essence(&seen.records, &[]), essence(&golden("chat-lo-ipv4.jsonl"), &[]));
}

#[test]
fn a_compressed_chat_of_pythons_websockets_is_shown_in_clear_as_its_recording_is() {
    let seen = websockets(&["--deflate"]);
    let recording = essence(&golden("chat-deflate.jsonl"), &[]);
    assert!(recording.iter().all(|message| message["compressed"] == true));
    assert_eq!(essence(&seen.records, &[]), recording);
    // The same chat without compression says the same.
    let said = ["connection", "direction", "opcode", "length", "payload", "truncated", "chat"];
    assert_eq!(essence(&seen.records, &said), essence(&golden("chat-lo-ipv4.jsonl"), &said));
}

/// A script for npm's `ws`, while it is needed: a module is looked for beside the script that asks for it.
struct Script(PathBuf);

impl Script {
    fn copy(name: &str, purpose: &str) -> Self {
        let copy = variable("NODE_WS_DIR").join(format!("{purpose}-{}.mjs", std::process::id()));
        std::fs::copy(testdata().join("record").join(name), &copy).unwrap();
        Self(copy)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(&self.0);
        command
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn every_kind_of_frame_of_npms_ws_is_shown_as_its_recording_is() {
    let seen = watch_script(&mut Script::copy("frames.mjs", "frames").command());
    assert_eq!(essence(&seen.records, &[]), essence(&golden("frames-any-ipv4.jsonl"), &[]));
    let closed = seen.closed(1);
    assert_eq!((&closed["close_code"], &closed["close_reason"]), (&4001.into(), &"enough for today".into()));
}

/// What each end of deflate.mjs received.
fn log_of(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let log: Value = serde_json::from_str(ended.stdout.last().unwrap()).unwrap();
    assert!(log["extensions"].as_str().unwrap().contains("permessage-deflate"), "{}", log["extensions"]);
    log
}

fn received<'a>(log: &'a Value, direction: &str) -> Vec<&'a str> {
    log[direction].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn a_thousand_compressed_messages_of_npms_ws_each_way_are_shown_as_both_ends_logged_them() {
    let port = free_port();
    let script = Script::copy("deflate.mjs", "deflate");
    let observer = watch(port, &[]);
    let ended = Program::start(script.command().arg("127.0.0.1").arg(port.to_string())).wait();
    let seen = seen_by(observer);
    seen.assert_nothing_is_missing();
    let log = log_of(&ended);
    for direction in [TO_SERVER, TO_CLIENT] {
        let logged = received(&log, direction);
        assert_eq!(logged.len(), 1_000);
        assert_eq!(seen.texts(1, direction), logged);
    }
    let compressed = seen.of_kind("message").filter(|message| message["compressed"] == true).count();
    assert!(compressed > 1_700, "{compressed}");
}

#[test]
fn of_a_compressed_connection_that_was_open_before_nothing_wrong_is_shown_and_in_the_end_everything() {
    let port = free_port();
    let script = Script::copy("deflate.mjs", "deflate-late");
    let mut ends = Program::start(script.command().arg("127.0.0.1").arg(port.to_string()).arg("wait"));
    ends.wait_for("half way");
    let observer = watch(port, &[]);
    ends.signal(Signal::SIGUSR2);
    let ended = ends.wait();
    let seen = seen_by(observer);
    let log = log_of(&ended);
    for direction in [TO_SERVER, TO_CLIENT] {
        let logged = received(&log, direction);
        let shown = seen.messages(1, direction);
        assert!(shown.len() >= 799, "{} from the second one on", shown.len());
        let truncated = shown.iter().filter(|message| message["truncated"] == true).count();
        assert!((1..shown.len()).contains(&truncated), "{truncated} refer to what was not seen");
        for (message, text) in shown.iter().zip(&logged[1_000 - shown.len()..]) {
            assert_is_part_of(message, text);
        }
        // Behind messages that hardly compress, no byte of the window is unknown any more.
        let last: Vec<_> =
            shown[shown.len() - 400..].iter().map(|message| message["payload"].as_str()).collect();
        let expected: Vec<_> = logged[600..].iter().copied().map(Some).collect();
        assert_eq!(last, expected);
    }
    assert_eq!(seen.summary()["anomalies"], 0);
}

#[test]
fn fifty_busy_connections_are_decoded_from_the_second_message_on_and_what_is_not_proved_is_marked() {
    let port = free_port();
    let script = Script::copy("busy.mjs", "busy");
    let mut ends = Program::start(script.command().arg("127.0.0.1").arg(port.to_string()).arg("50"));
    ends.wait_for("busy");
    let mut observer = watch(port, &["--ring", "256MiB"]);
    observer.wait_for("following 50 connections that were open before");
    ends.signal(Signal::SIGUSR2);
    let ended = ends.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let seen = seen_by(observer);
    let logs: Vec<Value> = serde_json::from_str(ended.stdout.last().unwrap()).unwrap();
    let compressed = logs.iter().filter(|log| log["compressed"] == true).count();
    assert_eq!((logs.len(), compressed), (50, 25));
    let (mut unknown_context, mut whole_in_the_end) = (0, 0);
    for log in &logs {
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, log["port"].as_u64().unwrap() as u16));
        let connection = seen.connection_of(client);
        for (which, direction) in [TO_SERVER, TO_CLIENT].into_iter().enumerate() {
            let logged = received(log, direction);
            let shown = seen.messages(connection, direction);
            // The first one may have been on its way when the programs were attached.
            let sent_since = logged.len() - log["marks"][which].as_u64().unwrap() as usize;
            assert!(sent_since >= 300 && shown.len() + 1 >= sent_since, "{} of {sent_since}", shown.len());
            for (message, text) in shown.iter().zip(&logged[logged.len() - shown.len()..]) {
                assert_eq!(message["compressed"], log["compressed"]);
                assert_is_part_of(message, text);
                assert!(log["compressed"] == true || message["payload"] == *text, "{message}");
                unknown_context += usize::from(message["truncated"] == true);
            }
            let marked: Vec<_> = shown.iter().map(|message| message["resynchronised"] == true).collect();
            assert!(marked[0] && marked.is_sorted_by(|one, next| one >= next), "{marked:?}");
            let last = &shown[shown.len() - 50..];
            assert!(last.iter().all(|message| message["resynchronised"] == false));
            whole_in_the_end += last.iter().filter(|message| message["truncated"] == false).count();
        }
        assert_eq!(seen.closed(connection)["how"], "close_frame");
    }
    assert!(unknown_context > 0);
    // Of compressed ones, three bytes that were unknown may still be copied by chance.
    assert!(whole_in_the_end > 9 * (50 * 2 * 50) / 10, "{whole_in_the_end} of the last 50 each way");
    assert_eq!(seen.summary()["connections"], 50);
    assert_eq!(seen.summary()["anomalies"], 0);
}

/// That what is shown of a message was sent, at these offsets.
fn assert_is_part_of(message: &Value, text: &str) {
    let shown = match message["payload"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(message["payload_base64"].as_str().expect("it is decoded")).unwrap(),
    };
    assert_eq!(message["length"], text.len(), "{message}");
    let mut sent = text.as_bytes().to_vec();
    let holes = message["missing"].as_array().cloned().unwrap_or_default();
    for hole in holes.iter().rev() {
        let offset = hole[0].as_u64().unwrap() as usize;
        sent.drain(offset..offset + hole[1].as_u64().unwrap() as usize);
    }
    assert_eq!(shown, sent, "{message}");
}
