//! `--format explain`: what it says of chats in which not all goes well, or not all was seen.

use crate::chats::{Capture, heard_by_alice, heard_by_both, two_users};
use crate::support::{Conversation, From, Pcap, TemporaryFile, run_on};

/// Packets of several connections, explained.
trait Explained {
    fn explained(&self, options: &[&str]) -> String;
    fn deliveries(&self) -> Vec<String>;
}

impl Explained for Capture {
    fn explained(&self, options: &[&str]) -> String {
        let options = [&["--format", "explain", "--port", "7272,7273"], options].concat();
        let ran = run_on(&self.file(), &options);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    }

    fn deliveries(&self) -> Vec<String> {
        let shown = self.explained(&[]);
        let said = shown.lines().filter_map(|line| line.strip_prefix("# delivered to "));
        said.filter(|line| line.contains('“')).map(str::to_owned).collect()
    }
}

#[test]
fn what_all_members_acknowledged_is_delivered() {
    let (capture, _) = heard_by_both("hi");
    assert_eq!(capture.deliveries(), ["2 of 2 browsers: “hi”"]);
}

#[test]
fn users_of_another_chat_are_not_waited_for() {
    let mut capture = Capture::default();
    let [mut alice, mut bob] = two_users(&mut capture);
    // The same uids, on another port.
    capture.login(40_001, 7273, "carol", 1);
    capture.login(40_002, 7273, "dave", 2);
    capture.say(&mut alice, "hi");
    capture.deliver([&mut alice, &mut bob], "hi");
    assert_eq!(capture.deliveries(), ["2 of 2 browsers: “hi”"]);
    assert!(capture.explained(&[]).contains("# what alice said is passed on to bob"));
}

#[test]
fn a_forged_acknowledgment_delivers_nothing() {
    for beyond in [[0x2000_0000, 0x3000_0000], [0, 0x3000_0000], [0x2000_0000, 0]] {
        let (mut capture, [_, mut bob]) = heard_by_alice("hi");
        capture.pass_on(&mut bob, "hi");
        bob.forge_acknowledgment(From::Client, beyond);
        capture.take(&mut bob);
        assert_eq!(capture.deliveries(), ["1 of 2 browsers, unknown for the others: “hi”"], "{beyond:x?}");
    }
}

#[test]
fn somebody_whose_login_was_not_seen_makes_the_others_unknown() {
    let mut capture = Capture::default();
    let mut carol = Conversation::upgraded(7272);
    carol.packets.clear();
    carol.text(From::Server, "something");
    carol.text(From::Client, "before");
    capture.take(&mut carol);
    let [mut alice, mut bob] = two_users(&mut capture);
    capture.say(&mut alice, "hi");
    capture.deliver([&mut alice, &mut bob], "hi");
    assert_eq!(capture.deliveries(), ["2 of 2 browsers, unknown for the others: “hi”"]);
    // Once she gets what members get, she is one.
    capture.pass_on(&mut carol, "hi");
    capture.say(&mut alice, "again");
    capture.deliver([&mut alice, &mut bob], "again");
    let told = capture.deliveries();
    assert!(!told.iter().any(|line| line.contains("of 2 browsers: “again”")), "{told:?}");
}

#[test]
fn what_is_under_way_at_the_end_and_what_the_server_changed_is_unknown_and_not_lost() {
    let mut capture = Capture::default();
    let [mut alice, mut bob] = two_users(&mut capture);
    capture.say(&mut alice, "damn");
    capture.deliver([&mut alice, &mut bob], "****");
    capture.say(&mut alice, "hi");
    assert_eq!(
        capture.deliveries(),
        ["0 of 2 browsers, unknown for the others: “damn”", "0 of 2 browsers, unknown for the others: “hi”"]
    );
}

#[test]
fn what_the_server_escapes_as_its_dialect_does_is_delivered_and_half_escaped_it_is_not() {
    let mut capture = Capture::default();
    let [mut alice, mut bob] = two_users(&mut capture);
    for (said, passed_on) in
        [("1 < 2", "1 &lt; 2"), ("it's", "it's"), ("'<'", "&#039;&lt;&#039;"), ("<>", "&lt;>")]
    {
        capture.say(&mut alice, said);
        capture.deliver([&mut alice, &mut bob], passed_on);
    }
    let told = ["2 of 2 browsers: “1 < 2”", "2 of 2 browsers: “it's”", "2 of 2 browsers: “'<'”"];
    let unknown = "0 of 2 browsers, unknown for the others: “<>”";
    assert_eq!(capture.deliveries(), [&told[..], &[unknown]].concat());
}

