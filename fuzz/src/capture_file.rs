//! The reader of pcap and pcapng, in pieces of any size.
//!
//! Owns the comparison of one piece with many. Must not know the formats. Bounded: by the input; what the reader holds
//! is measured.

use crate::cursor::Cursor;
use crate::memory;

/// The reader's own source: the crate that it belongs to has a kernel side, which would take minutes to build.
#[path = "../../observer/src/capture/file.rs"]
#[allow(dead_code, reason = "a part of it is for the command line")]
mod file;

use file::{FileReader, Item};

/// The sizes of pieces as a string, and the file.
pub fn run(input: &[u8]) {
    let mut choices = Cursor::new(input);
    let sizes = choices.string();
    let file = choices.rest();
    let whole = read(&[file]);
    let cut = read(&Cursor::new(sizes).cut(file));
    assert_eq!(whole, cut);
}

/// Every item and the end, in words.
fn read(pieces: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    let mut reader = FileReader::new();
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut held = 0;
    for piece in pieces {
        held += memory::peak(|| reader.push(piece)).1;
        loop {
            let (item, taken) = memory::peak(|| reader.next_item().map(|item| item.map(|item| words(&item))));
            held = held.max(taken);
            match item {
                Ok(Some(words)) => found.push(words),
                Ok(None) => break,
                Err(error) => {
                    found.push(error.to_string());
                    return found;
                }
            }
        }
    }
    // An interface takes 20 bytes of a file and some 100 here.
    assert!(held <= 16 * bytes + (64 << 10), "{held} bytes were held for a file of {bytes}");
    found.push(format!("{:?} {}", reader.end(), reader.has_read_anything()));
    found
}

fn words(item: &Item<'_>) -> String {
    if let Item::Packet(packet) = item {
        assert!(packet.data.len() <= file::RECORD_BYTES_MAX);
    }
    format!("{item:?}")
}

/// The frames of a capture, each with its link type's place among [`LINK_TYPES`](crate::packet::LINK_TYPES).
pub fn frames_of(file: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let kinds = crate::packet::LINK_TYPES.map(observer_core::link::LinkType::from_number);
    let mut frames = Vec::new();
    let mut reader = FileReader::new();
    reader.push(file);
    while let Ok(Some(item)) = reader.next_item() {
        if let Item::Packet(packet) = item
            && let Some(kind) = kinds.iter().position(|kind| *kind == Some(packet.link))
        {
            frames.push((u8::try_from(kind).unwrap(), packet.data.to_vec()));
        }
    }
    frames
}
