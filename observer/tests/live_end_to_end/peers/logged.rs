//! Peers that keep logs: Chromium, npm's `ws`, nginx between two of those, libwebsockets, Python's `autobahn`. What the
//! observer shows of each of their connections is what its ends logged, and what tshark says of the packets that tcpdump
//! saw meanwhile.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::endpoints::{Endpoint, logs};
use crate::peers::{free_port, testdata, variable};
use crate::support::{Program, Seen, TO_CLIENT, TO_SERVER, observer, seen_by};
use crate::tcpdump::{CaptureFile, tcpdump};
use crate::tshark;

/// A directory for what peers write while they run. Not under target: Chromium has a socket in it, whose path is short.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("observer-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A script of testdata/record, which plays all ends.
fn script(interpreter: impl Into<PathBuf>, name: &str) -> Command {
    let mut command = Command::new(interpreter.into());
    command.arg(testdata().join("record").join(name)).env("NODE_WS_DIR", variable("NODE_WS_DIR"));
    command
}

/// Watches a script that listens at so many ports, and holds what was seen against every log and against tshark.
fn watch_logged<const PORTS: usize>(mut script: Command, name: &str, rest: &[&str]) -> (Seen, Vec<Endpoint>) {
    let ports = [(); PORTS].map(|()| free_port());
    let scratch = Scratch::new(name);
    let file = CaptureFile::new(name);
    let tcpdump = tcpdump("lo", &ports, &file);
    let mut observer_command = observer(&["--json", "--frames", "--wire", "--ring", "32MiB"]);
    for port in ports {
        observer_command.args(["--port", &port.to_string()]);
    }
    let mut observer = Program::start(&mut observer_command);
    observer.wait_for("watching");
    script.arg("127.0.0.1").args(ports.map(|port| port.to_string())).args(rest).env("TMPDIR", &scratch.0);
    let ended = Program::start(&mut script).wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let seen = seen_by(observer);
    // The kernel gives tcpdump what it has once a second, and tcpdump does not ask for the rest when it ends.
    std::thread::sleep(Duration::from_millis(1_500));
    let dumped = tcpdump.interrupt();
    assert!(dumped.stderr.contains("0 packets dropped by kernel"), "{}", dumped.stderr);

    assert_eq!(seen.summary()["anomalies"], 0, "{:?}", seen.of_kind("anomaly").collect::<Vec<_>>());
    let logs = logs(ended.stdout.last().unwrap());
    for log in &logs {
        log.assert_shown(&seen.records);
    }
    tshark::assert_agrees(file.path(), &ports, &seen.records);
    (seen, logs)
}

/// Messages in both directions of a conversation, in each as many.
const MESSAGES: usize = 1_000;

/// With context takeover and windows of 15 bits, which is what both ends do unless they negotiate something else.
fn a_compressed_conversation_is_shown_as_both_ends_logged_it(client: &str) {
    let script = script("node", "conversation.mjs");
    let (seen, logs) = watch_logged::<1>(script, client, &[&MESSAGES.to_string(), client]);
    assert_eq!(logs.iter().map(Endpoint::messages).collect::<Vec<_>>(), [2 * MESSAGES; 2]);
    let upgraded = seen.of_kind("handshake").find(|handshake| handshake["status"] == 101).unwrap();
    assert_eq!(upgraded["extensions"], serde_json::json!(["permessage-deflate"]));
    for direction in [TO_SERVER, TO_CLIENT] {
        let messages = seen.messages(upgraded["connection"].as_u64().unwrap(), direction);
        assert!(messages.iter().all(|message| message["compressed"] == true));
        // Many windows of 32 KiB, of which much refers to what came before.
        let sum = |key: &str| messages.iter().map(|message| message[key].as_u64().unwrap()).sum::<u64>();
        assert!(sum("length") > 10 << 15 && sum("wire_length") < sum("length") / 2);
    }
}

#[test]
fn a_thousand_compressed_messages_each_way_of_chromium_and_npms_ws_are_shown_as_both_ends_logged_them() {
    a_compressed_conversation_is_shown_as_both_ends_logged_it("chromium");
}

#[test]
fn a_thousand_compressed_messages_each_way_of_two_ends_of_npms_ws_are_shown_as_both_ends_logged_them() {
    a_compressed_conversation_is_shown_as_both_ends_logged_it("ws");
}

#[test]
fn both_sides_of_nginx_are_shown_as_the_ends_beyond_it_logged_them() {
    let mut script = script("node", "nginx.mjs");
    script.env("NGINX_BIN", variable("NGINX_BIN"));
    let (seen, logs) = watch_logged::<2>(script, "nginx", &["long"]);
    assert_eq!(logs.len(), 4);
    let statuses: Vec<_> = seen.of_kind("handshake").filter_map(|it| it["status"].as_u64()).collect();
    assert_eq!(statuses, [404, 101, 101, 101, 101]);
}

#[test]
fn libwebsockets_test_server_and_test_client_are_shown_as_their_peers_logged_them() {
    let (_, logs) = watch_logged::<2>(script("node", "libwebsockets.mjs"), "libwebsockets", &[]);
    assert_eq!(logs.len(), 5);
}

#[test]
fn fragments_and_every_parameter_of_compression_of_pythons_autobahn_are_shown_as_both_ends_logged_them() {
    let script = script(variable("PYTHON_AUTOBAHN"), "both_autobahn.py");
    let (seen, logs) = watch_logged::<1>(script, "autobahn", &[]);
    assert_eq!(logs.len(), 10);
    let granted: Vec<_> = seen
        .of_kind("handshake")
        .filter(|handshake| handshake["status"] == 101)
        .map(|handshake| handshake["extensions"].to_string())
        .collect();
    assert_eq!(granted.len(), 5);
    for parameter in [
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits=9",
        "client_max_window_bits=10",
    ] {
        assert!(granted.iter().any(|extensions| extensions.contains(parameter)), "{parameter}: {granted:?}");
    }
}
