//! How a text lies in a keyspace: its key behind one byte, so that the empty key is one, its value as its bytes.

use bytes::{BufMut, BytesMut};
use kv::{Error, Key, Row};

/// Stands before each key.
const MARK: u8 = b'=';

/// The key of a text.
pub(super) fn key(text: &str) -> Key {
    let mut key = BytesMut::with_capacity(1 + text.len());
    key.put_u8(MARK);
    key.put_slice(text.as_bytes());
    key.freeze()
}

/// The text of a row. [`Error::Conflict`] when it is none: another dialect wrote it.
pub(in crate::classic) fn text(row: &Row) -> Result<String, Error> {
    let text = std::str::from_utf8(&row.value).map_err(|error| {
        Error::Conflict(format!(
            "the value is no UTF-8 text ({error}), so it was not written over this wire: read it with the dialect that wrote it"
        ))
    })?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_any_text_can_be_one() {
        assert_eq!(key(""), "=");
        assert_eq!(key("a b"), "=a b");
        let longest = "k".repeat(kv::KEY_BYTES_MAX - 1);
        assert_eq!(kv::Op::Get { key: key(&longest), at: None }.validate(), Ok(()));
    }
}
