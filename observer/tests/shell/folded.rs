//! Default text: one line for what is said and all its copies; and `--each`, which has a line a message.

use crate::chats::{Capture, heard_by_alice, heard_by_both, two_users};
use crate::support::{Conversation, From, Ran, frame, run_on, testdata};

fn shown(capture: &Capture, options: &[&str]) -> Ran {
    let ran = run_on(&capture.file(), &[&["--port", "7272"], options].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran
}

/// The lines of what happens in the chat, without their times.
fn happened(capture: &Capture) -> Vec<String> {
    let shown = shown(capture, &[]).stdout;
    let lines = shown.lines().filter_map(|line| line.split_once(' ').map(|(_, rest)| rest));
    lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

const LOGINS: [&str; 2] = ["alice logged in 1/1 2.0 ms", "bob logged in 2/2 4.0 ms"];

#[test]
fn what_is_said_has_one_line_with_all_its_copies_and_no_line_of_its_own() {
    let (capture, _) = heard_by_both("hi");
    assert_eq!(happened(&capture), [&LOGINS[..], &["alice → all \"hi\" 2/2 3.0 ms"]].concat());
}

#[test]
fn whoever_leaves_has_a_line_also_where_nobody_is_left_to_get_one() {
    let mut capture = Capture::default();
    let mut alice = capture.login(40_001, 7272, "alice", 1);
    alice.close();
    capture.take(&mut alice);
    assert_eq!(happened(&capture), ["alice logged in 1/1 2.0 ms", "alice logged out"]);
}

#[test]
fn who_is_missing_is_named_once_the_time_is_up_and_once_more_where_it_comes_late() {
    let (mut capture, [mut alice, mut bob]) = heard_by_alice("hi");
    capture.wait(3_000);
    capture.acknowledge(&mut alice);
    let missing = "alice → all \"hi\" 1/2, missing: bob (#2 10.0.0.1:40002)";
    let told = happened(&capture);
    assert!(told.contains(&missing.to_owned()), "{told:?}");
    capture.pass_on(&mut bob, "hi");
    capture.acknowledge(&mut bob);
    let told = happened(&capture);
    assert_eq!(told[2], missing);
    assert!(told[3].starts_with("↳ alice → all \"hi\" 2/2 3.00 s, late"), "{told:?}");
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn what_was_sent_and_is_not_acknowledged_is_called_so() {
    let (mut capture, [mut alice, mut bob]) = heard_by_alice("hi");
    capture.pass_on(&mut bob, "hi");
    capture.wait(3_000);
    capture.acknowledge(&mut alice);
    let told = happened(&capture);
    assert_eq!(told[2], "alice → all \"hi\" 1/2, sent, not acknowledged: bob (#2 10.0.0.1:40002)");
}

#[test]
fn what_is_under_way_at_the_end_has_a_line_that_says_that_it_is_not_known() {
    let mut capture = Capture::default();
    let [mut alice, _] = two_users(&mut capture);
    capture.say(&mut alice, "hi");
    let told = happened(&capture);
    assert!(told[2].starts_with("alice → all \"hi\" 0/2"), "{told:?}");
    assert!(told[2].ends_with("[not known: the run ended before the time was up]"), "{told:?}");
}

#[test]
fn a_message_that_is_nothing_to_the_rules_is_shown_as_ever() {
    let mut capture = Capture::default();
    let mut somebody = Conversation::upgraded_from(40_009, 7272);
    somebody.text(From::Client, "hello");
    capture.take(&mut somebody);
    let shown = shown(&capture, &[]).stdout;
    assert!(shown.contains("→ 10.0.0.2:7272 text 5 hello\n"), "{shown}");
}

/// The same, by one of the documented rule files, without who it is.
fn happened_by(rules: &str, messages: &[(From, &str)]) -> Vec<String> {
    let mut capture = Capture::default();
    let mut somebody = Conversation::upgraded_from(40_009, 7272);
    for (from, text) in messages {
        somebody.text(*from, text);
        somebody.acknowledge(if *from == From::Client { From::Server } else { From::Client });
    }
    capture.take(&mut somebody);
    let rules = testdata().join("../docs/examples").join(rules);
    let shown = shown(&capture, &["--rules", rules.to_str().unwrap()]).stdout;
    let lines = shown.lines().filter_map(|line| line.split_once(" 10.0.0.1:40009 "));
    lines.filter(|(time, _)| !time.contains('#')).map(|(_, what)| what.to_owned()).collect()
}

#[test]
fn a_call_is_told_from_the_next_by_the_fields_that_its_rule_names() {
    let called = [
        (From::Client, r#"{"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]}"#),
        (From::Server, r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
        (From::Client, r#"{"jsonrpc":"2.0","id":"x","method":"sub \" 9/9\n\u202e"}"#),
        (From::Server, r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"no"}}"#),
        (From::Server, r#"{"jsonrpc":"2.0","id":-1,"method":"tick"}"#),
        (From::Client, r#"{"jsonrpc":"2.0","id":-1,"result":null}"#),
        (From::Server, r#"{"jsonrpc":"2.0","id":2.5,"result":null}"#),
    ];
    let told = happened_by("json-rpc.toml", &called);
    assert_eq!(
        told,
        [
            r#"call id=1 method="add" 1/1 2.0 ms"#,
            r#"call id="x" method="sub \" 9/9\n\u{202e}" 1/1 2.0 ms"#,
            r#"← call id=-1 method="tick" 1/1 2.0 ms"#,
            "← result id=2.5, violated unasked-result, nothing explains it: (#1 10.0.0.1:40009)",
        ]
    );
}

#[test]
fn a_message_whose_topic_is_told_needs_nothing_else() {
    let subscribed = [
        (From::Client, r#"{"op":"subscribe","topic":"weather"}"#),
        (From::Server, r#"{"op":"subscribed","topic":"weather"}"#),
    ];
    assert_eq!(happened_by("topics.toml", &subscribed), ["subscribe in room weather 1/1 2.0 ms"]);
}

#[test]
fn of_a_long_message_the_beginning_is_shown_and_all_of_it_with_each() {
    let mut capture = Capture::default();
    let mut somebody = Conversation::upgraded_from(40_009, 7272);
    let said = "猪".repeat(10_000);
    somebody.text(From::Client, &said);
    capture.take(&mut somebody);
    let beginning = "猪".repeat(341);
    let line = format!("→ 10.0.0.2:7272 text [shortened: 28977 bytes not shown] 30000 {beginning}…\n");
    let folded = shown(&capture, &[]).stdout;
    assert!(folded.contains(&line), "{folded}");
    for options in [&["--each"][..], &["--direction", "client_to_server"]] {
        let whole = shown(&capture, options).stdout;
        assert!(whole.contains(&format!("text 30000 {said}\n")), "{options:?}: {whole}");
    }
}

#[test]
fn of_a_long_message_with_a_hole_it_is_told_what_is_missing_and_what_is_not_shown() {
    let mut capture = Capture::default();
    let mut somebody = Conversation::upgraded_from(40_009, 7272);
    let begun = somebody.packets.len();
    for segment in frame(From::Client, 1, &[b'x'; 3_000]).chunks(600) {
        somebody.send(From::Client, segment);
    }
    somebody.packets.remove(begun + 1);
    somebody.acknowledge(From::Server);
    capture.take(&mut somebody);
    let told = "text [truncated: 600 of 3000 bytes are missing] [shortened: 1376 bytes not shown] 3000";
    let (before, behind) = ("x".repeat(592), "x".repeat(432));
    let line = format!("→ 10.0.0.2:7272 {told} {before}[…600 missing…]{behind}…\n");
    let shown = shown(&capture, &[]).stdout;
    assert!(shown.contains(&line), "{shown}");
}

#[test]
fn each_and_every_filter_show_each_message_and_no_such_lines() {
    let (capture, _) = heard_by_both("hi");
    for options in [
        &["--each"][..],
        &["--type", "say"],
        &["--user", "alice"],
        &["--grep", "hi"],
        &["--direction", "client_to_server"],
        &["--frames"],
        &["-X"],
    ] {
        let shown = shown(&capture, options).stdout;
        assert!(!shown.contains(" 2/2 "), "{options:?}: {shown}");
        assert!(shown.contains("→ 10.0.0.2:7272 text 44"), "{options:?}: {shown}");
    }
}

#[test]
fn messages_are_counted_whether_they_have_a_line_or_not() {
    let (capture, _) = heard_by_both("hi");
    let stderr = shown(&capture, &["-c", "8"]).stderr;
    assert!(stderr.contains("8 messages"), "{stderr}");
}

#[test]
fn heartbeats_are_a_count_at_the_end() {
    let mut capture = Capture::default();
    let mut alice = capture.login(40_001, 7272, "alice", 1);
    for _ in 0..3 {
        alice.text(From::Server, r#"{"type":"ping"}"#);
        alice.text(From::Client, r#"{"type":"pong"}"#);
        alice.acknowledge(From::Server);
        capture.take(&mut alice);
        capture.wait(10_000);
    }
    let told = happened(&capture);
    assert_eq!(told, ["alice logged in 1/1 2.0 ms", "6 heartbeats (pings and pongs) in 20.01 s"]);
}

#[test]
fn what_somebody_says_cannot_look_like_a_line_or_control_the_terminal() {
    let mut capture = Capture::default();
    let [mut alice, mut bob] = two_users(&mut capture);
    let said = r#"\" 2/2 0.1 ms\n12:00:00 bob → all \u001b[2J\u202e"#;
    capture.say(&mut alice, said);
    capture.deliver([&mut alice, &mut bob], said);
    let ran = shown(&capture, &[]);
    assert!(
        ran.stdout.contains(r#"alice → all "\" 2/2 0.1 ms\n12:00:00 bob → all \x1b[2J\u{202e}" 2/2 3.0 ms"#)
    );
    assert!(!ran.stdout.chars().any(|it| it != '\n' && it.is_control()), "{}", ran.stdout);
}
