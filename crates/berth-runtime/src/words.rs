//! Looking at eight bytes at a time. The release's last step is optimised for size, for all crates at once: no loop over bytes becomes one
//! over vectors there, and a line of a log would take ten times as long.

/// A one in each byte of a word, and the highest bit of each.
const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES << 7;

/// Marks bytes of a word that are `byte`: the first mark is right, and there is none where there is no such byte.
pub(crate) fn equal(word: u64, byte: u8) -> u64 {
    let word = word ^ (ONES * u64::from(byte));
    word.wrapping_sub(ONES) & !word & HIGH
}

/// Marks control characters, as [`equal`] does.
pub(crate) fn control(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGH
}

/// Marks bytes of text that is not ASCII.
pub(crate) fn wide(word: u64) -> u64 {
    word & HIGH
}

/// Where the first line ends.
pub(crate) fn newline(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = equal(u64::from_le_bytes(*word), b'\n');
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|b| *b == b'\n')?;
    Some(words.len() * 8 + at)
}

/// Whether `odd` marks no byte; it marks no space. The last word overlaps the one before.
pub(crate) fn none(bytes: &[u8], odd: impl Fn(u64) -> u64) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let marks = |word: &[u8; 8]| odd(u64::from_le_bytes(*word));
    let found = words.iter().fold(0, |found, word| found | marks(word));
    let last = match bytes.last_chunk::<8>() {
        Some(last) => marks(last),
        None => {
            let mut word = [b' '; 8];
            word[..rest.len()].copy_from_slice(rest);
            marks(&word)
        }
    };
    found | last == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_looked_at() {
        let odd = |word| wide(word) | control(word) | equal(word, b'"');
        for length in 0..40 {
            let mut bytes = vec![b'x'; length];
            assert!(none(&bytes, odd), "{length}");
            for at in 0..length {
                for byte in 0..=255 {
                    bytes[at] = byte;
                    let plain = (0x20..0x80).contains(&byte) && byte != b'"';
                    assert_eq!(none(&bytes, odd), plain, "{byte} at {at} of {length}");
                    assert_eq!(newline(&bytes), (byte == b'\n').then_some(at));
                }
                bytes[at] = b'x';
            }
        }
        assert_eq!(newline(b"0123456789\n\n"), Some(10));
    }
}
