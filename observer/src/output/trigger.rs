//! What began a case, in words.
//!
//! Owns them. Must not know how its parties are called, nor what became of it. Bounded by what the core keeps of it.

use observer_core::flow::verdict::{FieldSeen, Party, TriggerSeen};
use observer_core::flow::{Act, Recipient, Value};
use observer_core::record::Direction;

use super::append::{format, push};
use super::escape::{Mark, write_quoted, write_text};
use super::palette::Palette;
use super::party::{EVERYONE, write_name, write_quote, write_uid};

/// Appends who did what. `write_party` says how somebody is called.
pub fn write_trigger(
    out: &mut Vec<u8>,
    trigger: &TriggerSeen,
    palette: Palette,
    write_party: impl Fn(&mut Vec<u8>, &Party),
) {
    let mark = palette.escape;
    let (color, arrow) = match trigger.direction {
        Some(Direction::ServerToClient) => (palette.server, " ← "),
        _ => (palette.client, " → "),
    };
    write_party(out, &trigger.party);
    let write_arrow = |out: &mut Vec<u8>| palette.write_word(out, color, arrow);
    let room = |out: &mut Vec<u8>, word: &str| {
        if let Some(room) = &trigger.room {
            push(out, word);
            write_name(out, room, mark);
        }
    };
    match trigger.does {
        Some(Act::Say) => {
            write_arrow(out);
            match (&trigger.to, &trigger.recipient) {
                (_, Some(recipient)) => write_party(out, recipient),
                (Some(Recipient::Uid(uid)), None) => write_uid(out, uid, mark),
                (Some(Recipient::All) | None, None) => push(out, EVERYONE),
            }
            room(out, " in room ");
        }
        Some(Act::Join) => {
            push(out, " logged in");
            room(out, " to room ");
        }
        Some(Act::Leave) => {
            push(out, " logged out");
            room(out, " of room ");
        }
        _ if trigger.kind.is_empty() => {}
        _ => {
            // What somebody gets is not what they say.
            if trigger.direction == Some(Direction::ServerToClient) {
                write_arrow(out);
            } else {
                out.push(b' ');
            }
            write_text(out, &trigger.kind, mark);
            room(out, " in room ");
        }
    }
    if trigger.does == Some(Act::Join) {
        return;
    }
    if let Some(words) = trigger.content.as_ref().or(trigger.text.as_ref()) {
        out.push(b' ');
        write_quote(out, words, mark);
    }
    for field in &trigger.fields {
        out.push(b' ');
        write_field(out, field, mark);
    }
}

/// As JSON has it, so that the number 7 and the string "7" are not the same.
fn write_field(out: &mut Vec<u8>, field: &FieldSeen, mark: Mark) {
    write_text(out, &field.name, mark);
    out.push(b'=');
    match &field.value {
        Value::Text(text) => write_quoted(out, text, mark),
        Value::Bool(value) => format(out, format_args!("{value}")),
        Value::Number(value) => format(out, format_args!("{value}")),
        Value::Negative(value) => format(out, format_args!("{value}")),
        Value::Float(value) => format(out, format_args!("{value:?}")),
        Value::Absent | Value::Null | Value::List | Value::Object => push(out, "null"),
    }
    push(out, if field.is_cut { "…" } else { "" });
}
