//! What hostile, strange and rare TCP makes of a stream: the kernel's own reading is the oracle.

use std::ops::Range;
use std::thread;

use serde_json::Value;

use crate::by_hand::{ByHand, Reader, read, text_frame};
use crate::support::{Seen, TO_SERVER, in_new_network_namespace, seen_by, watch};

const PAYLOAD: usize = 40;
const HEADER: usize = 6;

/// Segments with parts of a message's payload, each of another letter, in the order in which they are sent; the rest of
/// the message is sent last, from its header on, up to the first byte that came before and so many bytes farther.
struct Copies {
    ahead: Vec<Range<usize>>,
    farther: usize,
}

impl Copies {
    fn new(ahead: &[Range<usize>], farther: usize) -> Self {
        Self { ahead: ahead.to_vec(), farther }
    }

    fn send(&self, client: &mut ByHand) {
        let mut was_sent = [false; PAYLOAD];
        for (part, letter) in self.ahead.iter().zip(b'a'..) {
            client.send_ahead(HEADER + part.start, &vec![letter; part.len()]);
            was_sent[part.clone()].fill(true);
        }
        let frame = text_frame(&[b'.'; PAYLOAD]);
        let mut from = 0;
        while from < frame.len() {
            let is_hole = |at: &usize| *at < HEADER || !was_sent[*at - HEADER];
            let begins = (from..frame.len()).find(is_hole).unwrap_or(frame.len());
            let ends = (begins..frame.len()).find(|at| !is_hole(at)).unwrap_or(frame.len());
            let farther = if begins == 0 { self.farther } else { 0 };
            client.send_ahead(begins, &frame[begins..frame.len().min(ends + farther)]);
            from = ends;
        }
        client.skip(frame.len());
        client.wait_until_acknowledged();
    }
}

/// What the server reads of messages that are sent so, and what is shown.
fn converse(messages: Vec<Copies>) -> (Vec<String>, Vec<String>, Seen) {
    let world = in_new_network_namespace(move || {
        ByHand::silence_the_kernel();
        let server = Reader::new();
        let address = server.address;
        let observer = watch(address.port(), &[]);
        let count = messages.len();
        let reading = thread::spawn(move || {
            let mut stream = server.accept();
            let message =
                |_| String::from_utf8(read(&mut stream, HEADER + PAYLOAD).split_off(HEADER)).unwrap();
            (0..count).map(message).collect::<Vec<_>>()
        });
        // The stream's positions wrap on the way.
        let mut client = ByHand::upgrade(40_000, address, u32::MAX - 300);
        messages.iter().for_each(|message| message.send(&mut client));
        (client.address(), reading.join().unwrap(), seen_by(observer))
    });
    let (client, read, seen) = world.join().unwrap();
    let shown = seen.texts(seen.connection_of(client), TO_SERVER).into_iter().map(str::to_owned).collect();
    (read, shown, seen)
}

fn anomalies<'a>(seen: &'a Seen, code: &str) -> Vec<&'a Value> {
    seen.of_kind("anomaly").filter(|anomaly| anomaly["code"] == code).collect()
}

#[test]
fn of_differing_copies_the_one_is_shown_that_the_server_reads() {
    let cases = [
        (Copies::new(&[10..20, 10..20], 0), "the same place"),
        (Copies::new(&[10..20, 10..30], 0), "the same beginning, longer"),
        (Copies::new(&[15..20, 10..30], 0), "around the other"),
        (Copies::new(&[15..25, 10..20], 0), "overlapping the beginning"),
        (Copies::new(&[10..20, 15..25], 0), "overlapping the end"),
        (Copies::new(&[10..30, 15..20], 0), "within the other"),
        (Copies::new(&[10..40], 5), "in order"),
        (Copies::new(&[10..14, 16..20, 8..24], 0), "around several"),
        (Copies::new(&[10..20, 20..30, 10..25], 0), "within two that were joined"),
        (Copies::new(&[20..30, 10..20, 15..30], 0), "over two that came in the wrong order"),
    ];
    for (copies, name) in cases {
        let (read, shown, seen) = converse(vec![copies]);
        assert_eq!(shown, read, "{name}");
        assert_eq!(anomalies(&seen, "overlap-differs").len(), 1, "{name}: {:?}", seen.records);
        assert_eq!(seen.summary()["gaps"]["never_seen"], 0);
    }
}

#[test]
fn however_copies_overlap_each_message_is_shown_as_the_server_reads_it() {
    let mut state = 1_u32;
    let mut random = |below: usize| {
        // Numerical Recipes' generator: the same messages each time.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    let messages = (0..500)
        .map(|_| {
            // None begins where another one ends: what the kernel makes of these depends on where it keeps them.
            let mut part = || {
                let start = 2 + 2 * random(PAYLOAD / 2 - 2);
                start..start + 1 + 2 * random((PAYLOAD - start) / 2)
            };
            let ahead: Vec<_> = (0..6).map(|_| part()).collect();
            Copies { ahead, farther: random(3) * 4 }
        })
        .collect();
    let (read, shown, seen) = converse(messages);
    for (number, (shown, read)) in shown.iter().zip(&read).enumerate() {
        assert_eq!(shown, read, "message {number}");
    }
    assert_eq!(shown.len(), read.len());
    assert!(seen.summary()["anomalies"].as_u64().unwrap() > 400, "{}", seen.summary());
}
