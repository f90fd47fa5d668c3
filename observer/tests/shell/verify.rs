//! `verify` and `ls`: what they say of chats in which not all goes well, or not all was seen; and over JSON lines, too.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::chats::{Capture, heard_by_alice, heard_by_both, two_users};
use crate::golden::assert_documented;
use crate::support::{
    Conversation, ETHERNET, From, NOON_SECONDS, Pcap, PcapNg, Ran, TemporaryFile, json, observer, ran, run,
    run_on,
};

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
        (held(), 0, "cases held, and all "),
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
    assert!(ran.stdout.contains("not all of the input could be read"), "{}", ran.stdout);
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
fn of_lines_without_a_summary_no_account_is_made_up() {
    let recorded = lines(&held(), &["--receipts"]);
    let first: String = recorded.lines().take(20).flat_map(|line| [line, "\n"]).collect();
    for (text, has_account) in [(&recorded, true), (&first, false)] {
        let ran = run_with("verify", text.as_bytes(), &[]);
        assert_eq!(ran.stderr.contains(" messages (→ "), has_account, "{}", ran.stderr);
        assert!(!ran.stderr.contains("open before"), "{}", ran.stderr);
    }
}

#[test]
fn what_cannot_be_read_at_all_is_an_error_without_advice() {
    let ran = run(&["verify", "/nowhere/chat.pcap"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("there is no such file"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("--rules FILE"), "{}", ran.stderr);
    assert!(ran.stdout.contains("not all of the input could be read"), "{}", ran.stdout);
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
    assert_eq!((code, said), (Some(0), vec!["hi".into()]), "who is who shows before");
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
    assert_eq!(rows[0], ["#", "client", "user", "room", "since", "→", "←", "seen"]);
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
    assert_eq!((rows[0][2], rows[1][2], rows[2][2]), ("port", "7272", "7273"));
    assert!(table.contains(&format!("  \"{}long\"…  ", "long ".repeat(5))), "{table}");
    assert!(table.lines().all(|line| line.len() < 130), "{table}");
    let listed = json(&run_with("ls", &capture.file(), &["--json"]));
    assert_eq!((&listed[1]["user"]["name"], &listed[1]["server"]), (&long.into(), &"10.0.0.2:7273".into()));
}

#[test]
fn ls_lists_the_rooms_that_somebody_subscribed_to() {
    let mut peer = Conversation::upgraded(7272);
    for topic in ["weather", "news"] {
        peer.text(From::Client, &format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
        peer.text(From::Server, &format!(r#"{{"op":"subscribed","topic":"{topic}"}}"#));
    }
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/topics.toml");
    let capture = Pcap::default().file(&peer.packets);
    let table = run_with("ls", &capture, &["--rules", rules]).stdout;
    assert!(table.contains("  news +1  "), "{table}");
    let listed = json(&run_with("ls", &capture, &["--rules", rules, "--json"]));
    assert_documented(&listed);
    assert_eq!(listed[0]["rooms"], serde_json::json!(["news", "weather"]));
}

#[test]
fn ls_says_that_names_from_before_are_known_only_from_what_is_seen() {
    let mut joined = Conversation::upgraded(7272);
    joined.packets.clear();
    joined.text(From::Server, "something");
    let ran = run_with("ls", &Pcap::default().file(&joined.packets), &["--port", "7272"]);
    assert!(ran.stdout.contains(" before "), "{}", ran.stdout);
    assert!(ran.stdout.contains("  all since then\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("of 1 of them it is not known who they are"), "{}", ran.stdout);
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

/// The conclusion in the three formats, which say the same.
struct Concluded {
    code: Option<i32>,
    text: String,
    json: Value,
    junit: String,
}

fn concluded(bytes: &[u8], options: &[&str]) -> Concluded {
    let verify =
        |format: &[&str]| run_with("verify", bytes, &[&["--port", "7272"], format, options].concat());
    let [text, json_lines, junit] = [&[][..], &["--json"], &["--format", "junit"]].map(verify);
    assert_eq!([text.code, junit.code], [json_lines.code; 2]);
    let lines = json(&json_lines);
    assert_documented(&lines);
    let end = lines.last().unwrap().clone();
    Concluded { code: text.code, text: text.stdout, json: end, junit: junit.stdout }
}

impl Concluded {
    /// That the capture lost so many packets, and left so many holes, is all that speaks against it.
    fn assert_lost(&self, packets: u64, gaps: u64) {
        let lost = serde_json::json!({"packets": packets, "gaps": gaps, "cut": 0});
        assert_eq!((&self.json["lost"], self.code), (&lost, Some(3)), "{}", self.text);
        assert_eq!(self.json["conclusion"], "inconclusive");
        assert_eq!(self.json["outcomes"]["inconclusive"], 0);
        let said = if packets > 0 { format!("the capture lost {packets} packets, ") } else { String::new() };
        let said = said + "where more may have been said: a larger buffer (--ring, or tcpdump";
        assert!(self.text.contains(&said), "{}", self.text);
        assert!(self.text.contains("Nothing was violated in "), "{}", self.text);
        assert!(self.junit.contains("<skipped message=\"Nothing was violated in "), "{}", self.junit);
        assert!(self.junit.contains(&said), "{}", self.junit);
    }
}

/// The lines of a chat in which all held, with what the capture lost at a time of day and in all.
fn lines_with_losses(timed: &[(&str, u64)], all: u64) -> String {
    let recorded = lines(&held(), &["--receipts"]);
    let (first, rest) = recorded.split_once('\n').unwrap();
    let losses = timed.iter().map(|(at, packets)| {
        format!(
            "{{\"schema\":1,\"kind\":\"capture_loss\",\"time\":\"2024-01-01T{at}Z\",\"packets\":{packets}}}\n"
        )
    });
    let losses: String = losses.collect();
    let counted = format!("\"capture\":{{\"losses\":{{\"lost_ring_full\":{all}}}}}");
    format!("{losses}{first}\n{rest}").replace("\"capture\":null", &counted)
}

#[test]
fn what_the_capture_lost_keeps_a_chat_in_which_all_that_was_seen_held_from_being_called_so() {
    concluded(lines_with_losses(&[("11:00:00", 12)], 12).as_bytes(), &[]).assert_lost(12, 0);
    concluded(lines_with_losses(&[], 12).as_bytes(), &[]).assert_lost(12, 0);
    concluded(lines_with_losses(&[("11:00:00", 5)], 12).as_bytes(), &[]).assert_lost(12, 0);
    assert_eq!(concluded(lines_with_losses(&[], 0).as_bytes(), &[]).code, Some(0));
}

#[test]
fn what_was_lost_outside_the_window_does_not_count_where_it_is_known_when_it_was() {
    let window = ["--since", "2024-01-01T11:30:00Z"];
    let outside = concluded(lines_with_losses(&[("11:00:00", 12)], 12).as_bytes(), &window);
    assert_eq!((outside.code, &outside.json["lost"]["packets"]), (Some(0), &0.into()), "{}", outside.text);
    concluded(lines_with_losses(&[("11:00:00", 12), ("11:40:00", 14)], 14).as_bytes(), &window)
        .assert_lost(2, 0);
    // The total has no time.
    concluded(lines_with_losses(&[("11:00:00", 12)], 15).as_bytes(), &window).assert_lost(3, 0);
}

#[test]
fn a_hole_between_messages_of_a_file_in_which_nothing_counts_losses_is_one_too() {
    let (mut capture, [mut alice, mut bob]) = heard_by_both("hi");
    capture.wait(20_000);
    alice.text(From::Client, r#"{"type":"never seen"}"#);
    alice.packets.clear();
    capture.acknowledge(&mut bob);
    alice.acknowledge(From::Server);
    capture.take(&mut alice);
    concluded(&capture.file(), &[]).assert_lost(0, 1);
}

#[test]
fn packets_that_a_capture_says_were_dropped_are_lost() {
    let file = |dropped: [u64; 3], big_endian| {
        let pcapng = PcapNg { big_endian };
        let mut file = [pcapng.section(), pcapng.interface(1, &[])].concat();
        let statistics = |packets: u64| {
            let word = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            let head = |code: u32, length: u32| {
                word(if big_endian { code << 16 | length } else { length << 16 | code })
            };
            let [interface, high, low] = [0, 0, 0].map(word);
            let [comment, received, dropped, end] =
                [(1, 3), (4, 8), (5, 8), (0, 0)].map(|it| head(it.0, it.1));
            let values = [pcapng.u64(77), pcapng.u64(packets)];
            let body = [
                &interface[..],
                &high,
                &low,
                &comment,
                b"abc\0",
                &received,
                &values[0],
                &dropped,
                &values[1],
                &end,
            ];
            pcapng.block(5, &body.concat())
        };
        let micros = u64::from(NOON_SECONDS) * 1_000_000;
        file.extend(statistics(dropped[0]));
        // The pause before the last packet is what it takes until all is judged.
        let held = held();
        let last = held.packets.len() - 1;
        for (index, packet) in held.packets.iter().enumerate() {
            let pause = if index == last { 20_000_000 } else { 0 };
            let data = [&ETHERNET[..], packet].concat();
            file.extend(pcapng.packet(0, micros + index as u64 * 1_000 + pause, &data));
        }
        file.extend([statistics(dropped[1]), statistics(dropped[2])].concat());
        file
    };
    for big_endian in [true, false] {
        concluded(&file([3, 12, 12], big_endian), &[]).assert_lost(12, 0);
        assert_eq!(concluded(&file([0; 3], big_endian), &[]).code, Some(0));
    }
    let recorded = run_on(&file([3, 12, 12], false), &["--port", "7272", "--json", "--receipts"]).stdout;
    concluded(recorded.as_bytes(), &[]).assert_lost(12, 0);
    let ran = run_on(&file([3, 12, 12], false), &["--port", "7272"]);
    assert!(ran.stderr.contains("12 packets dropped while it was captured"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("nothing was missed"), "{}", ran.stderr);
}

#[test]
fn what_was_said_and_done_is_counted_apart_from_what_was_checked() {
    let Concluded { text, json, .. } = concluded(&violated().file(), &[]);
    let (cases, checks) = (json["cases_of_flows"].as_u64().unwrap(), json["checks"].as_u64().unwrap());
    assert_eq!((cases, json["cases"].as_u64()), (3, Some(cases + checks)));
    let of_rules = |is_flow: bool| -> u64 {
        let rows = json["flows"].as_array().unwrap().iter();
        rows.filter(|row| (row["rule"] == "flow") == is_flow).map(|row| row["cases"].as_u64().unwrap()).sum()
    };
    assert_eq!((of_rules(true), of_rules(false)), (cases, checks));
    let sentence =
        format!("Of 3 cases, 1 violated, 0 late, 0 inconclusive, 2 held; all {checks} checks held.");
    assert!(text.ends_with(&format!("{sentence}\n")), "{text}");
}

#[test]
fn rules_of_a_file_that_saw_nothing_are_named_and_so_are_messages_that_began_nothing() {
    let rules =
        b"schema = 1\nname = 'rpc'\n[[message]]\ntype = 'call'\nfrom = 'client'\nwhen = { '/m' = 'call' }\n\
        [[message]]\ntype = 'note'\nfrom = 'client'\nwhen = { '/m' = 'note' }\n\
        [[message]]\ntype = 'result'\nfrom = 'server'\nwhen = { '/m' = 'result' }\n\
        [[flow]]\nname = 'answered'\nwhen = { type = 'call' }\n[[flow.expect]]\ntype = 'result'\nto = 'sender'\n\
        [[flow]]\nname = 'noted'\nwhen = { type = 'other' }\n[[flow.expect]]\ntype = 'result'\nto = 'sender'\n\
        [[message]]\ntype = 'other'\nwhen = { '/m' = 'other' }\n";
    let rules = TemporaryFile::new("verify-silent.toml", rules);
    let mut capture = Capture::default();
    let mut client = Conversation::upgraded_from(40_001, 7272);
    for (from, text) in [
        (From::Client, r#"{"m":"call"}"#),
        (From::Server, r#"{"m":"result"}"#),
        (From::Client, r#"{"m":"note"}"#),
        (From::Client, "what no rule reads"),
        (From::Client, "nor this"),
    ] {
        client.text(from, text);
    }
    client.acknowledge(From::Client);
    capture.take(&mut client);
    let with_rules = concluded(&capture.file(), &["--rules", rules.path()]);
    assert_eq!(with_rules.code, Some(0), "{}", with_rules.text);
    assert!(with_rules.text.contains("1 rule of rpc saw nothing: noted\n"), "{}", with_rules.text);
    let began_nothing = "3 messages of clients began nothing: no rule reads 2 of them\n";
    assert!(with_rules.text.contains(began_nothing), "{}", with_rules.text);
    let silent = serde_json::json!([{"dialect": "rpc", "flows": ["noted"]}]);
    assert_eq!(with_rules.json["saw_nothing"], silent);
    assert_eq!(with_rules.json["began_nothing"], serde_json::json!({"read": 1, "unread": 2}));
    let other = concluded(&held().file(), &["--rules", rules.path()]);
    assert!(other.text.contains("Nothing was seen that the rules of rpc judge\n"), "{}", other.text);
    assert!(other.junit.contains("<testcase name=\"noted\" classname=\"rpc\">"), "{}", other.junit);
    assert!(!concluded(&held().file(), &[]).text.contains("saw nothing"));
}

#[test]
fn a_capture_that_begins_within_connections_says_that_a_port_is_to_be_named() {
    let mut capture = Capture::default();
    let [mut alice, mut bob] = two_users(&mut capture);
    capture.packets.clear();
    capture.say(&mut alice, "hi");
    capture.deliver([&mut alice, &mut bob], "hi");
    for options in [&[][..], &["--format", "junit"]] {
        let ran = run_with("verify", &capture.file(), options);
        assert_eq!(ran.code, Some(3), "{}", ran.stdout);
        assert!(ran.stdout.contains("are decoded only where --port names their port"), "{}", ran.stdout);
    }
    assert!(!verify(&Capture::default(), &[]).stdout.contains("--port"));
}

#[test]
fn a_line_beyond_its_bounds_is_told_by_file_and_number_and_the_others_are_judged() {
    let recorded = lines(&held(), &["--receipts"]);
    let (first, rest) = recorded.split_once('\n').unwrap();
    let holes = vec!["[0,1]"; 5_000].join(",");
    let huge = format!("{{\"schema\":1,\"kind\":\"message\",\"missing\":[{holes}]}}");
    let numbered = first.replace("\"connection\":1,", "\"connection\":18446744073709551615,");
    let file = TemporaryFile::new("huge.jsonl", format!("{first}\n{huge}\n{numbered}\n{rest}").as_bytes());
    let ran = run(&["verify", file.path()]);
    assert_eq!(ran.code, Some(3), "{}", ran.stdout);
    let said = format!("{}: 2 lines are left out: line 2: ", file.path());
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert!(ran.stderr.contains("more than 4096 entries"), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 3: its connection has a number beyond "), "{}", ran.stderr);
}

#[test]
fn what_was_given_up_at_a_limit_keeps_all_that_held_from_being_called_so_in_every_format() {
    let mut capture = held();
    // Nothing is known of a server that says nothing: what its clients say is kept, up to a bound.
    let mut client = Conversation::upgraded_from(40_009, 7273);
    for _ in 0..3 {
        let content = "x".repeat(30_000);
        client.text(From::Client, &format!(r#"{{"type":"say","to_uid":"all","content":"{content}"}}"#));
    }
    capture.take(&mut client);
    let Concluded { code, text, json, junit } = concluded(&capture.file(), &["--port", "7273"]);
    assert_eq!((code, &json["shed"]), (Some(3), &1.into()), "{text}");
    let said = "1 was given up at a limit of observer";
    assert!(text.contains(said) && junit.contains(said), "{text}{junit}");
}

#[test]
fn what_a_snap_length_cut_off_keeps_all_that_held_from_being_called_so() {
    let mut capture = held();
    let mut client = Conversation::upgraded_from(40_009, 7272);
    client.text(From::Client, &"x".repeat(300));
    client.acknowledge(From::Server);
    capture.take(&mut client);
    let Concluded { code, text, json, junit } = concluded(&capture.file(), &["--snaplen", "320"]);
    assert_eq!((code, &json["lost"]["cut"]), (Some(3), &1.into()), "{text}");
    let said = "what was cut off left 1 hole in streams, where more may have been said: a larger snap length";
    assert!(text.contains(said) && junit.contains(said), "{text}{junit}");
    assert_eq!(concluded(&capture.file(), &[]).code, Some(0));
}

#[test]
fn runs_in_one_file_of_json_lines_are_kept_apart_as_those_of_several_files_are() {
    let recorded = lines(&held(), &["--receipts"]);
    let both = [&recorded[..], &recorded.replace("2024-01-01", "2024-01-02")].concat();
    let ran = run_with("verify", both.as_bytes(), &["--json"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let connections: Vec<_> =
        verdicts(&ran, "say").iter().map(|verdict| verdict["connection"].clone()).collect();
    assert_eq!(connections, [1, 3]);
}
