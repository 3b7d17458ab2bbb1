//! Little-endian numbers at fixed places of a block: what every format here is made of.

/// The number at `at`. Panics: if it does not lie within the block.
pub(crate) fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(block, at))
}

/// The number at `at`. Panics: if it does not lie within the block.
pub(crate) fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(block, at))
}

/// The number at `at`. Panics: if it does not lie within the block.
pub(crate) fn u64_at(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(block, at))
}

/// Writes bytes at `at`. Panics: if they do not fit in the block.
pub(crate) fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// How many bytes remain when the zeros at the end are left out.
pub(crate) fn without_zero_tail(bytes: &[u8]) -> usize {
    // Whole words first: a fresh segment is 64 MiB of zeros.
    const WORD: usize = 64;
    let mut end = bytes.len();
    while end >= WORD && bytes[end - WORD..end].iter().fold(0, |all, byte| all | byte) == 0 {
        end -= WORD;
    }
    while end > 0 && bytes[end - 1] == 0 {
        end -= 1;
    }
    end
}

fn array_at<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&block[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zero_tail_is_found_at_any_length() {
        for len in 0..300 {
            for last in 0..len {
                let mut bytes = vec![0; len];
                bytes[last] = 1;
                assert_eq!(without_zero_tail(&bytes), last + 1);
            }
            assert_eq!(without_zero_tail(&vec![0; len]), 0);
        }
    }
}
