//! Header blocks of HTTP/2 (HPACK, RFC 7541), as far as it takes to find one field that is written out.
//!
//! Owns the stepping from field to field. Must not know what a block belongs to. Keeps nothing, and takes time that
//! grows with the block's length.
//!
//! `:protocol` is not in HPACK's static table, so the first request of a connection that has it writes it out, plain or
//! in HPACK's Huffman code, in which a string is always the same bytes. Later ones may refer to the first: that takes
//! the table of all that was sent before, and is not found.

/// `:protocol` (RFC 8441 §4), and in Huffman code.
const PROTOCOL: [&[u8]; 2] = [b":protocol", &[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f]];
/// `websocket`, and in Huffman code.
const WEBSOCKET: [&[u8]; 2] = [b"websocket", &[0xf0, 0x58, 0xd0, 0x72, 0x75, 0x2a, 0x7f]];

/// Whether a block has `:protocol: websocket` written out.
pub(super) fn asks_for_websocket(block: &[u8]) -> bool {
    let mut block = Block(block);
    core::iter::from_fn(|| block.next_field()).any(|is_wanted| is_wanted)
}

struct Block<'a>(&'a [u8]);

/// A string, and whether it is in Huffman code.
type Text<'a> = (bool, &'a [u8]);

impl<'a> Block<'a> {
    /// Steps over a field (RFC 7541 §6); returns whether it is the wanted one, or nothing at the end.
    fn next_field(&mut self) -> Option<bool> {
        let first = *self.0.first()?;
        let name_bits = match first {
            0x80.. => return self.integer(7).map(|_| false),
            0x40.. => 6,
            0x20.. => return self.integer(5).map(|_| false),
            _ => 4,
        };
        let index = self.integer(name_bits)?;
        let name = if index == 0 { Some(self.string()?) } else { None };
        let value = self.string()?;
        Some(name.is_some_and(|name| is(name, PROTOCOL)) && is(value, WEBSOCKET))
    }

    /// A number whose first byte has so many bits for it (RFC 7541 §5.1); none of more than four further bytes.
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let (&first, mut rest) = self.0.split_first()?;
        let most = (1_u32 << bits).saturating_sub(1);
        let mut number = u32::from(first) & most;
        if number == most {
            for shift in [0, 7, 14, 21] {
                let (&byte, behind) = rest.split_first()?;
                rest = behind;
                number = number.checked_add(u32::from(byte & 0x7f) << shift)?;
                if byte < 0x80 {
                    self.0 = rest;
                    return usize::try_from(number).ok();
                }
            }
            return None;
        }
        self.0 = rest;
        usize::try_from(number).ok()
    }

    /// RFC 7541 §5.2.
    fn string(&mut self) -> Option<Text<'a>> {
        let is_coded = *self.0.first()? >= 0x80;
        let length = self.integer(7)?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((is_coded, string))
    }
}

fn is((is_coded, text): Text<'_>, [plain, coded]: [&[u8]; 2]) -> bool {
    if is_coded { text == coded } else { text.eq_ignore_ascii_case(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(text: &[u8], coded: bool) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        [&[length | if coded { 0x80 } else { 0 }], text].concat()
    }

    #[test]
    fn the_field_is_found_however_it_is_written_out() {
        for kind in [0x40, 0x00, 0x10] {
            for (name_coded, value_coded) in [(false, false), (true, true), (true, false)] {
                let name = string(PROTOCOL[usize::from(name_coded)], name_coded);
                let value = string(WEBSOCKET[usize::from(value_coded)], value_coded);
                let block = [&[0x3f, 0xe1, 0x1f, 0x82][..], &[kind], &name, &value, &[0x84]].concat();
                assert!(asks_for_websocket(&block), "{block:x?}");
            }
        }
    }

    #[test]
    fn the_same_bytes_elsewhere_are_not_taken_for_it() {
        let field = [&[0x40][..], &string(b":protocol", false), &string(b"websocket", false)].concat();
        for block in [
            // As the value of a path and of a cookie; with another value; with the code's flag wrong; cut.
            [&[0x44][..], &string(&field, false)].concat(),
            [&[0x40][..], &string(b"cookie", false), &string(&field, false)].concat(),
            [&[0x40][..], &string(b":protocol", false), &string(b"connect-udp", false)].concat(),
            [&[0x40][..], &string(PROTOCOL[1], false), &string(b"websocket", false)].concat(),
            field[..field.len() - 1].to_vec(),
            vec![0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(!asks_for_websocket(&block), "{block:x?}");
        }
    }

    proptest! {
        #[test]
        fn random_blocks_never_panic(block in prop::collection::vec(any::<u8>(), 0..80)) {
            asks_for_websocket(&block);
        }
    }
}
