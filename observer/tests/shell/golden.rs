//! Recorded captures against recorded output. `BLESS=1` writes the output anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{run, testdata};

const CAPTURES: &[(&str, &[&str])] = &[
    ("chat-lo-ipv4.pcap", &[]),
    ("chat-any-ipv6.pcap", &["-v"]),
    ("chat-deflate.pcap", &[]),
    ("chat-lo-and-any.pcapng", &[]),
    ("frames-any-ipv4.pcap", &["--frames"]),
    ("frames-snaplen-200.pcap", &["--port", "7272", "--frames"]),
    ("chromium.pcap", &["--frames"]),
    ("nginx.pcap", &["--frames", "--port", "7272", "--port", "7273"]),
    ("libwebsockets.pcap", &["--frames"]),
    ("autobahn.pcap", &[]),
    ("nginx-lo.pcap", &["--port", "7272"]),
    ("refused-lo.pcap", &["--port", "7272"]),
    ("proxy-v1-lo.pcap", &[]),
    ("proxy-v2-lo.pcap", &["--port", "7272"]),
    ("tls-lo.pcap", &["--port", "7272"]),
    ("http2-lo.pcap", &["--port", "7272"]),
    ("h2c-lo.pcap", &["--port", "7272"]),
    ("workerman-2014-08.pcap", &[]),
    ("workerman-2014-09.pcap", &[]),
    ("workerman-2015-11.pcap", &[]),
];

/// Other views: the command, the capture, the format, further options, and the name of the expected output.
const VIEWS: &[(&str, &str, &str, &[&str], &str)] = &[
    ("read", "chat-lo-ipv4.pcap", "explain", &[], "chat-lo-ipv4.explain.txt"),
    (
        "read",
        "chat-any-ipv6.pcap",
        "explain",
        &["--lang", "zh", "--port", "7272"],
        "chat-any-ipv6.explain.zh.txt",
    ),
    ("read", "frames-any-ipv4.pcap", "explain", &[], "frames-any-ipv4.explain.txt"),
    ("read", "chat-deflate.pcap", "explain", &["--port", "7272"], "chat-deflate.explain.txt"),
    ("read", "nginx-lo.pcap", "explain", &["--port", "7272"], "nginx-lo.explain.txt"),
    (
        "read",
        "proxy-v2-lo.pcap",
        "explain",
        &["--port", "7272", "--lang", "zh"],
        "proxy-v2-lo.explain.zh.txt",
    ),
    ("read", "chat-lo-ipv4.pcap", "json", &["--packets", "--wire"], "chat-lo-ipv4.packets.jsonl"),
    ("read", "workerman-2014-08.pcap", "explain", &["--port", "7272"], "workerman-2014-08.explain.txt"),
    ("read", "workerman-2014-09.pcap", "explain", &["--port", "7272"], "workerman-2014-09.explain.txt"),
    ("read", "workerman-2015-11.pcap", "explain", &["--port", "7272"], "workerman-2015-11.explain.txt"),
    ("read", "chat-lo-ipv4.pcap", "text", &["--each"], "chat-lo-ipv4.each.txt"),
    ("read", "workerman-2015-11.pcap", "text", &["--each"], "workerman-2015-11.each.txt"),
    ("read", "chat-lo-ipv4.pcap", "json", &["--receipts"], "chat-lo-ipv4.receipts.jsonl"),
    ("verify", "chat-lo-ipv4.pcap", "text", &[], "chat-lo-ipv4.verify.txt"),
    ("verify", "chat-lo-ipv4.pcap", "json", &[], "chat-lo-ipv4.verify.jsonl"),
];

#[test]
fn recorded_captures_are_shown_as_they_were_when_a_person_last_looked() {
    let mut different = Vec::new();
    fs::create_dir_all(testdata().join("golden")).unwrap();
    for (command, name, format, options, expected) in VIEWS {
        different.extend(bless_or_compare(expected, &shown(command, name, format, options)));
    }
    for (name, options) in CAPTURES {
        let stem = Path::new(name).file_stem().unwrap().to_str().unwrap();
        for (extension, format) in [("txt", "text"), ("jsonl", "json")] {
            let expected = format!("{stem}.{extension}");
            different.extend(bless_or_compare(&expected, &shown("read", name, format, options)));
        }
    }
    assert!(different.is_empty(), "{}\nIf that is right: cargo xtask bless", different.join("\n"));
}

