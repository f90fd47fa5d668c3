//! One chat judged three times: live, from the observer's own JSON lines, and from what tcpdump captured meanwhile.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::faults::{a_chat_in_two_rooms, assert_faults_are_found};
use super::{Chat, Verdicts, verify, watching};
use crate::support::{Program, in_new_network_namespace, observer};
use crate::tcpdump::{CaptureFile, tcpdump};

/// A file of JSON lines that is gone at the end of the test.
struct LinesFile(PathBuf);

impl LinesFile {
    fn new(port: u16, lines: &[String]) -> Self {
        let name = format!("observer-verify-{port}-{}.jsonl", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        std::fs::write(&file.0, lines.join("\n") + "\n").unwrap();
        file
    }
}

impl Drop for LinesFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn verify_file(path: &Path) -> Verdicts {
    let path = path.to_str().unwrap();
    Verdicts::new(Program::start(&mut observer(&["verify", "--format", "json", path])).wait())
}

/// Everything that does not depend on when and by whom it was seen.
fn essence(verdicts: &Verdicts) -> Vec<String> {
    let of_party = |party: &Value| json!([party["client"], party["user"]]);
    let essence = |case: &Value| {
        let deviations: Vec<_> = case["deviations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| json!([it["fault"], of_party(it), it["type"], it.get("seen")]))
            .collect();
        let keys = ["flow", "dialect", "outcome", "expected", "arrived", "left", "others_unknown", "causes"];
        let trigger = ["direction", "type", "does", "to", "room", "content"].map(|key| &case["trigger"][key]);
        json!([keys.map(|key| &case[key]), of_party(case), trigger, deviations]).to_string()
    };
    let mut cases: Vec<_> = verdicts.cases.iter().map(essence).collect();
    cases.sort_unstable();
    cases
}

/// Where no other test's traffic makes tcpdump lose packets.
fn comes_to_the_same_three_times(faults: &'static [&'static str], check: fn(&Verdicts, Chat)) {
    let world = in_new_network_namespace(move || {
        let chat = Chat::start(faults);
        let file = CaptureFile::new(&format!("verify-{}", chat.port()));
        let tcpdump = tcpdump("lo", &[chat.port()], &file);
        let live = verify(chat.port(), &[]);
        let lines = watching(chat.port(), &["--json", "--receipts"]);
        a_chat_in_two_rooms(&chat);
        let live = Verdicts::of(live);
        let lines = lines.interrupt();
        assert_eq!(lines.code, Some(0), "{}", lines.stderr);
        // The kernel gives tcpdump what it has once a second, and tcpdump does not ask for the rest when it ends.
        thread::sleep(Duration::from_millis(1_500));
        let ended = tcpdump.interrupt();
        assert!(ended.stderr.contains("0 packets dropped by kernel"), "{}", ended.stderr);

        let lines = LinesFile::new(chat.port(), &lines.stdout);
        for recorded in [verify_file(&lines.0), verify_file(file.path())] {
            assert_eq!(recorded.table(), live.table());
            assert_eq!(essence(&recorded), essence(&live));
            for flow in ["login", "say", "private", "logout"] {
                assert_eq!(recorded.received(flow), live.received(flow), "{flow}");
            }
            assert_eq!((recorded.code, &recorded.end["delivered_by"]), (live.code, &"received".into()));
        }
        check(&live, chat);
    });
    world.join().unwrap();
}

#[test]
fn a_healthy_chat_comes_to_the_same_live_from_lines_and_from_a_capture() {
    comes_to_the_same_three_times(&[], |live, _| live.assert_all_held());
}

#[test]
fn a_broken_chat_comes_to_the_same_live_from_lines_and_from_a_capture() {
    comes_to_the_same_three_times(&["drop:every=3", "duplicate:every=4"], |live, chat| {
        assert_faults_are_found(live, chat.strikes());
    });
}
