//! Servers and clients that are not ours, at both ends: what is seen of them live is what a recording of them shows.
//!
//! The scripts are those that recorded testdata/captures, so the golden files say what must be seen. Runs where
//! `cargo xtask test` has npm's `ws` and Python's `websockets`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Program, Seen, seen_by, watch};

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
fn a_compressed_chat_of_pythons_websockets_is_labelled_as_its_recording_is() {
    let seen = websockets(&["--deflate"]);
    let keys =
        ["connection", "direction", "opcode", "masked", "compressed", "length", "undecoded", "truncated"];
    let expected = essence(&golden("chat-deflate.jsonl"), &keys);
    assert!(expected.iter().all(|message| message["compressed"] == true));
    assert_eq!(essence(&seen.records, &keys), expected);
}

#[test]
fn every_kind_of_frame_of_npms_ws_is_shown_as_its_recording_is() {
    // A module is looked for beside the script that asks for it.
    let script = variable("NODE_WS_DIR").join(format!("frames-{}.mjs", std::process::id()));
    std::fs::copy(testdata().join("record/frames.mjs"), &script).unwrap();
    let seen = watch_script(Command::new("node").arg(&script));
    std::fs::remove_file(&script).unwrap();
    assert_eq!(essence(&seen.records, &[]), essence(&golden("frames-any-ipv4.jsonl"), &[]));
    let closed = seen.closed(1);
    assert_eq!((&closed["close_code"], &closed["close_reason"]), (&4001.into(), &"enough for today".into()));
}
