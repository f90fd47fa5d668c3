//! Masking (RFC 6455 §5.3): the same operation takes a mask off as put it on.
//!
//! Owns the arithmetic. Must not know frames. Bounded: works in place, or grows a buffer by what it is given.

/// Bytes worked on at once: wide enough for the vector registers of today's processors.
const BLOCK: usize = 32;

/// Bytes copied before they are unmasked, so that they are still in the first-level cache.
const COPY_BLOCK: usize = 8 << 10;

/// Unmasks `data` in place. `offset` is that of its first byte within the frame's payload: the key rotates by it.
pub fn unmask(key: [u8; 4], offset: u64, data: &mut [u8]) {
    let mut rotated = key;
    rotated.rotate_left((offset % 4) as usize);
    let wide = [rotated; BLOCK / 4];
    let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(wide.as_flattened()) {
            *byte ^= key;
        }
    }
    // Most messages of a chat are not much longer than a block, so that the rest matters as much.
    let word = u64::from_ne_bytes([rotated, rotated].as_flattened().try_into().unwrap_or_default());
    let (words, rest) = rest.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.as_flattened()) {
        *byte ^= key;
    }
}

/// Appends `data`, unmasked, to `to`. `offset` is as in [`unmask`].
pub fn append_unmasked(key: [u8; 4], offset: u64, data: &[u8], to: &mut Vec<u8>) {
    to.reserve(data.len());
    // The block size is a multiple of four: the key need not be rotated anew.
    for block in data.chunks(COPY_BLOCK) {
        let start = to.len();
        to.extend_from_slice(block);
        if let Some(appended) = to.get_mut(start..) {
            unmask(key, offset, appended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unmask_slowly(key: [u8; 4], offset: u64, data: &[u8]) -> Vec<u8> {
        (offset..).zip(data).map(|(at, byte)| byte ^ key[(at % 4) as usize]).collect()
    }

    #[test]
    fn the_masked_hello_of_rfc_6455_section_5_7_is_hello() {
        let mut data = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask([0x37, 0xfa, 0x21, 0x3d], 0, &mut data);
        assert_eq!(&data, b"Hello");
    }

    proptest! {
        #[test]
        fn unmasking_agrees_with_one_byte_at_a_time(
            key: [u8; 4], offset: u64, data in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let offset = offset / 2;
            let mut in_place = data.clone();
            unmask(key, offset, &mut in_place);
            prop_assert_eq!(&in_place, &unmask_slowly(key, offset, &data));
        }

        #[test]
        fn appending_in_two_parts_gives_the_same_as_in_one(
            key: [u8; 4], length in 0usize..20_000, split in 0usize..20_000,
        ) {
            let data: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
            let split = split.min(length);
            let mut appended = b"before".to_vec();
            append_unmasked(key, 0, &data[..split], &mut appended);
            append_unmasked(key, split as u64, &data[split..], &mut appended);
            prop_assert_eq!(&appended[6..], &unmask_slowly(key, 0, &data)[..]);
        }
    }
}
