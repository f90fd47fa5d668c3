//! What the outputs say of bytes that exist and were not seen.

use crate::support::{Conversation, From, Pcap, Ran, json, run_on};

/// How a capture lost bytes, and what each output calls that.
struct Loss {
    cause: &'static str,
    english: &'static str,
    chinese: &'static str,
    text: &'static str,
    options: &'static [&'static str],
    packets: fn() -> Vec<Vec<u8>>,
}

const LOSSES: [Loss; 3] = [
    Loss {
        cause: "snap_length",
        english: "40 bytes from 10.0.0.1:40000 were not seen: cut off by the snap length",
        chinese: "来自 10.0.0.1:40000 的 40 字节未被捕获：被抓取长度截断",
        text: "gap of 40 bytes at 318, cut off by the snap length",
        options: &["-s", "208"],
        packets: whole,
    },
    Loss {
        cause: "never_seen",
        english: "208 bytes from 10.0.0.1:40000 were not seen: nothing tells why",
        chinese: "来自 10.0.0.1:40000 的 208 字节未被捕获：原因未知",
        text: "gap of 208 bytes at 358, never seen",
        options: &[],
        packets: without_a_message,
    },
    Loss {
        cause: "limit",
        english: "208 bytes from 10.0.0.1:40000 were not seen: given up at a limit of the observer",
        chinese: "来自 10.0.0.1:40000 的 208 字节未被捕获：超出 observer 的限制而放弃",
        text: "gap of 208 bytes at 150, given up at a limit of the observer",
        options: &[],
        packets: without_every_second_message,
    },
];

fn said(times: usize) -> Conversation {
    let mut conversation = Conversation::upgraded(7272);
    for _ in 0..times {
        conversation.text(From::Client, &"x".repeat(200));
    }
    conversation
}

fn whole() -> Vec<Vec<u8>> {
    said(1).packets
}

fn without_a_message() -> Vec<Vec<u8>> {
    let mut conversation = said(3);
    conversation.acknowledge(From::Server);
    conversation.packets.remove(6);
    conversation.packets
}

/// Nobody acknowledges, so that more and more waits for what is missing.
fn without_every_second_message() -> Vec<Vec<u8>> {
    let messages = said(2_100).packets.into_iter().enumerate();
    messages.filter(|(at, _)| *at < 5 || at % 2 == 0).map(|(_, packet)| packet).collect()
}

impl Loss {
    fn read(&self, options: &[&str]) -> Ran {
        let file = Pcap { link: 101, link_header: Vec::new(), ..Pcap::default() }.file(&(self.packets)());
        let ran = run_on(&file, &[&["--port", "7272"], self.options, options].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran
    }
}

#[test]
fn each_cause_of_a_gap_is_named_in_json_and_counted() {
    for loss in LOSSES {
        let ran = loss.read(&["--json"]);
        let records = json(&ran);
        let gaps: Vec<_> = records.iter().filter(|record| record["kind"] == "gap").collect();
        assert!(gaps.iter().any(|gap| gap["cause"] == loss.cause), "{}: {gaps:?}", loss.cause);
        let summary = records.last().unwrap();
        let counted = summary["gaps"][loss.cause].as_u64().unwrap();
        assert_eq!(counted, gaps.iter().filter(|gap| gap["cause"] == loss.cause).count() as u64);
        let closed = records.iter().find(|record| record["kind"] == "connection_closed").unwrap();
        assert_eq!(closed["complete"], false);
        assert_eq!(closed["account"]["client_to_server"]["gaps"], gaps.len());
        let missing: u64 = gaps.iter().map(|gap| gap["length"].as_u64().unwrap()).sum();
        assert_eq!(closed["account"]["client_to_server"]["bytes_missing"], missing);
    }
}

#[test]
fn each_cause_of_a_gap_is_named_in_text() {
    for loss in LOSSES {
        let ran = loss.read(&[]);
        assert!(ran.stdout.contains(loss.text), "{} is not in {:.3000}", loss.text, ran.stdout);
        assert!(!ran.stderr.contains("nothing was missed"), "{}", ran.stderr);
    }
}

#[test]
fn each_cause_of_a_gap_is_named_in_a_transcript_in_both_languages() {
    for loss in LOSSES {
        for (language, sentence) in [("en", loss.english), ("zh", loss.chinese)] {
            let ran = loss.read(&["--format", "explain", "--lang", language]);
            assert!(ran.stdout.contains(sentence), "{sentence} is not in {:.3000}", ran.stdout);
        }
    }
}
