//! How a text lies in a keyspace: its key behind one byte, so that the empty key is one, its value as its bytes.

use bytes::{BufMut, BytesMut};
use kv::{Error, Key, Row};

/// Stands before each key.
const MARK: u8 = b'=';

/// The key of a text.
pub(in crate::classic) fn key(text: &str) -> Key {
    let mut key = BytesMut::with_capacity(1 + text.len());
    key.put_u8(MARK);
    key.put_slice(text.as_bytes());
    key.freeze()
}

/// The text of a key. [`Error::Conflict`] when it is none: another dialect wrote it.
pub(in crate::classic) fn text_of(key: &[u8]) -> Result<String, Error> {
    let text = key.strip_prefix(&[MARK]).and_then(|text| std::str::from_utf8(text).ok());
    text.map(Into::into).ok_or_else(|| {
        let key = key.escape_ascii();
        Error::Conflict(format!(
            "the key {key} is none of this wire's: read it with the dialect that wrote it"
        ))
    })
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
        assert_eq!((text_of(b"=a b").as_deref(), text_of(b"=").as_deref()), (Ok("a b"), Ok("")));
        for other in [&b"a"[..], b"", b"=\xff"] {
            assert!(text_of(other).is_err_and(|why| why.to_string().contains("none of this wire's")));
        }
        let longest = "k".repeat(kv::KEY_BYTES_MAX - 1);
        assert_eq!(kv::Op::Get { key: key(&longest), at: None }.validate(), Ok(()));
    }
}