#[test]
fn what_the_rules_only_have_a_name_for_is_told_by_that_name() {
    let rules = b"schema = 1\nname = 'x'\n[[message]]\ntype = 'subscribe'\nwhen = { '/op' = 'sub' }\n";
    let rules = TemporaryFile::new("named.toml", rules);
    let mut capture = Capture::default();
    let mut client = Conversation::upgraded(7272);
    client.text(From::Client, r#"{"op":"sub"}"#);
    capture.take(&mut client);
    let shown = capture.explained(&["--rules", rules.path()]);
    assert!(shown.contains("# 10.0.0.1:40000 sends “subscribe”, a text message of 12 bytes\n"), "{shown}");
}

#[test]
fn a_member_who_was_sent_nothing_has_not_got_it_and_one_who_left_before_is_not_waited_for() {
    let (mut capture, [_, mut bob]) = heard_by_alice("hi");
    capture.wait(20_000);
    capture.acknowledge(&mut bob);
    assert_eq!(capture.deliveries(), ["1 of 2 browsers only: “hi”"]);
    let (mut capture, [_, mut bob]) = heard_by_alice("hi");
    bob.close();
    capture.take(&mut bob);
    assert_eq!(capture.deliveries(), ["1 of 1 browsers: “hi”"]);
}

#[test]
fn filters_hide_sentences_and_packets_of_what_they_hide_but_no_outcome_of_what_is_shown() {
    let (capture, _) = heard_by_both("hi");
    let without_says = capture.explained(&["--not-type", "say"]);
    assert!(!without_says.contains("says to all") && !without_says.contains("passed on"), "{without_says}");
    assert!(without_says.contains("# alice logs in"));
    let of_alice = capture.explained(&["--user", "alice"]);
    assert!(of_alice.contains("# alice says to all: “hi”"));
    assert!(of_alice.contains("# delivered to 2 of 2 browsers: “hi”"), "{of_alice}");
    assert!(!of_alice.contains("connection of bob") && !of_alice.contains("40002"), "{of_alice}");
    let says = capture.explained(&["--type", "say"]);
    assert!(says.contains("Flags [P.]") && says.contains("text 44 "), "the packets of what is shown: {says}");
    assert!(!says.contains("logs in"));
}

#[test]
fn relative_numbers_do_not_depend_on_what_is_shown() {
    let mut capture = Capture::default();
    two_users(&mut capture);
    let file = Pcap::default().file(&capture.packets);
    let lines = |options: &[&str]| {
        let ran = run_on(&file, &[&["--packets", "--port", "7272"], options].concat());
        let packets = ran.stdout.lines().filter(|line| line.contains(" IP ")).map(str::to_owned);
        packets.collect::<Vec<_>>()
    };
    let all = lines(&[]);
    let sent: Vec<_> = all.iter().filter(|line| line.contains("> 10.0.0.2")).cloned().collect();
    assert_eq!(lines(&["--direction", "client_to_server"]), sent);
}

#[test]
fn a_name_that_could_be_taken_for_something_else_is_quoted_and_namesakes_are_numbered() {
    let mut capture = Capture::default();
    let mut same = capture.login(40_001, 7272, "same", 1);
    capture.login(40_002, 7272, "same", 2);
    capture.announce(&mut same, "same", 2);
    let mut server = capture.login(40_003, 7272, "the server", 3);
    capture.login(40_004, 7272, "delivered to 9 of 9 browsers: ”x”", 4);
    capture.say(&mut server, "bye");
    capture.say(&mut same, "hi");
    let shown = capture.explained(&[]);
    for said in [
        "# “the server” says to all: “bye”",
        "# same (#1) says to all: “hi”",
        "# “delivered to 9 of 9 browsers: \"x\"” logs in",
    ] {
        assert!(shown.contains(said), "{said} is not in {shown}");
    }
}

#[test]
fn an_anomaly_is_said_in_words_with_its_rule_in_each_language() {
    let mut capture = Capture::default();
    let mut alice = capture.login(40_001, 7272, "alice", 1);
    alice.frame(From::Client, 3, b"x");
    capture.take(&mut alice);
    for (language, said) in [
        ("en", "# anomaly: A frame has an opcode that the protocol does not define (RFC 6455 §5.2)"),
        ("zh", "# 异常：帧的操作码在协议中没有定义（RFC 6455 §5.2）"),
    ] {
        let shown = capture.explained(&["--lang", language]);
        assert!(shown.contains(said), "{said} is not in {shown}");
        assert!(shown.contains("    anomaly reserved-opcode: opcode 3\n"), "the code stays: {shown}");
    }
}

#[test]
fn a_pong_is_said_to_answer_its_ping_after_so_long_and_one_that_nobody_asked_for_is_not() {
    let mut capture = Capture::default();
    let mut alice = capture.login(40_001, 7272, "alice", 1);
    alice.frame(From::Server, 9, b"are you there");
    alice.acknowledge(From::Client);
    alice.frame(From::Client, 10, b"are you there");
    alice.frame(From::Client, 10, b"heartbeat");
    capture.take(&mut alice);
    let shown = capture.explained(&["--frames"]);
    assert!(shown.contains("# alice answers the WebSocket ping of the server after 2.000 ms\n"), "{shown}");
    assert!(shown.contains("# alice sends a WebSocket pong\n"), "{shown}");
    let shown = capture.explained(&["--frames", "--lang", "zh"]);
    assert!(shown.contains("# alice 在 2.000 ms 后应答服务器的 WebSocket ping 帧\n"), "{shown}");
}