fn shown(command: &str, capture: &str, format: &str, options: &[&str]) -> String {
    let path = testdata().join("captures").join(capture);
    let arguments =
        [command, path.to_str().unwrap(), "--format", format, "--time", "utc", "--color", "never"];
    let ran = run(&[&arguments, options].concat());
    assert_eq!(ran.code, Some(0), "{capture}: {}", ran.stderr);
    ran.stdout
}

fn bless_or_compare(expected: &str, shown: &str) -> Option<String> {
    let expected = testdata().join("golden").join(expected);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&expected, shown).unwrap();
        return None;
    }
    difference(&expected, shown)
}

/// The first line that differs.
fn difference(expected: &Path, shown: &str) -> Option<String> {
    let text = fs::read_to_string(expected).unwrap_or_default();
    let (mut expected_lines, mut shown_lines) = (text.lines(), shown.lines());
    for number in 1.. {
        match (expected_lines.next(), shown_lines.next()) {
            (None, None) => break,
            (before, now) if before == now => {}
            (before, now) => {
                let (before, now) = (before.unwrap_or("nothing"), now.unwrap_or("nothing"));
                let path = expected.display();
                return Some(format!("{path}, line {number}:\n  was: {before:.2000}\n  is:  {now:.2000}"));
            }
        }
    }
    None
}

#[test]
fn every_key_of_the_output_is_documented() {
    let mut lines = Vec::new();
    for entry in fs::read_dir(testdata().join("golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                lines.push(serde_json::from_str(line).unwrap());
            }
        }
    }
    assert_documented(&lines);
}

/// Every key of these lines is in the documentation.
pub fn assert_documented(lines: &[serde_json::Value]) {
    let documentation = fs::read_to_string(testdata().join("../docs/json.md")).unwrap();
    let mut undocumented = BTreeSet::new();
    lines.iter().for_each(|line| collect_keys(line, &mut undocumented));
    undocumented.retain(|key| !documentation.contains(&format!("`{key}`")));
    assert!(undocumented.is_empty(), "docs/json.md does not mention {undocumented:?}");
}

fn collect_keys(value: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                keys.insert(key.clone());
                collect_keys(value, keys);
            }
        }
        serde_json::Value::Array(array) => array.iter().for_each(|value| collect_keys(value, keys)),
        _ => {}
    }
}

#[test]
fn the_examples_of_the_documentation_are_json_of_every_kind() {
    let documentation = fs::read_to_string(testdata().join("../docs/json.md")).unwrap();
    let examples = documentation.lines().filter(|line| line.starts_with('{'));
    let kinds: BTreeSet<_> = examples
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        })
        .map(|record| record["kind"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "anomaly",
        "capture_loss",
        "connected",
        "connection_closed",
        "connection_opened",
        "frame",
        "gap",
        "handshake",
        "message",
        "packet",
        "proxy_header",
        "received",
        "summary",
        "verdict",
        "verification",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn the_manuals_conversation_is_in_the_capture_that_tcpdump_took() {
    let capture = testdata().join("captures/chat-lo-ipv4.pcap");
    let ran = run(&["read", "--each", capture.to_str().unwrap()]);
    for (arrow, said) in [
        ("→", r#"{"type":"login","name":"mynick"}"#),
        ("→", r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#),
        ("←", r#""name":"猪"},{"uid":783700053,"name":"mynick"}]}"#),
    ] {
        let found = ran.stdout.lines().any(|line| line.contains(arrow) && line.ends_with(said));
        assert!(found, "{said} is not sent {arrow} in:\n{}", ran.stdout);
    }
    let broadcasts =
        ran.stdout.lines().filter(|line| line.contains('←') && line.contains(r#""content":"hi, all !""#));
    assert_eq!(broadcasts.count(), 2);
}
