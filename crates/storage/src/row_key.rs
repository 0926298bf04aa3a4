//! The key of a row, built to look something up.

use std::ops::Deref;

use bytes::Bytes;

/// A key of so many bytes takes no allocation: nearly all are shorter.
const SHORT: usize = 96;

/// Bytes that lie where the value lies, unless they are many.
#[derive(Clone)]
pub struct RowKey {
    short: [u8; SHORT],
    length: usize,
    /// All of them, when they are too many for `short`.
    long: Vec<u8>,
}

impl RowKey {
    /// So many zeros.
    pub fn zeroed(length: usize) -> RowKey {
        let long = if length > SHORT { vec![0; length] } else { Vec::new() };
        RowKey { short: [0; SHORT], length, long }
    }

    /// To be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.length > SHORT { &mut self.long } else { &mut self.short[..self.length] }
    }
}

impl Deref for RowKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.length > SHORT { &self.long } else { &self.short[..self.length] }
    }
}

impl AsRef<[u8]> for RowKey {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<RowKey> for Bytes {
    fn from(key: RowKey) -> Bytes {
        if key.length > SHORT { key.long.into() } else { Bytes::copy_from_slice(&key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_key_of_any_length_holds_what_was_written() {
        for length in [0, 1, SHORT, SHORT + 1, 10 * SHORT] {
            let mut key = RowKey::zeroed(length);
            assert_eq!(&key[..], vec![0; length]);
            key.bytes_mut().fill(7);
            assert_eq!(
                (key.as_ref(), Bytes::from(key.clone())),
                (&vec![7; length][..], vec![7; length].into())
            );
        }
    }
}
