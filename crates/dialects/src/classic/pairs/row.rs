//! How a pair lies in a keyspace: the key as four bytes whose order is that of the numbers, the text as its bytes.

use bytes::Bytes;
use kv::{Error, Key, Row};

/// Bytes of a key.
const KEY_BYTES: usize = size_of::<i32>();
/// Set in negative numbers. Turned around, they come before the others.
const SIGN: u32 = 1 << 31;

/// The key of a number.
pub(super) fn key(number: i32) -> Key {
    Bytes::copy_from_slice(&(number as u32 ^ SIGN).to_be_bytes())
}

/// The number whose key it is; `None` = the key is another dialect's.
pub(super) fn number(key: &[u8]) -> Option<i32> {
    let bytes: [u8; KEY_BYTES] = key.try_into().ok()?;
    Some((u32::from_be_bytes(bytes) ^ SIGN) as i32)
}

/// The text of a row. [`Error::Conflict`] when it is none: another dialect wrote it.
pub(super) fn text(row: &Row) -> Result<String, Error> {
    let text = std::str::from_utf8(&row.value).map_err(|error| {
        let number = number(&row.key).map_or_else(|| format!("{:?}", row.key), |number| number.to_string());
        Error::Conflict(format!(
            "the value of key {number} is no UTF-8 text ({error}), so it was not written over this wire: read it with the dialect \
             that wrote it"
        ))
    })?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn key_of_the_ends_and_of_zero_is_as_documented() {
        assert_eq!(key(i32::MIN), &[0, 0, 0, 0][..]);
        assert_eq!(key(-1), &[0x7f, 0xff, 0xff, 0xff][..]);
        assert_eq!(key(0), &[0x80, 0, 0, 0][..]);
        assert_eq!(key(i32::MAX), &[0xff, 0xff, 0xff, 0xff][..]);
    }

    #[test]
    fn number_of_another_length_is_none() {
        for bytes in [&b""[..], b"abc", b"abcde"] {
            assert_eq!(number(bytes), None);
        }
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_their_numbers(one: i32, other: i32) {
            prop_assert_eq!(key(one).cmp(&key(other)), one.cmp(&other));
        }

        #[test]
        fn number_is_the_inverse_of_key(one: i32, bytes: [u8; 4]) {
            prop_assert_eq!(number(&key(one)), Some(one));
            prop_assert_eq!(&key(number(&bytes).expect("four bytes are a number's"))[..], &bytes[..]);
        }
    }
}
