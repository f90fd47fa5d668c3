//! How users, and what they said, are called in lines for people.
//!
//! Owns the words for one end of a case. Must not know the lines. Bounded by what the core keeps of names and quotes.
//!
//! A name stands without quotes where nothing else can look like it; else in quotes that it cannot end. What a
//! connection claims is said to be claimed, and never instead of that.

use std::time::Duration;

use observer_core::flow::verdict::{Party, Quote};
use observer_core::flow::{Members, Uid};
use observer_core::record::ClientClaim;

use super::append::push;
use super::escape::{Mark, write_quoted, write_text};

/// What stands for everybody. Nobody is called so without quotes.
pub const EVERYONE: &str = "all";

/// A name, or a room.
pub fn write_name(out: &mut Vec<u8>, name: &str, mark: Mark) {
    let is_plain = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    if !name.is_empty() && name != EVERYONE && name.chars().all(is_plain) {
        write_text(out, name, mark);
    } else {
        write_quoted(out, name, mark);
    }
}

/// What the chat calls somebody.
pub fn write_uid(out: &mut Vec<u8>, uid: &Uid, mark: Mark) {
    push(out, "uid ");
    write_name(out, &uid.to_string(), mark);
}

/// Who it is: a name, a uid, or an address.
pub fn write_party(out: &mut Vec<u8>, party: &Party, people: &Members, mark: Mark) {
    match (&party.name, &party.uid) {
        (Some(name), _) => {
            write_name(out, name, mark);
            if people.is_ambiguous(party.connection) {
                push(out, &format!(" (#{})", party.connection));
            }
        }
        (None, Some(uid)) => write_uid(out, uid, mark),
        (None, None) => push(out, &party.client.to_string()),
    }
}

/// Who it is and where, in parentheses: the connection's number, and whom it claims to be for, or else who connects.
pub fn write_party_briefly(out: &mut Vec<u8>, party: &Party, mark: Mark) {
    write_who(out, party, mark);
    match &party.claim {
        Some(claim) => push(out, &format!("(#{} {} claimed)", party.connection, claim.address)),
        None => push(out, &format!("(#{} {})", party.connection, party.client)),
    }
}

/// The same, with who connects and what is claimed, by which header.
pub fn write_party_fully(out: &mut Vec<u8>, party: &Party, mark: Mark) {
    write_who(out, party, mark);
    push(out, &format!("(#{} {}", party.connection, party.client));
    if let Some(claim) = &party.claim {
        push(out, ", ");
        push(out, &claim_words(claim));
    }
    out.push(b')');
}

/// Whom a connection claims to be for, and by which header.
pub fn claim_words(claim: &ClientClaim) -> String {
    let mut said = format!("{} claims client {}", claim.by.title(), claim.address);
    for (index, address) in claim.also.iter().enumerate() {
        said += if index == 0 { "; also claimed: " } else { ", " };
        said += &address.to_string();
    }
    said
}

/// A name or a uid, with a space behind it; nothing where neither is known.
fn write_who(out: &mut Vec<u8>, party: &Party, mark: Mark) {
    match (&party.name, &party.uid) {
        (Some(name), _) => write_name(out, name, mark),
        (None, Some(uid)) => write_uid(out, uid, mark),
        (None, None) => return,
    }
    out.push(b' ');
}

/// The beginning of a text, in quotes, with a mark behind them where it goes on.
pub fn write_quote(out: &mut Vec<u8>, quote: &Quote, mark: Mark) {
    write_quoted(out, &quote.text, mark);
    push(out, if quote.is_cut { "…" } else { "" });
}

/// How long something took: as exactly as one can use it.
pub fn latency(duration: Duration) -> String {
    let microseconds = duration.as_micros();
    if microseconds < 1_000_000 {
        let tenths = (microseconds + 50) / 100;
        format!("{}.{} ms", tenths / 10, tenths % 10)
    } else {
        let hundredths = (microseconds + 5_000) / 10_000;
        format!("{}.{:02} s", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use observer_core::record::{ClaimSource, ClaimedAddress, ConnectionId};

    use super::*;

    fn party(name: Option<&str>, uid: Option<u64>) -> Party {
        Party {
            connection: ConnectionId(7),
            client: ([127, 0, 0, 1], 33_906).into(),
            claim: None,
            name: name.map(Into::into),
            uid: uid.map(Uid::Number),
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_name_that_could_be_taken_for_something_else_is_quoted() {
        for (name, shown) in [
            ("猪猪", "猪猪"),
            ("my.nick_1-2", "my.nick_1-2"),
            ("all", "\"all\""),
            ("", "\"\""),
            ("a → all", "\"a → all\""),
            ("a\" \"b\\", "\"a\\\" \\\"b\\\\\""),
            ("\x1b[2J\u{202e}", "\"\\x1b[2J\\u{202e}\""),
            ("127.0.0.1:80", "\"127.0.0.1:80\""),
        ] {
            assert_eq!(written(|out| write_name(out, name, Mark::default())), shown);
        }
    }

    #[test]
    fn somebody_is_called_by_name_or_uid_or_address() {
        let people = Members::default();
        let shown = |party| written(|out| write_party(out, &party, &people, Mark::default()));
        assert_eq!(shown(party(Some("mynick"), Some(5))), "mynick");
        assert_eq!(shown(party(None, Some(5))), "uid 5");
        assert_eq!(shown(party(None, None)), "127.0.0.1:33906");
    }

    #[test]
    fn a_claim_is_called_one_and_who_connects_is_told_beside_it() {
        let address = ClaimedAddress { ip: [203, 0, 113, 9].into(), port: None };
        let claim = ClientClaim { address, by: ClaimSource::XForwardedFor, also: vec![address] };
        let claimed = Party { claim: Some(Arc::new(claim)), ..party(Some("猪猪"), None) };
        let shown = written(|out| write_party_briefly(out, &claimed, Mark::default()));
        assert_eq!(shown, "猪猪 (#7 203.0.113.9 claimed)");
        let shown = written(|out| write_party_fully(out, &claimed, Mark::default()));
        assert_eq!(
            shown,
            "猪猪 (#7 127.0.0.1:33906, X-Forwarded-For claims client 203.0.113.9; also claimed: 203.0.113.9)"
        );
        let shown = written(|out| write_party_briefly(out, &party(None, None), Mark::default()));
        assert_eq!(shown, "(#7 127.0.0.1:33906)");
    }

    #[test]
    fn times_are_in_milliseconds_until_seconds_do() {
        for (microseconds, shown) in [
            (0, "0.0 ms"),
            (1_649, "1.6 ms"),
            (1_650, "1.7 ms"),
            (999_949, "999.9 ms"),
            (2_000_000, "2.00 s"),
            (61_250_000, "61.25 s"),
        ] {
            assert_eq!(latency(Duration::from_micros(microseconds)), shown);
        }
    }
}
