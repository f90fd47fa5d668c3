//! `--packets`, `-X` and `-A` against what tcpdump printed of the same files.

use std::fs;

use crate::support::{Conversation, From, Pcap, run, run_on, testdata};

/// Without what a cooked capture puts before `IP`: the interface, which is not shown in these lines.
fn without_interface(line: &str) -> String {
    let mut words = line.splitn(2, ' ');
    let (time, rest) = (words.next().unwrap(), words.next().unwrap_or_default());
    match rest.split_once(" IP").filter(|(before, _)| is_interface(before)) {
        Some((_, packet)) => format!("{time} IP{packet}"),
        None => line.to_owned(),
    }
}

fn is_interface(words: &str) -> bool {
    let words: Vec<_> = words.split_whitespace().collect();
    words.last().is_some_and(|last| ["In", "Out"].contains(last)) && words.len() <= 3
}

/// Lines that are of packets: all others begin with a time and the number of a connection.
fn of_packets(stdout: &str) -> Vec<&str> {
    let is_other = |line: &str| {
        line.get(2..3) == Some(":") && line.split(' ').nth(1).is_some_and(|word| word.starts_with('#'))
    };
    stdout.lines().filter(|line| !is_other(line)).collect()
}

fn assert_equals_tcpdump(option: &str) {
    let mut compared = 0;
    for entry in fs::read_dir(testdata().join("captures")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        if !option.is_empty() && testdata().join(format!("logs/{name}.json")).exists() {
            // Recorded for what their ends say; their bytes would fill many pages.
            continue;
        }
        let expected = fs::read_to_string(testdata().join(format!("tcpdump/{name}{option}.txt"))).unwrap();
        let expected: Vec<_> = expected.lines().map(without_interface).collect();
        let mut arguments = vec!["read", path.to_str().unwrap(), "--packets", "--time", "local", "-q"];
        arguments.extend((!option.is_empty()).then_some(option));
        let ran = run(&arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let shown = of_packets(&ran.stdout);
        for (number, (expected, shown)) in expected.iter().zip(&shown).enumerate() {
            assert_eq!(shown, expected, "{name}, line {}", number + 1);
        }
        assert_eq!(shown.len(), expected.len(), "{name}");
        compared += 1;
    }
    assert!(compared >= 6);
}

#[test]
fn packets_are_shown_as_tcpdump_shows_them() {
    assert_equals_tcpdump("");
}

#[test]
fn packets_bytes_are_shown_in_hexadecimal_as_tcpdump_shows_them() {
    assert_equals_tcpdump("-X");
}

#[test]
fn packets_bytes_are_shown_in_ascii_as_tcpdump_shows_them() {
    assert_equals_tcpdump("-A");
}

#[test]
fn without_packets_the_unmasked_payload_is_shown_in_hexadecimal_and_ascii() {
    let mut conversation = Conversation::upgraded(7272);
    conversation.text(From::Client, "hi, all !\x1b[2J");
    let file = Pcap::default().file(&conversation.packets);
    let ran = run_on(&file, &["-X"]);
    let expected = "text 13\n\t0x0000:  6869 2c20 616c 6c20 211b 5b32 4a         hi,.all.!.[2J\n";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    let ran = run_on(&file, &["-A"]);
    assert!(ran.stdout.contains("text 13\nhi, all !.[2J\n"), "{}", ran.stdout);
}

#[test]
fn packets_in_json_have_their_numbers_as_on_the_wire_and_all_their_bytes() {
    let conversation = Conversation::upgraded(7272);
    let ran = run_on(&Pcap::default().file(&conversation.packets), &["--packets", "--json"]);
    let records = crate::support::json(&ran);
    let packets: Vec<_> = records.iter().filter(|record| record["kind"] == "packet").collect();
    assert_eq!(packets.len(), conversation.packets.len());
    assert_eq!((&packets[0]["flags"], &packets[1]["flags"]), (&"S".into(), &"S.".into()));
    assert_eq!(packets[0]["sequence_number"], 1_000);
    assert_eq!(packets[1]["acknowledgment_number"], 1_001);
    assert_eq!(packets[3]["direction"], "client_to_server");
    assert!(packets.iter().all(|packet| packet["bytes_base64"].as_str().unwrap().starts_with("RQAA")));
}

#[test]
fn frames_are_shown_as_they_were_on_the_wire_wherever_their_segments_end() {
    let mut conversation = Conversation::upgraded(7272);
    let frame = crate::support::frame(From::Client, 1, b"hi, all !");
    for byte in &frame {
        conversation.send(From::Client, &[*byte]);
    }
    conversation.frame(From::Server, 2, &[7; 200]);
    let file = Pcap::default().file(&conversation.packets);
    let ran = run_on(&file, &["--wire"]);
    let dump = "frame text fin mask 37fa213d 9\n\t0x0000:  8189 37fa 213d 5f93 0d1d 5696 4d1d 16    ..7.!=_...V.M..\n";
    assert!(ran.stdout.contains(dump), "{}", ran.stdout);
    assert!(ran.stdout.contains("text 9 hi, all !\n"), "{}", ran.stdout);
    let records = crate::support::json(&run_on(&file, &["--wire", "--json"]));
    let frames: Vec<_> = records.iter().filter(|record| record["kind"] == "frame").collect();
    assert_eq!(frames[0]["wire_base64"], "gYk3+iE9X5MNHVaWTR0W");
    assert!(frames[1]["wire_base64"].as_str().unwrap().starts_with("gn4AyAcHBwcH"));
}
