//! How a run of `verify` ends, by itself or by a signal, and with which exit status.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::faults::OVERDUE;
use super::{Chat, User, Verdicts, leave_one_by_one, verify, watching};
use crate::support::{Program, observer};

fn two_users(chat: &Chat) -> [User; 2] {
    ["present", "mynick"].map(|name| User::login(chat.address, name, None))
}

#[test]
fn a_duration_ends_the_run_with_its_verdicts() {
    let chat = Chat::start(&[]);
    let started = Instant::now();
    let observer = verify(chat.port(), &["--for", "2s"]);
    let [_present, mut mynick] = two_users(&chat);
    mynick.say("hi, all !");
    let verdicts = Verdicts::new(observer.wait());
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(verdicts.table()["say"], [1, 0, 0, 0]);
    verdicts.assert_all_held();
}

#[test]
fn both_signals_end_the_run_with_its_verdicts() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let chat = Chat::start(&[]);
        let observer = verify(chat.port(), &[]);
        let [present, mut mynick] = two_users(&chat);
        mynick.say("hi, all !");
        // Whoever leaves has acknowledged everything.
        leave_one_by_one([present, mynick]);
        observer.signal(signal);
        let verdicts = Verdicts::new(observer.wait());
        let table = verdicts.table();
        let held = ["login", "say", "logout"].map(|flow| table[flow][0]);
        assert_eq!(held, [2, 1, 1]);
        verdicts.assert_all_held();
    }
}

#[test]
fn what_is_under_way_as_the_end_is_asked_for_still_comes_to_its_verdict() {
    let chat = Chat::start(&["drop:every=2"]);
    let observer = verify(chat.port(), &[]);
    let [mut present, mut mynick] = two_users(&chat);
    for content in ["this comes", "this does not"] {
        mynick.say(content);
    }
    present.wait_for_say("this comes");
    for user in [&mut present, &mut mynick] {
        user.acknowledge();
    }
    let verdicts = Verdicts::of(observer);
    assert!(verdicts.that_are("inconclusive").is_empty(), "{:#?}", verdicts.cases);
    let [violated] = verdicts.that_are("violated")[..] else { panic!("{:#?}", verdicts.cases) };
    assert_eq!(violated["trigger"]["content"], "this does not");
    assert_eq!((&violated["arrived"], &violated["expected"]), (&1.into(), &2.into()));
    assert_eq!(violated["deviations"][0]["client"], present.client.address.to_string());
    assert_eq!((&verdicts.end["conclusion"], verdicts.code), (&"violated".into(), Some(1)));
}

#[test]
fn what_has_not_come_when_its_time_is_up_is_lost_though_the_run_ends() {
    let chat = Chat::start(&["drop"]);
    let observer = verify(chat.port(), &[]);
    let [present, mut mynick] = two_users(&chat);
    mynick.say("hi, all !");
    thread::sleep(OVERDUE);
    let verdicts = Verdicts::of(observer);
    let [violated] = verdicts.that_are("violated")[..] else { panic!("{:#?}", verdicts.cases) };
    assert_eq!(violated["deviations"][0]["client"], present.client.address.to_string());
    assert_eq!(violated["causes"], json!([]));
    assert_eq!(verdicts.code, Some(1));
}

#[test]
fn what_has_not_come_after_ten_seconds_is_lost_while_the_run_goes_on() {
    let chat = Chat::start(&["drop"]);
    let observer = verify(chat.port(), &["--for", "14s"]);
    let [_present, mut mynick] = two_users(&chat);
    mynick.say("hi, all !");
    let verdicts = Verdicts::new(observer.wait());
    let [violated] = verdicts.that_are("violated")[..] else { panic!("{:#?}", verdicts.cases) };
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let took = time(&violated["time"]).duration_since(time(&violated["trigger"]["time"]));
    assert!((10..13).contains(&took.as_secs()), "{violated}");
}

#[test]
fn where_nothing_is_seen_nothing_is_judged_and_the_exit_status_says_so() {
    let chat = Chat::start(&[]);
    let verdicts = Verdicts::of(verify(chat.port(), &[]));
    assert_eq!((&verdicts.end["conclusion"], verdicts.code), (&"nothing_seen".into(), Some(3)));
    let ended = watching(chat.port(), &["verify"]).interrupt();
    assert_eq!(ended.code, Some(3));
    let said = ended.stdout.join("\n");
    assert!(said.contains("Nothing was judged"), "{said}");
    assert!(ended.stderr.contains("--rules FILE"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_run_has_an_exit_status_of_its_own() {
    for arguments in [
        &["verify", "--each"][..],
        &["verify", "--no-acks"],
        &["verify", "--format", "explain"],
        &["verify", "--rules", "/nonexistent/rules.toml"],
        &["verify", "/nonexistent/chat.pcap"],
        &["verify", "--interface", "nonexistent"],
        &["verify", "--cgroup", "/nonexistent"],
    ] {
        let ended = Program::start(&mut observer(arguments)).wait();
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty());
    }
}

#[test]
fn the_text_tells_what_is_wrong_in_words_and_ends_with_a_table() {
    let chat = Chat::start(&["drop"]);
    let observer = watching(chat.port(), &["verify"]);
    let [present, mut mynick] = two_users(&chat);
    mynick.say("hi, all !");
    thread::sleep(OVERDUE);
    let ended = observer.interrupt();
    assert_eq!(ended.code, Some(1));
    let said = ended.stdout.join("\n");
    for words in [
        "violated: say of workerman-chat-2014-08",
        "→ all \"hi, all !\"",
        "1 of 2 have it",
        &format!("lost: present (#1 {}): say was not sent", present.client.address),
        "cases  held  late  violated  inconclusive",
        "Of 3 cases, 1 violated, 0 late, 0 inconclusive, 2 held; all 3 checks held.",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}
