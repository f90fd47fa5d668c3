//! `verify` and `ls`: what they say of chats in which not all goes well, or not all was seen; and over JSON lines, too.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::chats::{Capture, heard_by_alice, heard_by_both, two_users};
use crate::golden::assert_documented;
use crate::support::{Conversation, From, Pcap, Ran, TemporaryFile, json, observer, ran, run, run_on};

/// Feeds bytes to the command, with standard input as its file.
fn run_with(command: &str, bytes: &[u8], options: &[&str]) -> Ran {
    let arguments = [&[command, "-", "--time", "utc"], options].concat();
    let mut child = observer(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(bytes)));
        ran(child.wait_with_output().unwrap())
    })
}

fn verify(capture: &Capture, options: &[&str]) -> Ran {
    run_with("verify", &capture.file(), &[&["--port", "7272"], options].concat())
}

/// What alice says reaches both.
fn held() -> Capture {
    let (mut capture, [_, mut bob]) = heard_by_both("hi");
    capture.wait(20_000);
    capture.acknowledge(&mut bob);
    capture
}

/// What alice says reaches only herself.
fn violated() -> Capture {
    let (mut capture, [mut alice, mut bob]) = heard_by_alice("hi");
    capture.wait(20_000);
    capture.acknowledge(&mut bob);
    capture.acknowledge(&mut alice);
    capture
}

/// The run ends before it is known.
fn inconclusive() -> Capture {
    let mut capture = Capture::default();
    let [mut alice, _] = two_users(&mut capture);
    capture.say(&mut alice, "hi");
    capture
}

fn verdicts(ran: &Ran, flow: &str) -> Vec<Value> {
    json(ran).into_iter().filter(|line| line["kind"] == "verdict" && line["flow"] == flow).collect()
}

#[test]
fn the_exit_status_and_the_last_sentence_say_what_it_comes_to() {
    for (capture, code, sentence) in [
        (held(), 0, "cases held."),
        (violated(), 1, "1 violated, 0 late"),
        (inconclusive(), 3, "Nothing was violated, but of "),
        (Capture::default(), 3, "nothing was seen that a rule knows"),
    ] {
        let ran = verify(&capture, &[]);
        assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
        let is_advised = ran.stderr.contains("--rules FILE teaches another protocol");
        assert_eq!(is_advised, sentence.starts_with("nothing was seen"), "{}", ran.stderr);
        assert!(ran.stdout.contains(sentence), "{}", ran.stdout);
    }
}

#[test]
fn what_cannot_be_run_has_the_status_of_a_wrong_command_line() {
    assert_eq!(run(&["verify", "/nonexistent"]).code, Some(2));
    assert_eq!(run(&["verify", "--no-acks"]).code, Some(2));
    assert_eq!(run_with("verify", b"neither of them", &[]).code, Some(2));
    assert_eq!(run(&["read", "/nonexistent"]).code, Some(1), "of the others it stays 1");
}

