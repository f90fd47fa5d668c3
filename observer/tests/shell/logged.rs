//! Recorded captures against what the ends of their connections logged while they were recorded.

use std::fs;

use crate::endpoints::logs;
use crate::support::{json, run, testdata};

#[test]
fn recorded_captures_say_what_the_ends_of_their_connections_logged() {
    let mut messages = 0;
    for entry in fs::read_dir(testdata().join("logs")).unwrap() {
        let log = entry.unwrap().path();
        let capture = testdata().join("captures").join(log.with_extension("pcap").file_name().unwrap());
        let ran = run(&["read", "--json", capture.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let records = json(&ran);
        assert_eq!(records.last().unwrap()["anomalies"], 0, "{}", capture.display());
        for end in logs(&fs::read_to_string(log).unwrap()) {
            end.assert_shown(&records);
            messages += end.messages();
        }
    }
    assert!(messages > 200, "{messages}");
}
