//! Heads and bodies, in pieces of any size.
//!
//! Owns the comparison of one piece with many, and what must hold of what is read. Must not know the grammar. Bounded:
//! by the input.

use observer_core::http::{
    Asked, Body, BodyProgress, HeadKind, HeadProgress, HeadReader, evaluate_answer, evaluate_request,
    parse_request, parse_response,
};

use crate::cursor::Cursor;

/// The longest head that is read.
const LIMIT: usize = 2_048;

/// What was read of a stream of heads and bodies.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Head(Vec<u8>),
    Body(u64),
    Malformed,
    Refused,
}

/// Options, the sizes of pieces as a string, and the stream.
pub fn run(input: &[u8]) {
    let mut choices = Cursor::new(input);
    let options = choices.byte();
    let kind = if options & 1 == 0 { HeadKind::Request } else { HeadKind::Response };
    let sizes = choices.string();
    let stream = choices.rest();
    let whole = read(kind, &[stream]);
    let cut = read(kind, &Cursor::new(sizes).cut(stream));
    assert_eq!(whole, cut);
}

/// Reads heads with the bodies behind them, as a connection's two ends would.
fn read(kind: HeadKind, pieces: &[&[u8]]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut reader = HeadReader::new(kind);
    let mut body = Body::NONE;
    let mut body_bytes = 0;
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match body {
                Body::Length(0) => {}
                _ => match body.handle_data(rest) {
                    BodyProgress::Inside => {
                        body_bytes += rest.len() as u64;
                        break;
                    }
                    BodyProgress::Ended(taken) => {
                        assert!(taken <= rest.len());
                        found.push(Found::Body(body_bytes + taken as u64));
                        (body, body_bytes) = (Body::NONE, 0);
                        rest = &rest[taken..];
                        continue;
                    }
                    BodyProgress::Malformed => {
                        found.push(Found::Malformed);
                        return found;
                    }
                },
            }
            match reader.handle_data(rest, LIMIT, usize::MAX) {
                HeadProgress::Incomplete => break,
                HeadProgress::Complete { head, consumed, .. } => {
                    assert!(head.len() <= LIMIT && consumed <= rest.len() && consumed > 0);
                    found.push(Found::Head(head.to_vec()));
                    let Some(behind) = look_at(kind, head) else {
                        found.push(Found::Malformed);
                        return found;
                    };
                    body = behind;
                    rest = &rest[consumed..];
                }
                HeadProgress::TooLong | HeadProgress::NoRoom | HeadProgress::NotHttp(_) => {
                    found.push(Found::Refused);
                    return found;
                }
            }
        }
        assert!(reader.pending_bytes() <= LIMIT && reader.held_bytes() <= 2 * LIMIT + 2);
    }
    if body != Body::NONE {
        found.push(Found::Body(body_bytes));
    }
    found
}

/// The body behind a head; `None` where either cannot be read.
fn look_at(kind: HeadKind, head: &[u8]) -> Option<Body> {
    if kind == HeadKind::Request {
        let head = parse_request(head).ok()?;
        let asked = evaluate_request(&head);
        // Of what is no upgrade, only what looks like half of one is told.
        assert!(asked.is_upgrade || asked.findings.len() <= 1);
        assert_eq!(asked.offer.is_upgrade, asked.is_upgrade);
        return Body::of_request(&head.headers).ok();
    }
    let answer = parse_response(head).ok()?;
    // What such a request asks for, with any key.
    let request = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v1\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let offer = evaluate_request(&parse_request(request).unwrap()).offer;
    for offer in [None, Some(&offer)] {
        let evaluation = evaluate_answer(&answer, offer);
        assert!(evaluation.switches || (!evaluation.accepted && evaluation.findings.is_empty()));
        assert!(!evaluation.accepted || answer.status == 101);
    }
    Body::of_answer(answer.status, &answer.headers, Asked::Other).ok()
}