#[test]
fn a_damaged_capture_is_no_proof_that_all_held() {
    let file = held().file();
    let ran = run_with("verify", &file[..file.len() - 3], &["--port", "7272"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stdout);
    assert!(ran.stdout.contains("the input is damaged"), "{}", ran.stdout);
    let file = violated().file();
    assert_eq!(run_with("verify", &file[..file.len() - 3], &["--port", "7272"]).code, Some(1));
}

#[test]
fn a_block_names_what_was_said_who_missed_it_and_what_was_expected() {
    let ran = verify(&violated(), &[]);
    let expected = "violated: say of workerman-chat-2014-08\n    \
        alice (#1 10.0.0.1:40001) → all \"hi\"\n    \
        expected: within 2s: say to every member of the room, once, with the same user, content, recipient\n    \
        expected: nobody else gets it\n    \
        1 of 2 have it, the last after 2.0 ms\n    \
        lost: bob (#2 10.0.0.1:40002): say was not sent\n";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    assert!(!verify(&held(), &[]).stdout.contains("violated:"));
}

#[test]
fn json_has_every_case_and_the_conclusion_last() {
    let ran = verify(&violated(), &["--json"]);
    let lines = json(&ran);
    assert_documented(&lines);
    let say = verdicts(&ran, "say");
    assert_eq!((say.len(), &say[0]["outcome"]), (1, &"violated".into()));
    assert_eq!(say[0]["deviations"][0]["fault"], "lost");
    assert_eq!(say[0]["deviations"][0]["user"]["name"], "bob");
    assert!(verdicts(&ran, "login").iter().all(|verdict| verdict["outcome"] == "held"));
    let last = lines.last().unwrap();
    assert_eq!((&last["kind"], &last["conclusion"]), (&"verification".into(), &"violated".into()));
    assert!(lines.iter().all(|line| line["kind"] == "verdict" || line["kind"] == "verification"));
}

#[test]
fn junit_has_a_suite_a_dialect_and_a_failure_with_its_text() {
    let ran = verify(&violated(), &["--format", "junit"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.starts_with("<?xml"), "{}", ran.stdout);
    for part in [
        "<testsuite name=\"workerman-chat-2014-08\"",
        "<testcase name=\"say\" classname=\"workerman-chat-2014-08\"",
        "type=\"violated\"",
        "lost: bob (#2 10.0.0.1:40002): say was not sent",
    ] {
        assert!(ran.stdout.contains(part), "{part} is not in {}", ran.stdout);
    }
}

#[test]
fn rules_of_ones_own_are_judged_by() {
    let rules =
        b"schema = 1\nname = 'rpc'\n[[message]]\ntype = 'call'\nfrom = 'client'\nwhen = { '/m' = 'call' }\n\
        [[message]]\ntype = 'result'\nfrom = 'server'\nwhen = { '/m' = 'result' }\n\
        [[flow]]\nname = 'answered'\nwhen = { type = 'call' }\nwithin = '1s'\n\
        [[flow.expect]]\ntype = 'result'\nto = 'sender'\n";
    let rules = TemporaryFile::new("verify-rpc.toml", rules);
    for (answers, code) in [(true, 0), (false, 1)] {
        let mut capture = Capture::default();
        let mut client = Conversation::upgraded_from(40_001, 7272);
        client.text(From::Client, r#"{"m":"call"}"#);
        client.text(From::Server, r#"{"m":"result"}"#);
        client.acknowledge(From::Client);
        client.text(From::Client, r#"{"m":"call"}"#);
        if answers {
            client.text(From::Server, r#"{"m":"result"}"#);
            client.acknowledge(From::Client);
        }
        capture.take(&mut client);
        capture.wait(20_000);
        client.acknowledge(From::Client);
        capture.take(&mut client);
        let ran = verify(&capture, &["--rules", rules.path()]);
        assert_eq!(ran.code, Some(code), "{}", ran.stdout);
        let row = ran.stdout.lines().find(|line| line.starts_with("  answered")).unwrap();
        assert!(row.split_whitespace().nth(1) == Some("2"), "{}", ran.stdout);
    }
}

/// What `observer read --json` writes of a capture.
fn lines(capture: &Capture, options: &[&str]) -> String {
    let ran = run_on(&capture.file(), &[&["--json", "--port", "7272"], options].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

#[test]
fn json_lines_with_receipts_are_judged_as_the_capture_is() {
    for capture in [held(), violated(), inconclusive()] {
        let of_capture = verify(&capture, &["--json"]);
        let recorded = lines(&capture, &["--receipts"]);
        let of_lines = run_with("verify", recorded.as_bytes(), &["--json"]);
        assert_eq!(json(&of_lines), json(&of_capture));
        assert_eq!(of_lines.code, of_capture.code);
        assert!(!of_lines.stderr.contains("--receipts"), "{}", of_lines.stderr);
    }
}

#[test]
fn the_recorded_chats_are_judged_the_same_from_captures_and_from_json_lines() {
    for name in
        ["chat-lo-ipv4", "workerman-2014-08", "workerman-2014-09", "workerman-2015-11", "chat-deflate"]
    {
        let path = crate::support::testdata().join(format!("captures/{name}.pcap"));
        let path = path.to_str().unwrap();
        let of_capture = run(&["verify", "--json", path]);
        let recorded = run(&["read", "--json", "--receipts", path]).stdout;
        let of_lines = run_with("verify", recorded.as_bytes(), &["--json"]);
        assert_eq!(json(&of_lines), json(&of_capture), "{name}");
        assert_eq!(of_lines.code, of_capture.code, "{name}");
    }
}

#[test]
fn json_lines_without_receipts_are_judged_by_what_was_sent_and_that_is_said() {
    let mut capture = Capture::default();
    let [mut alice, mut bob] = two_users(&mut capture);
    capture.say(&mut alice, "hi");
    for user in [&mut alice, &mut bob] {
        capture.pass_on(user, "hi");
    }
    capture.wait(20_000);
    alice.text(From::Server, r#"{"type":"ping"}"#);
    capture.take(&mut alice);
    let of_capture = verify(&capture, &["--json"]);
    assert_eq!(verdicts(&of_capture, "say")[0]["deviations"][0]["fault"], "unacknowledged");
    let of_lines = run_with("verify", lines(&capture, &[]).as_bytes(), &["--json"]);
    assert_eq!(verdicts(&of_lines, "say")[0]["outcome"], "held");
    assert_eq!(json(&of_lines).last().unwrap()["delivered_by"], "sent");
    assert!(of_lines.stderr.contains("`observer --json --receipts` records more"), "{}", of_lines.stderr);
}

#[test]
fn a_line_that_makes_no_sense_is_told_by_its_number_and_the_others_are_judged() {
    let recorded = lines(&held(), &["--receipts"]);
    let (first, rest) = recorded.split_once('\n').unwrap();
    let damaged = format!("{first}\n{{\"schema\":1,\n{rest}");
    let ran = run_with("verify", damaged.as_bytes(), &[]);
    assert_eq!(ran.code, Some(3), "{}", ran.stdout);
    assert!(ran.stderr.contains("1 line is left out: line 2: "), "{}", ran.stderr);
    assert!(ran.stdout.contains("Nothing was violated"), "{}", ran.stdout);
    let cut = run_with("verify", &recorded.as_bytes()[..recorded.len() - 9], &[]);
    assert!(cut.stderr.contains("ends in the middle of a line"), "{}", cut.stderr);
    assert_eq!(cut.code, Some(3));
}

#[test]
fn several_files_of_json_lines_are_one_run_whose_connections_are_kept_apart() {
    let recorded = lines(&held(), &["--receipts"]);
    let one = TemporaryFile::new("one.jsonl", recorded.as_bytes());
    let two = TemporaryFile::new("two.jsonl", recorded.replace("2024-01-01", "2024-01-02").as_bytes());
    let ran = run(&["verify", "--json", one.path(), two.path()]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let connections: Vec<_> =
        verdicts(&ran, "say").iter().map(|verdict| verdict["connection"].clone()).collect();
    assert_eq!(connections, [1, 3]);
}

#[test]
fn captures_and_json_lines_are_not_taken_together_and_read_says_who_reads_lines() {
    let recorded = TemporaryFile::new("mixed.jsonl", lines(&held(), &[]).as_bytes());
    let capture = TemporaryFile::new("mixed.pcap", &held().file());
    for files in [[recorded.path(), capture.path()], [capture.path(), recorded.path()]] {
        let ran = run(&["verify", files[0], files[1]]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains("not read in one run"), "{}", ran.stderr);
    }
    let ran = run(&["read", recorded.path()]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("`observer verify FILE`"), "{}", ran.stderr);
}

#[test]
fn only_the_window_is_judged_and_what_began_before_is_not_held_against_anybody() {
    let (mut capture, [mut alice, mut bob]) = heard_by_alice("lost");
    capture.wait(60_000);
    capture.say(&mut alice, "hi");
    capture.deliver([&mut alice, &mut bob], "hi");
    capture.wait(20_000);
    capture.acknowledge(&mut bob);
    assert_eq!(verify(&capture, &[]).code, Some(1));
    let of_window = |options: &[&str]| {
        let ran = verify(&capture, &[&["--json"], options].concat());
        let said =
            verdicts(&ran, "say").iter().map(|it| it["trigger"]["content"].clone()).collect::<Vec<_>>();
        (ran.code, said)
    };
    let (code, said) = of_window(&["--since", "12:00:30"]);
    assert_eq!((code == Some(1), said), (false, vec!["hi".into()]));
    let (code, said) = of_window(&["--until", "2024-01-01T12:00:30Z"]);
    assert_eq!((code, said), (Some(1), vec!["lost".into()]));
    let (code, said) = of_window(&["--since", "13:00"]);
    assert_eq!((code, said), (Some(3), vec![]));
}

#[test]
fn ls_lists_who_is_connected_at_the_end_from_captures_and_from_json_lines() {
    let mut capture = held();
    let mut gone = Conversation::upgraded_from(40_003, 7272);
    gone.close();
    capture.take(&mut gone);
    let of_capture = run_with("ls", &capture.file(), &["--port", "7272"]);
    assert_eq!(of_capture.code, Some(0), "{}", of_capture.stderr);
    let rows: Vec<Vec<_>> = of_capture.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["#", "client", "claimed", "user", "room", "since", "→", "←", "seen"]);
    assert_eq!(rows[1][..6], ["1", "10.0.0.1:40001", "alice", "12:00:00.000000Z", "2", "4"]);
    assert_eq!(rows[2][2], "bob");
    assert_eq!(rows[3].join(" "), "2 connections open");
    let listed = json(&run_with("ls", &capture.file(), &["--json"]));
    assert_documented(&listed);
    let kinds: Vec<_> = listed.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["connected", "connected", "summary"]);
    assert_eq!((&listed[0]["user"]["name"], &listed[0]["standing"]), (&"alice".into(), &"member".into()));
    let recorded = lines(&capture, &[]);
    let of_lines = run_with("ls", recorded.as_bytes(), &[]);
    assert_eq!(of_lines.stdout, of_capture.stdout);
}

#[test]
fn ls_tells_ports_apart_and_cuts_names_that_json_has_whole() {
    let mut capture = Capture::default();
    let long = "long ".repeat(51);
    for (port, name) in [(7272, "alice"), (7273, &*long)] {
        capture.login(40_000 + port, port, name, port.into());
    }
    let table = run_with("ls", &capture.file(), &["--port", "7272,7273"]).stdout;
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[0][3], rows[1][2], rows[2][2]), ("port", "7272", "7273"));
    assert!(table.contains(&format!("  \"{}long\"…  ", "long ".repeat(5))), "{table}");
    assert!(table.lines().all(|line| line.len() < 130), "{table}");
    let listed = json(&run_with("ls", &capture.file(), &["--json"]));
    assert_eq!((&listed[1]["user"]["name"], &listed[1]["server"]), (&long.into(), &"10.0.0.2:7273".into()));
}

#[test]
fn ls_says_that_names_from_before_are_known_only_from_what_is_seen() {
    let mut joined = Conversation::upgraded(7272);
    joined.packets.clear();
    joined.text(From::Server, "something");
    let ran = run_with("ls", &Pcap::default().file(&joined.packets), &["--port", "7272"]);
    assert!(ran.stdout.contains(" before "), "{}", ran.stdout);
    assert!(ran.stdout.contains("1 of them connected before observer looked"), "{}", ran.stdout);
}

#[test]
fn receipts_add_lines_and_keys_and_nothing_changes_without_them() {
    let capture = held();
    let parse = |text: String| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (without, mut with) = (parse(lines(&capture, &[])), parse(lines(&capture, &["--receipts"])));
    assert_documented(&with);
    assert!(with.iter().any(|line| line["kind"] == "received"));
    with.retain(|line| line["kind"] != "received" && line["kind"] != "frame");
    for line in &mut with {
        line.as_object_mut().unwrap().remove("stream_end");
    }
    assert_eq!(with, without);
}
