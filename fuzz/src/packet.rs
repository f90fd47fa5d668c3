//! From a frame of any link type to the TCP segment in it.
//!
//! Owns what must hold of every frame. Must not know any layout. Bounded: one frame an input.

use observer_core::link::LinkType;
use observer_core::tcp::segment;

use crate::cursor::Cursor;

/// The numbers of the link types that are understood, one of each kind.
pub const LINK_TYPES: [u32; 5] = [1, 101, 108, 113, 276];

/// The link type's place among [`LINK_TYPES`], how much longer the packet was on the wire (two bytes), and the frame.
pub fn run(input: &[u8]) {
    let mut choices = Cursor::new(input);
    let link = LinkType::from_number(LINK_TYPES[usize::from(choices.byte()) % LINK_TYPES.len()]).unwrap();
    let cut = u32::from(choices.short());
    let frame = choices.rest();
    let Some(stripped) = link.strip(frame) else { return };
    let header_length = usize::try_from(stripped.header_length).unwrap();
    assert_eq!(&frame[header_length..], stripped.packet);
    let length = u32::try_from(stripped.packet.len()).unwrap() + cut;
    let Ok(segment) = segment::parse(stripped.packet, length) else { return };
    let captured = u32::try_from(segment.payload.len()).unwrap();
    assert!(captured <= segment.payload_length && segment.payload_length <= length);
    assert!(is_within(segment.payload, stripped.packet) && is_within(segment.options, stripped.packet));
    assert!(segment.options.len() <= 40);
    // What was not captured changes nothing of what was; without it, the packet may not be one.
    if let Ok(whole) = segment::parse(stripped.packet, length - cut) {
        assert_eq!((whole.sequence, whole.options), (segment.sequence, segment.options));
        assert_eq!(whole.payload, segment.payload);
    }
    if let Some(edge) = segment.sacked_to() {
        assert!(segment.options.windows(4).any(|bytes| bytes == edge.0.to_be_bytes()));
    }
}

fn is_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.start >= whole.start && part.end <= whole.end || part.start == part.end
}
